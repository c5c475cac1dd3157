"""Opens the files of a set: regular files and nothing else.

A set may come from an enemy: a FIFO in place of a file would make its reader wait for ever, and
to open a device may do something.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_descriptor(path: Path) -> int:
    """Return a descriptor of a regular file, or of what a symbolic link says. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or what a symbolic link says. Raises OSError."""
    return os.fdopen(open_descriptor(path), "rb")
