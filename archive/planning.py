"""Turns what the walk finds into what must be saved; copies the rows of what need not be.

Ids are given in the tree's order. Hard links are found by device and inode; a temporary table
remembers them, so that memory stays bounded however many there are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archive.catalog import Catalog
from archive.completion import Orphan
from archive.differential import Reference, Row
from archive.entry import Entry, signed64
from archive.errors import CannotRead
from archive.fileread import Vanished, look_at, open_quietly
from archive.headers import OWN_NAMES
from archive.issues import Issue, IssueKind, issue_of
from archive.reach import reachable
from archive.slicing import PART_BYTES, Item, Known, Role
from archive.sparse import data_runs
from archive.walk import Found

_TEMPORARY = """
CREATE TEMP TABLE link (
    st_dev INTEGER, inode INTEGER, number INTEGER NOT NULL, id INTEGER NOT NULL,
    path BLOB NOT NULL, PRIMARY KEY (st_dev, inode)
) WITHOUT ROWID;
CREATE TEMP TABLE pending (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, link INTEGER NOT NULL, device INTEGER NOT NULL
);
"""
_COPIED = ", ".join(Entry._fields[1:])


class _Earlier(NamedTuple):
    """What an earlier set says of a path."""

    reference: Reference
    row: Row
    same: bool
    """Nothing was done to the path since."""


@dataclass(slots=True)
class _Run:
    """Consecutive rows of an earlier set, to be copied at once."""

    reference: Reference
    first_there: int
    first_here: int
    length: int


class Planner:
    """Plans one run. ``references`` are asked in order: the first that knows the path decides."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        root: bytes,
        references: tuple[Reference, ...],
        devices: Callable[[], Sequence[str]],
        by_content: bool,
    ) -> None:
        self.found = 0
        self.found_bytes = 0
        self.unchanged = 0
        self.issues: list[Issue] = []
        self._connection = catalog.connection
        self._connection.executescript(_TEMPORARY)
        self._root = root + b"/"
        self._references = references
        self._by_content = by_content
        self._device_names = devices
        self._devices: dict[int, int] = {}
        # A file that is all hole has no part; one that was not completed has nothing else.
        self._next_content = max(self._greatest("content", of) for of in ("entry", "part")) + 1
        self._next_link = self._greatest("link", "entry") + 1
        self._run: _Run | None = None

    def _greatest(self, column: str, table: str) -> int:
        found = 0
        for schema in ("main", *(reference.schema for reference in self._references)):
            query = f"SELECT max({column}) FROM {schema}.{table}"  # noqa: S608 names of ours
            found = max(found, self._connection.execute(query).fetchone()[0] or 0)
        return found

    def items(self, walk: Iterable[Found]) -> Iterator[Item]:
        """Give what must be saved, in the tree's order; enter what need not be."""
        for number, (path, found, device_index) in enumerate(walk, start=1):
            self.found = number
            if path == OWN_NAMES:
                raise CannotRead(
                    "/.mindi exists: that name is used inside of archives",
                    hint="rename it, or exclude it with -E /.mindi",
                )
            regular = stat.S_ISREG(found.st_mode)
            if regular:
                self.found_bytes += found.st_size
            device = self._devices.get(device_index)
            if device is None:
                device = self._devices[device_index] = self._device(device_index)
            earlier = self._earlier(path, found, device) if self._references else None
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                yield from self._linked(number, path, found, device, earlier)
            elif earlier is not None and earlier.same:
                self._copy(earlier, number)
            else:
                yield from self._changed(number, path, found, device, earlier=earlier)
        self.flush()

    def again(self, item: Item, *, last: bool) -> Iterator[Item]:
        """Plan a path once more, as it is now; the ``last`` time it is kept whatever it does."""
        found = self._look_at(item.path)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            words = "became a directory while the backup ran: what is in it is not saved"
            self.issues.append(Issue(item.path, IssueKind.CHANGED, words))
        # Another file there is none of the names of the one that was.
        same = found.st_ino == item.inode and found.st_dev == item.st_dev
        link = item.link if same else None
        for planned in self._changed(item.id, item.path, found, item.device, link=link):
            yield planned._replace(last=last)

    def adopt(self, orphan: Orphan) -> Iterator[Item]:
        """Plan a hard link in the place of the one that could not be read."""
        found = self._look_at(orphan.path)
        if found is None:
            return
        same = (signed64(found.st_dev), signed64(found.st_ino)) == (orphan.st_dev, orphan.inode)
        link = orphan.link if same else None
        yield from self._changed(orphan.id, orphan.path, found, orphan.device, link=link)

    def _look_at(self, path: bytes) -> os.stat_result | None:
        """Return the state of a path as it is now; None, and an issue, where it is gone."""
        try:
            with reachable(self._root + path) as reached:
                return look_at(self._root + path, reached)
        except Vanished:
            words = "a directory above it was replaced"
            self.issues.append(Issue(path, IssueKind.VANISHED, words))
        except OSError as error:
            self.issues.append(issue_of(path, error))
        return None

    def _earlier(self, path: bytes, found: os.stat_result, device: int) -> _Earlier | None:
        for reference in self._references:
            row = reference.at(path)
            if row is not None:
                same = row.is_same(found, device)
                if self._by_content and found.st_size and stat.S_ISREG(found.st_mode):
                    same = False
                return _Earlier(reference, row, same)
        return None

    def _linked(
        self, number: int, path: bytes, found: os.stat_result, device: int, earlier: _Earlier | None
    ) -> Iterator[Item]:
        """Plan a file with several names: the first that is met stands for all of them."""
        place = (signed64(found.st_dev), signed64(found.st_ino))
        query = "SELECT number, path FROM temp.link WHERE st_dev = ? AND inode = ?"
        group = self._connection.execute(query, place).fetchone()
        same = earlier is not None and earlier.same and earlier.row.link is not None
        if same and earlier is not None and (group is None or group[0] == earlier.row.link):
            if group is None:
                self._remember(place, earlier.row.link, number, path)
            self._copy(earlier, number)
        elif group is not None:
            pending = (number, path, group[0], device)
            self._connection.execute("INSERT INTO temp.pending VALUES (?, ?, ?, ?)", pending)
            item = _item(Role.LINK, number, path, found, device)
            yield item._replace(link=group[0], first=group[1])
        else:
            link = self._next_link
            self._next_link += 1
            self._remember(place, link, number, path)
            yield from self._changed(number, path, found, device, link=link, earlier=earlier)

    def _remember(self, place: tuple[int, int], link: int | None, number: int, path: bytes) -> None:
        values = (*place, link, number, path)
        self._connection.execute("INSERT INTO temp.link VALUES (?, ?, ?, ?, ?)", values)

    def _changed(
        self,
        number: int,
        path: bytes,
        found: os.stat_result,
        device: int,
        *,
        link: int | None = None,
        earlier: _Earlier | None = None,
    ) -> Iterator[Item]:
        """Plan what must be read: in one piece, or in parts where it is large or has holes."""
        item = _item(Role.WHOLE, number, path, found, device)._replace(link=link)
        if not stat.S_ISREG(found.st_mode):
            yield item
            return
        holes = found.st_blocks * 512 < found.st_size
        if found.st_size > PART_BYTES or holes:
            try:
                runs = self._runs(path, found)
            except OSError as error:
                self.issues.append(issue_of(path, error))
                return
            if found.st_size > PART_BYTES or runs != [(0, found.st_size)]:
                yield from self._in_parts(item, runs, earlier)
                return
        if earlier is not None:
            item = item._replace(known=earlier.row.known)
        yield item

    def _runs(self, path: bytes, found: os.stat_result) -> list[tuple[int, int]]:
        with reachable(self._root + path) as reached:
            descriptor = open_quietly(reached)
        try:
            return list(data_runs(descriptor, found.st_size, longest=PART_BYTES))
        finally:
            os.close(descriptor)

    def _in_parts(
        self, item: Item, runs: list[tuple[int, int]], earlier: _Earlier | None
    ) -> Iterator[Item]:
        content = self._next_content
        self._next_content += 1
        known: dict[int, Known] = {}
        if earlier is not None and earlier.row.content is not None:
            known = earlier.reference.known_parts(earlier.row.content)
        item = item._replace(content=content)
        for offset, length in runs:
            yield item._replace(
                role=Role.PART, offset=offset, length=length, known=known.get(offset)
            )
        yield item._replace(role=Role.END)

    def _copy(self, earlier: _Earlier, number: int) -> None:
        """Enter a row of an earlier set as it is; runs of them are copied by SQLite alone."""
        self.unchanged += 1
        run = self._run
        if (
            run is not None
            and run.reference is earlier.reference
            and run.first_there + run.length == earlier.row.id
            and run.first_here + run.length == number
        ):
            run.length += 1
            return
        self.flush()
        self._run = _Run(earlier.reference, earlier.row.id, number, 1)

    def flush(self) -> None:
        """Enter the copied rows that wait; to be called before a commit."""
        run = self._run
        if run is None:
            return
        self._run = None
        self._connection.execute(
            f"INSERT INTO entry SELECT id + ?, {_COPIED} FROM {run.reference.schema}.entry"  # noqa: S608
            " WHERE id >= ? AND id < ? ORDER BY id",
            (run.first_here - run.first_there, run.first_there, run.first_there + run.length),
        )

    def _device(self, index: int) -> int:
        """Return the catalog's number of a filesystem."""
        name = self._device_names()[index]
        self._connection.execute("INSERT OR IGNORE INTO device (identity) VALUES (?)", (name,))
        query = "SELECT number FROM device WHERE identity = ?"
        number: int = self._connection.execute(query, (name,)).fetchone()[0]
        return number


def _item(role: Role, number: int, path: bytes, found: os.stat_result, device: int) -> Item:
    mtime_s, mtime_ns = divmod(found.st_mtime_ns, 1_000_000_000)
    return Item(
        role,
        number,
        path,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        mtime_s,
        mtime_ns,
        found.st_ctime_ns,
        found.st_size,
        found.st_ino,
        device,
        found.st_dev,
        found.st_nlink,
        found.st_rdev,
    )
