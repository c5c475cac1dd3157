"""Bytes from anywhere, read once from front to end, with a look ahead.

What reads images is given hostile input: every request for bytes is bounded, and an end
that comes too early is an InputError that names the place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from initramfs.errors import InputError

CHUNK_BYTES = 1 << 18
"""How much is asked for at a time."""


class Readable(Protocol):
    """A file that is open for reading bytes, or what looks like one."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none only at the end."""
        ...


class FrameDamaged(Exception):
    """A compressed frame is wrong; who reads the stream makes it an InputError that says where."""


class ByteStream:
    """A forward stream; ``name`` says in errors what it is, ``offset`` counts what was taken."""

    def __init__(self, more: Callable[[], bytes], *, name: str) -> None:
        """Read what ``more`` returns on each call, until it returns nothing."""
        self.name = name
        self.offset = 0
        self._more = more
        self._data = b""
        self._at = 0

    @classmethod
    def of(cls, file: Readable, *, name: str) -> ByteStream:
        """Read ``file`` from where it stands; a failing read is an InputError."""

        def more() -> bytes:
            try:
                return file.read(CHUNK_BYTES)
            except OSError as error:
                raise InputError(f"cannot read {name}: {error.strerror or error}") from error

        return cls(more, name=name)

    def peek(self, count: int) -> bytes:
        """Return the next ``count`` bytes without taking them; fewer only at the end."""
        while len(self._data) - self._at < count:
            fresh = self._more()
            if not fresh:
                break
            self._data = self._data[self._at :] + fresh
            self._at = 0
        return self._data[self._at : self._at + count]

    def take(self, count: int, what: str) -> bytes:
        """Return exactly ``count`` bytes of ``what``; raise InputError if there are fewer."""
        found = self.peek(count)
        if len(found) < count:
            raise self.damaged(f"ends in the middle of {what}")
        self._at += count
        self.offset += count
        return found

    def some(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return 1 to ``limit`` bytes, or nothing at the end."""
        if self._at == len(self._data):
            self._data, self._at = self._more(), 0
        found = self._data[self._at : self._at + limit]
        self._at += len(found)
        self.offset += len(found)
        return found

    def give_back(self, data: bytes) -> None:
        """Put ``data``, the last bytes that were taken, back in front."""
        self._data = data + self._data[self._at :]
        self._at = 0
        self.offset -= len(data)

    def skip_zeros(self) -> None:
        """Pass over all NUL bytes that come next."""
        while chunk := self.some():
            rest = chunk.lstrip(b"\0")
            if rest:
                self.give_back(rest)
                return

    def damaged(self, what: str, *, hint: str | None = None) -> InputError:
        """Return the error that says that this stream is wrong here."""
        return InputError(f"{self.name}, at byte {self.offset}: {what}", hint=hint)
