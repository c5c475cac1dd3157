"""What the mains have in common: signals, and errors made into words and exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from archive.errors import ArchiveError
from initramfs.errors import ImageError, UsageError
from mindi.interrupts import INTERRUPTS
from restore.words import shown_lines

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """A signal ended the command, and there is something to say to the user."""

    def __init__(self, hint: str) -> None:
        super().__init__()
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command speaks."""

    quiet: bool
    as_json: bool
    debug: bool


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help` shows what there is")


def run_main(program: str, argv: Sequence[str] | None, run: Callable[[list[str]], int]) -> int:
    """Run the command ``program`` with the words of ``argv``, or sys.argv's; return its exit code.

    INT, TERM and HUP become one KeyboardInterrupt; those that follow are ignored.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for number in INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupted)
    try:
        return run(words)
    except (ImageError, ArchiveError) as error:
        _trace(words)
        _complain(program, error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_INTERRUPTED
    except KeyboardInterrupt as error:
        _complain(program, "interrupted", getattr(error, "hint", None))
        return EXIT_INTERRUPTED
    except Exception as error:
        _trace(words)
        _complain(
            program,
            f"a bug in {program}: {type(error).__name__}: {error}",
            "run it again with --debug and report what it shows",
        )
        return EXIT_BUG


def _interrupted(number: int, frame: FrameType | None) -> None:
    del number, frame
    for each in INTERRUPTS:  # a second one would break the cleaning up
        if signal.getsignal(each) is not signal.SIG_IGN:
            # Not SIG_IGN, which programs that are run later would inherit.
            signal.signal(each, _pass_over)
    raise KeyboardInterrupt


def _pass_over(number: int, frame: FrameType | None) -> None:
    del number, frame


def _trace(words: Sequence[str]) -> None:
    """Show where the error that is being handled came from, if that is asked for."""
    if "--debug" in words:
        import traceback

        sys.stderr.write(shown_lines(traceback.format_exc()))


def _complain(program: str, message: str, hint: str | None) -> None:
    # Messages name files of foreign trees and images, and quote guests.
    sys.stderr.write(f"{program}: error: {shown_lines(message)}\n")
    if hint:
        sys.stderr.write(f"{program}: hint: {shown_lines(hint)}\n")
