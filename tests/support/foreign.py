"""A root tree of another architecture, fetched once into the cache folder and never executed."""

from __future__ import annotations

import os

from initramfs.errors import ImageError
from mindi.cachefolder import cache_folder
from mindi.failsafe import FailsafeRoot, Recipe, package_root
from mindi.rescuepackages import Flavour, kernel_package, required_packages
from tests.support.tools import lacking

ARM64 = Recipe(
    "test-arm64",
    "arm64",
    (
        kernel_package(Flavour.CLOUD, "arm64"),
        *required_packages(),
        *("cryptsetup-bin", "python3-lzo", "python3-urwid", "python3-zstandard"),
    ),
)


def arm64_root() -> FailsafeRoot:
    """Return a tree of unpacked Debian packages for 64-bit ARM, with a kernel.

    Skips (or fails, see tests/support/tools.py) where it cannot be had.
    """
    try:
        return package_root(cache_folder(os.environ), ARM64)
    except ImageError as error:
        lacking(f"no arm64 tree here: {error.message}")
