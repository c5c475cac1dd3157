"""Makes one slice of a set: reads the files, digests them, puts them into frames. Runs in a worker.

The bytes are read once, straight into the frame that is being filled. What a file is, is said by
the descriptor it was read through, not by its name a moment before; a file that changed while it
was read is read again.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import stat
import time
from collections.abc import Callable

from archive.afio import COMPRESSED_SUFFIX, TRAILER, NotArchivable
from archive.attributes import is_subvolume, read_flags, read_xattrs
from archive.codec import Codec
from archive.entry import FRAME_NUMBERS, SUBVOLUME, UNSETTLED, signed64
from archive.fileread import (
    Outgrown,
    Vanished,
    as_found,
    check_as_found,
    check_replaced,
    check_replaced_unopened,
    is_as_found,
    is_cached,
    is_unchanged,
    open_quietly,
    read_into,
    read_link,
)
from archive.headers import Headers
from archive.packed import Packed, Problem, Row, Trouble, Workshop
from archive.reach import LONGEST, reachable
from archive.slicefile import SliceFile
from archive.slicing import FRAME_BYTES, PART_BYTES, Item, Job, Role

_SETTLED_AFTER_NS = 2_000_000_000
"""The coarsest clock of a filesystem in use (FAT's); most have 4 ms."""
_ATTEMPTS = 3
_SUBVOLUME_INODE = 256
"""The root of every btrfs subvolume (BTRFS_FIRST_FREE_OBJECTID)."""
_DROPPED_FROM = 1 << 20
"""Files from this size on are taken out of the page cache again, if they were not in it."""


def pack(workshop: Workshop, job: Job) -> Packed:
    """Make one slice. Raises CannotWrite where the medium does not take it."""
    packing = workshop.packing
    codec = Codec.NONE if packing.per_file else packing.codec
    name = b"%s/%07d%s" % (workshop.slices, job.slice, codec.suffix.encode())
    first_frame = (workshop.frame_base + job.slice) * FRAME_NUMBERS
    out = SliceFile(name, packing, first_frame=first_frame)
    packer = _Packer(workshop, out)
    try:
        for item in job.items:
            packer.add(item)
        out.finish(TRAILER)
    finally:
        out.close()
    return Packed(
        job.slice,
        out.size,
        out.sha256.digest(),
        out.raw_size,
        packer.rows,
        packer.parts,
        out.frames,
        packer.problems,
        packer.read_bytes,
    )


class _Packer:
    """Puts items into a slice one after the other, and keeps what is to be said of them."""

    def __init__(self, workshop: Workshop, out: SliceFile) -> None:
        self.rows: list[Row] = []
        self.parts: list[Row] = []
        self.problems: list[Problem] = []
        self.read_bytes = 0
        self._root = workshop.root + b"/"
        self._deep = LONGEST - len(self._root)
        self._per_file = workshop.packing.per_file and workshop.packing.codec is not Codec.NONE
        self._out = out
        self._headers = Headers()
        self._settled_ns = time.time_ns() - _SETTLED_AFTER_NS

    def add(self, item: Item) -> None:
        """Take one item; what is wrong with it becomes a problem, not an error."""
        try:
            if len(item.path) > self._deep:
                with reachable(self._root + item.path) as path:
                    self._add(item, path)
            else:
                self._add(item, self._root + item.path)
        except (Vanished, FileNotFoundError):
            self._problem(item, Trouble.VANISHED)
        except NotADirectoryError:
            outgrew = stat.S_ISDIR(item.mode)
            self._problem(item, Trouble.OUTGREW if outgrew else Trouble.VANISHED)
        except Outgrown:
            self._problem(item, Trouble.OUTGREW)
        except NotArchivable as error:
            self._problem(item, Trouble.UNREADABLE, error.message)
        except OSError as error:
            # ELOOP: O_NOFOLLOW met a symbolic link where a file was; ENXIO: a socket.
            if error.errno in (errno.ELOOP, errno.ENXIO):
                self._problem(item, Trouble.OUTGREW)
            elif error.errno in (errno.EACCES, errno.EPERM):
                self._problem(item, Trouble.DENIED, error.strerror)
            else:
                self._problem(item, Trouble.UNREADABLE, error.strerror)
        if self._out.used >= FRAME_BYTES:
            self._out.end_frame()

    def _add(self, item: Item, path: bytes) -> None:
        if item.role is Role.PART:
            self._add_part(item, path)
        elif item.role is Role.LINK and stat.S_ISREG(item.mode):
            # Its row is that of the first name: the catalog gets it last.
            self._out.put(self._headers.of_link(item))
        elif stat.S_ISREG(item.mode):
            self._add_file(item, path)
        elif stat.S_ISDIR(item.mode):
            self._add_directory(item, path)
        else:
            self._add_special(item, path)

    def _problem(self, item: Item, trouble: Trouble, words: str | None = None) -> None:
        if item.role is Role.LINK:
            return  # Its row is that of the first name, whatever lies there now.
        if stat.S_ISDIR(item.mode):
            # It was walked: what was found in it needs it.
            self._row(item, as_found(item), None)
            trouble = Trouble.CHANGED if trouble is Trouble.OUTGREW else trouble
        self.problems.append(Problem(item, trouble, words or trouble.value))

    def _add_file(self, item: Item, path: bytes) -> None:
        """Take a file that is kept in one piece, or the END of one that is kept in parts."""
        descriptor = open_quietly(path)
        try:
            found = os.fstat(descriptor)
            if found.st_ino != item.inode or found.st_dev != item.st_dev:
                check_replaced(descriptor, found, item, self._root + item.path)
            if item.role is Role.END:
                self._end_of_parts(item, found, descriptor)
                return
            cached = found.st_size < _DROPPED_FROM or is_cached(descriptor)
            for attempt in range(1, _ATTEMPTS + 1):
                begin, length = self._read_behind_header(item, found, descriptor)
                now = os.fstat(descriptor)
                if length == found.st_size and is_unchanged(found, now):
                    break
                if attempt == _ATTEMPTS:
                    self._problem(item, Trouble.CHANGED)
                else:
                    found = now
            if not cached:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            self._keep(item, found, descriptor, begin=begin, length=length)
        finally:
            os.close(descriptor)

    def _read_behind_header(
        self, item: Item, found: os.stat_result, descriptor: int
    ) -> tuple[int, int]:
        """Read a file into the frame, behind its header; return where it lies, and how long."""
        out = self._out
        size = found.st_size
        if size > PART_BYTES or not stat.S_ISREG(found.st_mode):
            raise Outgrown
        if out.used and out.used + size > FRAME_BYTES:
            out.end_frame()
        front = self._headers.of(item, found, size)
        begin = out.used + len(front)
        if begin + size > len(out.view):
            out.end_frame()
            begin = len(front)
        out.view[out.used : begin] = front
        return begin, read_into(descriptor, out.view[begin : begin + size], 0)

    def _keep(
        self, item: Item, found: os.stat_result, descriptor: int, *, begin: int, length: int
    ) -> None:
        """Make what was read an entry of the slice, if it is new, and of the catalog."""
        out = self._out
        data = out.view[begin : begin + length]
        self.read_bytes += length
        digest = hashlib.sha256(data).digest()
        frame: int | None = None
        start: int | None = None
        known = item.known
        if known is not None and known.digest == digest:
            frame, start = known.frame, known.start
        else:
            self._headers.holds(item)
            if length != found.st_size:
                out.view[out.used : begin] = self._headers.of(item, found, length)
            if not length:
                out.used = begin
            elif self._per_file:
                front = functools.partial(self._headers.of, item, found)
                frame, start = self._keep_apart(data, begin=begin, front=front), 0
            else:
                frame, start = out.frame, begin
                out.used = begin + length
        self._row(item, found, descriptor, size=length, digest=digest, frame=frame, start=start)

    def _keep_apart(self, data: memoryview, *, begin: int, front: Callable[..., bytes]) -> int:
        """Put data into the slice compressed on their own, if that shrinks them; return the frame.

        ``front`` makes the header: of a length, a suffix of the name, and whether it is ``as_is``.
        """
        out = self._out
        packed, first, last = out.compressed_apart(data)
        if len(packed) < len(data):
            out.put(front(len(packed), COMPRESSED_SUFFIX, as_is=False))
            out.put(packed)
            start = out.used - len(packed) + first
            return out.enter_apart(start, last - first, len(data), compressed=True)
        out.view[out.used : begin] = front(len(data), as_is=True)
        out.used = begin + len(data)
        return out.enter_apart(begin, len(data), len(data), compressed=False)

    def _add_part(self, item: Item, path: bytes) -> None:
        """Take one run of data of a file that is kept in parts."""
        out = self._out
        descriptor = open_quietly(path)
        try:
            found = os.fstat(descriptor)
            check_as_found(found, item)
            front = self._headers.of_part(item, found, item.length)
            if out.used and out.used + item.length > FRAME_BYTES:
                out.end_frame()
            cached = is_cached(descriptor, item.offset)
            begin = out.used + len(front)
            out.view[out.used : begin] = front
            data = out.view[begin : begin + item.length]
            length = read_into(descriptor, data, item.offset)
            if not cached:
                os.posix_fadvise(descriptor, item.offset, length, os.POSIX_FADV_DONTNEED)
            check_as_found(os.fstat(descriptor), item)
            if length != item.length and not item.last:
                raise Outgrown
        finally:
            os.close(descriptor)
        # Cut off meanwhile: the memory holds what another file left there.
        data[length:] = bytes(item.length - length)
        self.read_bytes += length
        digest = hashlib.sha256(data).digest()
        where = self._place_part(item, found, data, begin=begin, digest=digest)
        self.parts.append((item.content, item.offset, item.length, digest, *where))

    def _place_part(
        self, item: Item, found: os.stat_result, data: memoryview, *, begin: int, digest: bytes
    ) -> tuple[int | None, int | None]:
        out = self._out
        if item.known is not None and item.known.digest == digest:
            out.put(self._headers.of_same(item, found))
            return item.known.frame, item.known.start
        if self._per_file:
            front = functools.partial(self._headers.of_part, item, found)
            return self._keep_apart(data, begin=begin, front=front), 0
        out.used = begin + len(data)
        return out.frame, begin

    def _end_of_parts(self, item: Item, found: os.stat_result, descriptor: int) -> None:
        """Take the metadata of a file that is kept in parts; its digest is made of theirs later."""
        check_as_found(found, item)
        if not is_as_found(found, item):
            self._problem(item, Trouble.CHANGED)
        self._out.put(self._headers.of_end(item, found))
        self._row(item, found, descriptor, size=item.size, content=item.content)

    def _add_special(self, item: Item, path: bytes) -> None:
        """Take what has no bytes of its own: symbolic links, devices, FIFOs, sockets."""
        found = os.lstat(path)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(item.mode):
            raise Outgrown
        if found.st_ino != item.inode or found.st_dev != item.st_dev:
            check_replaced_unopened(path, item, self._root + item.path)
        target = read_link(path) if stat.S_ISLNK(found.st_mode) else None
        data = target or b""
        self._out.put(self._headers.of(item, found, len(data)) + data)
        # Of a link the row is that of the first name; other programs get a second FIFO, device, ...
        if item.role is not Role.LINK:
            self._row(item, found, path, target=target)

    def _add_directory(self, item: Item, path: bytes) -> None:
        try:
            descriptor = open_quietly(path, os.O_DIRECTORY)
        except PermissionError:
            # The walk has told of it; of the folder itself there is enough to see.
            self._add_special(item, path)
            return
        try:
            found = os.fstat(descriptor)
            if found.st_ino != item.inode or found.st_dev != item.st_dev:
                check_replaced(descriptor, found, item, self._root + item.path)
            self._out.put(self._headers.of(item, found, 0))
            self._row(item, found, descriptor)
        finally:
            os.close(descriptor)

    def _row(
        self,
        item: Item,
        found: os.stat_result,
        target_of: int | bytes | None,
        *,
        size: int = 0,
        target: bytes | None = None,
        digest: bytes | None = None,
        frame: int | None = None,
        start: int | None = None,
        content: int | None = None,
    ) -> None:
        """Enter what the catalog gets: the fields of archive.entry.Entry in their order."""
        mtime_s, mtime_ns = divmod(found.st_mtime_ns, 1_000_000_000)
        ctime_ns = found.st_ctime_ns
        if ctime_ns > self._settled_ns:
            ctime_ns = UNSETTLED
        flags = 0
        if isinstance(target_of, int):
            flags = read_flags(target_of)
            if found.st_ino == _SUBVOLUME_INODE and is_subvolume(target_of):
                flags |= SUBVOLUME
        self.rows.append(
            (
                item.id,
                item.path,
                found.st_mode,
                found.st_uid,
                found.st_gid,
                mtime_s,
                mtime_ns,
                ctime_ns,
                size,
                signed64(found.st_ino),
                item.device,
                found.st_nlink,
                found.st_rdev,
                target,
                item.link,
                None if target_of is None else read_xattrs(target_of),
                flags,
                digest,
                frame,
                start,
                content,
            )
        )
