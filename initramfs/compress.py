"""Compression of an initrd: the codecs that a kernel may know, frame by frame.

A *frame* is what the codec itself calls a gzip member, an xz stream, a zstd frame or an
lzop file: it can be decompressed alone, and frames one after the other are a valid file
for gzip, xz, zstd and lzop, and for the kernel (init/initramfs.c, unpack_to_rootfs).
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator
from typing import Protocol

from initramfs.codec import Codec
from initramfs.errors import InputError
from initramfs.stream import ByteStream, FrameDamaged, Readable


class Compressor(Protocol):
    """Compresses one frame piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Take ``data``; return what is ready of the frame."""
        ...

    def flush(self) -> bytes:
        """End the frame; return the rest of it."""
        ...


# What the levels 0 to 9 of a user mean to each codec. zstd's own go to 22, but above 19 a
# decoder needs more than 8 MiB; LZO has a fast way and a thorough one.
_ZSTD_LEVELS = (-1, 1, 2, 3, 5, 7, 9, 12, 15, 19)
_LZO_THOROUGH = 7
# The dictionaries of the xz presets (xz(1)), MiB: the kernel allocates as much for each frame,
# and no frame of ours gains by more than the largest of these.
_XZ_WINDOWS_MIB = (0.25, 1, 2, 4, 4, 8, 8, 16, 16, 16)
_DEFAULT_LEVELS = {Codec.NONE: 0, Codec.GZIP: 6, Codec.XZ: 6, Codec.ZSTD: 4, Codec.LZO: 1}
_MAGIC = {
    b"\x1f\x8b": Codec.GZIP,
    b"\xfd7zXZ\0": Codec.XZ,
    b"\x28\xb5\x2f\xfd": Codec.ZSTD,
    b"\x89LZO": Codec.LZO,
}
# A damaged header must not make us ask for gigabytes; xz -9 and zstd -19 stay far below.
_WINDOW_BYTES = 1 << 27
_MEMORY_BYTES = 1 << 28
_OUTPUT_BYTES = 1 << 20


def default_level(codec: Codec) -> int:
    """Return the level, of 0 to 9, that is the best bargain for a rescue image."""
    return _DEFAULT_LEVELS[codec]


def kernel_supports(config_text: str) -> frozenset[Codec]:
    """Return the codecs of which a kernel with this configuration reads an initrd.

    ``config_text`` is the kernel's .config (``/boot/config-*``); an initrd of no codec is
    read by every kernel that reads any.
    """
    on = set(re.findall(r"^CONFIG_(RD_\w+|BLK_DEV_INITRD)=y\s*$", config_text, re.MULTILINE))
    if "BLK_DEV_INITRD" not in on:
        return frozenset()
    named = {codec for codec in Codec if f"RD_{codec.upper()}" in on}
    return frozenset(named | {Codec.NONE})


def detect(head: bytes) -> Codec | None:
    """Return the codec of the frame that begins with ``head``; None if it is no frame."""
    for magic, codec in _MAGIC.items():
        if head.startswith(magic):
            return codec
    return None


def compressor(codec: Codec, level: int) -> Compressor:
    """Return what compresses one frame; ``level`` is one of 0 to 9."""
    if not 0 <= level <= 9:
        raise ValueError(f"no level {level}")
    match codec:
        case Codec.NONE:
            return _Plain()
        case Codec.GZIP:
            # wbits 31: a gzip member, which zlib writes without name and time.
            return zlib.compressobj(max(1, level), zlib.DEFLATED, 31, 9)
        case Codec.XZ:
            # The kernel's decoder knows CRC32 and nothing better (lib/xz/Kconfig).
            window = int(_XZ_WINDOWS_MIB[level] * (1 << 20))
            chain = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": window}]
            return lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=chain)
        case Codec.ZSTD:
            import zstandard  # here, for who needs no codec should not wait for it

            return zstandard.ZstdCompressor(
                level=_ZSTD_LEVELS[level], write_checksum=True
            ).compressobj()
        case Codec.LZO:
            from initramfs.lzop import LzopCompressor

            return LzopCompressor(thorough=level >= _LZO_THOROUGH)


def compress_frame(data: bytes, codec: Codec, level: int) -> bytes:
    """Return ``data`` as one frame; ``level`` is one of 0 to 9."""
    frame = compressor(codec, level)
    return frame.compress(data) + frame.flush()


def decompress(stream: Readable, *, name: str = "compressed data") -> Iterator[bytes]:
    """Yield, in pieces of bounded size, what the frames in ``stream`` hold.

    The frames may be of different codecs. Raises InputError, naming the byte where the frame
    begins, for damage and for anything that is no frame.
    """
    source = ByteStream.of(stream, name=name)
    while head := source.peek(6):
        codec = detect(head)
        if codec is None:
            raise source.damaged("not a frame of any codec that the kernel knows")
        yield from decompress_frame(source, codec)


def decompress_frame(source: ByteStream, codec: Codec) -> Iterator[bytes]:
    """Yield what one frame holds; ``source`` then stands right behind the frame."""
    start = source.offset
    try:
        match codec:
            case Codec.GZIP:
                yield from _inflate(source)
            case Codec.XZ:
                yield from _unxz(source)
            case Codec.ZSTD:
                from initramfs.zstdframe import decompress_zstd

                yield from decompress_zstd(source, window_bytes=_WINDOW_BYTES)
            case Codec.LZO:
                from initramfs.lzop import decompress_lzop

                yield from decompress_lzop(source)
            case Codec.NONE:
                while chunk := source.some():
                    yield chunk
    except FrameDamaged as error:
        raise InputError(
            f"{source.name}: the {codec} frame at byte {start} is damaged: {error}"
        ) from error


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _inflate(source: ByteStream) -> Iterator[bytes]:
    frame = zlib.decompressobj(31)
    while not frame.eof:
        data = frame.unconsumed_tail or source.some()
        if not data:
            raise FrameDamaged("it is truncated")
        try:
            chunk = frame.decompress(data, _OUTPUT_BYTES)
        except zlib.error as error:
            raise FrameDamaged(str(error)) from error
        if chunk:
            yield chunk
    source.give_back(frame.unused_data)


def _unxz(source: ByteStream) -> Iterator[bytes]:
    frame = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES)
    while not frame.eof:
        data = source.some() if frame.needs_input else b""
        if not data and frame.needs_input:
            raise FrameDamaged("it is truncated")
        try:
            chunk = frame.decompress(data, _OUTPUT_BYTES)
        except lzma.LZMAError as error:
            raise FrameDamaged(str(error)) from error
        if chunk:
            yield chunk
    source.give_back(frame.unused_data)
