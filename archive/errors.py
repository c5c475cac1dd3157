"""The errors of backup sets, and the exit codes they carry.

Exit codes are interface: they are documented in docs/commands.md and tested. 0 is complete, 1
complete with warnings (or, of a compare, differences); these are failures. Only the command
lines catch them and exit.
"""

from __future__ import annotations

from typing import ClassVar


class ArchiveError(Exception):
    """Something made a backup or its reading impossible; says what, where, and what to do.

    ``message`` is one or more complete lines for the user; ``hint`` says what to do about it.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUsage(ArchiveError):
    """An option, a pattern or a combination of them that makes no sense."""

    exit_code = 2


class CannotRead(ArchiveError):
    """What was to be saved cannot be read as a whole: a filesystem, a list of files."""

    exit_code = 4


class SetDamaged(ArchiveError):
    """A set is not what it should be: damaged, cut off, of a foreign version, or hostile."""

    exit_code = 4


class ParentMissing(SetDamaged):
    """A differential's parent is not where it should be, or not the one it names."""


class CannotWrite(ArchiveError):
    """The medium cannot be written: full, gone, no permission."""

    exit_code = 5


class HookFailed(ArchiveError):
    """A program that was to run before or after failed."""

    exit_code = 6


class LayoutInvalid(SetDamaged, ValueError):
    """A storage layout that cannot be: unknown or doubled ids, a cycle, overlaps, foreign words."""
