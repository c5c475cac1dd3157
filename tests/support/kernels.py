"""A real kernel's modules, fetched once into the cache folder, for tests against kmod's tools."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import ImageError
from initramfs.kmod import ModuleTree
from initramfs.rootfs import Root
from mindi.cachefolder import cache_folder
from mindi.failsafe import kernel_root
from mindi.rescuepackages import Flavour
from tests.support.tools import lacking

# What depmod writes; the rest comes with a kernel's package.
DEPMOD_FILES = (
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
)


@dataclass(frozen=True, slots=True)
class RealKernel:
    """A kernel's modules twice: in ``indexed`` depmod ran, in ``bare`` it did not."""

    version: str
    indexed: Path
    bare: Path

    def tree(self, path: Path) -> ModuleTree:
        """Return a fresh tree of one of the two."""
        return ModuleTree(Root(path), self.version)


def real_kernel(scratch: Path) -> RealKernel:
    """Return the fail-safe cloud kernel of this machine; its bare twin is made in ``scratch``.

    Skips (or fails, see tests/support/tools.py) where it cannot be had.
    """
    try:
        found = kernel_root(cache_folder(os.environ), flavour=Flavour.CLOUD)
    except ImageError as error:
        lacking(f"no real kernel here: {error.message}")
    bare = scratch / "bare"
    folder = Path("usr/lib/modules") / found.version
    # Not hard links: they would change the times by which a cache knows these files again.
    shutil.copytree(found.path / folder, bare / folder, symlinks=True)
    for name in DEPMOD_FILES:
        (bare / folder / name).unlink()
    return RealKernel(found.version, found.path, bare)
