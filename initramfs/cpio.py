"""cpio archives in the "newc" format, as the kernel's initrd wants them.

The format is that of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst
and cpio(5): a header of 110 ASCII bytes, the name with a NUL, the data, each padded to four
bytes. What is written depends on the entries alone: sorted, owned by root, numbered by order.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from initramfs.entries import Entry, Identity, Kind
from initramfs.errors import InputError
from initramfs.stream import CHUNK_BYTES, ByteStream, Readable

HEADER_BYTES = 110
MAX_FIELD = 0xFFFFFFFF
# PATH_MAX: the kernel passes over an entry with a longer name (init/initramfs.c, do_header).
MAX_NAME_BYTES = 4096
TRAILER = b"TRAILER!!!"

_WHOLE_READ_BYTES = 1 << 20
_HEADER = re.compile(rb"07070[12][0-9A-Fa-f]{104}")


class Writable(Protocol):
    """Where an archive goes: a file, or the input of a compressor."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What one archive took: ``entries`` without the trailer, ``size_bytes`` with everything."""

    entries: int
    size_bytes: int
    next_inode: int


@dataclass(frozen=True, slots=True, eq=False)
class CpioMember:
    """One entry of an archive that is being read.

    ``path`` is absolute and clean, ``name`` as the archive has it. ``offset`` is where the
    data begin in the archive; ``chunks`` yields them, once, until the next member is asked
    for. Of a hard-link group (``links`` above 1, one ``inode``) one member has the data.
    """

    path: str
    name: bytes
    mode: int
    inode: int
    links: int
    uid: int
    gid: int
    mtime_s: int
    size_bytes: int
    filesystem: tuple[int, int]
    device: tuple[int, int]
    offset: int
    target: str | None = None
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()), repr=False)

    def read(self, limit_bytes: int) -> bytes:
        """Return the data; raise InputError if they are more than ``limit_bytes``."""
        if self.size_bytes > limit_bytes:
            raise InputError(f"{self.path} has {self.size_bytes} bytes, more than {limit_bytes}")
        return b"".join(self.chunks)


def link_group(entry: Entry) -> tuple[int, int, int] | None:
    """Return what the hard links of one file have in common; None for what cannot be linked."""
    if entry.kind is not Kind.FILE or entry.source is None or entry.identity is None:
        return None
    return (entry.identity.device, entry.identity.inode, entry.mode)


def dated_s(entry: Entry, timestamp_s: int) -> int:
    """Return the date of ``entry`` in an archive of which nothing is later than ``timestamp_s``."""
    if entry.identity is None:
        return max(0, timestamp_s)
    return max(0, min(timestamp_s, entry.identity.mtime_ns // 1_000_000_000))


def archived_bytes(entry: Entry) -> int:
    """Return the bytes that ``entry`` takes in an archive if it brings its own data."""
    return _aligned(HEADER_BYTES + len(_name(entry.path)) + 1) + _aligned(entry.size_bytes)


def write_cpio(
    entries: Iterable[Entry],
    out: Writable,
    *,
    timestamp_s: int,
    trailer: bool = True,
    first_inode: int = 1,
) -> Written:
    """Write ``entries``, sorted, numbered from ``first_inode``, with a trailer if it is asked for.

    An entry is dated by its source, but never later than ``timestamp_s``; what has no source
    has that date. Sources with one identity become hard links, the last of them with the data.
    Raises InputError for what cannot be read, has changed since it was found, or is too large.
    """
    ordered = sorted(entries, key=lambda entry: entry.path.split("/"))
    groups = [link_group(entry) for entry in ordered]
    links = Counter(group for group in groups if group is not None)
    left = dict(links)
    inodes: dict[tuple[int, int, int], int] = {}
    inode, size = first_inode, 0
    for entry, group in zip(ordered, groups, strict=True):
        number, count, brings_data = inode, 1, True
        if group is not None and links[group] > 1:
            number = inodes.setdefault(group, inode)
            count = links[group]
            left[group] -= 1
            brings_data = left[group] == 0
        if entry.kind is Kind.DIRECTORY:
            count = 2
        if number == inode:
            inode += 1
        size += _write_entry(
            entry, out, inode=number, links=count, timestamp_s=timestamp_s, data=brings_data
        )
    if trailer:
        last = header(TRAILER, links=1)
        out.write(last)
        size += len(last)
    return Written(len(ordered), size, inode)


def header(
    name: bytes,
    *,
    mode: int = 0,
    inode: int = 0,
    links: int = 1,
    mtime_s: int = 0,
    size_bytes: int = 0,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """Return the header of one entry with its name, padded to where the data begin."""
    fields = (inode, mode, 0, 0, links, mtime_s, size_bytes, 0, 0, *device, len(name) + 1, 0)
    if max(fields) > MAX_FIELD or min(fields) < 0:
        raise InputError(
            f"{os.fsdecode(name)}: {max(fields)} does not fit a cpio archive",
            hint="an initrd holds files smaller than 4 GiB",
        )
    if len(name) >= MAX_NAME_BYTES:
        raise InputError(f"{os.fsdecode(name)}: the name is too long for the kernel")
    return _padded(b"070701" + b"%08x" * 13 % fields + name + b"\0")


def _write_entry(
    entry: Entry, out: Writable, *, inode: int, links: int, timestamp_s: int, data: bool
) -> int:
    size = entry.size_bytes if data else 0
    start = header(
        _name(entry.path),
        mode=entry.mode,
        inode=inode,
        links=links,
        mtime_s=dated_s(entry, timestamp_s),
        size_bytes=size,
        device=entry.device or (0, 0),
    )
    out.write(start)
    if size == 0:
        return len(start)
    if entry.target is not None:
        out.write(os.fsencode(entry.target))
    elif entry.content is not None:
        out.write(entry.content)
    elif entry.source is not None and entry.identity is not None:
        _copy_source(entry.source, entry.identity, out)
    if size % 4:
        out.write(b"\0" * (-size % 4))
    return len(start) + _aligned(size)


def _copy_source(source: Path, then: Identity, out: Writable) -> None:
    """Copy ``source``, which must still be what it was when it was found."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            left = then.size_bytes
            same = _state(Identity.of(os.fstat(handle))) == _state(then)
            while same and left:
                chunk = os.read(handle, min(left, _WHOLE_READ_BYTES))
                same = bool(chunk)
                left -= len(chunk)
                out.write(chunk)
            if not same or os.read(handle, 1):
                raise InputError(
                    f"{source} changed while it was put into the image",
                    hint="build again when nothing writes to it any more",
                )
        finally:
            os.close(handle)
    except OSError as error:
        raise InputError(
            f"cannot read {source}: {error.strerror}",
            hint="building an image needs the right to read all that goes in; try as root",
        ) from error


def _state(identity: Identity) -> tuple[int, int, int]:
    return (identity.size_bytes, identity.mtime_ns, identity.ctime_ns)


def read_cpio(stream: Readable, *, name: str = "cpio archive") -> Iterator[CpioMember]:
    """Yield the members of the archive in ``stream``, or of several, one after the other.

    Raises InputError for anything that is no whole archive, naming the byte.
    """
    source = ByteStream.of(stream, name=name)
    reader = CpioReader(source)
    yield from reader
    if source.peek(1):
        raise source.damaged("something that is no cpio header")
    if not reader.complete:
        raise source.damaged("the archive ends without its trailer", hint="it is truncated")


class CpioReader:
    """Reads archives from a stream up to its end, or to something that is not of an archive.

    ``complete`` tells, after that, whether the last archive ended with a trailer.
    """

    def __init__(self, source: ByteStream) -> None:
        """Read from where ``source`` stands; what comes there counts as aligned."""
        self.complete = False
        self._source = source
        self._start = source.offset

    def __iter__(self) -> Iterator[CpioMember]:
        source = self._source
        while True:
            first = source.peek(1)
            if first == b"\0":
                source.skip_zeros()
                continue
            if first != b"0":
                return
            if (source.offset - self._start) % 4:
                raise source.damaged("a cpio header that is not aligned to four bytes")
            member = self._member()
            self.complete = member.name == TRAILER
            if not self.complete:
                yield member
            for _ in member.chunks:
                pass
            self._align()

    def _member(self) -> CpioMember:
        source = self._source
        raw = source.peek(HEADER_BYTES)
        if len(raw) < HEADER_BYTES:
            raise source.damaged("ends in the middle of a cpio header")
        if not _HEADER.fullmatch(raw):
            raise source.damaged("not a cpio header (newc)")
        fields = [int(raw[at : at + 8], 16) for at in range(6, HEADER_BYTES, 8)]
        inode, mode, uid, gid, links, mtime_s, size, major, minor, rmajor, rminor = fields[:11]
        if not 2 <= fields[11] <= MAX_NAME_BYTES:
            raise source.damaged(f"a name of {fields[11]} bytes")
        source.take(HEADER_BYTES, "a cpio header")
        name = source.take(fields[11], "a name")
        if not name.endswith(b"\0"):
            raise source.damaged("a name without its end")
        self._align()
        offset = source.offset
        # Microcode archives pad names with NULs to align the data (iucode_tool).
        name = name.partition(b"\0")[0]
        checksum = fields[12] if raw[5:6] == b"2" and stat.S_ISREG(mode) else None
        target, chunks = None, _chunks(source, size, checksum)
        if stat.S_ISLNK(mode):
            if size > MAX_NAME_BYTES:
                raise source.damaged(f"a link of {size} bytes")
            target, chunks = os.fsdecode(b"".join(chunks)), iter(())
        return CpioMember(
            path=clean_path(name),
            name=name,
            mode=mode,
            inode=inode,
            links=links,
            uid=uid,
            gid=gid,
            mtime_s=mtime_s,
            size_bytes=size,
            filesystem=(major, minor),
            device=(rmajor, rminor),
            offset=offset,
            target=target,
            chunks=chunks,
        )

    def _align(self) -> None:
        padding = -(self._source.offset - self._start) % 4
        # The last padding of an archive may be missing: neither cpio nor the kernel asks for it.
        self._source.take(len(self._source.peek(padding)), "padding")


def clean_path(name: bytes) -> str:
    """Return the absolute path that an archive's ``name`` stands for."""
    return posixpath.normpath("/" + os.fsdecode(name).lstrip("/"))


def _chunks(source: ByteStream, size: int, checksum: int | None) -> Iterator[bytes]:
    """Yield ``size`` bytes; ``checksum`` is the sum of them all, where the format has one."""
    left, total = size, 0
    while left:
        chunk = source.some(min(left, CHUNK_BYTES))
        if not chunk:
            raise source.damaged(f"ends {left} bytes before the end of a file")
        left -= len(chunk)
        if checksum is not None:
            total = (total + sum(chunk)) & MAX_FIELD
        yield chunk
    if checksum is not None and total != checksum:
        raise source.damaged("a file does not have the checksum of its header")


def _name(path: str) -> bytes:
    return os.fsencode(path.lstrip("/") or ".")


def _aligned(size: int) -> int:
    return (size + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
