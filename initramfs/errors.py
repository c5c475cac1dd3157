"""The errors of image building, and the exit codes they carry.

Exit codes are interface: they are documented in docs/commands.md and tested.
Only the command lines catch these errors and exit.
"""

from __future__ import annotations

from typing import ClassVar


class ImageError(Exception):
    """Something made the image impossible; says what failed, where, and what to do.

    ``message`` is one or more complete lines for the user; ``hint`` says what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ImageError):
    """An option, a configuration key or a combination of them that makes no sense."""

    exit_code = 2


class MissingDependency(ImageError):
    """Something the image needs is not in the root tree; the message names the chain."""

    exit_code = 3


class ConflictError(MissingDependency):
    """Two different things claim one path of the image; the message names both chains."""


class InputError(ImageError):
    """An input cannot be read, or is not what it should be (damaged, truncated, foreign)."""

    exit_code = 4


class OutputError(ImageError):
    """The output cannot be written, or read back different from what was written."""

    exit_code = 5


class ToolError(ImageError):
    """A program of the build host failed; carries its argv, exit status and last words."""

    exit_code = 6
