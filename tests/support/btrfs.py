"""Makes and mounts a small btrfs, where root and the kernel allow it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tools import require_tool


@contextlib.contextmanager
def mounted_btrfs(folder: Path) -> Iterator[Path]:
    """Give the mount point of a new, empty btrfs in a folder; skip the test if there is no way."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    mkfs = require_tool("mkfs.btrfs", package="btrfs-progs")
    image = folder / "btrfs.image"
    with image.open("wb") as disk:
        disk.truncate(114 << 20)
    subprocess.run([mkfs, "-q", image], check=True, capture_output=True)
    point = folder / "btrfs"
    point.mkdir()
    done = subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount btrfs: {done.stderr.decode()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--recursive", point], check=True)
        image.unlink()
