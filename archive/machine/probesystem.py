"""The edge between a probe and the machine: all programs and files that a probe asks, and no more.

A probe takes a ``System``, so that a recording of a machine is as good as the machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import RawIOBase
from typing import Protocol

from archive.errors import CannotRead
from archive.run import NOT_RUN, Ended, run

_TIMEOUT_S = 120.0
_MOST_BYTES = 16 << 20
_CHUNK = 64 << 10


class System(Protocol):
    """A machine that can be asked. None is what is not there or cannot be read."""

    def run(self, *argv: str) -> Ended:
        """Run a program to its end, its errors apart."""

    def read(self, path: str) -> str | None:
        """Return a file's text (surrogateescape), without the newline at its end."""

    def block(self, path: str, offset: int, size: int) -> bytes | None:
        """Return bytes of a device or file; fewer at its end."""

    def names(self, directory: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none where there is no directory."""

    def number(self, path: str) -> str | None:
        """Return the number of a device node, links followed, as ``254:1``."""


class LiveSystem:
    """The machine that this runs on."""

    def run(self, *argv: str) -> Ended:
        """Run a program to its end, its errors apart."""
        return run(argv, timeout_s=_TIMEOUT_S, apart=True)

    def read(self, path: str) -> str | None:
        """Return a file's text (surrogateescape), without the newline at its end."""
        content = self.block(path, 0, _MOST_BYTES)
        return None if content is None else os.fsdecode(content).removesuffix("\n")

    def block(self, path: str, offset: int, size: int) -> bytes | None:
        """Return bytes of a device or file; fewer at its end."""
        try:
            with open(path, "rb", buffering=0) as file:
                if offset:
                    file.seek(offset)
                return _read(file, size)
        except OSError:
            return None

    def names(self, directory: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none where there is no directory."""
        try:
            return tuple(sorted(os.listdir(directory)))
        except OSError:
            return ()

    def number(self, path: str) -> str | None:
        """Return the number of a device node, links followed, as ``254:1``."""
        try:
            number = os.stat(path).st_rdev
        except (OSError, ValueError):
            return None
        return f"{os.major(number)}:{os.minor(number)}" if number else None


def _read(file: RawIOBase, size: int) -> bytes:
    """Read to ``size`` or the end: files of /proc give little at a time, and refuse long reads."""
    data = bytearray()
    while len(data) < size:
        part = file.read(min(size - len(data), _CHUNK))
        if not part:
            break
        data += part
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a system for what there is no layout without, and words what goes wrong."""

    system: System

    def output(self, *argv: str, statuses: tuple[int, ...] = (0,)) -> str:
        """Return what a program wrote. Raises CannotRead where it failed or is not there."""
        ended = self.system.run(*argv)
        if ended.status in statuses:
            return ended.output
        raise self.failure(argv, ended)

    def failure(self, argv: tuple[str, ...], ended: Ended) -> CannotRead:
        """Return the error of a program that failed."""
        if ended.status == NOT_RUN:
            return CannotRead(
                f"the storage layout needs {os.path.basename(argv[0])}, which is not there",
                hint="`mindi doctor` names the package that has it",
            )
        said = " / ".join(ended.errors.strip().splitlines()[-3:])
        denied = "ermission denied" in said or "not permitted" in said
        return CannotRead(
            f"{' '.join(argv)} failed with status {ended.status}: {said}",
            hint="only root may read disks, and not in every container" if denied else None,
        )
