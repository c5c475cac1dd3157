"""The catalog of a set: an SQLite database, one row a path, written in any order, read in order.

The schema is normative in archive/FORMAT.md. Memory stays bounded at any number of files:
nothing is kept but SQLite's page cache.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from archive.entry import Entry, Frame, Part, tree_key
from archive.errors import SetDamaged
from archive.rowcheck import BLOB_BYTES, check_entry, check_frame, check_part

APPLICATION_ID = 0x6D6E6463
"""What `file(1)` and PRAGMA application_id say: "mndc"."""
VERSION = 1

_SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, size INTEGER NOT NULL, inode INTEGER NOT NULL,
    device INTEGER NOT NULL, nlink INTEGER NOT NULL, rdev INTEGER NOT NULL, target BLOB,
    link INTEGER, xattrs BLOB, flags INTEGER NOT NULL, digest BLOB, frame INTEGER,
    start INTEGER, content INTEGER
);
CREATE TABLE part (
    content INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL,
    digest BLOB NOT NULL, frame INTEGER NOT NULL, start INTEGER NOT NULL,
    PRIMARY KEY (content, offset)
) WITHOUT ROWID;
CREATE TABLE frame (
    number INTEGER PRIMARY KEY, member INTEGER NOT NULL, slice INTEGER NOT NULL,
    start INTEGER NOT NULL, size INTEGER NOT NULL, raw_size INTEGER NOT NULL,
    codec INTEGER NOT NULL
);
CREATE TABLE slice (
    number INTEGER PRIMARY KEY, size INTEGER NOT NULL, sha256 BLOB NOT NULL,
    raw_size INTEGER NOT NULL
);
CREATE TABLE member (number INTEGER PRIMARY KEY, set_id TEXT NOT NULL);
CREATE TABLE device (number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE);
CREATE TABLE issue (path BLOB NOT NULL, kind TEXT NOT NULL, words TEXT NOT NULL);
"""

ENTRY_COLUMNS = ", ".join(Entry._fields)
_PUT_ENTRY = f"INSERT INTO entry VALUES ({', '.join('?' * len(Entry._fields))})"  # noqa: S608
_OTHER_COPY = "take the set from another copy of it; do not use one of unknown origin"
_PUT_PART = "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)"
_PUT_FRAME = "INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?)"


class Catalog:
    """An open catalog. Use as a context manager; ``create`` and ``open_read`` make them."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.close()

    @classmethod
    def create(cls, path: Path) -> Catalog:
        """Make a new, empty catalog; it survives ``kill -9`` up to its last commit."""
        connection = _connect(path, "rwc")
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID};{_SCHEMA}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        return cls(connection, path)

    @classmethod
    def open_write(cls, path: Path) -> Catalog:
        """Open a catalog that an interrupted run left."""
        catalog = cls(_connect(path, "rw"), path)
        catalog._check()
        return catalog

    @classmethod
    def open_read(cls, path: Path) -> Catalog:
        """Open a finished catalog. Raises SetDamaged for what is none."""
        catalog = cls(_connect(path, "ro"), path)
        catalog._check()
        return catalog

    def _check(self) -> None:
        """Refuse a foreign database, and one of which a view or a trigger would run code."""
        for row in self._rows("PRAGMA application_id"):
            if row[0] != APPLICATION_ID:
                raise SetDamaged(f"{self.path} is no catalog")
        for row in self._rows("PRAGMA user_version"):
            if row[0] != VERSION:
                raise SetDamaged(
                    f"{self.path} is a catalog of version {row[0]}, not {VERSION}",
                    hint="use the newer program that wrote it",
                )
        tables = _tables()
        if list(self._rows(_TABLES, (len(tables) + 1,))) != tables:
            raise SetDamaged(f"{self.path} has other tables than a catalog has")

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Give a query's rows. Raises SetDamaged where SQLite finds the database damaged."""
        try:
            yield from self.connection.execute(query, values)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # The latter where a damaged schema is quoted in SQLite's own message.
            raise SetDamaged(
                f"{self.path} is no catalog, or damaged: {error}",
                hint="take the set from another copy of it",
            ) from error

    # Writing

    def settle(self) -> None:
        """Fold what SQLite keeps beside the database into it: it is then one file."""
        self.connection.execute("PRAGMA main.journal_mode = DELETE")

    def attach(self, path: Path, schema: str) -> None:
        """Make another catalog readable under a name of ours."""
        self.connection.execute(f"ATTACH ? AS {schema}", (_uri(path, "ro"),))

    def put_entries(self, entries: Iterable[tuple[object, ...]]) -> None:
        """Add rows, each with the fields of Entry in their order."""
        self.connection.executemany(_PUT_ENTRY, entries)

    def put_parts(self, parts: Iterable[tuple[object, ...]]) -> None:
        """Add rows, each with the fields of Part in their order."""
        self.connection.executemany(_PUT_PART, parts)

    def put_frames(self, frames: Iterable[tuple[object, ...]]) -> None:
        """Add rows, each with the fields of Frame in their order."""
        self.connection.executemany(_PUT_FRAME, frames)

    # Reading: what is given has been checked, and is in order; else SetDamaged is raised.

    def entries(self, *, where: str = "1", values: tuple[object, ...] = ()) -> Iterator[Entry]:
        """Give entries in the order of the tree, all or those of an SQL condition of ours."""
        for entry, fault in self.judged(where=where, values=values):
            if fault is not None:
                raise SetDamaged(fault, hint=_OTHER_COPY)
            yield entry

    def judged(
        self, *, where: str = "1", values: tuple[object, ...] = ()
    ) -> Iterator[tuple[Entry, str | None]]:
        """Give entries as ``entries`` does, and what is wrong with each: what is goes by unused.

        Raises SetDamaged where nothing can be read any more.
        """
        query = f"SELECT {ENTRY_COLUMNS} FROM entry WHERE {where} ORDER BY id"  # noqa: S608
        last_id = -1
        last_key: bytes | None = None
        for row in self._rows(query, values):
            entry = Entry._make(row)
            # A damaged B-tree can lead in rings: then this is what ends the walk.
            if type(entry.id) is not int or entry.id <= last_id:
                raise SetDamaged(f"{self.path} is damaged: entry {entry.id} is not in order")
            try:
                check_entry(entry)
            except SetDamaged as error:
                last_id = entry.id
                yield entry, error.message
                continue
            key = tree_key(entry.path)
            if last_key is not None and key <= last_key:
                last_id = entry.id
                yield entry, f"the catalog is wrong: entry {entry.id} is not in order"
                continue
            last_id, last_key = entry.id, key
            yield entry, None

    def find(self, path: bytes) -> Entry | None:
        """Return the entry of a path, in some twenty steps: the ids are in the tree's order."""
        key = tree_key(path)
        low, high = self._ends()
        while low <= high:
            middle = (low + high) // 2
            behind = self.judged(where="id >= ?", values=(middle,))
            found = next((entry for entry, fault in behind if fault is None), None)
            if found is None:
                high = middle - 1
            elif found.path == path:
                return found
            elif tree_key(found.path) < key:
                low = found.id + 1
            else:
                high = middle - 1
        return None

    def _ends(self) -> tuple[int, int]:
        """Return the first and the last id; no id lies between them where there is none."""
        # Asked for both at once, SQLite walks through the whole table.
        query = "SELECT (SELECT min(id) FROM entry), (SELECT max(id) FROM entry)"
        (ends,) = self._rows(query)
        return (0, -1) if None in ends else (int(ends[0]), int(ends[1]))

    def parts(self, content: int, *, start: int = 0) -> Iterator[Part]:
        """Give the parts of a file that begin at ``start`` or behind, in their order."""
        query = "SELECT * FROM part WHERE content = ? AND offset >= ? ORDER BY offset"
        end = 0
        for row in self._rows(query, (content, start)):
            part = Part._make(row)
            check_part(part)
            if part.offset < end:
                raise SetDamaged(f"{self.path} is damaged: parts of {content} are not in order")
            end = part.offset + part.size
            yield part

    def frame(self, number: int) -> Frame | None:
        """Return a frame."""
        query = "SELECT * FROM frame WHERE number = ?"
        for row in self._rows(query, (number,)):
            frame = Frame._make(row)
            check_frame(frame)
            return frame
        return None

    def slices(self) -> Iterator[tuple[int, int, bytes]]:
        """Give number, size and SHA-256 of the set's own slices."""
        for row in self._rows("SELECT number, size, sha256 FROM slice ORDER BY number"):
            if tuple(map(type, row)) != (int, int, bytes):
                raise SetDamaged(f"{self.path} is damaged: its table of slices is")
            number, size, sha256 = row
            yield number, size, sha256

    def total(self, query: str, values: tuple[object, ...] = ()) -> int:
        """Return the sum that a query of ours gives, 0 where it is no number that can be."""
        for (value,) in self._rows(query, values):
            if isinstance(value, float | int) and math.isfinite(value):
                return int(value)
        return 0

    def members(self, *, limit: int) -> list[str]:
        """Return the ids of this set, its parent, its parent's parent, ..., at most ``limit``."""
        rows = list(
            self._rows("SELECT number, set_id FROM member ORDER BY number LIMIT ?", (limit + 1,))
        )
        ids = [set_id for _, set_id in rows]
        if [number for number, _ in rows] != list(range(len(rows))) or len(rows) > limit:
            raise SetDamaged(f"{self.path} is damaged: its sets are not numbered as they should be")
        if not all(isinstance(one, str) for one in ids):
            raise SetDamaged(f"{self.path} is damaged: a set's id is no text")
        return ids


_TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name LIMIT ?"


@lru_cache(maxsize=1)
def _tables() -> list[tuple[Any, ...]]:
    """Return the tables of a catalog as SQLite describes them."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(_SCHEMA)
        return connection.execute(_TABLES, (-1,)).fetchall()
    finally:
        connection.close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database without SQLite's own locks: network filesystems lack them.

    Who writes a set holds the lock of its folder (archive/setfolder.py).
    """
    connection = sqlite3.connect(_uri(path, mode), uri=True, isolation_level=None)
    # The database may come from an enemy.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, BLOB_BYTES)
    connection.executescript("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
    if mode != "ro":
        # A write-ahead log would need locks; a rollback journal costs what is only added nothing.
        connection.executescript(
            "PRAGMA page_size = 8192; PRAGMA locking_mode = EXCLUSIVE;"
            "PRAGMA journal_mode = DELETE; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000;"
        )
    return connection


def _uri(path: Path, mode: str) -> str:
    name = path.absolute().as_posix()
    for letter in "%?#":
        name = name.replace(letter, f"%{ord(letter):02X}")
    return f"file:{name}?mode={mode}&nolock=1"
