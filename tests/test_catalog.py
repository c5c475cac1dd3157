"""Catalogs: read in order, found in, and refused with words where they are none or hostile."""

from __future__ import annotations

import random
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.catalog import APPLICATION_ID, Catalog
from archive.entry import Entry, tree_key
from archive.errors import SetDamaged
from tests.support.sets import FILE, SetBuilder, words

PATHS = [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a b", b"a\n", b"b\xff", b"\x01", b"z" * 255]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    builder = SetBuilder(tmp_path)
    for path in PATHS:
        builder.row(path, stat.S_IFDIR | 0o755)
    builder.files({b"f": words(100), b"g": words(100, 1)})
    builder.parted(b"h", {0: words(10), 4096: words(10)}, 10_000)
    return builder.catalog(tmp_path / "catalog.sqlite", "id-of-the-set")


def edit(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(";".join(("PRAGMA writable_schema = ON", *statements)))
    connection.close()


def read_all(path: Path) -> list[Entry]:
    """Read all that a reader reads; the files' parts and frames too."""
    with Catalog.open_read(path) as catalog:
        entries = list(catalog.entries())
        for entry in entries:
            assert catalog.find(entry.path) == entry
            if entry.content is not None:
                list(catalog.parts(entry.content))
            if entry.frame is not None:
                catalog.frame(entry.frame)
        catalog.members(limit=10)
        return entries


def test_entries_come_in_the_order_of_the_tree(database: Path) -> None:
    paths = [entry.path for entry in read_all(database)]
    assert paths == sorted({*PATHS, b"f", b"g", b"h"}, key=tree_key)


@pytest.mark.parametrize("path", [b"0", b"a/a", b"a/b/c/d", b"zz", b"\xff"])
def test_what_is_not_there_is_not_found(database: Path, path: bytes) -> None:
    with Catalog.open_read(database) as catalog:
        assert catalog.find(path) is None


def test_nothing_is_found_in_an_empty_catalog(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c").connection.close()
    with Catalog.open_read(tmp_path / "c") as catalog:
        assert catalog.find(b"a") is None
        assert list(catalog.entries()) == []


def test_members_are_told(database: Path) -> None:
    with Catalog.open_read(database) as catalog:
        assert catalog.members(limit=1) == ["id-of-the-set"]


FOREIGN = {
    "another-program": f"PRAGMA application_id = {APPLICATION_ID + 1}",
    "newer": "PRAGMA user_version = 2",
    "trigger": "CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT 1; END",
    "table-more": "CREATE TABLE more (a)",
    "table-less": "DROP TABLE issue",
    "view-for-table": "DROP TABLE issue; CREATE VIEW issue AS SELECT 1 AS path, 2 AS k, 3 AS w",
    "generated-column": "ALTER TABLE part ADD COLUMN x AS (abs(-9223372036854775807 - 1))",
    "endless-view": (
        "DROP TABLE frame; CREATE VIEW frame AS WITH RECURSIVE c(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n, n, n, n, n, n, n FROM c"
    ),
    "other-columns": "DROP TABLE part; CREATE TABLE part (content INTEGER PRIMARY KEY)",
    "index": "CREATE INDEX i ON entry (uid)",
    "schema-of-nonsense": "UPDATE sqlite_schema SET sql = 'CREATE nonsense' WHERE name = 'part'",
    "moved-root": "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'entry'",
    "root-of-another": (
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema"
        " WHERE name = 'frame') WHERE name = 'entry'"
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_database_is_refused(database: Path, name: str) -> None:
    edit(database, FOREIGN[name])
    with pytest.raises(SetDamaged):
        read_all(database)


WRONG_ROWS = {
    "text-uid": "UPDATE entry SET uid = 'root' WHERE path = x'66'",
    "real-size": "UPDATE entry SET size = 1e300",
    "text-path": "UPDATE entry SET path = 'words' WHERE id = 4",
    "bad-utf8-text": "UPDATE entry SET uid = CAST(x'ff' AS TEXT)",
    "upwards": "UPDATE entry SET path = CAST('a/../../b' AS BLOB) WHERE id = 4",
    "absolute": "UPDATE entry SET path = CAST('/etc' AS BLOB) WHERE id = 4",
    "dot": "UPDATE entry SET path = CAST('./etc' AS BLOB) WHERE id = 4",
    "empty-component": "UPDATE entry SET path = CAST('a//b' AS BLOB) WHERE id = 4",
    "slash-at-end": "UPDATE entry SET path = CAST('a/' AS BLOB) WHERE id = 4",
    "nul": "UPDATE entry SET path = x'610062' WHERE id = 4",
    "long": "UPDATE entry SET path = CAST(zeroblob(2000000) AS BLOB) WHERE id = 4",
    "twice": "UPDATE entry SET path = x'61' WHERE path = x'62ff'",
    "out-of-order": "UPDATE entry SET path = x'7a7a' WHERE id = 2",
    "no-kind": "UPDATE entry SET mode = 420 WHERE id = 3",
    "mode": "UPDATE entry SET mode = mode + 65536 WHERE id = 3",
    "negative-uid": "UPDATE entry SET uid = -1",
    "huge-gid": "UPDATE entry SET gid = 4294967296",
    "nanoseconds": "UPDATE entry SET mtime_ns = 1000000000",
    "negative-size": "UPDATE entry SET size = -1",
    "flags": "UPDATE entry SET flags = -1",
    "short-digest": "UPDATE entry SET digest = x'00' WHERE path = x'66'",
    "frame-without-start": "UPDATE entry SET start = NULL WHERE path = x'66'",
    "negative-start": "UPDATE entry SET start = -1 WHERE path = x'66'",
    "two-places": "UPDATE entry SET content = 1 WHERE path = x'66'",
    "directory-with-bytes": "UPDATE entry SET frame = 1, start = 0 WHERE path = x'61'",
    "root-is-a-file": "UPDATE entry SET mode = 33188 WHERE id = 1",
    "link-without-target": "UPDATE entry SET mode = 41471 WHERE path = x'61'",
    "link-with-nul": "UPDATE entry SET mode = 41471, target = x'6100' WHERE path = x'61'",
    "file-with-target": "UPDATE entry SET target = x'61' WHERE path = x'66'",
    "part-of-text": "UPDATE part SET size = 'x'",
    "part-digest": "UPDATE part SET digest = x'00'",
    "part-negative": "UPDATE part SET start = -1",
    "parts-overlap": "UPDATE part SET size = 5000 WHERE offset = 0",
    "frame-codec": "UPDATE frame SET codec = 77",
    "frame-text": "UPDATE frame SET start = 'x'",
    "frame-member": "UPDATE frame SET member = -1",
    "frame-slice": "UPDATE frame SET slice = 0",
    "members": "INSERT INTO member VALUES (2, 'x')",
    "member-blob": "UPDATE member SET set_id = x'00'",
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_wrong_rows_are_refused(database: Path, name: str) -> None:
    edit(database, WRONG_ROWS[name])
    with pytest.raises(SetDamaged):
        read_all(database)


def test_a_sound_catalog_is_not_refused(database: Path) -> None:
    """The control of those above."""
    edit(database, "UPDATE entry SET uid = uid")
    assert len(read_all(database)) == len(PATHS) + 3


@pytest.mark.parametrize("data", [b"", b"plain words", b"SQLite format 3\0" + bytes(84)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(SetDamaged):
        read_all(tmp_path / "c")


def test_a_ring_in_the_tree_of_pages_ends(tmp_path: Path) -> None:
    """All children of the table's root page become the first one: its rows come again."""
    builder = SetBuilder(tmp_path)
    for number in range(3000):
        builder.row(b"%04d" % number, FILE)
    path = builder.catalog(tmp_path / "c", "id")
    page = 8192
    data = bytearray(path.read_bytes())
    found = 0
    for start in range(page, len(data), page):
        if data[start] == 5:  # an interior page of a table
            found += 1
            cells = int.from_bytes(data[start + 3 : start + 5])
            first = int.from_bytes(data[start + 12 : start + 14])
            for cell in range(1, cells):
                at = start + int.from_bytes(data[start + 12 + 2 * cell : start + 14 + 2 * cell])
                data[at : at + 4] = data[start + first : start + first + 4]
    path.write_bytes(data)
    assert found
    with pytest.raises(SetDamaged):
        read_all(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 40), whole=st.booleans())
def test_random_bytes_in_a_catalog_crash_nothing(
    database: Path, tmp_path: Path, seed: int, count: int, whole: bool
) -> None:
    dice = random.Random(seed)  # noqa: S311
    data = bytearray(database.read_bytes())
    for _ in range(count):
        # Pages are mostly empty: half of the hits go where the heads of pages are.
        page = dice.randrange(0, len(data), 8192)
        data[page + dice.randrange(8192 if whole else 200)] = dice.randrange(256)
    hurt = tmp_path / "hurt.sqlite"
    hurt.write_bytes(data)
    try:
        read_all(hurt)
    except SetDamaged:
        pass
    except AssertionError:
        # A path that is not found again: its own row is sound, the order of others is not.
        pass


def test_slices_and_totals_are_told(database: Path) -> None:
    with Catalog.open_read(database) as catalog:
        assert [number for number, _, _ in catalog.slices()] == [1]
        assert catalog.total("SELECT total(number) FROM slice") == 1


@pytest.mark.parametrize("value", [float("inf"), "text", None], ids=repr)
def test_a_total_that_is_no_number_is_none(database: Path, value: object) -> None:
    with Catalog.open_read(database) as catalog:
        assert catalog.total("SELECT ?", (value,)) == 0


@pytest.mark.parametrize("column", ["size", "sha256"])
def test_a_wrong_row_of_a_slice_is_refused(database: Path, column: str) -> None:
    with Catalog.open_write(database) as catalog:
        catalog.connection.execute(f"UPDATE slice SET {column} = 'text'")  # noqa: S608
        with pytest.raises(SetDamaged, match="slices"):
            list(catalog.slices())
