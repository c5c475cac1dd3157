"""Reads a whole set back and says what of it is damaged, and which paths are lost by that.

The pieces of files are sorted by where they lie (by SQLite, in bounded memory), and every slice
is read once, from its beginning to its end, by worker processes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from archive.catalog import Catalog
from archive.catalogfile import catalog_faults
from archive.entry import Entry, Frame, digest_of_parts, tree_key
from archive.errors import SetDamaged
from archive.faults import Fault
from archive.manifestfile import MANIFEST, MANIFEST_COPY, manifest_faults, read_manifest
from archive.reader import BackupSet
from archive.regular import open_descriptor
from archive.rowcheck import OF_ONE_FILE
from archive.setfolder import CATALOG, CATALOG_COPY
from archive.slicecheck import Checked, Ground, Piece, Task, check_slice
from archive.workers import Workers

Progress = Callable[[int, int], None]
"""Told of files and bytes that were checked since it was told last."""

_PIECES = """
SELECT f.member, f.slice, x.frame, x.start, x.size, x.digest, x.owner, x.offset FROM (
    SELECT frame, start, size, digest, id AS owner, NULL AS offset FROM entry
    WHERE frame IS NOT NULL
    UNION ALL SELECT frame, start, size, digest, content, offset FROM part
) x LEFT JOIN frame f ON f.number = x.frame
WHERE f.member IS NULL OR f.member = 0 OR ?
ORDER BY f.member, f.slice, f.start, f.number, x.start, x.size, x.digest, x.owner
"""
_TOTAL = """
SELECT total(x.size) FROM (
    SELECT frame, size FROM entry WHERE frame IS NOT NULL UNION ALL SELECT frame, size FROM part
) x JOIN frame f ON f.number = x.frame WHERE f.member = 0 OR ?
"""
_NOWHERE = (
    "mode & 61440 = 32768 AND frame IS NULL AND content IS NULL"
    " AND (size > 0 OR digest IS NOT NULL AND digest IS NOT ?)"
)
_UNLIKE = f"""
id IN (
    WITH first AS (SELECT link, min(id) AS id FROM entry WHERE link IS NOT NULL GROUP BY link)
    SELECT e.id FROM entry e JOIN first f ON f.link = e.link JOIN entry b ON b.id = f.id
    WHERE e.id <> f.id AND ({" OR ".join(f"b.{name} IS NOT e.{name}" for name in OF_ONE_FILE)})
)
"""  # noqa: S608 names of ours
_TYPES = (int, int, int, int, int, bytes, int)
_SHAPES = {(*_TYPES, int), (*_TYPES, type(None))}
_EMPTY = hashlib.sha256().digest()
_AT_ONCE = 500


class Lost(NamedTuple):
    """A path whose bytes the set does not have any more, and why."""

    path: bytes
    words: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found. ``faults`` are in the order of sets and slices, ``lost`` in the tree's."""

    slices: int
    """Read back, sound or not."""
    files: int
    """Names of files that were found to be what they should be: of files that have bytes."""
    bytes: int
    """Of these, hard links once."""
    faults: tuple[Fault, ...]
    lost: tuple[Lost, ...]

    @property
    def is_sound(self) -> bool:
        """Say whether everything is as it was written."""
        return not self.faults and not self.lost


def verify(
    backup: BackupSet,
    *,
    chain: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Read a set back: its catalog's copies, its slices, every frame, every file's digest.

    ``chain``: those slices of its parents too in which its files lie. ``jobs``: worker
    processes; None: one a processor. Damage is told, not raised; SetDamaged is raised for what
    makes it impossible to go on: a parent that is not there, a catalog that contradicts itself.
    """
    count = jobs or len(os.sched_getaffinity(0))
    members = backup.members if chain else backup.members[:1]
    ground = Ground(backup.members, backup.catalog.path)
    run = _Run(backup, chain=chain)
    with Workers(functools.partial(check_slice, ground), count) as workers:
        for number, member in enumerate(members):
            run.check_account(number, member.folder)
        try:
            for checked in workers.map(run.tasks()):
                run.take(checked)
                if progress is not None:
                    progress(checked.files, checked.bytes)
            return run.result()
        except sqlite3.DatabaseError as error:
            raise SetDamaged(f"{backup.catalog.path}: the catalog is damaged: {error}") from error


def bytes_to_verify(backup: BackupSet, *, chain: bool = False) -> int:
    """Return how many bytes ``verify`` will have reported at its end: some less for hard links."""
    return backup.catalog.total(_TOTAL, (chain,))


class _Run:
    """One run of ``verify``."""

    def __init__(self, backup: BackupSet, *, chain: bool) -> None:
        self._backup = backup
        self._catalog: Catalog = backup.catalog
        self._chain = chain
        self._faults: list[Fault] = []
        self._slices: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._lost: list[tuple[int, str]] = []
        self._lost_contents: dict[int, str] = {}
        self._files = self._bytes = self._count = 0

    def check_account(self, number: int, folder: Path) -> None:
        """Check both copies of a member's manifest and catalog, and learn of its slices."""
        for name in (MANIFEST, MANIFEST_COPY, CATALOG, CATALOG_COPY):
            _forget(folder / name)
        manifest = self._backup.manifest if number == 0 else read_manifest(folder)
        self._faults += manifest_faults(folder)
        self._faults += catalog_faults(folder, manifest)
        if number == 0:
            self._learn(0, self._catalog)
            return
        try:
            with BackupSet.open(folder, scratch=self._catalog.path.parent) as parent:
                self._learn(number, parent.catalog)
        except SetDamaged as error:
            self._faults.append(Fault(folder, False, error.message))

    def _learn(self, member: int, catalog: Catalog) -> None:
        for number, size, sha256 in catalog.slices():
            self._slices[member, number] = (size, sha256)

    def tasks(self) -> Iterator[Task]:
        """Give a task for each slice, in order."""
        own = iter(sorted(number for member, number in self._slices if member == 0))
        due = next(own, None)
        rows = self._catalog.connection.execute(_PIECES, (self._chain,))
        for place, group in groupby(map(self._checked, rows), key=lambda row: row[:2]):
            member, number = place
            if member not in range(len(self._backup.members)):
                self._without_frame(group)
                continue
            while due is not None and (member > 0 or due < number):
                yield self._task(0, due, ())
                due = next(own, None)
            if member == 0 and due == number:
                due = next(own, None)
            yield self._task(member, number, tuple(Piece._make(row[2:]) for row in group))
        while due is not None:
            yield self._task(0, due, ())
            due = next(own, None)

    def _checked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] is None or tuple(map(type, row)) in _SHAPES:
            return row
        raise SetDamaged(f"{self._catalog.path} is damaged: a place of bytes is none")

    def _without_frame(self, group: Iterable[tuple[Any, ...]]) -> None:
        for _, _, frame, _, _, _, owner, offset in group:
            words = f"the catalog is wrong: it has no frame {frame}, or one of a set that is none"
            if not isinstance(owner, int):
                continue
            if offset is None:
                self._lost.append((owner, words))
            else:
                self._lost_contents[owner] = words

    def _task(self, member: int, number: int, pieces: tuple[Piece, ...]) -> Task:
        self._count += 1
        frames: list[Frame] = []
        for piece in pieces:
            if not frames or frames[-1].number != piece.frame:
                frame = self._catalog.frame(piece.frame)
                assert frame is not None  # noqa: S101 the join found it
                frames.append(frame)
        size, sha256 = self._slices.get((member, number), (None, None))
        if size is None and (member == 0 or any(one == member for one, _ in self._slices)):
            words = "the catalog does not list it, and has files in it"
            self._faults.append(Fault(self._backup.members[member].folder, False, words))
        return Task(member, number, size, sha256, tuple(frames), pieces)

    def take(self, checked: Checked) -> None:
        """Take what was found in a slice."""
        self._files += checked.files
        self._bytes += checked.bytes
        self._lost += checked.lost
        self._lost_contents.update(checked.lost_contents)
        if checked.fault is not None:
            self._faults.append(checked.fault)

    def result(self) -> Verified:
        """Check the rest, and name what is lost."""
        lost = dict(self._wrong())
        lost.update(self._named())
        for entry in self._sound(_NOWHERE, (_EMPTY,)):
            lost[entry.path] = "the catalog does not say where its bytes are"
        for entry in self._sound(_UNLIKE):
            lost[entry.path] = "the catalog is wrong: it is no name of the file that it is one of"
        for entry in self._sound("content IS NOT NULL"):
            parts = self._catalog.parts(entry.content or 0)
            if digest_of_parts((p.offset, p.size, p.digest) for p in parts) != entry.digest:
                lost[entry.path] = "the catalog's list of its parts is not what its digest says"
            elif entry.path not in lost and entry.content not in self._lost_contents:
                self._files += 1
        return Verified(
            slices=self._count,
            files=self._files,
            bytes=self._bytes,
            faults=tuple(self._faults),
            lost=tuple(Lost(path, lost[path]) for path in sorted(lost, key=tree_key)),
        )

    def _wrong(self) -> Iterator[tuple[bytes, str]]:
        """Name the entries that no writer makes: a restore does not take them."""
        for entry, fault in self._catalog.judged():
            if fault is not None:
                is_path = isinstance(entry.path, bytes)
                yield (entry.path if is_path else b"entry %d" % entry.id), fault

    def _sound(self, where: str, values: tuple[object, ...] = ()) -> Iterator[Entry]:
        for entry, fault in self._catalog.judged(where=where, values=values):
            if fault is None:
                yield entry

    def _named(self) -> Iterator[tuple[bytes, str]]:
        for column, lost in (("id", dict(self._lost)), ("content", self._lost_contents)):
            numbers = sorted(lost)
            for start in range(0, len(numbers), _AT_ONCE):
                some = tuple(numbers[start : start + _AT_ONCE])
                where = f"{column} IN ({', '.join('?' * len(some))})"
                for entry in self._sound(where, some):
                    key = entry.id if column == "id" else entry.content
                    yield entry.path, lost[key or 0]


def _forget(path: Path) -> None:
    """Have a file read from its medium the next time."""
    try:
        descriptor = open_descriptor(path)
    except OSError:
        return  # who reads it tells
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
