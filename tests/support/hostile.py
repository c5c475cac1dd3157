"""Sets that an enemy makes: catalogs, slices and manifests with anything in them, well sealed.

Who makes a set gives it right digests, so that what is wrong in it is found by no digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard
from hypothesis import strategies as st

from archive.catalog import Catalog
from archive.codec import Codec
from archive.entry import SUBVOLUME, Entry, Frame, Part
from archive.manifest import CatalogFile
from archive.setfolder import CATALOG, CATALOG_COPY
from tests.support.sets import SetBuilder, manifest, words, write_manifest

FILE = stat.S_IFREG | 0o644
_KINDS = (
    *(stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK),
    *(stat.S_IFIFO, stat.S_IFSOCK),
)
_NAMES = (b"a", b"b", b"c", b"d", b"..", b".", b"", b"outside", b"file", b"n" * 300, b"\0", b"\n")
_PAGE = 8192


class Row(NamedTuple):
    """An entry to be made: a path, what it holds, and fields that replace what is right."""

    path: bytes
    kind: int
    holds: int
    """0: nothing; 1: bytes of a common frame; 2: of a frame of its own; 3: parts."""
    more: dict[str, object]


class Tampering(NamedTuple):
    """A value written into a column of the catalog: of its nth row, or of all (None)."""

    table: str
    column: str
    value: object
    row: int | None


class Hostile(NamedTuple):
    """What a set is to be."""

    codec: Codec
    per_file: bool
    rows: list[Row]
    tampered: list[Tampering]
    statements: list[str]
    blows: list[tuple[int, bytes]]
    """Bytes written over the catalog: a page's number in the upper bits, the place below."""
    slice_blows: list[tuple[int, bytes]]
    fields: list[tuple[str, object]]
    """What is written into the manifest: a key, or two with a dot between them."""


NUMBERS = st.sampled_from(
    [-1, 0, 1, 2, 3, 511, 65_536, 1 << 24, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63)]
)
VALUES = (
    st.none() | NUMBERS | st.integers(-99, 99) | st.floats() | st.text(max_size=9) | st.binary()
)
_COLUMNS = [
    *(("entry", name) for name in Entry._fields),
    *(("part", name) for name in Part._fields),
    *(("frame", name) for name in Frame._fields),
    *(("member", name) for name in ("number", "set_id")),
    *(("slice", name) for name in ("number", "size", "sha256", "raw_size")),
]
_STATEMENTS = (
    "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM entry; END",
    "CREATE VIEW v AS SELECT load_extension('x')",
    "CREATE TABLE more (a)",
    "CREATE INDEX i ON entry (path)",
    "DROP TABLE part",
    "ALTER TABLE frame ADD COLUMN more",
    "ALTER TABLE entry RENAME TO e; CREATE VIEW entry AS SELECT * FROM e",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 99",
    "PRAGMA application_id = 0",
    "PRAGMA encoding = 'UTF-16'",
    "DELETE FROM entry",
    "DELETE FROM frame",
    "DELETE FROM member",
    "DELETE FROM slice",
    "INSERT INTO member VALUES (1, 'x')",
    "INSERT INTO member SELECT 1, set_id FROM member",
    "INSERT INTO slice VALUES (2, 0, x'', 0), (999999999, 5, x'00', 7)",
    "UPDATE entry SET path = upper(path)",
    "UPDATE entry SET id = -id",
    "UPDATE entry SET link = 1",
    "UPDATE entry SET frame = 1, start = 0 WHERE mode & 61440 = 32768",
    "UPDATE entry SET content = 1, frame = NULL, start = NULL WHERE mode & 61440 = 32768",
    "UPDATE frame SET raw_size = 1 << 26",
    "UPDATE frame SET member = 1",
    "UPDATE part SET size = size + 1",
    # Many parts that are all the same bytes, one behind the other, of a small slice.
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
    "INSERT OR IGNORE INTO part SELECT 1, 1000000 + i * p.size, p.size, p.digest, p.frame, p.start"
    " FROM n, (SELECT * FROM part LIMIT 1) p",
    "UPDATE entry SET size = 1 << 60 WHERE content IS NOT NULL",
)
_FIELDS = (
    *("set_id", "parent_id", "kind", "name", "created", "host", "codec", "level", "per_file"),
    *("selection.include", "selection.exclude", "coverage", "issues", "totals.files"),
    *("totals.bytes", "slices.count", "catalog.size", "catalog.raw_size", "catalog.sha256"),
    *("version", "selection.one_filesystem", "selection", "catalog", "more"),
)
_TEXTS = st.sampled_from(
    ["", "/", "/a/../b", "\ud800", "\udc80", "/\0", "*", "/**/" * 9, "[", "full", "differential"]
    + ["zstd", "none", "0" * 64, "../../outside", "/" + "a/" * 3000, "\x1b[2J", "*?" * 20 + "x"]
)


def paths() -> st.SearchStrategy[bytes]:
    """Give paths, most of them possible ones."""
    plain = st.lists(st.sampled_from(_NAMES[:4]), min_size=1, max_size=3).map(b"/".join)
    return plain | plain | st.lists(st.sampled_from(_NAMES), max_size=5).map(b"/".join)


def rows(outside: bytes) -> st.SearchStrategy[list[Row]]:
    """Give entries; targets and paths lead to ``outside`` where they can."""
    targets = st.sampled_from([outside, b"../outside", b".", b"..", b"a", b"/", b"x" * 5000])
    path = paths() | st.sampled_from([outside, outside[1:], b"../outside/file", outside + b"/new"])
    more = st.fixed_dictionaries(
        {},
        optional={
            "target": targets,
            "link": st.integers(1, 2),
            "rdev": st.sampled_from([os.makedev(1, 3), os.makedev(1, 1), (1 << 63) - 1, -1]),
            "mode": st.integers(0, 0o177777),
            "flags": st.sampled_from([0, 0x40, 0x4, 0x40000000, SUBVOLUME, 1 << 47, -1]),
            "size": NUMBERS,
            "mtime_s": NUMBERS,
            "uid": st.sampled_from([0, 1, (1 << 32) - 1, 1 << 32]),
            "xattrs": st.binary(max_size=30)
            | st.sampled_from([b"\0\x06\0\0\0\x01user.ax", b"\0\x01\xff\xff\xff\xffa"]),
        },
    )
    row = st.builds(Row, path, st.sampled_from(_KINDS), st.integers(0, 3), st.just({}) | more)
    return st.lists(row, max_size=12)


def hostiles(outside: bytes) -> st.SearchStrategy[Hostile]:
    """Give sets of which something is wrong, and sometimes nothing."""
    tampering = st.builds(
        lambda place, value, row: Tampering(*place, value, row),
        st.sampled_from(_COLUMNS),
        VALUES,
        st.none() | st.integers(0, 8),
    )
    blow = st.tuples(st.integers(0, (1 << 24) - 1), st.binary(min_size=1, max_size=6))
    field = st.tuples(
        st.sampled_from(_FIELDS),
        VALUES | _TEXTS | st.lists(_TEXTS, max_size=3) | st.dictionaries(_TEXTS, _TEXTS),
    )
    few = 3
    return st.builds(
        Hostile,
        st.sampled_from(Codec),
        st.booleans(),
        rows(outside),
        st.just([]) | st.lists(tampering, max_size=few),
        st.just([]) | st.lists(st.sampled_from(_STATEMENTS), max_size=few),
        st.just([]) | st.lists(blow, max_size=few),
        st.just([]) | st.lists(blow, max_size=few),
        st.just([]) | st.lists(field, max_size=few),
    )


def make(room: Path, wanted: Hostile) -> Path:
    """Make the set below ``room``; return its folder."""
    builder = SetBuilder(room / "prefix", wanted.codec, wanted.per_file)
    builder.files({b"zz/1": words(900), b"zz/2": words(50, 2)})
    builder.row(b"", stat.S_IFDIR | 0o755)
    builder.row(b"zz", stat.S_IFDIR | 0o755)
    for number, row in enumerate(wanted.rows):
        _add(builder, row, number)
    folder, told = builder.write()
    for place, data in wanted.slice_blows:
        one = next((folder / "slices").iterdir())
        _strike(one, place % one.stat().st_size, data)
    database = builder.catalog(room / "tampered.sqlite", told.set_id)
    with contextlib.suppress(sqlite3.Error):
        _tamper(database, wanted)
    size = database.stat().st_size
    for number, data in wanted.blows:
        page, place = number >> 13, number % _PAGE
        # Half of the blows go where the heads of pages are.
        _strike(database, page * _PAGE % size + (place if page % 2 else place % 100), data)
    told = manifest(
        set_id=told.set_id,
        codec=wanted.codec,
        per_file=wanted.per_file,
        catalog=_store(database, folder),
    )
    held = json.loads(told.to_json())
    for key, value in wanted.fields:
        _set(held, key, value)
    write_manifest(folder, sealed(held))
    return folder


def sealed(held: dict[str, object]) -> bytes:
    """Return a manifest with a right digest of itself."""
    held.pop("sha256", None)
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    held["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(held).encode()


def _store(database: Path, folder: Path) -> CatalogFile:
    """Put a catalog into a set as it is; SQLite, that might refuse it, is not asked."""
    raw = database.read_bytes()
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    packed = zstandard.ZstdCompressor().compress(raw)
    for name in (CATALOG, CATALOG_COPY):
        (folder / name).write_bytes(packed)
    return CatalogFile(len(packed), hashlib.sha256(packed).hexdigest(), len(raw))


def _set(held: dict[str, object], key: str, value: object) -> None:
    above, _, name = key.rpartition(".")
    place = held.get(above) if above else held
    if isinstance(place, dict):
        place[name] = value.hex() if isinstance(value, bytes) else value


def _strike(path: Path, place: int, data: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[place : place + len(data)] = data
    path.write_bytes(whole)


def _add(builder: SetBuilder, row: Row, number: int) -> None:
    content = words(40 * number + 1, number)
    mode = row.kind | 0o644
    if row.kind == stat.S_IFREG and row.holds == 1:
        digest = hashlib.sha256(words(900)[:50]).digest()
        frame, start = builder.rows[0]["frame"], builder.rows[0]["start"]
        builder.row(row.path, mode, size=50, digest=digest, frame=frame, start=start)
    elif row.kind == stat.S_IFREG and row.holds == 2:
        builder.files({row.path or b"x": content})
    elif row.kind == stat.S_IFREG and row.holds == 3:
        builder.parted(row.path or b"x", {0: content, 8192: content}, 20_000)
    else:
        target = b"a" if row.kind == stat.S_IFLNK else None
        builder.row(row.path, mode, target=target)
    builder.rows[-1] |= row.more


def _tamper(database: Path, wanted: Hostile) -> None:
    with Catalog.open_write(database) as catalog:
        execute = catalog.connection.execute
        for table, column, value, row in wanted.tampered:
            key = "content, offset" if table == "part" else "rowid"
            one = f"({key}) IN (SELECT {key} FROM {table} LIMIT 1 OFFSET {row})"  # noqa: S608
            update = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE "  # noqa: S608
            # What a constraint forbids, an enemy cannot write either.
            with contextlib.suppress(sqlite3.Error, UnicodeEncodeError):
                execute(update + ("1" if row is None else one), (value,))
        for statement in wanted.statements:
            with contextlib.suppress(sqlite3.Error):
                catalog.connection.executescript(statement)
        catalog.settle()


# Readers that are not trusted either


class Ended(NamedTuple):
    """What became of a confined process."""

    codes: list[int]
    said: str
    seconds: float


def confined(
    work: Sequence[Callable[[], int]], said: Path, *, memory_bytes: int, seconds: float
) -> Ended:
    """Call functions one after the other in a child process that has so much memory and time.

    The child's children have as much. Fewer codes than functions: it was killed, or ran away.
    """
    begun = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_confined(work, said, memory_bytes, reading, writing)
    os.close(writing)
    data = b""
    try:
        data = _read_until(reading, begun + seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return Ended(list(data), said.read_text(errors="replace"), time.monotonic() - begun)


def _be_confined(
    work: Sequence[Callable[[], int]], said: Path, memory_bytes: int, reading: int, writing: int
) -> None:
    try:
        os.setpgid(0, 0)
        os.close(reading)
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for each in work:
            code = each()
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(writing, bytes([code & 255]))
    except BaseException as error:
        os.write(2, f"Traceback: {type(error).__name__}: {error}".encode(errors="replace"))
    finally:
        os._exit(0)


def _read_until(descriptor: int, deadline: float) -> bytes:
    data = b""
    os.set_blocking(descriptor, False)
    while time.monotonic() < deadline:
        try:
            more = os.read(descriptor, 100)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        if not more:
            break
        data += more
    return data


def clear(room: Path) -> None:
    """Empty a folder, whatever the modes of what is in it."""
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
