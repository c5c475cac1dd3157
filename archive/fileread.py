"""Reads files as they are found: without a trace, and noticing when they change under it."""

from __future__ import annotations

import errno
import os
import stat

from archive.entry import UNSETTLED
from archive.reach import LONGEST
from archive.slicing import Item

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Vanished(Exception):
    """The path is no longer there."""


class Outgrown(Exception):
    """The path is no longer what it was found to be, and must be planned anew."""


def open_quietly(path: bytes, more: int = 0) -> int:
    """Open for reading without a trace in the file's times, where that is allowed."""
    try:
        return os.open(path, _READ | more | os.O_NOATIME)
    except PermissionError:
        return os.open(path, _READ | more)


def look_at(path: bytes, reached: bytes) -> os.stat_result:
    """Return the state of what lies at ``path``, seen through no symbolic link.

    ``reached`` names the same, short enough for the kernel. Raises Vanished where a directory
    above became a link, OSError.
    """
    descriptor = os.open(reached, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        check_reached(descriptor, path)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Fill ``view`` from a file; return how much there was."""
    length = os.preadv(descriptor, (view,), offset) if view else 0
    done = length
    while done < len(view) and length:
        length = os.preadv(descriptor, (view[done:],), offset + done)
        done += length
    return done


def read_link(path: bytes) -> bytes:
    """Return the target of a symbolic link. Raises Outgrown if it is none any more, OSError."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Outgrown from error
        raise


def is_cached(descriptor: int, offset: int = 0) -> bool:
    """Tell whether a file's first byte lies in the page cache; where that cannot be told, yes."""
    try:
        return os.preadv(descriptor, (bytearray(1),), offset, os.RWF_NOWAIT) >= 0
    except BlockingIOError:
        return False
    except OSError:
        return True


def as_found(item: Item) -> os.stat_result:
    """Return the state of a path as it was found; its ctime is one that never is."""
    times = {"st_mtime_ns": item.time_ns, "st_ctime_ns": UNSETTLED}
    whole = (item.mode, item.inode, item.st_dev, item.nlink, item.uid, item.gid, item.size)
    return os.stat_result((*whole, 0, item.mtime_s, 0), {**times, "st_rdev": item.rdev})


def is_unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    """Tell whether nobody wrote to a file between two looks at it."""
    return (
        before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_size == after.st_size
    )


def check_as_found(found: os.stat_result, item: Item) -> None:
    """Raise Outgrown where a file is not what its parts were planned for."""
    if item.last:
        if found.st_ino != item.inode or found.st_dev != item.st_dev:
            raise Vanished
    elif not is_as_found(found, item):
        raise Outgrown


def is_as_found(found: os.stat_result, item: Item) -> bool:
    """Tell whether a file is still what it was when its parts were planned."""
    return (
        found.st_ino == item.inode
        and found.st_dev == item.st_dev
        and found.st_size == item.size
        and found.st_ctime_ns == item.ctime_ns
        and found.st_mtime_ns == item.time_ns
    )


def check_replaced(descriptor: int, found: os.stat_result, item: Item, path: bytes) -> None:
    """Take another of its kind in the place of what was found, but none through a new link.

    Raises Outgrown where it must be planned anew; Vanished where a directory above was swapped
    for a symbolic link, or for another filesystem: what lies behind it may be what the owner of
    the path must not read.
    """
    if item.link is not None or stat.S_IFMT(found.st_mode) != stat.S_IFMT(item.mode):
        raise Outgrown
    if found.st_dev != item.st_dev:
        raise Vanished
    check_reached(descriptor, path)


def check_replaced_unopened(reached: bytes, item: Item, path: bytes) -> None:
    """Do as ``check_replaced``, for what must not be opened: a FIFO, a device, a link."""
    descriptor = os.open(reached, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        check_replaced(descriptor, os.fstat(descriptor), item, path)
    finally:
        os.close(descriptor)


def check_reached(descriptor: int, path: bytes) -> None:
    """Raise Vanished if what is open was reached through a symbolic link, and is not ``path``."""
    try:
        real = os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError as error:
        # The kernel has no name for what lies so deep: that no link made it short, at least.
        if error.errno == errno.ENAMETOOLONG and len(path) > LONGEST:
            return
        raise
    if real != (path.rstrip(b"/") or b"/"):
        raise Vanished
