"""Programs of the machine that a test checks ours against."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# An ordinary user's PATH lacks these, and much of what is in them needs no right.
_MORE_PATH = ":/usr/local/sbin:/usr/sbin:/sbin"

_STRICT = "MINDI_REQUIRE_TOOLS"


def be_strict() -> None:
    """Make a missing tool a failure; the environment takes the word to pytest-xdist's workers."""
    os.environ[_STRICT] = "1"


def require_tool(name: str, *, package: str | None = None) -> Path:
    """Return the path of the program ``name``; skip the test where there is none.

    With ``--require-tools`` the test fails instead.
    """
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + _MORE_PATH)
    if found is None:
        lacking(f"{name} is not here (package {package or name})")
    return Path(found)


def require_file(path: str, *, package: str) -> Path:
    """Return ``path`` of the machine; as ``require_tool`` where it is missing."""
    if not Path(path).exists():
        lacking(f"{path} is not here (package {package})")
    return Path(path)


def lacking(words: str) -> NoReturn:
    """Skip the test for what this machine lacks, or fail it with ``--require-tools``."""
    if os.environ.get(_STRICT):
        pytest.fail(words, pytrace=False)
    pytest.skip(words)
