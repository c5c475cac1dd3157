"""Opens paths of any depth: the kernel takes no path longer than PATH_MAX, a tree may be deeper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 3900
"""Bytes of a path that are safely below PATH_MAX (4096), with a name appended."""


@contextmanager
def reachable(path: bytes) -> Iterator[bytes]:
    """Give a path, short enough for the kernel, that names what the absolute ``path`` names.

    A deep one goes over the descriptor of its parent and needs /proc. Raises OSError.
    """
    if len(path) <= LONGEST:
        yield path
        return
    parent, _, name = path.rpartition(b"/")
    descriptor = open_directory(parent)
    try:
        yield b"/proc/self/fd/%d/%s" % (descriptor, name)
    finally:
        os.close(descriptor)


def open_directory(path: bytes) -> int:
    """Return a descriptor of a directory at any depth; no symbolic link is followed below."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(path[: path.find(b"/", 1) + 1 or len(path)], flags)
    rest = path[path.find(b"/", 1) + 1 or len(path) :]
    while rest:
        piece = rest
        if len(rest) > LONGEST:
            piece = rest[: rest.rindex(b"/", 0, LONGEST)]
        rest = rest[len(piece) + 1 :]
        try:
            below = os.open(piece, flags | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor
