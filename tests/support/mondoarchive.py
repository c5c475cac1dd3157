"""Runs ``mondoarchive`` as a user would, on small trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from archive.manifest import Manifest
from archive.manifestfile import read_manifest
from archive.setfolder import chain
from tests.support.realtree import Ran
from tests.support.tools import require_tool

PREFIX = "box"


def argv_of(*words: str | Path, before: tuple[str, ...] = ()) -> list[str]:
    """Return what runs the command; ``before`` wraps it."""
    return [*before, sys.executable, "-m", "mindi.mondoarchive", *map(os.fspath, words)]


def mondoarchive(
    *words: str | Path,
    before: tuple[str, ...] = (),
    cwd: Path | None = None,
    given: bytes = b"",
    stdout: int = subprocess.PIPE,
) -> Ran:
    """Run the command in a process of its own, with ``given`` as its standard input."""
    environ = {**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[2])}
    done = subprocess.run(
        argv_of(*words, before=before),
        input=given,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environ,
        cwd=cwd,
        check=False,
        timeout=300,
    )
    return Ran(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def backup(medium: Path, *words: str | Path, **how: Any) -> Ran:
    """Make a set below ``medium``."""
    return mondoarchive("-O", "--set", "-d", medium, "-p", PREFIX, *words, **how)


def backup_json(medium: Path, *words: str | Path) -> dict[str, Any]:
    """Make a set that is complete; return the summary."""
    ran = backup(medium, "--json", *words)
    assert (ran.status, ran.err) == (0, "")
    summary = json.loads(ran.out)
    assert isinstance(summary, dict)
    return summary


def sets(medium: Path) -> list[str]:
    """Return the names of the whole sets, the oldest first."""
    return [str(name) for name in chain(medium / PREFIX)]


def manifest(medium: Path, name: str) -> Manifest:
    """Return a set's manifest."""
    return read_manifest(medium / PREFIX / name)


def hidden(medium: Path) -> list[str]:
    """Return what is half made in the prefix's folder."""
    folder = medium / PREFIX
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name.startswith(".") and name != ".lock"]


def bound() -> tuple[str, ...]:
    """Return what, in front of a command, makes the rights of files hold for root too."""
    if os.geteuid() != 0:
        return ()
    setpriv = require_tool("setpriv", package="util-linux")
    return (os.fspath(setpriv), "--bounding-set=-dac_override,-dac_read_search")
