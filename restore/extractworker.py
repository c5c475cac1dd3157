"""Extracts in a worker process: reads the frame of each job, makes its files.

A file's digest is checked in memory, before anything of it is written; only files in parts are
written first, and removed again by who began them.
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

from archive.catalog import ENTRY_COLUMNS, Catalog
from archive.codec import Codec
from archive.entry import Entry, Frame
from archive.errors import SetDamaged
from archive.frames import FrameLost, FrameReader
from archive.headers import entry_name, part_name
from restore.extractplan import Job, Lost, PartTask
from restore.nodes import Attribute, Nodes, Unset
from restore.safetree import Refused, SafeTree, reason

_REGULAR = stat.S_IFREG
_LARGE_FRAME = 24 << 20
"""Of a frame without compression that is larger, its files are read one by one."""
_OF_FRAME = "mode & 61440 = 32768 AND content IS NULL AND frame = ?"
_OF_NONE = (
    "(mode & 61440 NOT IN (16384, 32768)"
    " OR mode & 61440 = 32768 AND content IS NULL AND frame IS NULL)"
)


class Ground(NamedTuple):
    """What all jobs of a run have in common."""

    target: Path
    catalog: Path
    """Unpacked."""
    reader: FrameReader


@dataclass(slots=True)
class Done:
    """What became of one job."""

    files: int = 0
    bytes: int = 0
    lost: list[Lost] = field(default_factory=list)
    lost_ids: list[int] = field(default_factory=list)
    """Entries that are not there: of single files and of those whose parts could not be had."""
    unset: dict[Attribute, Unset] = field(default_factory=dict)


def work(ground: Ground, job: Job) -> Done:
    """Do one job. Raises TargetFull, SetDamaged, sqlite3.DatabaseError."""
    return _worker(ground).do(job)


@lru_cache(maxsize=1)
def _worker(ground: Ground) -> Worker:
    """Return what this process has opened; it stays so until its end."""
    os.umask(0)
    catalog = Catalog.open_read(ground.catalog)
    # One transaction: in one of its own each query looks for journals again.
    catalog.connection.execute("BEGIN")
    return Worker(Nodes(SafeTree(ground.target)), catalog, ground.reader)


class _Source(NamedTuple):
    """Where the bytes of a job's files come from."""

    frame: Frame | None
    raw: memoryview | None
    """What the frame holds; None: it is not where it should be, or is read in pieces."""
    words: str
    """Why there is no frame."""


class Worker:
    """Does jobs. The umask must be 0."""

    def __init__(self, nodes: Nodes, catalog: Catalog, reader: FrameReader) -> None:
        self.nodes = nodes
        self.catalog = catalog
        self.reader = reader

    def do(self, job: Job) -> Done:
        """Extract what a job names. Raises TargetFull."""
        done = Done()
        source = self._source(job.frame)
        for entry, plain in self._entries(job):
            try:
                self._restore(entry, source, plain=plain)
                done.files += 1
                done.bytes += entry.size
            except (Refused, FrameLost, OSError, ValueError, OverflowError) as error:
                self._lose(done, entry.id, entry.path, error)
        if job.parts:
            self._write_parts(job.parts, source, done)
        done.unset, self.nodes.unset = self.nodes.unset, {}
        return done

    def _source(self, number: int | None) -> _Source:
        words = "the catalog does not say where its bytes are"
        try:
            frame = None if number is None else self.catalog.frame(number)
        except SetDamaged as error:
            return _Source(None, None, error.message)
        if frame is None or (frame.codec == Codec.NONE and frame.raw_size > _LARGE_FRAME):
            return _Source(frame, None, words)
        try:
            return _Source(frame, memoryview(self.reader.read(frame)), words)
        except FrameLost:
            # Told of each of its files: some may be found by their names.
            return _Source(frame, None, words)

    def _lose(self, done: Done, number: int, path: bytes, error: Exception) -> None:
        done.lost.append(Lost(path, reason(error, self.nodes.tree.root)))
        done.lost_ids.append(number)

    # Entries

    def _entries(self, job: Job) -> Iterator[tuple[Entry, bool]]:
        condition = _OF_NONE if job.frame is None else _OF_FRAME
        values = () if job.frame is None else (job.frame,)
        query = (
            f"SELECT {ENTRY_COLUMNS} FROM entry"  # noqa: S608 nothing but our own words
            f" WHERE id BETWEEN ? AND ? AND {condition} ORDER BY id"
        )
        execute = self.catalog.connection.execute
        for first, last, plain in job.runs:
            for row in execute(query, (first, last, *values)):
                yield Entry._make(row), plain

    def _restore(self, entry: Entry, source: _Source, *, plain: bool) -> None:
        """Make what one entry says."""
        if entry.mode & 0o170000 != _REGULAR:
            self.nodes.other(entry, plain=plain)
            return
        start, size, digest = entry.start, entry.size, entry.digest
        frame, raw, words = source
        if frame is None:
            if size or entry.frame is not None:
                raise Refused(words)
            self.nodes.regular(entry, b"", plain=plain)
            return
        if start is None or digest is None or start < 0:
            raise Refused("the catalog's entry is damaged")
        data: memoryview | bytes
        if raw is None or (
            hashlib.sha256(data := raw[start : start + size]).digest() != digest
            or len(data) != size
        ):
            name = entry_name(entry.path, entry.id)
            data = self.reader.fetch(frame, start, size, digest=digest, name=name)
        self.nodes.regular(entry, data, plain=plain)

    # Parts

    def _write_parts(self, tasks: tuple[PartTask, ...], source: _Source, done: Done) -> None:
        spoilt: set[int] = set()
        for task in tasks:
            if task.id in spoilt:
                continue
            try:
                self._write_part(task, source)
                done.bytes += task.part.size
            except (Refused, FrameLost, OSError, OverflowError) as error:
                spoilt.add(task.id)
                self._lose(done, task.id, task.path, error)

    def _write_part(self, task: PartTask, source: _Source) -> None:
        part = task.part
        frame, raw, words = source
        if frame is None:
            raise Refused(words)
        data: memoryview | bytes
        if raw is None or (
            hashlib.sha256(data := raw[part.start : part.start + part.size]).digest() != part.digest
        ):
            name = part_name(task.path, task.id, part.offset)
            data = self.reader.fetch(frame, part.start, part.size, digest=part.digest, name=name)
        folder, _ = self.nodes.tree.place(task.path)
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(task.name, flags, dir_fd=folder)
        try:
            view = memoryview(data)
            offset = part.offset
            while view:
                written = os.pwrite(descriptor, view, offset)
                if not written:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                view = view[written:]
                offset += written
        finally:
            os.close(descriptor)
