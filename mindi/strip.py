"""Cuts off what no loader reads of a shared object: symbols and debugging sections at its end.

Wheels ship compiled modules that are nine tenths DWARF. The loader works from the program
headers (System V gABI, chapter 5), so the file may end with the last byte of its segments, if
the header says that there are no sections.
"""

from __future__ import annotations

import struct

_MAGIC = b"\x7fELF"
_PT_NULL = 0
_HEADER_BYTES = {True: 64, False: 52}


def stripped(data: bytes) -> bytes:
    """Return the ELF file ``data`` without what lies behind its segments.

    Anything else, and a file whose headers do not fit its length, comes back as it is.
    """
    if data[:4] != _MAGIC or len(data) < 64 or data[4] not in (1, 2) or data[5] not in (1, 2):
        return data
    order = "<" if data[5] == 1 else ">"
    wide = data[4] == 2
    # e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    layout, at = (f"{order}QQIHHHHHH", 32) if wide else (f"{order}IIIHHHHHH", 28)
    phoff, _, flags, ehsize, phentsize, phnum, shentsize, _, _ = struct.unpack_from(
        layout, data, at
    )
    # Without segments there is nothing for a loader, and all is for somebody else.
    end = max(_HEADER_BYTES[wide], ehsize, phoff + phnum * phentsize)
    if not phnum or end > len(data) or phentsize != (56 if wide else 32):
        return data
    for number in range(phnum):
        place = phoff + number * phentsize
        if wide:
            kind, _, offset, _, _, size = struct.unpack_from(f"{order}IIQQQQ", data, place)
        else:
            kind, offset, _, _, size = struct.unpack_from(f"{order}IIIII", data, place)
        if kind != _PT_NULL:
            end = max(end, offset + size)
    if end > len(data):
        return data
    head = bytearray(data[:end])
    struct.pack_into(layout, head, at, phoff, 0, flags, ehsize, phentsize, phnum, shentsize, 0, 0)
    return bytes(head)
