"""The place for what a run of ``mondoarchive`` needs for itself, and no longer."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from archive import scratch as folders
from mindi.backup.options import PROGRAM


def scratch_folder(scratch: Path | None, temporary: Path | None) -> AbstractContextManager[Path]:
    """Give a new folder in ``scratch``, or in ``temporary``, which goes at the end.

    What SQLite sorts beside goes to ``temporary``. Raises CannotWrite.
    """
    if temporary is not None:
        os.environ["SQLITE_TMPDIR"] = os.fspath(temporary.absolute())
    return folders.scratch_folder(
        scratch or temporary, prefix=f"{PROGRAM}-", hint="name a folder with --tmp-dir"
    )
