"""The entries of a slice: cpio's "old ASCII" headers, and afio's two wider ones.

The layouts are those of cpio(5) ("odc", magic 070707) and of afio 2.5 (afio.h): extended ASCII
(070717, octal too, read only) and large ASCII (070727, hexadecimal; archive/FORMAT.md). Behind a
header come the name with its NUL and the data, without padding.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from archive.errors import ArchiveError, SetDamaged

MAX_NAME = 0xFFFF
"""The longest name with its NUL, in bytes: what fits into a large header."""

COMPRESSED_SUFFIX = b".z"
"""What the name of a file ends in that is compressed on its own (--per-file, `afio -Z`)."""
NOT_COMPRESSED = 1
"""In a regular file's ``rdev``: as it is, even if its name ends in ".z" (afio's RDEV_NOTCOMPR)."""
_IS_CONTROL = 2  # likewise: no file, but words for the program that `afio -i -D` runs

_MAGIC_SIZE = 6
_SKIP_SIZE = 1 << 16
_END_NAME = b"TRAILER!!!"

_OLD = b"070707%06o%06o%06o%06o%06o%06o%06o%011o%06o%011o%b\0"
_LARGE = b"070727%08X%016Xm%06o%08X%08X%08X%08X%016Xn%04X00000000s%016X:%b\0"
_OLD_NARROW = 1 << 18
_OLD_WIDE = 1 << 33
_LARGE_NARROW = 1 << 32
_LARGE_WIDE = 1 << 63
_DEVICES = {stat.S_IFCHR, stat.S_IFBLK}
_DEVICE = 1

TRAILER = b"070707%06o%06o%06o%06o%06o%06o%06o%011o%06o%011o%b\0" % (
    *(0, 0, 0, 0, 0, 1, 0, 0),
    len(_END_NAME) + 1,
    0,
    _END_NAME,
)
"""The entry that ends an archive."""


class AfioDamaged(SetDamaged):
    """A stream is no afio archive, or a damaged one; ``offset``: where in it the entry begins."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(
            f"afio archive, at byte {offset}: {message}",
            hint="what lies before that place can be read; the rest is lost",
        )
        self.offset = offset


class NotArchivable(ArchiveError):
    """A number or a name that not even a large header holds."""


def header(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    mtime_s: int,
    *,
    size: int,
    inode: int = 0,
    nlink: int = 1,
    rdev: int = 0,
) -> bytes:
    """Return an entry up to its data: header, name, NUL.

    ``mtime_s`` may be negative; ``inode`` has 64 bits, ``uid``, ``gid``, ``nlink`` and ``rdev``
    32. The header is an old one if all fits, else a large one. Raises NotArchivable.
    """
    device = _DEVICE
    if name == _END_NAME:
        name = b"./" + name
    if not rdev and mode & 0o170000 in _DEVICES:
        # afio then takes the number from device and inode; this is how they say 0:0.
        device, inode, nlink = 0, 0, 1
    name_size = len(name) + 1
    fields = (device, inode, mode, uid, gid, nlink, rdev, mtime_s, name_size, size, name)
    if (
        0 <= (inode | mode | uid | gid | nlink | rdev) < _OLD_NARROW
        and 0 <= (mtime_s | size) < _OLD_WIDE
        and name_size <= MAX_NAME
    ):
        return _OLD % fields
    return _large_header(fields)


def _large_header(
    fields: tuple[int, int, int, int, int, int, int, int, int, int, bytes],
) -> bytes:
    device, inode, mode, uid, gid, nlink, rdev, mtime_s, name_size, size, name = fields
    if name_size > MAX_NAME:
        raise NotArchivable(
            f"a name of {len(name)} bytes is longer than an archive holds ({MAX_NAME - 1} bytes)",
            hint="rename one of its directories",
        )
    if (
        not 0 <= mode < _OLD_NARROW
        or not 0 <= (uid | gid | nlink | rdev) < _LARGE_NARROW
        or not 0 <= inode < 2 * _LARGE_WIDE
        or not 0 <= size < _LARGE_WIDE
        or not -_LARGE_WIDE <= mtime_s < _LARGE_WIDE
    ):
        raise NotArchivable(
            f"{name!r} has a number that no archive holds",
            hint="look at its owner and its time (stat), or leave it out",
        )
    mtime = mtime_s % (2 * _LARGE_WIDE)
    numbers = (device, inode, mode, uid, gid, nlink, rdev, mtime, name_size, size)
    return _LARGE % (*numbers, name)


class Member(NamedTuple):
    """What the header of an entry says; sizes and offsets in bytes."""

    name: bytes
    mode: int
    uid: int
    gid: int
    mtime_s: int
    """Seconds since 1970, negative before."""
    size: int
    """Of the data in the archive: of all but the first name of a hard-linked file, it is 0."""
    inode: int
    device: int
    nlink: int
    rdev: int
    """Of a device its number; of a regular file what `afio -Z` says of it, else 0."""
    data_start: int
    """The offset of the data in the stream."""

    @property
    def is_compressed(self) -> bool:
        """Whether `afio -i -Z` would uncompress it, and take the ".z" from its name.

        That rule is afio's. In an archive that was not written with -Z it also holds for files
        whose own names end so.
        """
        return (
            stat.S_ISREG(self.mode)
            and self.size > 0
            and self.name.endswith(COMPRESSED_SUFFIX)
            and not self.rdev & NOT_COMPRESSED
        )

    @property
    def is_control(self) -> bool:
        """Whether it is no file, but words for the program of `afio -i -D`: never restored."""
        return stat.S_ISREG(self.mode) and bool(self.rdev & _IS_CONTROL)


class MemberData:
    """Reads the data of one entry, as long as its archive was not asked for the next one."""

    def __init__(self, stream: BinaryIO, size: int, *, offset: int) -> None:
        self._stream = stream
        self._offset = offset
        self.left = size
        """How many bytes were not read yet."""

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes (-1: all that is left); b"" behind the last one."""
        wanted = self.left if size < 0 else min(size, self.left)
        if not wanted:
            return b""
        data = self._stream.read(wanted)
        if not data:
            raise AfioDamaged(
                f"the data of an entry are cut off, {self.left} bytes are missing",
                offset=self._offset,
            )
        self.left -= len(data)
        return data


def members(stream: BinaryIO) -> Iterator[tuple[Member, MemberData]]:
    """Yield the entries of an archive up to its trailer, each with a reader of its data.

    ``stream`` is what the archive is uncompressed; it is read forward only, and names and
    headers are all that is kept. Raises AfioDamaged, also where the trailer is missing.
    """
    place = 0
    while True:
        member = _read_header(stream, place)
        if member.name == _END_NAME:
            return
        data = MemberData(stream, member.size, offset=place)
        yield member, data
        while data.left:
            data.read(_SKIP_SIZE)
        place = member.data_start + member.size


def _read_header(stream: BinaryIO, place: int) -> Member:
    magic = _exactly(stream, _MAGIC_SIZE, place)
    try:
        size, bases, layout = _LAYOUTS[magic]
    except KeyError:
        raise AfioDamaged(f"{magic!r} begins no entry", offset=place) from None
    text = _exactly(stream, size, place)
    found = layout.fullmatch(text)
    if found is None:
        raise AfioDamaged(f"{text!r} is no header", offset=place)
    numbers = [int(digits, base) for digits, base in zip(found.groups(), bases, strict=True)]
    device, inode, mode, uid, gid, nlink, rdev, mtime, name_size, *_, data_size = numbers
    extra = numbers[-2] if len(numbers) > _PLAIN_FIELDS else 0
    if not 0 < name_size <= MAX_NAME or data_size >= _LARGE_WIDE:
        raise AfioDamaged(f"{text!r} has impossible sizes", offset=place)
    name = _exactly(stream, name_size, place)
    _exactly(stream, extra, place)
    if name.find(b"\0") != name_size - 1:
        raise AfioDamaged("a name does not end where it should", offset=place)
    if mtime >= _LARGE_WIDE:
        mtime -= 2 * _LARGE_WIDE
    if not rdev and stat.S_IFMT(mode) in _DEVICES:
        # afio puts the numbers of devices there that do not fit into 16 bits.
        rdev = ((device << 16) + inode) % _LARGE_NARROW
    start = place + _MAGIC_SIZE + size + name_size + extra
    return Member(name[:-1], mode, uid, gid, mtime, data_size, inode, device, nlink, rdev, start)


def _exactly(stream: BinaryIO, size: int, place: int) -> bytes:
    """Return ``size`` bytes of the entry at ``place``."""
    data = stream.read(size) if size else b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise AfioDamaged("it ends within a header, or without its trailer", offset=place)
        data += more
    return data


_BASES = {"o": 8, "x": 16}
_DIGITS = {"o": b"[0-7]", "x": b"[0-9A-Fa-f]"}


def _layout(widths: str) -> tuple[int, tuple[int, ...], re.Pattern[bytes]]:
    """Return a header's length, the bases of its numbers, and what matches it.

    ``widths`` has a word for each field, "6o" for six octal digits, or a letter that stands there.
    """
    words = widths.split()
    fields = [word for word in words if len(word) > 1]
    pattern = b"".join(
        b"(%b{%d})" % (_DIGITS[word[-1]], int(word[:-1])) if len(word) > 1 else word.encode()
        for word in words
    )
    size = sum(int(field[:-1]) for field in fields) + len(words) - len(fields)
    return size, tuple(_BASES[field[-1]] for field in fields), re.compile(pattern)


# Device, inode, mode, uid, gid, nlink, rdev, mtime, size of the name, size of the data; before
# the last a large one has its flags and the length of what lies behind its name.
_PLAIN_FIELDS = 10
_LAYOUTS = {
    b"070707": _layout("6o 6o 6o 6o 6o 6o 6o 11o 6o 11o"),
    b"070717": _layout("6o 11o 6o 6o 6o 6o 6o 11o 6o 11o"),
    b"070727": _layout("8x 16x m 6o 8x 8x 8x 8x 16x n 4x 4x 4x s 16x :"),
}
