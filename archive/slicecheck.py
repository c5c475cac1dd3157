"""Reads one slice of a set back, from its beginning to its end: runs in a worker process.

Each byte is read once: it goes into the slice's digest, and as a part of its frame into those of
files. What is not where it should be is looked for as a restore looks for it, so that what is
called lost here is what a restore would lose.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from archive.catalog import Catalog
from archive.codec import FRAME_LIMIT, Codec, FrameDamaged, decompress
from archive.entry import Frame
from archive.faults import Fault
from archive.frames import FrameLost, FrameReader, Member
from archive.headers import entry_name, part_name
from archive.regular import open_descriptor
from archive.setfolder import slice_path

_CHUNK = 1 << 20


class Piece(NamedTuple):
    """Bytes of a file that lie in a frame: all of them, or a part."""

    frame: int
    """Its number."""
    start: int
    """In what the frame holds."""
    size: int
    digest: bytes
    owner: int
    """The entry's id; of a part the number of the content."""
    offset: int | None
    """Of a part: where in the file. None: this is a whole file."""


class Task(NamedTuple):
    """A slice to be read."""

    member: int
    number: int
    size: int | None
    """What it should be; None: nobody knows, and the digest neither."""
    sha256: bytes | None
    frames: tuple[Frame, ...]
    """Those in which pieces lie, by their places."""
    pieces: tuple[Piece, ...]
    """In the order of the frames and of their places there."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all tasks of a run have in common."""

    members: tuple[Member, ...]
    catalog: Path
    """Unpacked."""


@dataclass(slots=True)
class Checked:
    """What was found in one slice."""

    files: int = 0
    """Pieces that are what they should be, and their bytes."""
    bytes: int = 0
    fault: Fault | None = None
    lost: list[tuple[int, str]] = field(default_factory=list)
    """Ids of entries whose bytes cannot be had, with the reason."""
    lost_contents: list[tuple[int, str]] = field(default_factory=list)
    """The same of files in parts, by their contents' numbers."""


def check_slice(ground: Ground, task: Task) -> Checked:
    """Read a slice and check all that is known of it."""
    member = ground.members[task.member]
    path = slice_path(member.folder, task.number, member.suffix)
    checked = Checked()
    try:
        descriptor = open_descriptor(path)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        words = "is missing" if is_missing else f"cannot be read: {error.strerror}"
        checked.fault = Fault(path, is_missing, words)
        for piece in task.pieces:
            _lose(checked, piece, f"{path} {words}")
        return checked
    try:
        # What lies in memory proves nothing of the medium.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        passage = _Passage(descriptor)
        with FrameReader(ground.members) as reader:
            _Inspector(ground, task, passage, reader, checked).run()
        if task.size is not None:
            passage.finish()
            wrong = passage.fault(task)
            checked.fault = None if wrong is None else Fault(path, False, wrong)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return checked


def _lose(checked: Checked, piece: Piece, words: str) -> None:
    lost = checked.lost if piece.offset is None else checked.lost_contents
    lost.append((piece.owner, words))


class _Passage:
    """One way through a slice: gives parts of it in order, and takes the digest of all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sha256 = hashlib.sha256()
        self._at = 0
        self._error: str | None = None

    def take(self, start: int, size: int) -> bytes:
        """Return what lies at ``start``; less where the slice ends or cannot be read."""
        self._advance(start)
        data = self._read(start, size)
        if start <= self._at < start + len(data):
            self._sha256.update(data if start == self._at else data[self._at - start :])
            self._at = start + len(data)
        return data

    def finish(self) -> None:
        """Read what is left of the slice."""
        self._advance(None)

    def fault(self, task: Task) -> str | None:
        """Say what is wrong with the slice as a whole; nothing: None."""
        if self._error is not None:
            return self._error
        if self._at != task.size:
            return f"has {self._at} bytes, not {task.size}"
        if self._sha256.digest() != task.sha256:
            return "has a wrong digest"
        return None

    def _advance(self, end: int | None) -> None:
        while self._error is None and (end is None or self._at < end):
            data = self._read(self._at, _CHUNK if end is None else min(end - self._at, _CHUNK))
            if not data:
                return
            self._sha256.update(data)
            self._at += len(data)

    def _read(self, start: int, size: int) -> bytes:
        try:
            data = os.pread(self._descriptor, size, start)
            while data and len(data) < size:
                more = os.pread(self._descriptor, size - len(data), start + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            self._error = f"cannot be read at byte {start}: {error.strerror}"
            return b""
        return data


class _Inspector:
    """Checks the pieces of one slice."""

    def __init__(
        self, ground: Ground, task: Task, passage: _Passage, reader: FrameReader, checked: Checked
    ) -> None:
        self._ground = ground
        self._task = task
        self._passage = passage
        self._reader = reader
        self._checked = checked
        self._owners: dict[tuple[bool, int], tuple[bytes, int] | None] = {}

    def run(self) -> None:
        """Go through the frames."""
        by_frame = groupby(self._task.pieces, key=lambda piece: piece.frame)
        for frame, (_, pieces) in zip(self._task.frames, by_frame, strict=True):
            self._frame(frame, pieces)

    def _frame(self, frame: Frame, pieces: Iterator[Piece]) -> None:
        raw = self._unpacked(frame)
        place: tuple[int, int, bytes] | None = None
        fault: str | None = None
        for piece in pieces:
            # Hard links have the same bytes, one behind the other.
            if (piece.start, piece.size, piece.digest) != place:
                place = piece.start, piece.size, piece.digest
                fault = self._fault(frame, piece, raw)
                if fault is None:
                    self._checked.bytes += piece.size
            if fault is None:
                self._checked.files += piece.offset is None
            else:
                _lose(self._checked, piece, fault)

    def _unpacked(self, frame: Frame) -> memoryview | None:
        """Return what a frame holds; None: it is not where it should be."""
        if frame.raw_size <= FRAME_LIMIT and frame.size <= 2 * FRAME_LIMIT:
            data = self._passage.take(frame.start, frame.size)
            if len(data) == frame.size:
                try:
                    raw = decompress(Codec(frame.codec), data, frame.raw_size)
                except FrameDamaged:
                    return None
                return memoryview(raw)
        return None

    def _fault(self, frame: Frame, piece: Piece, raw: memoryview | None) -> str | None:
        """Say why a piece is lost; None: it is not."""
        start, size = piece.start, piece.size
        if raw is not None:
            data = raw[start : start + size]
            if len(data) == size and hashlib.sha256(data).digest() == piece.digest:
                return None
        try:
            name = self._name(piece) if self._reader.is_named(frame) else None
            self._reader.fetch(frame, start, size, digest=piece.digest, name=name)
        except FrameLost as error:
            return error.message
        return None

    def _name(self, piece: Piece) -> bytes | None:
        """Return the name of a piece's entry in the slice."""
        of_part = piece.offset is not None
        owner = of_part, piece.owner
        if owner not in self._owners:
            where = "content = ?" if of_part else "id = ?"
            catalog = _opened(self._ground.catalog)
            entry = next(catalog.entries(where=where, values=(piece.owner,)), None)
            self._owners[owner] = None if entry is None else (entry.path, entry.id)
        known = self._owners[owner]
        if known is None:
            return None
        return entry_name(*known) if piece.offset is None else part_name(*known, piece.offset)


@lru_cache(maxsize=1)
def _opened(catalog: Path) -> Catalog:
    """Return the catalog, which stays open in this process."""
    return Catalog.open_read(catalog)
