"""Runs programs of the build host: argv lists, no shell, no input, English words.

A failure carries the command, its exit status and the program's last words. Who is interrupted
ends the program that it waits for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from initramfs.errors import MissingDependency, ToolError
from mindi.interrupts import held_interrupts

# An ordinary user's PATH lacks the folders of some tools that need no right (depmod).
_MORE_PATH = ":/usr/local/sbin:/usr/sbin:/sbin"
_SAYS_WHY = re.compile(r"^E: |^\S+ : |(?:Depends|Conflicts|Breaks): ")  # as apt does
_LAST_LINES = 5
_SHOWN_WORDS = 6


def find_program(name: str) -> str | None:
    """Return where the program ``name`` is, which may be a path; None where it is not."""
    return shutil.which(name, path=os.environ.get("PATH", "/usr/bin:/bin") + _MORE_PATH)


def program(name: str) -> str:
    """Return where the program ``name`` is; raise MissingDependency where it is not."""
    found = find_program(name)
    if found is None:
        raise MissingDependency(f"the program {name} is not here", hint=f"install {name}")
    return found


def run(
    name: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    hint: str | None = None,
) -> str:
    """Run a program of the host and return what it said on standard output.

    ``environment`` is added to ours; ``hint`` goes with the ToolError of a program that fails.
    """
    argv = [program(name), *arguments]
    with started(argv, environment=environment, folder=folder, stdout=subprocess.PIPE) as process:
        said, errors = (_text(output) for output in process.communicate())
    if process.returncode:
        raise failure(argv, process.returncode, said + errors, hint=hint)
    return said


def lines(
    name: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    hint: str | None = None,
) -> Iterator[str]:
    """Run a program as ``run`` does and yield its lines, errors among them, as they come."""
    argv = [program(name), *arguments]
    said: list[str] = []
    with started(
        argv,
        environment=environment,
        folder=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            said.append(_text(line))
            yield said[-1]
    if process.returncode:
        raise failure(argv, process.returncode, "".join(said), hint=hint)


@contextmanager
def started(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: IO[bytes] | int | None = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Give a program that runs, and wait for its end; a failing block ends it.

    Raises ToolError where it cannot be started.
    """
    with held_interrupts() as release:
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C", **(environment or {})},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            raise ToolError(f"cannot run {argv[0]}: {error.strerror}") from error
        is_whole = False
        with process:
            try:
                release()
                yield process
                is_whole = True
            finally:
                if not is_whole:
                    process.terminate()


def failure(argv: Sequence[str], code: int, said: str, *, hint: str | None = None) -> ToolError:
    """Return the error of a program that failed, or, with ``code`` 0, only said so."""
    shown = " ".join(argv[:_SHOWN_WORDS]) + (" ..." if len(argv) > _SHOWN_WORDS else "")
    how = f"failed with exit status {code}" if code else "failed"
    return ToolError(f"{shown} {how}:\n{last_words(said)}", hint=hint)


def last_words(said: str) -> str:
    """Return the lines at the end that are likely to say why a program failed."""
    plain = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in plain if _SAYS_WHY.search(line)]
    return "\n".join((errors or plain)[-_LAST_LINES:])


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
