"""Runs the user's commands before and after a backup (``-B``, ``-A``).

They get what happens in variables of the environment, and write to standard error: standard output
belongs to the result.
"""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from archive.errors import HookFailed

_SHELL = "/bin/sh"


class Status(enum.StrEnum):
    """What a backup came to, as ``MONDOARCHIVE_STATUS`` tells it."""

    BEGUN = "begun"
    COMPLETE = "complete"
    WARNINGS = "warnings"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What a hook is told."""

    status: Status
    folder: Path
    """Of all sets."""
    prefix: str
    kind: str
    """``full`` or ``differential``."""
    exit_code: int | None = None
    """That of the command, as far as it is known."""
    made: Path | None = None
    """The new set, if there is one."""
    words: str = ""
    """What went wrong."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables."""
        return {
            "MONDOARCHIVE_STATUS": self.status.value,
            "MONDOARCHIVE_DIR": os.fspath(self.folder),
            "MONDOARCHIVE_PREFIX": self.prefix,
            "MONDOARCHIVE_KIND": self.kind,
            "MONDOARCHIVE_EXIT_CODE": "" if self.exit_code is None else str(self.exit_code),
            "MONDOARCHIVE_SET": "" if self.made is None else os.fspath(self.made.absolute()),
            "MONDOARCHIVE_ERROR": self.words,
        }


def run_hook(command: str, occasion: Occasion, *, name: str) -> None:
    """Run a command of the shell and wait for it; ``name`` is what the user calls the hook.

    Raises HookFailed where it ends with another status than 0.
    """
    sys.stderr.flush()
    done = subprocess.run(
        [_SHELL, "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        env={**os.environ, **occasion.environment()},
        check=False,
    )
    if done.returncode == 0:
        return
    how = f"ended with status {done.returncode}"
    if done.returncode < 0:
        how = f"was ended by signal {-done.returncode}"
    raise HookFailed(f"the command of {name} {how}: {command}")
