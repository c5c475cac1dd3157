"""Opening sets: by their folder or their prefix, with their parents, and nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.catalog import Catalog
from archive.catalogfile import store_catalog
from archive.codec import Codec
from archive.entry import Entry, Frame, Part
from archive.errors import CannotWrite, ParentMissing, SetDamaged
from archive.frames import FrameReader, Member
from archive.manifest import Manifest
from archive.reader import BackupSet, contents, set_folder
from archive.setfolder import CATALOG, CATALOG_COPY
from tests.support.sets import FILE, SetBuilder, manifest, words, write_manifest

OLD, NEW = words(5000, 1), words(5000, 2)


def full(prefix: Path) -> tuple[Path, Manifest]:
    builder = SetBuilder(prefix, Codec.GZIP)
    builder.files({b"kept": OLD, b"changed": OLD})
    return builder.write()


def differential(
    prefix: Path, parent: Manifest, *, members: tuple[str, ...] | None = None
) -> tuple[Path, Manifest]:
    """Write a set that takes ``kept`` from the first frame of its parent."""
    ids = (parent.set_id,) if members is None else members
    builder = SetBuilder(prefix, Codec.ZSTD, parent=parent, members=ids, first_frame=1 << 20)
    builder.files({b"changed": NEW})
    with BackupSet.open(prefix) as before:
        kept = before.catalog.find(b"kept")
        assert kept is not None
        frame = before.catalog.frame(kept.frame or 0)
        assert frame is not None
    builder.frames.append(frame._replace(member=1))
    builder.row(
        b"kept",
        FILE,
        size=kept.size,
        digest=kept.digest,
        frame=kept.frame,
        start=kept.start,
    )
    return builder.write()


def read(path: Path) -> dict[bytes, bytes]:
    with BackupSet.open(path) as backup, backup.frame_reader() as frames:
        return {
            entry.path: b"".join(run for _, run in contents(backup, entry, frames))
            for entry in list(backup.catalog.entries())
        }


def test_a_set_is_opened_by_its_folder(tmp_path: Path) -> None:
    folder, told = full(tmp_path)
    with BackupSet.open(folder) as backup:
        assert (backup.folder, backup.manifest) == (folder, told)


def test_a_prefix_means_its_newest_set(tmp_path: Path) -> None:
    _, parent = full(tmp_path)
    folder, told = differential(tmp_path, parent)
    with BackupSet.open(tmp_path) as backup:
        assert (backup.folder, backup.manifest) == (folder, told)


def test_a_chain_is_read_as_one(tmp_path: Path) -> None:
    _, parent = full(tmp_path)
    folder, _ = differential(tmp_path, parent)
    assert read(folder) == {b"kept": OLD, b"changed": NEW}


def test_a_parent_is_known_by_its_id_not_by_its_name(tmp_path: Path) -> None:
    first, parent = full(tmp_path)
    folder, _ = differential(tmp_path, parent)
    first.rename(tmp_path / "20200101T000000Z-full")
    assert read(folder) == {b"kept": OLD, b"changed": NEW}


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    first, parent = full(tmp_path)
    folder, _ = differential(tmp_path, parent)
    shutil.rmtree(first)
    with BackupSet.open(folder) as backup:
        with pytest.raises(ParentMissing, match=f"the set {parent.set_id} .* is not in"):
            backup.frame_reader()
        # Listing needs no parent.
        assert len(list(backup.catalog.entries())) == 2


def test_another_set_is_no_parent(tmp_path: Path) -> None:
    first, parent = full(tmp_path)
    folder, _ = differential(tmp_path, parent)
    shutil.rmtree(first)
    full(tmp_path)
    with BackupSet.open(folder) as backup, pytest.raises(ParentMissing):
        backup.frame_reader()


def test_a_damaged_parent_is_named(tmp_path: Path) -> None:
    first, parent = full(tmp_path)
    folder, _ = differential(tmp_path, parent)
    write_manifest(first, b"{}")
    with (
        BackupSet.open(folder) as backup,
        pytest.raises(ParentMissing, match=f"manifest is damaged: {first.name}"),
    ):
        backup.frame_reader()


@pytest.mark.parametrize(
    "members", [(), ("another",), ("PARENT", "PARENT")], ids=["none", "another", "twice"]
)
def test_a_catalog_of_other_sets_is_refused(tmp_path: Path, members: tuple[str, ...]) -> None:
    _, parent = full(tmp_path)
    ids = tuple(parent.set_id if one == "PARENT" else one for one in members)
    folder, _ = differential(tmp_path, parent, members=ids)
    with BackupSet.open(folder) as backup, pytest.raises(SetDamaged, match="of other sets"):
        backup.frame_reader()


def test_a_newest_set_that_is_damaged_is_not_passed_over(tmp_path: Path) -> None:
    _, parent = full(tmp_path)
    folder, _ = differential(tmp_path, parent)
    write_manifest(folder, b"")
    with pytest.raises(SetDamaged, match=folder.name):
        BackupSet.open(tmp_path)


def test_a_folder_without_sets_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetDamaged, match="is no backup set and holds none"):
        set_folder(tmp_path)


def test_a_folder_of_prefixes_is_told(tmp_path: Path) -> None:
    full(tmp_path / "nightly")
    with pytest.raises(SetDamaged) as caught:
        set_folder(tmp_path)
    assert "nightly" in str(caught.value.hint)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    folder, _ = full(tmp_path / "prefix")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with BackupSet.open(folder, scratch=scratch):
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    folder, _ = full(tmp_path / "prefix")
    for name in (CATALOG, CATALOG_COPY):
        (folder / name).write_bytes(b"")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(SetDamaged):
        BackupSet.open(folder, scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_no_scratch_is_said(tmp_path: Path) -> None:
    folder, _ = full(tmp_path)
    with pytest.raises(CannotWrite, match="no temporary files can be kept in"):
        BackupSet.open(folder, scratch=tmp_path / "missing")


def with_rows(folder: Path, statement: str) -> Path:
    """Write a set whose catalog has rows that no writer makes; return its folder."""
    builder = SetBuilder(folder)
    builder.files({b"file": words(100), b"other": words(50, 5)})
    builder.parted(b"parts", {0: words(60, 1), 100: words(60, 2)}, 200)
    path, told = builder.write()
    database = builder.catalog(folder / "changed.sqlite", told.set_id)
    with Catalog.open_write(database) as catalog:
        catalog.connection.executescript(statement)
        catalog.settle()
    changed = manifest(set_id=told.set_id, catalog=store_catalog(database, path))
    write_manifest(path, changed.to_json())
    return path


LIES = {
    "no-such-frame": "UPDATE entry SET frame = 77 WHERE path = x'66696c65'",
    "behind-the-frame": "UPDATE entry SET start = 70000 WHERE path = x'66696c65'",
    "no-digest": "UPDATE entry SET digest = NULL WHERE path = x'66696c65'",
    "nowhere": "UPDATE entry SET frame = NULL, start = NULL WHERE path = x'66696c65'",
    "no-parts": "DELETE FROM part",
    "a-part-less": "DELETE FROM part WHERE offset = 0",
    "no-digest-of-parts": "UPDATE entry SET digest = NULL WHERE content IS NOT NULL",
    "parts-behind-the-end": "UPDATE entry SET size = 150 WHERE content IS NOT NULL",
    "digest-of-another": "UPDATE entry SET digest = zeroblob(32) WHERE path = x'66696c65'",
    "another-size": "UPDATE entry SET size = 99 WHERE path = x'66696c65'",
}


@pytest.mark.parametrize("name", LIES)
def test_a_catalog_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    folder = with_rows(tmp_path, LIES[name])
    with pytest.raises(SetDamaged):
        read(folder)


def test_a_catalog_that_does_not_lie_is_read(tmp_path: Path) -> None:
    """The control of those above."""
    held = read(with_rows(tmp_path, "UPDATE entry SET uid = uid"))
    assert held == {
        b"file": words(100),
        b"other": words(50, 5),
        b"parts": words(60, 1) + words(60, 2),
    }


COLUMNS = [
    *(("entry", name) for name in Entry._fields),
    *(("part", name) for name in Part._fields),
    *(("frame", name) for name in Frame._fields),
    *(("member", name) for name in ("number", "set_id")),
]
FIRST_OF = {"entry": "id", "frame": "number", "member": "number"}
NUMBERS = st.sampled_from([-1, 0, 1, 2, 511, 1 << 31, 1 << 32, (1 << 63) - 1, -(1 << 63)])
VALUES = st.none() | NUMBERS | st.integers(-99, 99) | st.floats() | st.text() | st.binary()


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(COLUMNS), VALUES, st.booleans()), min_size=1, max_size=4))
def test_any_values_in_a_catalog_are_read_or_refused(
    tmp_path: Path, changes: list[tuple[tuple[str, str], object, bool]]
) -> None:
    builder = SetBuilder(tmp_path)
    builder.files({b"file": words(100), b"other": words(50, 5)})
    builder.parted(b"parts", {0: words(60, 1), 100: words(60, 2)}, 200)
    path = tmp_path / "hostile.sqlite"
    path.unlink(missing_ok=True)
    with Catalog.open_write(builder.catalog(path, "id")) as catalog:
        for (table, column), value, all_rows in changes:
            row = "offset = 0" if table == "part" else f"{FIRST_OF[table]} < 2"
            where = "1" if all_rows else row
            # What a constraint forbids, an enemy cannot write either.
            with contextlib.suppress(sqlite3.Error, UnicodeEncodeError):
                catalog.connection.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {where}",  # noqa: S608
                    (value,),
                )
        catalog.settle()
    (tmp_path / "slices").mkdir(exist_ok=True)
    (tmp_path / "slices" / "0000001.afio.zst").write_bytes(builder.slices[0])
    reader = FrameReader((Member("id", tmp_path, ".afio.zst"),))
    with contextlib.suppress(SetDamaged), Catalog.open_read(path) as catalog:
        backup = BackupSet(tmp_path, manifest(), catalog, tmp_path / "none")
        catalog.members(limit=10)
        for entry in list(catalog.entries()):
            with contextlib.suppress(SetDamaged):
                list(contents(backup, entry, reader))
    reader.close()


def test_an_empty_file_needs_no_place(tmp_path: Path) -> None:
    builder = SetBuilder(tmp_path)
    builder.row(b"empty", FILE, digest=hashlib.sha256().digest())
    assert read(builder.write()[0]) == {b"empty": b""}


def test_scratch_of_killed_runs_goes(tmp_path: Path) -> None:
    folder, _ = SetBuilder(tmp_path / "set").write()
    scratch = tmp_path / "scratch"
    for name in ("mindi-set-killed", "mindi-set-used", "mindi-set-young", "mindi-other"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "catalog").touch()
        if name != "mindi-set-young":
            os.utime(scratch / name, (0, 0))
    used = os.open(scratch / "mindi-set-used", os.O_RDONLY)
    try:
        fcntl.flock(used, fcntl.LOCK_EX)
        BackupSet.open(folder, scratch=scratch).close()
    finally:
        os.close(used)
    left = sorted(path.name for path in scratch.iterdir())
    assert left == ["mindi-other", "mindi-set-used", "mindi-set-young"]
