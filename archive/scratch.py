"""Folders for what a run needs for itself, and no longer; those of killed runs go."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.errors import CannotWrite

_DEFAULT = Path("/var/tmp")  # noqa: S108 a catalog may be large, and /tmp lie in memory; see hier(7)
_STALE_AFTER_S = 60
"""A run locks its folder when it has made it: a young one without a lock may be one of these."""


@contextmanager
def scratch_folder(where: Path | None, *, prefix: str, hint: str) -> Iterator[Path]:
    """Give a new folder in ``where`` (None: in $TMPDIR or /var/tmp) which goes at the end.

    ``prefix``: how its name begins, and those of the folders of killed runs that go now.
    ``hint``: what to do if it cannot be made. Raises CannotWrite.
    """
    where = (where or _default()).absolute()
    try:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    except OSError as error:
        raise CannotWrite(
            f"no temporary files can be kept in {where}: {error.strerror}", hint=hint
        ) from error
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(where, prefix)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _default() -> Path:
    named = os.environ.get("TMPDIR")
    if named:
        return Path(named)
    return _DEFAULT if _DEFAULT.is_dir() else Path(tempfile.gettempdir())


def _sweep(where: Path, prefix: str) -> None:
    """Remove what killed runs of this user left."""
    for path in where.glob(f"{prefix}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            state = os.fstat(lock)
            if state.st_uid == os.geteuid() and state.st_mtime < time.time() - _STALE_AFTER_S:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # locked: a run that goes on
        finally:
            os.close(lock)
