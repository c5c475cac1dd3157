"""Makes this process, and all it starts, give way to others: nice(1) and ionice(1)."""

from __future__ import annotations

import os

from archive.errors import ArchiveError
from initramfs.errors import ToolError
from mindi.backup.table import IoClass

_CLASSES = {IoClass.IDLE: ("-c", "3"), IoClass.BEST_EFFORT: ("-c", "2", "-n", "7")}


def give_way(nice: int | None, ionice: IoClass | None) -> None:
    """Lower the priority on processors by ``nice``, on disks to a class's lowest.

    Raises ToolError where ionice(1) is missing or refuses.
    """
    if nice:
        try:
            os.nice(nice)
        except OSError as error:
            raise ArchiveError(f"--nice {nice}: {error.strerror}") from error
    if ionice in _CLASSES:
        from plumbum import CommandNotFound, ProcessExecutionError, local  # heavy: late

        try:
            local["ionice"][(*_CLASSES[ionice], "-p", str(os.getpid()))]()
        except CommandNotFound as error:
            raise ToolError(
                "--ionice needs the program ionice, which is not here",
                hint="install the package util-linux, or leave the option out",
            ) from error
        except ProcessExecutionError as error:
            raise ToolError(f"ionice failed: {error.stderr.strip()}") from error
