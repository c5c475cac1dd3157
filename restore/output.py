"""Tells a standard output that takes nothing apart from all else that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from archive.errors import CannotWrite


@contextmanager
def writing() -> Iterator[None]:
    """Be around what writes to standard output. Raises CannotWrite, BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotWrite(
            f"standard output cannot be written: {error.strerror}",
            hint="make room there, or send it to another place",
        ) from error
