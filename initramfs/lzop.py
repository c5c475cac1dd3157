"""The container of lzop(1), which is what the kernel reads as "lzo" (lib/decompress_unlzo.c).

A header, then blocks of at most 256 KiB: their size, their size compressed, the Adler-32 of
what they hold, the data (as they are where compression does not shrink them); a zero ends it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import lzo

from initramfs.stream import ByteStream, FrameDamaged

BLOCK_BYTES = 256 * 1024
"""The kernel's LZO_BLOCK_SIZE, and lzop's own."""

_MAGIC = b"\x89LZO\x00\r\n\x1a\n"
_VERSION, _LIBRARY, _NEEDED = 0x1040, 0x20A0, 0x0940
_FAST, _THOROUGH = (1, 5), (3, 9)
_UNIX = 0x03000000
# The kernel passes over exactly one checksum a block: that of the uncompressed data.
_ADLER32_OF_DATA = 0x1
_ADLER32_OF_COMPRESSED, _CRC32_OF_DATA, _CRC32_OF_COMPRESSED = 0x2, 0x100, 0x200
_EXTRA_FIELD, _FILTER, _HEADER_CRC32 = 0x40, 0x800, 0x1000
_FIXED = struct.Struct(">HHHBBIIIIB")


class LzopCompressor:
    """Compresses one lzop file, LZO1X-1 or, if ``thorough``, LZO1X-999."""

    def __init__(self, *, thorough: bool) -> None:
        self._level = 9 if thorough else 1
        self._pending = bytearray()
        self._out = [_header(*(_THOROUGH if thorough else _FAST))]

    def compress(self, data: bytes, /) -> bytes:
        """Take ``data``; return the blocks that are full."""
        self._pending += data
        whole = len(self._pending) // BLOCK_BYTES * BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            self._block(bytes(self._pending[start : start + BLOCK_BYTES]))
        del self._pending[:whole]
        return self._ready()

    def flush(self) -> bytes:
        """End the file; return the rest of it."""
        if self._pending:
            self._block(bytes(self._pending))
            self._pending.clear()
        self._out.append(struct.pack(">I", 0))
        return self._ready()

    def _block(self, data: bytes) -> None:
        packed = lzo.compress(data, self._level, False)
        if len(packed) >= len(data):
            packed = data
        self._out += [struct.pack(">III", len(data), len(packed), zlib.adler32(data)), packed]

    def _ready(self) -> bytes:
        ready = b"".join(self._out)
        self._out.clear()
        return ready


def decompress_lzop(source: ByteStream) -> Iterator[bytes]:
    """Yield what the file holds; raise FrameDamaged or InputError if it is not whole."""
    flags = _read_header(source)
    while size := _word(source):
        packed_size = _word(source)
        if size > BLOCK_BYTES or packed_size > size:
            raise FrameDamaged(f"a block of {packed_size} for {size} bytes")
        crc32 = _word(source) if flags & _CRC32_OF_DATA else None
        adler32 = _word(source) if flags & _ADLER32_OF_DATA else None
        if packed_size < size:
            of_compressed = flags & _ADLER32_OF_COMPRESSED, flags & _CRC32_OF_COMPRESSED
            source.take(4 * sum(map(bool, of_compressed)), "a checksum of the lzop file")
        data = source.take(packed_size, "a block of the lzop file")
        if packed_size < size:
            try:
                data = lzo.decompress(data, False, size)
            except lzo.error as error:
                raise FrameDamaged(str(error)) from error
        if len(data) != size:
            raise FrameDamaged(f"a block holds {len(data)} bytes, not {size}")
        if adler32 not in (None, zlib.adler32(data)) or crc32 not in (None, zlib.crc32(data)):
            raise FrameDamaged("a block does not have its checksum")
        yield data


def _header(method: int, level: int) -> bytes:
    fields = _FIXED.pack(
        _VERSION, _LIBRARY, _NEEDED, method, level, _UNIX | _ADLER32_OF_DATA, 0o100644, 0, 0, 0
    )
    return _MAGIC + fields + struct.pack(">I", zlib.adler32(fields))


def _read_header(source: ByteStream) -> int:
    """Pass over the header; return its flags."""
    if source.take(len(_MAGIC), "the lzop header") != _MAGIC:
        raise FrameDamaged("no lzop header")
    fields = source.take(_FIXED.size, "the lzop header")
    flags, name_bytes = _FIXED.unpack(fields)[5], fields[-1]
    if flags & (_EXTRA_FIELD | _FILTER):
        raise FrameDamaged("filters and extra fields are not for an initrd")
    fields += source.take(name_bytes, "the lzop header")
    checksum = zlib.crc32 if flags & _HEADER_CRC32 else zlib.adler32
    if _word(source) != checksum(fields):
        raise FrameDamaged("the lzop header does not have its checksum")
    return int(flags)


def _word(source: ByteStream) -> int:
    return int.from_bytes(source.take(4, "the lzop file"), "big")
