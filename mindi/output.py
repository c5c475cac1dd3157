"""Files that are there whole or not at all: written beside, synced, renamed.

What is being written is ``.NAME.TOKEN.part`` beside NAME, locked by who writes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from initramfs.errors import OutputError

_TOKEN_BYTES = 8


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

    Otherwise as ``part_file``.
    """
    with part_file(path, private=private) as temporary:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)


@contextmanager
def part_file(path: Path, *, private: bool = True) -> Iterator[Path]:
    """Give an empty file beside ``path`` that is removed, if it still has its name, at the end.

    A ``private`` one is its owner's alone from the beginning; others are as the umask says. What
    a killed process left of the same ``path`` is removed first. Raises OutputError, with what
    happened and what to do, where writing fails.
    """
    temporary, held = _part_name(path), None
    try:
        _remove_stale(path)
        while (held := _make_locked(temporary, 0o600 if private else 0o666)) is None:
            temporary = _part_name(path)
        yield temporary
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) != temporary:
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror}",
            hint=f"free some room in {path.parent}, or choose another -o",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def _part_name(path: Path) -> Path:
    # None that another user of the folder could foresee and put a link in the place of.
    return path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}.part")


def _make_locked(part: Path, mode: int) -> int | None:
    """Make the file ``part``; return what keeps it locked, so that others see it used.

    The lock (flock(2)) goes with its process, however that ends. None if another process took the
    file for stale before it was locked.
    """
    held = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    except OSError:
        return held  # where there are no locks, nobody takes one to remove it either
    if os.fstat(held).st_nlink:
        return held
    os.close(held)
    return None


def _remove_stale(path: Path) -> None:
    """Remove parts of ``path`` that are ours and that no living process holds."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.part")
    try:
        with os.scandir(path.parent) as found:
            parts = [Path(item.path) for item in found if name.fullmatch(item.name)]
    except OSError:
        return  # it can be written without being read
    for part in parts:
        with suppress(OSError):
            _remove_if_stale(part)


def _remove_if_stale(part: Path) -> None:
    status = part.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return
    held = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), part.lstat()):
            part.unlink()
    finally:
        os.close(held)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a loss of power (fsync(2), on directories)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
