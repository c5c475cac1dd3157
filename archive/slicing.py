"""Cuts the stream of what is to be saved into slices: the unit of parallel work and of resume.

What goes where depends on the tree alone, so the slices are the same whatever the number of
workers. What a worker needs to know of a path travels to it in an Item.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple

SLICE_BYTES = 32 << 20
"""Input of a slice: it is closed when it holds this much."""
SLICE_ITEMS = 16_384
"""And when it holds so many items: the memory of a worker stays bounded."""
PART_BYTES = 16 << 20
"""Larger files are kept in parts of this size; a multiple of every page size."""
FRAME_BYTES = 2 << 20
"""A frame is closed when it holds this much: 1.6 % larger than one frame for all of a slice, and
a damaged byte costs no more than this (measured with zstd -3 on /usr)."""
_HEADER_BYTES = 128


class Role(enum.IntEnum):
    """What of a path an item stands for."""

    WHOLE = 0
    """All of it."""
    PART = 1
    """A run of data of a file that is kept in parts."""
    END = 2
    """What else there is to such a file; follows its parts."""
    LINK = 3
    """A hard link to a file that another item stands for."""


class Known(NamedTuple):
    """Where the bytes lie already, should they still have this digest: they are not kept twice."""

    digest: bytes
    frame: int | None
    start: int | None


class Item(NamedTuple):
    """One entry of a slice to be made; the fields of its stat as they were found."""

    role: Role
    id: int
    path: bytes
    mode: int
    uid: int
    gid: int
    mtime_s: int
    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    device: int
    """The number in the catalog."""
    st_dev: int
    nlink: int
    rdev: int
    link: int | None = None
    first: bytes | None = None
    """Of a LINK: the path of which it is one; None where that lies in the same slice."""
    content: int | None = None
    offset: int = 0
    """Of a PART."""
    length: int = 0
    known: Known | None = None
    last: bool = False
    """It changed again and again: keep what there is, whatever it does meanwhile."""

    @property
    def time_ns(self) -> int:
        """Both parts of the mtime as one number."""
        return self.mtime_s * 1_000_000_000 + self.mtime_ns

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a slice before compression."""
        data = self.length if self.role is Role.PART else 0
        if self.role is Role.WHOLE and self.mode & 0o170000 == 0o100000:
            data = self.size
        return _HEADER_BYTES + len(self.path) + data


class Job(NamedTuple):
    """One slice to be made."""

    slice: int
    items: tuple[Item, ...]


def cut(items: Iterable[Item], *, first_slice: int) -> Iterator[Job]:
    """Give slices of items, in order, numbered from ``first_slice``.

    A LINK whose first path lies in the same slice is told so.
    """
    number = first_slice
    held: list[Item] = []
    weight = 0
    firsts: set[int] = set()
    for item in items:
        if item.link is not None:
            if item.role is Role.WHOLE:
                firsts.add(item.link)
            elif item.role is Role.LINK and item.link in firsts:
                item = item._replace(first=None)
        held.append(item)
        weight += item.weight
        if weight >= SLICE_BYTES or len(held) >= SLICE_ITEMS:
            yield Job(number, tuple(held))
            number += 1
            held, weight, firsts = [], 0, set()
    if held:
        yield Job(number, tuple(held))
