"""Compares a set with a live tree: every path, every attribute, every byte of every file.

The set's catalog is enough for it; its slices are not read. The main process goes through the
catalog and looks for what else is in the tree; workers compare runs of entries.
"""

from __future__ import annotations

import functools
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from archive.entry import Entry, signed64, tree_key
from archive.errors import CannotRead, SetDamaged
from archive.reader import BackupSet
from archive.setfolder import prefixes
from archive.workers import Workers
from restore.compareworker import Found, Ground, Job, Stretch, work
from restore.difference import Difference, Kind
from restore.extras import Extras
from restore.safetree import SafeTree
from restore.scope import Scope

Progress = Callable[[int, int], None]
"""Told of paths and bytes that were compared since it was told last."""

_JOB_BYTES = 16 << 20
_JOB_ENTRIES = 1000
_JOB_RUNS = 200
_STRETCH_BYTES = 64 << 20
_ENTRY_COST = 8192
"""Bytes that could be read in the time that an entry takes beside its bytes."""
_ORDER = {kind: number for number, kind in enumerate(Kind)}

_LINKED = """
CREATE TEMP TABLE linked (
    id INTEGER PRIMARY KEY, link INTEGER, device INTEGER NOT NULL, inode INTEGER NOT NULL
)
"""
# A path is right if as many paths are the same file here as in the set, and as are it in both.
_WRONG_LINKS = """
WITH named AS (SELECT id, coalesce(link, -id) AS link, device, inode FROM linked),
saved AS (SELECT link, count(*) AS n FROM named GROUP BY link),
here AS (SELECT device, inode, count(*) AS n FROM named GROUP BY device, inode),
both AS (SELECT link, device, inode, count(*) AS n FROM named GROUP BY link, device, inode)
SELECT entry.path, saved.n, here.n FROM named
JOIN saved USING (link) JOIN here USING (device, inode) JOIN both USING (link, device, inode)
JOIN entry ON entry.id = named.id WHERE both.n != saved.n OR both.n != here.n
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found."""

    paths: int
    """Of the set, that were looked at."""
    bytes: int
    """That were read of the live files."""
    differences: tuple[Difference, ...]
    """In the order of the tree."""

    @property
    def is_same(self) -> bool:
        """Say whether nothing differs."""
        return not self.differences

    @property
    def counts(self) -> dict[Kind, int]:
        """Return how many differences there are of each kind that there is."""
        found = Counter(difference.kind for difference in self.differences)
        return {kind: found[kind] for kind in Kind if found[kind]}


def compare(
    backup: BackupSet,
    root: Path,
    *,
    wanted: Callable[[Entry], bool] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    out: tuple[Path, ...] = (),
) -> Compared:
    """Compare the entries that are ``wanted`` (None: all) with what is below ``root``.

    Files are read without a trace in their times, where that is allowed. ``jobs``: worker
    processes; None: one a processor. ``out``: absolute paths that no backup takes (swap files in
    use) beside those that the manifest names; the folders of sets beside this one, and our own,
    are always passed over. Raises CannotRead for a root that is no directory, SetDamaged for a
    catalog that cannot be read, WorkerLost.
    """
    if not root.is_dir():
        raise CannotRead(f"{root} is no directory", hint="name the one to compare with (--to)")
    count = jobs or len(os.sched_getaffinity(0))
    ground = Ground(root, backup.catalog.path)
    try:
        with Workers(functools.partial(work, ground), count) as workers, SafeTree(root) as tree:
            run = _Run(backup, tree, wanted, out=(*out, *_own_places(backup)))
            for found in workers.map_unordered(run.jobs()):
                run.take(found)
                if progress is not None:
                    progress(found.paths, found.bytes)
            return run.result()
    except sqlite3.DatabaseError as error:
        raise SetDamaged(f"{backup.catalog.path}: the catalog is damaged: {error}") from error


def _own_places(backup: BackupSet) -> Iterator[Path]:
    """Give the folders of the set's prefix, of those beside it, and of the unpacked catalog."""
    yield backup.catalog.path.parent
    own = backup.folder.absolute().parent
    yield own
    yield from prefixes(own.parent)


class _Run:
    """One run of ``compare``."""

    def __init__(
        self,
        backup: BackupSet,
        tree: SafeTree,
        wanted: Callable[[Entry], bool] | None,
        *,
        out: Iterable[Path],
    ) -> None:
        self._catalog = backup.catalog
        self._wanted = wanted
        root = os.path.realpath(os.fsencode(tree.root)).rstrip(b"/") + b"/"
        absolute = (os.path.realpath(os.fsencode(path)) for path in out)
        relative = (path[len(root) :] for path in absolute if path.startswith(root))
        self._scope = Scope(backup.catalog, backup.manifest, out=relative)
        self._extras = Extras(tree, self._scope)
        self._differences: set[Difference] = set()
        self._connection = backup.catalog.connection
        self._connection.execute("DROP TABLE IF EXISTS temp.linked")
        self._connection.execute(_LINKED)
        self._paths = self._bytes = 0

    def jobs(self) -> Iterator[Job]:
        """Give the jobs; find what is extra on the way."""
        runs: list[tuple[int, int]] = []
        weight = entries = 0
        for number, path, is_folder, size, content in self._rows():
            self._differences.update(self._extras.meet(path, is_folder=is_folder))
            if runs and runs[-1][1] == number - 1:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
            entries += 1
            if content is None:
                weight += size + _ENTRY_COST
            if weight >= _JOB_BYTES or entries >= _JOB_ENTRIES or len(runs) >= _JOB_RUNS:
                yield Job(tuple(runs))
                runs, weight, entries = [], 0, 0
            if content is not None:
                yield from self._stretches(number, size, content)
        if runs:
            yield Job(tuple(runs))
        self._differences.update(self._extras.end())

    def _rows(self) -> Iterator[tuple[int, bytes, bool, int, int | None]]:
        """Give id, path, whether it is a directory, size and content of what is wanted."""
        if self._wanted is None:
            yield from self._light_rows()
            return
        for entry in self._catalog.entries():
            is_folder = entry.mode & 0o170000 == 0o040000
            if self._wanted(entry):
                yield entry.id, entry.path, is_folder, entry.size, entry.content
            else:
                # What is in it may be wanted, and what else is there must be told from that.
                meet = self._extras.meet(entry.path, is_folder=is_folder, wanted=False)
                self._differences.update(meet)

    def _light_rows(self) -> Iterator[tuple[int, bytes, bool, int, int | None]]:
        """Give all rows, checked for no more than is needed here: workers check the rest."""
        last_id, last_key = -1, None
        query = "SELECT id, path, mode & 61440 = 16384, size, content FROM entry ORDER BY id"
        for row in self._connection.execute(query):
            number, path, is_folder, size, content = row
            types = (type(number), type(path), type(is_folder), type(size))
            if types != (int, bytes, int, int) or not isinstance(content, int | None):
                raise SetDamaged(f"{self._catalog.path} is damaged: an entry is none")
            key = path.replace(b"/", b"\0")
            if number <= last_id or (last_key is not None and key <= last_key):
                raise SetDamaged(f"{self._catalog.path} is damaged: its entries are not in order")
            last_id, last_key = number, key
            yield number, path, bool(is_folder), size, content

    def _stretches(self, number: int, size: int, content: int) -> Iterator[Job]:
        """Cut a large file into what workers compare at a time."""
        start = weight = 0
        for part in self._catalog.parts(content):
            if weight >= _STRETCH_BYTES:
                yield Job((), Stretch(number, start, part.offset))
                start, weight = part.offset, 0
            weight += part.size
        yield Job((), Stretch(number, start, size))

    def take(self, found: Found) -> None:
        """Take what was found by a worker."""
        self._paths += found.paths
        self._bytes += found.bytes
        self._differences.update(filter(self._scope.judges, found.differences))
        self._connection.executemany(
            "INSERT OR REPLACE INTO temp.linked VALUES (?, ?, ?, ?)",
            ((row.id, row.link, row.device, signed64(row.inode)) for row in found.linked),
        )

    def result(self) -> Compared:
        """Compare which paths are the same file; put all in order."""
        for path, saved, here in self._connection.execute(_WRONG_LINKS):
            words = f"one of {saved} names in the set, of {here} here"
            self._differences.add(Difference(path, Kind.LINKS, words))
        ordered = sorted(
            self._differences, key=lambda one: (tree_key(one.path), _ORDER[one.kind], one.words)
        )
        return Compared(self._paths, self._bytes, tuple(_once(ordered)))


def _once(ordered: Iterable[Difference]) -> Iterator[Difference]:
    """Give one difference of each kind for a path: stretches of a file may all differ."""
    last: tuple[bytes, Kind] | None = None
    for difference in ordered:
        if (difference.path, difference.kind) != last:
            yield difference
        last = difference.path, difference.kind
