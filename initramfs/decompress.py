"""Plain readers of compressed files: kernel modules and firmware as distributions store them.

The format is told by the first bytes, as kmod does (its ``file_types``), not by the name:
xz (tukaani.org, "The .xz File Format" 2.1.1.1), zstd (RFC 8878 3.1.1), gzip (RFC 1952 2.3.1).
"""

from __future__ import annotations

import enum
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from initramfs.errors import InputError

SUFFIXES = ("", ".xz", ".zst", ".gz")
"""What a distribution appends to the name of a module; the empty one for plain files."""

LIMIT_BYTES = 512 << 20
"""What no module and no firmware comes near; a few bytes of a hostile one may unpack to more."""

_STEP_BYTES = 1 << 22
# zstd has no such limit of its output, but no 4 bytes of a frame hold more than a block, 128 KiB
# (RFC 8878 3.1.1.2): at most 64 MiB come out at a time.
_ZSTD_STEP_BYTES = 1 << 11


class Compression(enum.Enum):
    """How a file is stored; the value is what its first bytes are."""

    PLAIN = b""
    XZ = b"\xfd7zXZ\0"
    ZSTD = b"\x28\xb5\x2f\xfd"
    GZIP = b"\x1f\x8b"

    @classmethod
    def of(cls, head: bytes) -> Compression:
        """Tell the compression from the first six or more bytes of a file."""
        for compression in (cls.XZ, cls.ZSTD, cls.GZIP):
            if head.startswith(compression.value):
                return compression
        return cls.PLAIN


def decompress(content: bytes, *, origin: str, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return ``content`` decompressed, all its frames; ``origin`` names it in errors.

    Raises InputError where it is damaged, ends early, or unpacks to more than ``limit_bytes``.
    """
    compression = Compression.of(content)
    if compression is Compression.PLAIN:
        return content
    plain = bytearray()
    try:
        for chunk in _UNPACKERS[compression](content):
            if len(plain) + len(chunk) > limit_bytes:
                raise InputError(
                    f"{origin}: unpacks to more than {limit_bytes} bytes",
                    hint="no module or firmware is that large; see where this file comes from",
                )
            plain += chunk
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise InputError(
            f"{origin}: damaged {compression.name.lower()} file: {error}",
            hint="install the package that brought this file once more",
        ) from error
    return bytes(plain)


def decompressed(path: Path, *, origin: str | None = None) -> bytes:
    """Return the decompressed content of the build host's file ``path``; raise InputError.

    ``origin`` is what errors call it, where that is not ``path``.
    """
    name = origin or str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    return decompress(content, origin=name)


def _gunzip(content: bytes) -> Iterator[bytes]:
    while content:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            chunk = member.decompress(content, _STEP_BYTES)
            content = member.unconsumed_tail
            if not chunk and not content and not member.eof:
                raise EOFError("it ends too early")
            yield chunk
        content = member.unused_data.lstrip(b"\0")


def _unxz(content: bytes) -> Iterator[bytes]:
    while content:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        while not stream.eof:
            if not content and stream.needs_input:
                raise EOFError("it ends too early")
            yield stream.decompress(content, _STEP_BYTES)
            content = b""
        content = stream.unused_data.lstrip(b"\0")


def _unzstd(content: bytes) -> Iterator[bytes]:
    import zstandard  # 15 ms to import, and most trees have no .zst modules

    decompressor = zstandard.ZstdDecompressor()
    left = memoryview(content)
    try:
        while left:
            frame = decompressor.decompressobj()
            while not frame.eof:
                if not left:
                    raise EOFError("it ends too early")
                yield frame.decompress(left[:_ZSTD_STEP_BYTES])
                left = left[_ZSTD_STEP_BYTES:]
            left = memoryview(frame.unused_data + left)
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error


_UNPACKERS: dict[Compression, Callable[[bytes], Iterator[bytes]]] = {
    Compression.XZ: _unxz,
    Compression.ZSTD: _unzstd,
    Compression.GZIP: _gunzip,
}
