"""Reads one zstd frame off a stream (RFC 8878) and stops right behind it.

The blocks are fed to libzstd one by one: no block holds more than 128 KiB, so that neither
a small malicious frame nor a large honest one takes memory beyond its window.
"""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from initramfs.stream import ByteStream, FrameDamaged

_BLOCK_BYTES = 1 << 17
_RAW, _RLE, _COMPRESSED = 0, 1, 2


def decompress_zstd(source: ByteStream, *, window_bytes: int) -> Iterator[bytes]:
    """Yield what the frame holds; raise FrameDamaged or InputError if it is not whole."""
    descriptor = source.peek(5)[4:]
    if not descriptor:
        raise FrameDamaged("it is truncated")
    frame = zstandard.ZstdDecompressor(max_window_size=window_bytes).decompressobj()
    has_checksum = bool(descriptor[0] & 4)
    try:
        frame.decompress(source.take(_header_bytes(descriptor[0]), "the zstd frame's header"))
        last = False
        while not last:
            head = source.take(3, "the zstd frame")
            word = int.from_bytes(head, "little")
            last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
            if kind > _COMPRESSED or size > _BLOCK_BYTES:
                raise FrameDamaged(f"a block of type {kind} and {size} bytes")
            body = source.take(1 if kind == _RLE else size, "the zstd frame")
            chunk = frame.decompress(head + body)
            if chunk:
                yield chunk
        if has_checksum:
            chunk = frame.decompress(source.take(4, "the zstd frame's checksum"))
            if chunk:
                yield chunk
    except zstandard.ZstdError as error:
        raise FrameDamaged(str(error)) from error
    if not frame.eof:
        raise FrameDamaged("it does not end where its last block ends")


def _header_bytes(descriptor: int) -> int:
    single_segment = bool(descriptor & 0x20)
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    content_size = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    return 5 + (0 if single_segment else 1) + dictionary + content_size
