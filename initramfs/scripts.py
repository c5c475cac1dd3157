"""Which programs a script needs to start: its ``#!`` line (execve(2)) and env(1) in it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass

PATH_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where env(1) looks for a program; the rescue environment's PATH."""

# The kernel looks at no more of a file (BINPRM_BUF_SIZE).
_LINE_BYTES = 256

_SPLIT = re.compile(r"-(?:[iv0]*S|-split-string[= ])\s*(.*)", re.DOTALL)
_OPTIONS_WITH_VALUE = frozenset({"-u", "--unset", "-C", "--chdir"})


@dataclass(frozen=True, slots=True)
class Script:
    """The absolute path of the ``interpreter``, and the ``program`` that it looks up if env(1)."""

    interpreter: str
    program: str | None = None


def read_script(head: bytes) -> Script | None:
    """Return what the file that begins with ``head`` is run by; None if it is no script.

    An interpreter that is relative to the working directory counts as none.
    """
    if not head.startswith(b"#!"):
        return None
    line = re.split(rb"[\n\0]", head[2:_LINE_BYTES], maxsplit=1)[0]
    words = os.fsdecode(line).strip(" \t").replace("\t", " ").split(" ", 1)
    interpreter = words[0]
    if not interpreter.startswith("/"):
        return None
    argument = words[1].strip(" ") if len(words) > 1 else ""
    if interpreter.rpartition("/")[2] == "env" and argument:
        return Script(interpreter, _program_of_env(argument))
    return Script(interpreter)


def _program_of_env(argument: str) -> str | None:
    """Return the program that env(1) starts, given all of its arguments as one word."""
    split = _SPLIT.match(argument)
    words = [argument] if split is None else _words(split[1])
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in _OPTIONS_WITH_VALUE
        elif "=" not in word:
            return None if "$" in word else word
    return None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
