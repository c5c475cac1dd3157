"""Makes small trees at random and changes them at random, as living systems do; for hypothesis.

A change names its place by numbers, taken modulo what there is: every change does something.
"""

from __future__ import annotations

import ctypes
import enum
import os
import random
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from hypothesis import strategies as st

# Around "/" in bytewise order: where a directory's children come among its siblings.
NAMES = (b"a", b"a-", b"a.z", b"a0", b"b", b"b\n", b"\xff", b"\x01")
SIZES = (0, 1, 511, 4096, 10_000, 70_000)
_MODES = (0o644, 0o600, 0o755, 0o4755, 0o2710, 0o1777, 0)
_TIMES = (0, 1, -1_000_000_001, 1_234_567_890_123_456_789, (1 << 33) * 1_000_000_000)
_OWNERS = (0, 1, 1000, 2**31 + 5)
_KEEP_SIZE_PUNCH_HOLE = 1 | 2
_LIBC = ctypes.CDLL(None, use_errno=True)


class Kind(enum.Enum):
    """What a change does; ``one`` is its place, ``other`` another, ``number`` says how."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    FIFO = "fifo"
    DEVICE = "device"
    SPARSE = "sparse"
    LINK = "link"
    DELETE = "delete"
    RENAME = "rename"
    RENAME_OVER = "rename over"
    EXCHANGE = "exchange"
    SWAP_TYPE = "swap type"
    COPY_OVER = "copy over"
    CHMOD = "chmod"
    CHOWN = "chown"
    CLOCK = "clock"
    REWRITE = "rewrite"
    GROW = "grow"
    TRUNCATE = "truncate"
    PUNCH = "punch"
    XATTR = "xattr"
    NO_XATTR = "no xattr"
    NOTHING = "nothing"


class Change(NamedTuple):
    """One change of a tree."""

    kind: Kind
    one: int
    other: int
    number: int


BUILDING = (Kind.FILE, Kind.FILE, Kind.FOLDER, Kind.FOLDER, Kind.SYMLINK, Kind.FIFO) + (
    Kind.DEVICE,
    Kind.SPARSE,
    Kind.LINK,
    Kind.LINK,
    Kind.XATTR,
    Kind.CHMOD,
    Kind.CHOWN,
    Kind.CLOCK,
)


def changes(
    kinds: tuple[Kind, ...] = tuple(Kind), *, least: int = 0, most: int
) -> st.SearchStrategy[list[Change]]:
    """Give lists of changes; some twice as many as the ``least``."""
    place = st.integers(0, 1 << 16)
    change = st.builds(Change, st.sampled_from(kinds), place, place, place)
    return st.lists(change, min_size=least, max_size=most)


def apply(root: bytes, made: list[Change]) -> None:
    """Change the tree in ``root``; what cannot be done there is left undone."""
    for change in made:
        with suppress(OSError, shutil.Error):
            _ACTIONS[change.kind](root, change)


def _all(root: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the directories, the root first, and all else that is below it."""
    folders, others = [root], []
    for top, names, files in os.walk(root):
        for name in sorted(names):
            path = os.path.join(top, name)
            (others if os.path.islink(path) else folders).append(path)
        names.sort()
        others += [os.path.join(top, name) for name in sorted(files)]
    return folders, others


def _any(root: bytes, number: int) -> bytes:
    """Return a path below the root. Raises OSError where there is none."""
    folders, others = _all(root)
    found = folders[1:] + others
    if not found:
        raise FileNotFoundError
    return found[number % len(found)]


def _file(root: bytes, number: int) -> bytes:
    found = [path for path in _all(root)[1] if stat.S_ISREG(os.lstat(path).st_mode)]
    if not found:
        raise FileNotFoundError
    return found[number % len(found)]


def _fresh(root: bytes, change: Change) -> bytes:
    """Return where something new belongs."""
    folders, _ = _all(root)
    return os.path.join(folders[change.one % len(folders)], NAMES[change.other % len(NAMES)])


def _data(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)  # noqa: S311 no secret


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _make_file(path: bytes, number: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(_data(number, SIZES[number % len(SIZES)]))


def _make_sparse(path: bytes, number: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.ftruncate(descriptor, 300_000 + number)
        for run in range(number % 4):
            os.pwrite(descriptor, _data(number, 5000), run * 100_000)
    finally:
        os.close(descriptor)


_MAKERS: tuple[Callable[[bytes, int], None], ...] = (
    _make_file,
    lambda path, number: os.mkdir(path, _MODES[number % 3] | 0o100),
    lambda path, number: os.symlink(NAMES[number % len(NAMES)] * (number % 3 + 1), path),
    lambda path, number: os.mkfifo(path),
    lambda path, number: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(number % 9, number)),
    _make_sparse,
)


def _make(maker: int) -> Callable[[bytes, Change], None]:
    return lambda root, change: _MAKERS[maker](_fresh(root, change), change.number)


def _link(root: bytes, change: Change) -> None:
    others = _all(root)[1]
    if others:
        source = others[change.number % len(others)]
        os.link(source, _fresh(root, change), follow_symlinks=False)


def _delete(root: bytes, change: Change) -> None:
    _remove(_any(root, change.one))


def _rename(root: bytes, change: Change) -> None:
    os.rename(_any(root, change.number), _fresh(root, change))


def _rename_over(root: bytes, change: Change) -> None:
    """One takes the place of the other, whatever the two are."""
    one, other = _any(root, change.one), _any(root, change.other)
    if one != other and not (other + b"/").startswith(one + b"/"):
        aside = root + b"/.aside"
        os.rename(one, aside)
        try:
            _remove(other)
        finally:
            os.rename(aside, other if os.path.isdir(os.path.dirname(other)) else one)


def _exchange(root: bytes, change: Change) -> None:
    one, other = _any(root, change.one), _any(root, change.other)
    if (one + b"/").startswith(other + b"/") or (other + b"/").startswith(one + b"/"):
        return
    aside = root + b"/.aside"
    os.rename(one, aside)
    os.rename(other, one)
    os.rename(aside, other)


def _swap_type(root: bytes, change: Change) -> None:
    path = _any(root, change.one)
    _remove(path)
    _MAKERS[change.other % len(_MAKERS)](path, change.number)


def _copy_over(root: bytes, change: Change) -> None:
    """A file with the same content, mode and times takes the place of one: another inode."""
    path = _file(root, change.one)
    shutil.copy2(path, root + b"/.aside")
    os.rename(root + b"/.aside", path)


def _chmod(root: bytes, change: Change) -> None:
    path = _any(root, change.one)
    if not os.path.islink(path):
        os.chmod(path, _MODES[change.number % len(_MODES)])


def _chown(root: bytes, change: Change) -> None:
    owner = _OWNERS[change.number % len(_OWNERS)]
    os.chown(_any(root, change.one), owner, owner, follow_symlinks=False)


def _clock(root: bytes, change: Change) -> None:
    time_ns = _TIMES[change.number % len(_TIMES)]
    os.utime(_any(root, change.one), ns=(time_ns, time_ns), follow_symlinks=False)


def _rewrite(root: bytes, change: Change) -> None:
    """Other content of the same size, and the clock of the file set back as if it were not so."""
    path = _file(root, change.one)
    before = os.stat(path)
    with open(path, "r+b") as stream:
        stream.write(_data(change.number + 1, min(before.st_size, 70_000)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _grow(root: bytes, change: Change) -> None:
    with open(_file(root, change.one), "ab") as stream:
        stream.write(_data(change.number, 1 + change.number % 5000))


def _truncate(root: bytes, change: Change) -> None:
    path = _file(root, change.one)
    os.truncate(path, os.path.getsize(path) * (change.number % 100) // 100)


def _punch(root: bytes, change: Change) -> None:
    descriptor = os.open(_file(root, change.one), os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        place = ctypes.c_int64(size * (change.number % 5) // 8), ctypes.c_int64(size // 2 + 1)
        _LIBC.fallocate(descriptor, _KEEP_SIZE_PUNCH_HOLE, *place)
    finally:
        os.close(descriptor)


def _xattr(root: bytes, change: Change) -> None:
    value = _data(change.number, change.number % 300)
    name = b"trusted.%d" % (change.other % 2)
    os.setxattr(_any(root, change.one), name, value, follow_symlinks=False)


def _no_xattr(root: bytes, change: Change) -> None:
    path = _any(root, change.one)
    for name in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, name, follow_symlinks=False)


_ACTIONS: dict[Kind, Callable[[bytes, Change], None]] = {
    Kind.FILE: _make(0),
    Kind.FOLDER: _make(1),
    Kind.SYMLINK: _make(2),
    Kind.FIFO: _make(3),
    Kind.DEVICE: _make(4),
    Kind.SPARSE: _make(5),
    Kind.LINK: _link,
    Kind.DELETE: _delete,
    Kind.RENAME: _rename,
    Kind.RENAME_OVER: _rename_over,
    Kind.EXCHANGE: _exchange,
    Kind.SWAP_TYPE: _swap_type,
    Kind.COPY_OVER: _copy_over,
    Kind.CHMOD: _chmod,
    Kind.CHOWN: _chown,
    Kind.CLOCK: _clock,
    Kind.REWRITE: _rewrite,
    Kind.GROW: _grow,
    Kind.TRUNCATE: _truncate,
    Kind.PUNCH: _punch,
    Kind.XATTR: _xattr,
    Kind.NO_XATTR: _no_xattr,
    Kind.NOTHING: lambda root, change: None,
}
