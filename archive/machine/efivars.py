"""Boot entries in the variables of UEFI, as efivarfs shows them.

UEFI 2.10: 3.1.3 (load options), 3.3 (global variables), 10.3 (device paths). A variable's file
begins with 4 bytes of attributes. All numbers are little-endian.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""The vendor of the variables that the specification defines."""

_ACTIVE = 1
_MEDIA, _HARD_DRIVE, _FILE = 4, 1, 4
_END = 0x7F
_GPT_SIGNATURE = 2


@dataclass(frozen=True, slots=True)
class EfiEntry:
    """A boot entry; ``partition`` is the GUID of the GPT partition, upper case, that it names."""

    number: int
    label: str
    active: bool
    partition: str | None
    path: str | None
    """Of the loader in that partition, with backslashes."""
    raw: str
    """The whole load option, in hexadecimal."""


def parse_entry(number: int, variable: bytes) -> EfiEntry:
    """Return the load option in a ``Boot####`` variable. Raises ValueError."""
    option = variable[4:]
    try:
        attributes, length = struct.unpack_from("<IH", option)
        end = 6
        while option[end : end + 2] != b"\0\0":
            if end >= len(option):
                raise ValueError("a description without an end")
            end += 2
        label = option[6:end].decode("utf-16-le", "replace")
        partition = path = None
        for kind, body in _nodes(option[end + 2 : end + 2 + length]):
            if kind == (_MEDIA, _HARD_DRIVE) and len(body) >= 38 and body[37] == _GPT_SIGNATURE:
                partition = str(uuid.UUID(bytes_le=body[20:36])).upper()
            elif kind == (_MEDIA, _FILE):
                path = (path or "") + body.decode("utf-16-le", "replace").rstrip("\0")
    except struct.error as error:
        raise ValueError(f"boot entry {number:04X} is cut off") from error
    return EfiEntry(number, label, bool(attributes & _ACTIVE), partition, path, option.hex())


def _nodes(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    place = 0
    while place + 4 <= len(data):
        kind, subtype, length = struct.unpack_from("<BBH", data, place)
        if kind == _END or length < 4:
            return
        yield (kind, subtype), data[place + 4 : place + length]
        place += length


def parse_order(variable: bytes) -> tuple[int, ...]:
    """Return the numbers in ``BootOrder``, or the one in ``BootCurrent``."""
    body = variable[4:]
    return struct.unpack(f"<{len(body) // 2}H", body[: len(body) // 2 * 2])
