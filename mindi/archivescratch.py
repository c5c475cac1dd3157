"""The place for what a run of ``mondoarchive`` needs for itself, and no longer."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.errors import CannotWrite
from mindi.archiveoptions import PROGRAM

_DEFAULT = "/var/tmp"  # noqa: S108 a catalog may be large, and /tmp lie in memory; see hier(7)


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
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
