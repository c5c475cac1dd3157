"""Plain readers of compressed files: kernel modules and firmware as distributions store them.

The format is told by the first bytes, as kmod does (its ``file_types``), not by the name:
xz (tukaani.org, "The .xz File Format" 2.1.1.1), zstd (RFC 8878 3.1.1), gzip (RFC 1952 2.3.1).
"""

from __future__ import annotations

import enum
import lzma
import zlib
from pathlib import Path

from initramfs.errors import InputError

SUFFIXES = ("", ".xz", ".zst", ".gz")
"""What a distribution appends to the name of a module; the empty one for plain files."""


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


def decompress(content: bytes, *, origin: str) -> bytes:
    """Return ``content`` decompressed, all its frames; ``origin`` names it in errors.

    Raises InputError where it is damaged or ends early.
    """
    compression = Compression.of(content)
    try:
        if compression is Compression.XZ:
            return lzma.decompress(content, lzma.FORMAT_XZ)
        if compression is Compression.ZSTD:
            return _unzstd(content)
        if compression is Compression.GZIP:
            return _gunzip(content)
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise InputError(
            f"{origin}: damaged {compression.name.lower()} file: {error}",
            hint="install the package that brought this file once more",
        ) from error
    return content


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


def _gunzip(content: bytes) -> bytes:
    plain = bytearray()
    while content:
        member = zlib.decompressobj(wbits=31)
        plain += member.decompress(content)
        if not member.eof:
            raise EOFError("it ends too early")
        content = member.unused_data.lstrip(b"\0")
    return bytes(plain)


def _unzstd(content: bytes) -> bytes:
    import zstandard  # 15 ms to import, and most trees have no .zst modules

    plain = bytearray()
    decompressor = zstandard.ZstdDecompressor()
    try:
        while content:
            frame = decompressor.decompressobj()
            plain += frame.decompress(content)
            if not frame.eof:
                raise EOFError("it ends too early")
            content = frame.unused_data
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error
    return bytes(plain)
