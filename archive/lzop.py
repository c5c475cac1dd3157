"""What lzop(1) writes and reads: a header, blocks of LZO1X with checksums, four zero bytes.

The layout is that of lzop 1.04, all numbers big-endian:

- magic; version, version of the library, version needed (16 bits each); method, level (8 bits);
  flags, mode, mtime, high half of mtime (32 bits each); length of the name (8 bits), name;
  adler32 of all behind the magic
- a block: length of its data, length as it is stored (32 bits each), checksums as the flags say,
  what is stored: where both lengths are the same, the data itself
- the end: a length of 0
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import lzo

MAGIC = b"\x89LZO\x00\r\n\x1a\n"
BLOCK_SIZE = 256 * 1024
"""The most that a block holds, in bytes: that of lzop itself on Unix."""
END = b"\0\0\0\0"

_VERSION, _LIBRARY_VERSION, _VERSION_NEEDED = 0x1040, 0x20A0, 0x0940
_LZO1X_1, _LZO1X_999 = 1, 3
_FIRST_LEVEL_OF_999 = 7
_ADLER32_OF_DATA = 0x0001
_ON_UNIX = 3 << 24
_FROM_STDIN, _TO_STDOUT = 0x0004, 0x0008
_KNOWN_FLAGS = _ADLER32_OF_DATA | _FROM_STDIN | _TO_STDOUT

_FIXED = struct.Struct(">HHHBBIIIIB")
_LENGTHS = struct.Struct(">III")
_MODE = 0o100600


class LzopDamaged(ValueError):
    """These bytes are not what lzop writes."""


def header(level: int) -> bytes:
    """Return the header of a file without name and time, for blocks of that level (1 to 9)."""
    method = _LZO1X_999 if level >= _FIRST_LEVEL_OF_999 else _LZO1X_1
    flags = _ADLER32_OF_DATA | _ON_UNIX
    fields = _FIXED.pack(
        _VERSION, _LIBRARY_VERSION, _VERSION_NEEDED, method, level, flags, _MODE, 0, 0, 0
    )
    return MAGIC + fields + zlib.adler32(fields).to_bytes(4)


def blocks(
    data: bytes | bytearray | memoryview,
    level: int,
    *,
    adler32: Callable[[bytes], int] = zlib.adler32,
) -> bytes:
    """Return ``data`` as a run of blocks, without header and end; nothing for no data."""
    lzo_level = 9 if level >= _FIRST_LEVEL_OF_999 else 1
    view = memoryview(data)
    pieces = []
    for start in range(0, len(view), BLOCK_SIZE):
        raw = bytes(view[start : start + BLOCK_SIZE])
        stored: bytes = lzo.compress(raw, lzo_level, False)
        if len(stored) >= len(raw):
            stored = raw
        pieces.append(_LENGTHS.pack(len(raw), len(stored), adler32(raw)))
        pieces.append(stored)
    return b"".join(pieces)


def unpack(
    data: bytes | memoryview,
    raw_size: int,
    *,
    adler32: Callable[[bytes], int] = zlib.adler32,
) -> bytes:
    """Return what a run of blocks, or a whole file of lzop, holds: exactly ``raw_size`` bytes.

    Raises LzopDamaged. The memory that it takes is bounded by ``raw_size`` and a block, whatever
    the data say.
    """
    view = memoryview(data)
    place = 0
    whole_file = bytes(view[: len(MAGIC)]) == MAGIC
    if whole_file:
        place = _skip_header(view)
        if bytes(view[-len(END) :]) != END:
            raise LzopDamaged("the end of the lzop file is missing")
        view = view[: -len(END)]
    pieces = []
    left = raw_size
    while place < len(view):
        if place + _LENGTHS.size > len(view):
            raise LzopDamaged(f"the LZO block at {place} is cut off")
        raw_length, length, checksum = _LENGTHS.unpack_from(view, place)
        start = place + _LENGTHS.size
        if not 0 < length <= raw_length <= min(BLOCK_SIZE, left) or start + length > len(view):
            raise LzopDamaged(f"the LZO block at {place} has impossible lengths")
        raw = bytes(view[start : start + length])
        if length < raw_length:
            raw = _decompressed(raw, raw_length, place)
        if len(raw) != raw_length or adler32(raw) != checksum:
            raise LzopDamaged(f"the LZO block at {place} has a wrong checksum")
        pieces.append(raw)
        left -= raw_length
        place = start + length
    if left:
        raise LzopDamaged(f"the LZO blocks hold {left} bytes less than they should")
    return b"".join(pieces)


def _decompressed(stored: bytes, raw_length: int, place: int) -> bytes:
    try:
        raw: bytes = lzo.decompress(stored, False, raw_length)
    except lzo.error as error:
        raise LzopDamaged(f"the LZO block at {place} is damaged: {error}") from error
    return raw


def _skip_header(view: memoryview) -> int:
    """Return where the blocks of a file begin."""
    start = len(MAGIC)
    if start + _FIXED.size + 4 > len(view):
        raise LzopDamaged("the header of the lzop file is cut off")
    flags: int
    name_length: int
    *_, flags, _mode, _mtime, _mtime_high, name_length = _FIXED.unpack_from(view, start)
    end = start + _FIXED.size + name_length
    if end + 4 > len(view):
        raise LzopDamaged("the header of the lzop file is cut off")
    if zlib.adler32(view[start:end]) != int.from_bytes(view[end : end + 4]):
        raise LzopDamaged("the header of the lzop file has a wrong checksum")
    if flags & 0xFFFF & ~_KNOWN_FLAGS or not flags & _ADLER32_OF_DATA:
        raise LzopDamaged(f"the lzop file has flags {flags:#x} that are not understood")
    return end + 4
