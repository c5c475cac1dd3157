"""Compares a run of a catalog's entries with a live tree: runs in a worker process.

Nothing of the tree is written, and no symbolic link is followed (SafeTree). Paths that are no
regular files or directories are not opened: that might wake a device.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from archive.attributes import read_flags, read_xattrs
from archive.catalog import Catalog
from archive.entry import SUBVOLUME, Entry, Part, unsigned64
from archive.errors import SetDamaged
from archive.fileread import is_cached
from restore.difference import Difference, Kind
from restore.safetree import Refused, SafeTree

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_KNOWN_LINKS = 4096
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_WORDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


class Ground(NamedTuple):
    """What all jobs of a run have in common."""

    root: Path
    catalog: Path
    """Unpacked."""


class Stretch(NamedTuple):
    """Bytes from ``start`` to ``end`` of a file that the set keeps in parts."""

    id: int
    start: int
    end: int


class Job(NamedTuple):
    """What is to be compared at a time."""

    runs: tuple[tuple[int, int], ...]
    """First and last id of entries."""
    stretch: Stretch | None = None


class Linked(NamedTuple):
    """A path that is one of several of a file: by the set, or here."""

    id: int
    link: int | None
    device: int
    inode: int


@dataclass(slots=True)
class Found:
    """What became of one job."""

    paths: int = 0
    bytes: int = 0
    """That were read."""
    differences: list[Difference] = field(default_factory=list)
    linked: list[Linked] = field(default_factory=list)


def work(ground: Ground, job: Job) -> Found:
    """Do one job. Raises SetDamaged."""
    comparer = _comparer(ground)
    comparer.found = found = Found()
    for first, last in job.runs:
        comparer.compare(first, last)
    if job.stretch is not None:
        comparer.compare_stretch(job.stretch)
    return found


@lru_cache(maxsize=1)
def _comparer(ground: Ground) -> _Comparer:
    """Return what this process has opened."""
    return _Comparer(SafeTree(ground.root), Catalog.open_read(ground.catalog))


class _Comparer:
    def __init__(self, tree: SafeTree, catalog: Catalog) -> None:
        self.found = Found()
        self._tree = tree
        self._catalog = catalog
        self._buffer = memoryview(bytearray(_CHUNK))
        self._known: dict[tuple[int, int, int], bytes] = {}
        """Digests of files of several names, by device, inode and time of their last change."""

    def compare(self, first: int, last: int) -> None:
        """Compare the entries of some ids."""
        found = self.found
        for entry in self._catalog.entries(where="id BETWEEN ? AND ?", values=(first, last)):
            self._compare(entry)
            found.paths += 1

    def _note(self, entry: Entry, kind: Kind, words: str | None = None) -> None:
        self.found.differences.append(Difference(entry.path, kind, words or ""))

    def _place(self, path: bytes) -> tuple[int, bytes]:
        return self._tree.place(path) if path else (self._tree.folder(b""), b".")

    def _compare(self, entry: Entry) -> None:
        try:
            folder, name = self._place(entry.path)
            here = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (OSError, Refused) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno not in _GONE:
                self._note(entry, Kind.UNREADABLE, cause.strerror)
            else:
                self._note(entry, Kind.MISSING)
            return
        mode = entry.mode
        kind = mode & 0o170000
        if here.st_mode != mode:
            if here.st_mode & 0o170000 != kind:
                self._note(entry, Kind.TYPE, _both(*map(_type, (mode, here.st_mode))))
                return
            both = (f"{stat.S_IMODE(one):04o}" for one in (mode, here.st_mode))
            self._note(entry, Kind.MODE, _both(*both))
        if here.st_uid != entry.uid or here.st_gid != entry.gid:
            words = _both(f"{entry.uid}:{entry.gid}", f"{here.st_uid}:{here.st_gid}")
            self._note(entry, Kind.OWNER, words)
        mtime_ns = entry.time_ns
        if here.st_mtime_ns != mtime_ns:
            self._note(entry, Kind.TIMES, _both(_seconds(mtime_ns), _seconds(here.st_mtime_ns)))
        if kind == 0o100000 or kind == 0o040000:
            self._opened(entry, folder, name)
        else:
            self._unopened(entry, here, folder, name)
        if entry.link is not None or (here.st_nlink > 1 and kind != 0o040000):
            self.found.linked.append(Linked(entry.id, entry.link, here.st_dev, here.st_ino))

    def _opened(self, entry: Entry, folder: int, name: bytes) -> None:
        """Compare what is seen of a regular file or a directory that is open."""
        try:
            descriptor = _open(name, folder)
        except OSError as error:
            self._note(entry, Kind.UNREADABLE, error.strerror)
            return
        try:
            if read_flags(descriptor) != entry.flags & ~SUBVOLUME:
                self._note(entry, Kind.FLAGS)
            if read_xattrs(descriptor) != entry.xattrs:
                self._note(entry, Kind.XATTR)
            if entry.mode & 0o170000 == 0o100000:
                self._content(entry, descriptor)
        except OSError as error:
            self._note(entry, Kind.UNREADABLE, error.strerror)
        finally:
            os.close(descriptor)

    def _unopened(self, entry: Entry, here: os.stat_result, folder: int, name: bytes) -> None:
        try:
            if entry.target is not None:
                target = os.readlink(name, dir_fd=folder)
                if target != entry.target:
                    words = _both(os.fsdecode(entry.target), os.fsdecode(target))
                    self._note(entry, Kind.TARGET, words)
            elif here.st_rdev != unsigned64(entry.rdev):
                numbers = (unsigned64(entry.rdev), here.st_rdev)
                words = _both(*(f"{os.major(one)}:{os.minor(one)}" for one in numbers))
                self._note(entry, Kind.DEVICE, words)
            if read_xattrs(b"/proc/self/fd/%d/%s" % (folder, name)) != entry.xattrs:
                self._note(entry, Kind.XATTR)
        except OSError as error:
            self._note(entry, Kind.UNREADABLE, error.strerror)

    # Content

    def _content(self, entry: Entry, descriptor: int) -> None:
        """Compare a file's length; and its bytes, unless these are compared by stretches."""
        here = os.fstat(descriptor)
        size = entry.size
        if here.st_size != size:
            self._note(
                entry, Kind.CONTENT, _both(*(f"{one} bytes" for one in (size, here.st_size)))
            )
            return
        if entry.content is not None:
            return
        if not size and entry.digest is None:
            return
        key = (here.st_dev, here.st_ino, here.st_ctime_ns)
        digest = self._known.get(key) if here.st_nlink > 1 else None
        if digest is None:
            digest = self._digest(descriptor, size)
            if here.st_nlink > 1:
                if len(self._known) >= _KNOWN_LINKS:
                    self._known.clear()
                self._known[key] = digest
        if digest != entry.digest:
            self._note(entry, Kind.CONTENT)

    def _digest(self, descriptor: int, size: int, start: int = 0) -> bytes:
        """Return the digest of a run of bytes; of fewer, where the file is cut meanwhile."""
        buffer = self._buffer
        cached = size <= _CHUNK or is_cached(descriptor, start)
        whole = hashlib.sha256()
        at, end = start, start + size
        while at < end:
            length = os.preadv(descriptor, (buffer[: end - at],), at)
            if not length:
                break
            whole.update(buffer[:length])
            at += length
        self.found.bytes += at - start
        if not cached:
            os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_DONTNEED)
        return whole.digest()

    def compare_stretch(self, stretch: Stretch) -> None:
        """Compare bytes of a file in parts; what lies between parts must be zeros."""
        entry = next(self._catalog.entries(where="id = ?", values=(stretch.id,)))
        try:
            folder, name = self._place(entry.path)
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return
            descriptor = _open(name, folder)
        except (OSError, Refused):
            return  # it is told where its other attributes are compared
        try:
            is_same = self._is_same(entry, stretch, descriptor)
        except OSError as error:
            self._note(entry, Kind.UNREADABLE, error.strerror)
        else:
            if not is_same:
                self._note(entry, Kind.CONTENT)
        finally:
            os.close(descriptor)

    def _is_same(self, entry: Entry, stretch: Stretch, descriptor: int) -> bool:
        if os.fstat(descriptor).st_size != entry.size:
            return True  # told with the other attributes
        at = stretch.start
        for part in self._parts(entry, stretch):
            if not self._is_zero(descriptor, at, part.offset):
                return False
            if self._digest(descriptor, part.size, part.offset) != part.digest:
                return False
            at = part.offset + part.size
        return self._is_zero(descriptor, at, stretch.end)

    def _parts(self, entry: Entry, stretch: Stretch) -> Iterator[Part]:
        for part in self._catalog.parts(entry.content or 0, start=stretch.start):
            if part.offset >= stretch.end:
                return
            if part.offset + part.size > entry.size:
                raise SetDamaged(f"the catalog is wrong: {entry.path!r} has parts outside of it")
            yield part

    def _is_zero(self, descriptor: int, start: int, end: int) -> bool:
        """Tell whether there is nothing but zeros from ``start`` to ``end``."""
        while start < end:
            try:
                start = os.lseek(descriptor, start, os.SEEK_DATA)
                stop = min(end, os.lseek(descriptor, start, os.SEEK_HOLE))
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return True
                if error.errno != errno.EINVAL:
                    raise
                stop = end  # a filesystem that knows of no holes
            while start < stop:
                data = os.pread(descriptor, min(_CHUNK, stop - start), start)
                if data != (_ZEROS if len(data) == _CHUNK else bytes(len(data))):
                    return False
                if not data:
                    return True
                self.found.bytes += len(data)
                start += len(data)
        return True


def _open(name: bytes, folder: int) -> int:
    """Open without a trace in the file's times, where that is allowed."""
    try:
        return os.open(name, _READ | os.O_NOATIME, dir_fd=folder)
    except PermissionError:
        return os.open(name, _READ, dir_fd=folder)


def _type(mode: int) -> str:
    return _WORDS[stat.S_IFMT(mode)]


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 1_000_000_000}.{time_ns % 1_000_000_000:09}"


def _both(saved: str, here: str) -> str:
    return f"{saved} in the set, {here} here"
