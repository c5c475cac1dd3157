"""A small but real Debian tree with a kernel, from fetched packages, for builds in tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import ImageError
from mindi.cachefolder import cache_folder
from mindi.failsafe import Recipe, package_root
from mindi.rescuepackages import Flavour, kernel_package, required_packages
from tests.support.tools import lacking

SOURCE_DATE_EPOCH = 1_700_000_000


@dataclass(frozen=True, slots=True)
class RealTree:
    """A copy of its own, which a test may damage; ``release`` is that of its kernel."""

    path: Path
    release: str

    @property
    def kernel(self) -> Path:
        """The kernel's image."""
        return self.path / f"boot/vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """The folder of the kernel's modules."""
        return self.path / f"usr/lib/modules/{self.release}"


def real_tree(scratch: Path, *, architecture: str = "amd64") -> RealTree:
    """Return a copy in ``scratch``; skip (or fail) where the packages cannot be had."""
    recipe = Recipe(
        f"test-{architecture}",
        architecture,
        (
            kernel_package(Flavour.CLOUD, architecture),
            *required_packages(),
            *("cryptsetup-bin", "python3-lzo", "python3-zstandard", "python3-urwid"),
        ),
    )
    try:
        found = package_root(cache_folder(os.environ), recipe)
    except ImageError as error:
        lacking(f"no packages here: {error.message}")
    copy = scratch / "tree"
    shutil.copytree(found.path, copy, symlinks=True)
    return RealTree(copy, found.version)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and all that it said."""

    status: int
    out: str
    err: str


def mindi(*words: str | Path, before: tuple[str, ...] = (), cwd: Path | None = None) -> Ran:
    """Run the command as a user would, in a process of its own; ``before`` wraps it."""
    argv = [*before, sys.executable, "-m", "mindi.cli", *map(str, words)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environ, cwd=cwd, check=False, timeout=300
    )
    return Ran(done.returncode, done.stdout, done.stderr)
