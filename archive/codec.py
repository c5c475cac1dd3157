"""The compressions of a set: names, levels, and how one frame is packed and unpacked."""

from __future__ import annotations

import bz2
import enum
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from archive import lzop

try:  # the rescue image may lack it; all that it does zlib does too, slower
    import deflate
except ImportError:
    deflate = None  # type: ignore[assignment]

FRAME_LIMIT = 64 << 20
"""The most that a compressed frame may hold, in bytes (archive/FORMAT.md): what bounds the memory
that reading one takes, whatever a set says."""

MAX_LEVEL = 9
DEFAULT_LEVEL = 3

_MAX_XZ_DICTIONARY = 8 << 20
_MIN_XZ_DICTIONARY = 4096
_XZ_MEMORY = 64 << 20
# For each level from 0 to 9. libdeflate's 3 to 5 are slower than its 6, and larger.
_LIBDEFLATE_LEVELS = (1, 1, 1, 2, 6, 6, 7, 8, 9, 12)
_ZLIB_LEVELS = (1, 1, 2, 4, 5, 6, 6, 7, 8, 9)
_ZSTD_LEVELS = (1, 1, 2, 3, 5, 7, 9, 12, 15, 19)
_GZIP_FORMAT = 31  # zlib's wbits: the largest window, in a gzip member
_GZIP_TRAILER = 8

_adler32: Callable[[bytes], int] = deflate.adler32 if deflate else zlib.adler32
_crc32: Callable[[bytes | bytearray], int] = deflate.crc32 if deflate else zlib.crc32


class FrameDamaged(ValueError):
    """The bytes of a frame are not what the catalog says that they are."""


class Codec(enum.IntEnum):
    """How a frame is compressed; the number is stored in catalogs and never changes."""

    NONE = 0
    GZIP = 1
    BZIP2 = 2
    LZO = 3
    XZ = 4
    ZSTD = 5

    @property
    def suffix(self) -> str:
        """The end of the name of a slice that is compressed by it."""
        return _SUFFIXES[self]

    @classmethod
    def named(cls, name: str) -> Codec:
        """Return the codec that a user calls by ``name``; ValueError: there is none."""
        try:
            return _BY_NAME[name]
        except KeyError:
            known = ", ".join(_BY_NAME)
            raise ValueError(f"no codec is called {name!r}: there are {known}") from None


_SUFFIXES = {
    Codec.NONE: ".afio",
    Codec.GZIP: ".afio.gz",
    Codec.BZIP2: ".afio.bz2",
    Codec.LZO: ".afio.lzo",
    Codec.XZ: ".afio.xz",
    Codec.ZSTD: ".afio.zst",
}
_BY_NAME = {codec.name.lower(): codec for codec in Codec}


@dataclass(frozen=True, slots=True)
class Packing:
    """How the slices of a set are packed."""

    codec: Codec
    level: int = DEFAULT_LEVEL
    """0, the fastest, to 9, the smallest."""
    per_file: bool = False
    """Each file is compressed on its own, not the slice: afio's way."""

    def __post_init__(self) -> None:
        _check_level(self.level)

    @property
    def suffix(self) -> str:
        """The end of a slice's name."""
        return Codec.NONE.suffix if self.per_file else self.codec.suffix


def _check_level(level: int) -> None:
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"compression level {level} is not from 0 to {MAX_LEVEL}")


class FrameCompressor:
    """Packs frames by one codec at one level; the same data always give the same frame.

    A file of the codec is ``prologue``, frames, ``epilogue``; both are empty but for LZO, where
    they are the header and the end of the lzop file.
    """

    def __init__(self, codec: Codec, level: int = DEFAULT_LEVEL) -> None:
        _check_level(level)
        self.codec = codec
        self.level = level
        is_lzo = codec is Codec.LZO
        self.prologue = lzop.header(max(1, level)) if is_lzo else b""
        self.epilogue = lzop.END if is_lzo else b""
        self._zstd = (
            zstandard.ZstdCompressor(
                level=_ZSTD_LEVELS[level], write_checksum=True, write_content_size=True
            )
            if codec is Codec.ZSTD
            else None
        )

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return ``data`` as one whole frame."""
        if self._zstd is not None:
            return self._zstd.compress(data)
        match self.codec:
            case Codec.GZIP:
                return _gzip(data, self.level)
            case Codec.BZIP2:
                return bz2.compress(data, max(1, self.level))
            case Codec.LZO:
                return lzop.blocks(data, self.level, adler32=_adler32)
            case Codec.XZ:
                return _xz(data, self.level)
            case _:
                return bytes(data)


def _gzip(data: bytes | bytearray | memoryview, level: int) -> bytes:
    if deflate is not None:
        return bytes(deflate.gzip_compress(data, _LIBDEFLATE_LEVELS[level]))
    stream = zlib.compressobj(_ZLIB_LEVELS[level], zlib.DEFLATED, _GZIP_FORMAT)
    return stream.compress(data) + stream.flush()


def _xz(data: bytes | bytearray | memoryview, level: int) -> bytes:
    # A dictionary larger than the data would only take memory and the time to clear it.
    fitting = 1 << max(0, len(data) - 1).bit_length()
    dictionary = min(_MAX_XZ_DICTIONARY, max(_MIN_XZ_DICTIONARY, fitting))
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": dictionary}
    return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=[lzma2])


def decompress(codec: Codec, data: bytes | memoryview, raw_size: int) -> bytes:
    """Return the ``raw_size`` bytes that one frame holds; ``data`` is exactly the frame.

    Of LZO it may be a whole lzop file too, as --per-file has them. Raises FrameDamaged on
    anything else; whatever the data say, never is there more than ``raw_size`` of output, nor
    memory taken beyond FRAME_LIMIT and what the codec itself needs.
    """
    if codec is Codec.NONE:
        if len(data) != raw_size:
            raise FrameDamaged(f"frame of {len(data)} bytes, not of {raw_size}")
        return bytes(data)
    if not 0 <= raw_size <= FRAME_LIMIT:
        raise FrameDamaged(f"frame of impossible size {raw_size}")
    try:
        raw = _DECOMPRESS[codec](data, raw_size)
    except FrameDamaged:
        raise
    except _DAMAGE as error:
        raise FrameDamaged(f"damaged {codec.name.lower()} frame: {error}") from error
    if len(raw) != raw_size:
        raise FrameDamaged(f"frame holds {len(raw)} bytes, not {raw_size}")
    return raw


_DAMAGE = (
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    lzop.LzopDamaged,
    OSError,  # what bz2 raises of damaged data
    EOFError,
    *((deflate.DeflateError,) if deflate else ()),
)


def _gunzip(data: bytes | memoryview, raw_size: int) -> bytes:
    # libdeflate takes 0 for "as much as the trailer says".
    if deflate is None or raw_size == 0:
        return _streamed(_GzipReader(), data, raw_size)
    raw = deflate.gzip_decompress(data, raw_size)
    # libdeflate stops behind the first member, whatever follows.
    trailer = _crc32(raw).to_bytes(4, "little") + len(raw).to_bytes(4, "little")
    if bytes(data[-_GZIP_TRAILER:]) != trailer:
        raise FrameDamaged("something follows behind the gzip member")
    return bytes(raw)


class _GzipReader:
    """zlib's object with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_FORMAT)

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Return at most ``max_length`` bytes more."""
        return self._stream.decompress(self._stream.unconsumed_tail or data, max_length)

    @property
    def eof(self) -> bool:
        """Whether the end of the member was seen."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """What follows behind the member."""
        return self._stream.unused_data


def _streamed(
    stream: _GzipReader | bz2.BZ2Decompressor | lzma.LZMADecompressor,
    data: bytes | memoryview,
    raw_size: int,
) -> bytes:
    raw = stream.decompress(data, max_length=raw_size) if raw_size else b""
    if not stream.eof:
        # Full, but the end of the frame is not yet read: there must be no byte more.
        raw += stream.decompress(b"" if raw_size else data, max_length=1)
    if not stream.eof:
        raise FrameDamaged("frame is cut off, or holds more than it should")
    if stream.unused_data:
        raise FrameDamaged("something follows behind the frame")
    return raw


def _unbzip2(data: bytes | memoryview, raw_size: int) -> bytes:
    return _streamed(bz2.BZ2Decompressor(), data, raw_size)


def _unxz(data: bytes | memoryview, raw_size: int) -> bytes:
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    return _streamed(reader, data, raw_size)


def _unlzo(data: bytes | memoryview, raw_size: int) -> bytes:
    return lzop.unpack(data, raw_size, adler32=_adler32)


def _unzstd(data: bytes | memoryview, raw_size: int) -> bytes:
    # Asked first: the library allocates what the frame says that it holds.
    said = zstandard.get_frame_parameters(data)
    if said.content_size != raw_size or not said.has_checksum:
        raise FrameDamaged("zstd frame with another size, or without a checksum")
    reader = zstandard.ZstdDecompressor(max_window_size=FRAME_LIMIT)
    return reader.decompress(data, allow_extra_data=False)


_DECOMPRESS: dict[Codec, Callable[[bytes | memoryview, int], bytes]] = {
    Codec.GZIP: _gunzip,
    Codec.BZIP2: _unbzip2,
    Codec.LZO: _unlzo,
    Codec.XZ: _unxz,
    Codec.ZSTD: _unzstd,
}
