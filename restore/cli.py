"""The command ``mondorestore``: parses, does, and turns errors into words and exit codes.

It runs on the live system and in the rescue environment alike, there with nothing but what
travels. Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from archive.errors import ArchiveError
from restore.options import PROGRAM, parse
from restore.output import writing
from restore.words import shown_text

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the words of ``argv``, or sys.argv's; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for number in _INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupted)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The console of a rescue environment may know no more than ASCII.
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, handlers=[_Warnings()])
    try:
        return _run(words)
    except ArchiveError as error:
        _give_up_output()
        _trace(words)
        _complain("error", error.message)
        if error.hint:
            _complain("hint", error.hint)
        return error.exit_code
    except BrokenPipeError:
        # Who read the list has seen enough; nothing is left to be said to him at the end.
        _give_up_output()
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        _complain("error", "interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        _trace(words)
        _complain("error", f"a bug in {PROGRAM}: {type(error).__name__}: {error}")
        _complain("hint", "run it again with --debug and report what it shows")
        return EXIT_BUG


def _run(words: list[str]) -> int:
    options = parse(words)
    from restore.deeds import do  # what --help need not wait for

    code = do(options)
    with writing():
        sys.stdout.flush()
    return code


def _give_up_output() -> None:
    """Write what standard output still takes; the interpreter is not to fail over the rest."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Warnings(logging.Handler):
    """Shows what the libraries warn of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        _complain(record.levelname.lower(), record.getMessage())


def _interrupted(number: int, frame: FrameType | None) -> None:
    del number, frame
    for each in _INTERRUPTS:  # a second one would break the cleaning up
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _pass_over)
    raise KeyboardInterrupt


def _pass_over(number: int, frame: FrameType | None) -> None:
    del number, frame


def _trace(words: Sequence[str]) -> None:
    if "--debug" in words:
        import traceback

        for line in traceback.format_exc().splitlines():
            sys.stderr.write(f"{shown_text(line)}\n")


def _complain(what: str, message: str) -> None:
    for line in message.split("\n"):
        sys.stderr.write(f"{PROGRAM}: {what}: {shown_text(line)}\n")


if __name__ == "__main__":
    sys.exit(main())
