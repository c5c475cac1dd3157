"""Runs programs of the rescue image: no shell, no input, no terminal, and an end in any case."""

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
    NOT_RUN; ``output`` what it wrote, errors among it, and for the latter two, last, a line
    that says so.
    """

    status: int
    output: str


def run(argv: Sequence[str], *, timeout_s: float, grace_s: float = 5.0) -> Ended:
    """Run a program to its end; after ``timeout_s`` kill it, with all that it started.

    What hangs in the kernel does not die of that: after ``grace_s`` more it is left behind.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 programs of the image
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT | {name: os.environ[name] for name in _PASSED_ON & os.environ.keys()},
            cwd="/tmp",  # noqa: S108 memory of the image
            start_new_session=True,
        )
    except OSError as error:
        return Ended(NOT_RUN, str(error))
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        late = f"\ndid not end within {timeout_s:g} s\n"
        return Ended(TIMED_OUT, _kill(process, grace_s).decode("utf-8", "replace") + late)
    status = process.returncode
    return Ended(128 - status if status < 0 else status, output.decode("utf-8", "replace"))


def _kill(process: subprocess.Popen[bytes], grace_s: float) -> bytes:
    """End a program and all of its session; return what it wrote."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=grace_s)[0]
    except subprocess.TimeoutExpired as error:
        return error.output or b""
