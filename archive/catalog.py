"""The catalog of a set: an SQLite database, one row a path, written in any order, read in order.

The schema is normative in archive/FORMAT.md. Memory stays bounded at any number of files:
nothing is kept but SQLite's page cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from archive.entry import Entry, Frame, Part, tree_key
from archive.errors import SetDamaged

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
        try:
            found = [
                self.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            ]
        except sqlite3.DatabaseError as error:
            raise SetDamaged(f"{self.path} is no catalog: {error}") from error
        if found != [APPLICATION_ID, VERSION]:
            raise SetDamaged(
                f"{self.path} is no catalog of a version known here: {found[0]:#x}, {found[1]}"
            )

    # Writing

    def put_entries(self, entries: Iterable[tuple[object, ...]]) -> None:
        """Add rows, each with the fields of Entry in their order."""
        self.connection.executemany(_PUT_ENTRY, entries)

    def put_parts(self, parts: Iterable[tuple[object, ...]]) -> None:
        """Add rows, each with the fields of Part in their order."""
        self.connection.executemany(_PUT_PART, parts)

    def put_frames(self, frames: Iterable[tuple[object, ...]]) -> None:
        """Add rows, each with the fields of Frame in their order."""
        self.connection.executemany(_PUT_FRAME, frames)

    # Reading

    def entries(self, *, where: str = "1", values: tuple[object, ...] = ()) -> Iterator[Entry]:
        """Give entries in the order of the tree, all or those of an SQL condition of ours."""
        query = f"SELECT {ENTRY_COLUMNS} FROM entry WHERE {where} ORDER BY id"  # noqa: S608
        return map(Entry._make, self.connection.execute(query, values))

    def find(self, path: bytes) -> Entry | None:
        """Return the entry of a path, in some twenty steps: the ids are in the tree's order."""
        key = tree_key(path)
        (low, high) = self.connection.execute("SELECT min(id), max(id) FROM entry").fetchone()
        while low is not None and low <= high:
            middle = (low + high) // 2
            found = next(self.entries(where="id >= ?", values=(middle,)), None)
            if found is None:
                high = middle - 1
            elif found.path == path:
                return found
            elif tree_key(found.path) < key:
                low = found.id + 1
            else:
                high = middle - 1
        return None

    def parts(self, content: int) -> Iterator[Part]:
        """Give the parts of a file in the order of their offsets."""
        query = "SELECT * FROM part WHERE content = ? ORDER BY offset"
        return map(Part._make, self.connection.execute(query, (content,)))

    def frame(self, number: int) -> Frame | None:
        """Return a frame."""
        query = "SELECT * FROM frame WHERE number = ?"
        row = self.connection.execute(query, (number,)).fetchone()
        return None if row is None else Frame._make(row)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database without SQLite's own locks: network filesystems lack them.

    Who writes a set holds the lock of its folder (archive/setfolder.py).
    """
    name = path.absolute().as_posix()
    for letter in "%?#":
        name = name.replace(letter, f"%{ord(letter):02X}")
    connection = sqlite3.connect(
        f"file:{name}?mode={mode}&nolock=1", uri=True, isolation_level=None
    )
    if mode != "ro":
        connection.executescript(
            "PRAGMA page_size = 8192; PRAGMA locking_mode = EXCLUSIVE;"
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000;"
        )
    return connection
