"""The place for what a run of ``mondoarchive`` needs for itself, and no longer."""

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
from mindi.backup.options import PROGRAM

_DEFAULT = "/var/tmp"  # noqa: S108 a catalog may be large, and /tmp lie in memory; see hier(7)
_STALE_AFTER_S = 3600
"""A run locks its folder when it has made it: a young one without a lock may be one of these."""


@contextmanager
def scratch_folder(scratch: Path | None, temporary: Path | None) -> Iterator[Path]:
    """Give a new folder in ``scratch``, or in ``temporary``, which goes at the end.

    What SQLite sorts beside goes to ``temporary``. Raises CannotWrite.
    """
    if temporary is not None:
        os.environ["SQLITE_TMPDIR"] = os.fspath(temporary.absolute())
    where = scratch or temporary or Path(os.environ.get("TMPDIR") or _DEFAULT)
    try:
        made = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-", dir=where.absolute()))
    except OSError as error:
        raise CannotWrite(
            f"no temporary files can be kept in {where}: {error.strerror}",
            hint="name a folder with --tmp-dir",
        ) from error
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(where)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _sweep(where: Path) -> None:
    """Remove what killed runs of this user left."""
    for path in where.glob(f"{PROGRAM}-*"):
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
