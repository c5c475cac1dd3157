"""The names and afio headers of what one slice holds (archive/FORMAT.md, Slices)."""

from __future__ import annotations

import os

from archive.afio import NOT_COMPRESSED, header
from archive.slicing import Item

OWN_NAMES = b".mindi"
"""The folder of a slice's names that are not paths of the machine."""
_PARTS = b".mindi/parts/"
_LINKS = b".mindi/links/"
_LONG = b".mindi/long/%d"
_LONGEST_PATH = 60_000
"""afio's headers hold names of up to 65,534 bytes."""
_PRIVATE_FILE = 0o100600
_SECOND = 1_000_000_000


class Headers:
    """Makes the headers of one slice; knows which hard links it holds."""

    def __init__(self) -> None:
        self._inodes: dict[int, int] = {}

    def of(
        self,
        item: Item,
        found: os.stat_result,
        size: int,
        suffix: bytes = b"",
        *,
        as_is: bool = False,
    ) -> bytes:
        """Return the header of a path as it was found, with ``size`` bytes of data.

        ``as_is`` tells afio -Z not to uncompress them, whatever the name says.
        """
        if item.link is None or item.mode & 0o170000 != 0o100000:
            inode, nlink = 0, 1
        else:
            inode, nlink = self._inodes.get(item.link, len(self._inodes) + 1), found.st_nlink
        return header(
            entry_name(item.path, item.id) + suffix,
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_mtime_ns // _SECOND,
            size=size,
            inode=inode,
            nlink=nlink,
            rdev=NOT_COMPRESSED if as_is else found.st_rdev,
        )

    def holds(self, item: Item) -> None:
        """Take note that the slice holds the bytes of a file that may have more names."""
        if item.link is not None:
            self._inodes.setdefault(item.link, len(self._inodes) + 1)

    def of_part(
        self,
        item: Item,
        found: os.stat_result,
        size: int,
        suffix: bytes = b"",
        *,
        as_is: bool = True,
    ) -> bytes:
        """Return the header of a run of data of a file that is kept in parts."""
        name = part_name(item.path, item.id, item.offset) + suffix
        return _of_own(name, found, size, as_is=as_is)

    def of_same(self, item: Item, found: os.stat_result) -> bytes:
        """Return the header of an empty entry: this run of data is as an earlier set has it."""
        name = b"%s%s/%020d.%d.same" % (
            _PARTS,
            entry_name(item.path, item.id),
            item.offset,
            item.length,
        )
        return _of_own(name, found, 0)

    def of_end(self, item: Item, found: os.stat_result) -> bytes:
        """Return the header of the empty entry that says how long such a file is, and whose."""
        name = b"%s%s/%020d.end" % (_PARTS, entry_name(item.path, item.id), item.size)
        seconds = found.st_mtime_ns // _SECOND
        numbers = (found.st_mode, found.st_uid, found.st_gid, seconds)
        return header(name, *numbers, size=0, rdev=NOT_COMPRESSED)

    def of_link(self, item: Item) -> bytes:
        """Return header and data of a hard link; nothing where there is nothing to link to."""
        if item.first is not None:
            front = header(
                _LINKS + entry_name(item.path, item.id),
                _PRIVATE_FILE,
                item.uid,
                item.gid,
                item.mtime_s,
                size=len(item.first),
                rdev=NOT_COMPRESSED,
            )
            return front + item.first
        inode = self._inodes.get(item.link or 0)
        if inode is None:
            return b""
        return header(
            entry_name(item.path, item.id),
            item.mode,
            item.uid,
            item.gid,
            item.mtime_s,
            size=0,
            inode=inode,
            nlink=item.nlink,
        )


def entry_name(path: bytes, number: int) -> bytes:
    """Return the name of a path in a slice; ``number`` is its entry's id."""
    if len(path) > _LONGEST_PATH:
        return _LONG % number
    return path or b"."


def part_name(path: bytes, number: int, offset: int) -> bytes:
    """Return the name of a run of data of a file that is kept in parts."""
    return b"%s%s/%020d" % (_PARTS, entry_name(path, number), offset)


def _of_own(name: bytes, found: os.stat_result, size: int, *, as_is: bool = True) -> bytes:
    """Return the header of an entry that is no path of the machine."""
    seconds = found.st_mtime_ns // _SECOND
    rdev = NOT_COMPRESSED if as_is else 0
    return header(name, _PRIVATE_FILE, found.st_uid, found.st_gid, seconds, size=size, rdev=rdev)
