"""Files that are there whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from initramfs.errors import OutputError


def check_writable(path: Path) -> None:
    """Raise OutputError where ``path`` cannot become a file, before any long work is begun."""
    folder = path.parent
    try:
        if not folder.is_dir():
            raise OutputError(
                f"cannot write {path}: {folder} is no directory",
                hint="make it, or choose another -o",
            )
        _check_replaceable(path, path.lstat().st_mode)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}", hint="choose another -o"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {folder}")


def _check_replaceable(path: Path, mode: int) -> None:
    """Raise OutputError for all but a regular file: renaming would put a file in its place."""
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: it is a directory", hint="give -o a file name")
    if stat.S_ISLNK(mode):
        raise OutputError(
            f"cannot write {path}: it is a link to {path.readlink()}",
            hint="give -o the file itself, or remove the link",
        )
    hint = "give -o a file name"
    if stat.S_ISBLK(mode):
        hint = f"write the image to a file, then `dd if=FILE of={path} bs=4M conv=fsync`"
    raise OutputError(f"cannot write {path}: it is there and no regular file", hint=hint)


@contextmanager
def written_whole(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give an empty file beside ``path``; rename it when the block ends well, else remove it.

    A ``private`` one is its owner's alone from the beginning; others are as the umask says.
    Raises OutputError, with what happened and what to do, where writing fails.
    """
    # No name that another user of the folder could foresee and put a link in the place of.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        os.close(os.open(temporary, flags, 0o600 if private else 0o666))
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
