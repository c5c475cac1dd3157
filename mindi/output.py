"""Files that are there whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from initramfs.errors import OutputError


def check_writable(path: Path) -> None:
    """Raise OutputError where ``path`` cannot become a file, before any long work is begun."""
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(
            f"cannot write {path}: {folder} is no directory", hint="make it, or choose another -o"
        )
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory", hint="give -o a file name")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {folder}")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it when the block ends well, else remove it.

    Raises OutputError, with what happened and what to do, where writing fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) != temporary:
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror}",
            hint=f"free some room in {path.parent}, or choose another -o",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a loss of power (fsync(2), on directories)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
