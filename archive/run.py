"""Runs programs for what travels: no shell, no input, no terminal, and an end in any case."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

TIMED_OUT = 124
"""Status of a program that did not end in time, as timeout(1) has it."""

NOT_RUN = 127
"""Status of a program that could not be started, as sh(1) has it."""

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TERM": "dumb"}
# Without udev, device-mapper's tools make their nodes themselves only if they are told to.
_PASSED_ON = frozenset({"DM_DISABLE_UDEV"})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    ``status`` is its exit status, 128 plus the number of the signal that ended it, TIMED_OUT or
    NOT_RUN; ``output`` what it wrote, errors among it unless they were asked for ``apart``, as
    text (what is not UTF-8 in it replaced). For the latter two the last line, of the errors
    if they are apart, says so.
    """

    status: int
    output: str
    errors: str = ""


def run(
    argv: Sequence[str], *, timeout_s: float, grace_s: float = 5.0, apart: bool = False
) -> Ended:
    """Run a program to its end; after ``timeout_s`` kill it, with all that it started.

    What hangs in the kernel does not die of that: after ``grace_s`` more it is left behind.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            env=_ENVIRONMENT | {name: os.environ[name] for name in _PASSED_ON & os.environ.keys()},
            cwd="/tmp",  # noqa: S108 memory of the image
            start_new_session=True,
        )
    except OSError as error:
        return _ended(NOT_RUN, b"", b"", str(error), apart)
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        output, errors = _kill(process, grace_s)
        late = f"\ndid not end within {timeout_s:g} s\n"
        return _ended(TIMED_OUT, output, errors, late, apart)
    status = process.returncode
    return _ended(128 - status if status < 0 else status, output, errors, "", apart)


def _ended(status: int, output: bytes, errors: bytes | None, words: str, apart: bool) -> Ended:
    out, err = output.decode("utf-8", "replace"), (errors or b"").decode("utf-8", "replace")
    return Ended(status, out, err + words) if apart else Ended(status, out + words)


def _kill(process: subprocess.Popen[bytes], grace_s: float) -> tuple[bytes, bytes]:
    """End a program and all of its session; return what it wrote."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        output, errors = process.communicate(timeout=grace_s)
    except subprocess.TimeoutExpired as error:
        return error.output or b"", error.stderr or b""
    return output, errors or b""
