"""What a catalog says of one path, and where the bytes of a file lie.

Entries are tuples: a catalog has millions of them, and they go to and from SQLite as they are.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from typing import NamedTuple

UNSETTLED = 0
"""A ctime that equals none: the file was changed so shortly before it was read that a later
change might leave the same ctime (clock ticks of filesystems are coarse)."""


class Entry(NamedTuple):
    """One path of the machine, as it was when it was saved.

    Sizes and offsets are in bytes. ``path`` has no leading slash; ``b""`` is the root itself.
    Numbers that the kernel gives as unsigned 64 bits are stored as signed ones (``signed64``).
    """

    id: int
    """Position in the tree, counted from 1: parents before children, names bytewise."""
    path: bytes
    mode: int
    """The whole st_mode, with the type."""
    uid: int
    gid: int
    mtime_s: int
    """Seconds since 1970, negative before; with ``mtime_ns``, 0 to 999,999,999, beside it."""
    mtime_ns: int
    ctime_ns: int
    """Nanoseconds since 1970, or UNSETTLED."""
    size: int
    """Of a regular file its length with its holes; of all else 0."""
    inode: int
    device: int
    """A number of the catalog's table ``device``."""
    nlink: int
    rdev: int
    """st_rdev of a device node, else 0."""
    target: bytes | None
    """Of a symbolic link."""
    link: int | None
    """Hard-link group: entries with the same number are one file, of any type. None: no link."""
    xattrs: bytes | None
    """All extended attributes, as archive/attributes.py packs them; None: none."""
    flags: int
    """chattr(1) flags that can be set (FS_IOC_GETFLAGS), and SUBVOLUME."""
    digest: bytes | None
    """SHA-256 of a regular file's bytes; of one kept in parts, ``digest_of_parts``."""
    frame: int | None
    """Where the bytes of a file kept in one piece lie: a frame, ..."""
    start: int | None
    """... and the offset in what the frame holds. Both None for empty files and parts."""
    content: int | None
    """Of a file kept in parts (large or sparse): a number of the table ``part``."""

    @property
    def time_ns(self) -> int:
        """Both parts of the mtime as one number; SQLite has none so large."""
        return self.mtime_s * 1_000_000_000 + self.mtime_ns

    @property
    def kind(self) -> int:
        """The type bits of the mode (stat.S_IFREG, ...)."""
        return stat.S_IFMT(self.mode)


FRAME_NUMBERS = 1 << 16
"""Frames of slice n are numbered from n times this: workers need not ask for numbers."""

SUBVOLUME = 1 << 40
"""In ``Entry.flags``: this directory is the root of a btrfs subvolume."""


class Part(NamedTuple):
    """A run of data of a file that is kept in parts; what lies between parts are holes."""

    content: int
    offset: int
    size: int
    digest: bytes
    frame: int
    start: int


class Frame(NamedTuple):
    """One independently compressed run of bytes in a slice."""

    number: int
    member: int
    """0: the set itself; 1: its parent; 2: the parent's parent, and so on."""
    slice: int
    """Counted from 1."""
    start: int
    """Offset in the slice."""
    size: int
    """Length in the slice."""
    raw_size: int
    """Length of what it holds."""
    codec: int
    """``archive.codec.Codec``'s number: frames of one catalog may differ (parents, --per-file)."""


def digest_of_parts(parts: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return the digest of a file in parts: SHA-256 over each part's offset, size, digest.

    The first two as unsigned 64-bit big-endian numbers, in the order of offsets.
    """
    whole = hashlib.sha256()
    for offset, size, digest in parts:
        whole.update(offset.to_bytes(8) + size.to_bytes(8) + digest)
    return whole.digest()


def signed64(number: int) -> int:
    """Return an unsigned 64-bit number as SQLite can store it."""
    return number - (1 << 64) if number >= 1 << 63 else number


def unsigned64(number: int) -> int:
    """Undo ``signed64``."""
    return number + (1 << 64) if number < 0 else number


def tree_key(path: bytes) -> bytes:
    """Return what sorts paths as a catalog does: a directory, then all below it, bytewise."""
    return path.replace(b"/", b"\0")
