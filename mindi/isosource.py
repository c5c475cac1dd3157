"""What an image's files are made of: bytes, or a file of the build host, read in passing."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO, cast

from initramfs.errors import InputError

Content = Path | bytes
"""A file of the build host, or made content."""


def content_size(content: Content) -> int:
    """Return the size in bytes; raise InputError for a file that cannot be read."""
    if isinstance(content, bytes):
        return len(content)
    try:
        return content.stat().st_size
    except OSError as error:
        raise _unreadable(content, error) from error


def open_content(content: Content) -> BinaryIO:
    """Return a stream that opens a file when it is first read and closes it at its end."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    return cast(BinaryIO, SourceFile(content))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; raise InputError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def digest_of(content: Content) -> str:
    """Return the SHA-256 of a content in hexadecimal; raise InputError for an unreadable file."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_of(content)


class SourceFile(io.RawIOBase):
    """A file to be read: an image may have thousands, of which one at a time is open.

    Every failure is an InputError with the file's name, not to be taken for one of the output.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._stream: io.FileIO | None = None
        self._position = 0
        self._size = content_size(path)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to ``offset``, from the start."""
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("sources are read from their start")
        self._position = offset
        return offset

    def read(self, size: int = -1, /) -> bytes:
        """Return the next ``size`` bytes, fewer only where the file ends; then closes it."""
        wanted = size if size >= 0 else max(self._size - self._position, 0)
        parts = []
        try:
            if self._stream is None:
                self._stream = io.FileIO(self._path)
            self._stream.seek(self._position)
            while wanted:
                part = self._stream.read(wanted)
                if not part:
                    break
                parts.append(part)
                self._position += len(part)
                wanted -= len(part)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        if wanted or self._position >= self._size:
            self._stream.close()
            self._stream = None
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot read {path}: {error.strerror}",
        hint="the file goes on the image; see that it is there and that you may read it",
    )
