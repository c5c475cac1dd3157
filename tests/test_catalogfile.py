"""The catalog on its medium: twice, bounded, and the copy taken where the first is damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from archive.catalog import Catalog
from archive.catalogfile import catalog_faults, load_catalog, store_catalog
from archive.errors import CannotWrite, SetDamaged
from archive.manifest import CatalogFile, Manifest
from archive.setfolder import CATALOG, CATALOG_COPY
from tests.support.sets import SetBuilder, manifest, words
from tests.support.tools import require_tool


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Manifest]:
    """Return a folder with a stored catalog, and the manifest that knows it."""
    builder = SetBuilder(tmp_path)
    builder.files({b"%d" % number: words(10, number) for number in range(500)})
    told = manifest()
    database = builder.catalog(tmp_path / "catalog.sqlite", told.set_id)
    return tmp_path, dataclasses.replace(told, catalog=store_catalog(database, tmp_path))


def scratch(folder: Path) -> Path:
    path = folder / "scratch"
    path.mkdir()
    return path


def test_what_is_stored_is_loaded(stored: tuple[Path, Manifest]) -> None:
    folder, told = stored
    loaded = load_catalog(folder, told, scratch(folder))
    assert loaded.read_bytes() == (folder / "catalog.sqlite").read_bytes()
    assert catalog_faults(folder, told) == ()


def test_zstd_reads_it(stored: tuple[Path, Manifest]) -> None:
    folder, told = stored
    argv = [str(require_tool("zstd")), "-dc", str(folder / CATALOG)]
    raw = subprocess.run(argv, check=True, capture_output=True).stdout
    assert (raw, told.catalog.raw_size) == ((folder / "catalog.sqlite").read_bytes(), len(raw))


def test_nobody_else_can_read_it(stored: tuple[Path, Manifest]) -> None:
    folder, told = stored
    paths = (folder / CATALOG, folder / CATALOG_COPY, load_catalog(folder, told, scratch(folder)))
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_what_a_killed_writer_began_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with Catalog.create(path) as catalog:
        catalog.put_frames([(7, 0, 1, 0, 10, 20, 1)])
    writer = os.fork()
    if not writer:
        # Pages go to the database before the commit, which never comes.
        catalog = Catalog.open_write(path)
        catalog.connection.executescript("PRAGMA cache_size = 10; BEGIN; DELETE FROM frame;")
        catalog.put_frames((number, 0, 1, 0, 10, 20, 1) for number in range(8, 20_000))
        os._exit(0)
    os.waitpid(writer, 0)
    assert path.with_name("catalog.sqlite-journal").stat().st_size > 0
    assert path.stat().st_size > 200_000
    told = dataclasses.replace(manifest(), catalog=store_catalog(path, tmp_path))
    with Catalog.open_read(load_catalog(tmp_path, told, scratch(tmp_path))) as loaded:
        assert loaded.frame(7) is not None
        assert loaded.frame(8) is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("hurt", [flip, cut, Path.unlink], ids=["flipped", "cut", "gone"])
@pytest.mark.parametrize("name", [CATALOG, CATALOG_COPY])
def test_one_copy_is_enough(
    stored: tuple[Path, Manifest], hurt: object, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(hurt)
    folder, told = stored
    hurt(folder / name)
    with caplog.at_level(logging.WARNING):
        loaded = load_catalog(folder, told, scratch(folder))
    assert loaded.read_bytes() == (folder / "catalog.sqlite").read_bytes()
    assert ("using the copy" in caplog.text) == (name == CATALOG)
    assert [fault.path.name for fault in catalog_faults(folder, told)] == [name]


def spoil(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("first", "second"), [((9,), (20_000,)), ((9, 15_000), (7000, 20_000))], ids=["two", "four"]
)
def test_two_damaged_copies_make_one_whole(
    stored: tuple[Path, Manifest], first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    folder, told = stored
    spoil(folder / CATALOG, *first)
    spoil(folder / CATALOG_COPY, *second)
    place = scratch(folder)
    loaded = load_catalog(folder, told, place)
    assert loaded.read_bytes() == (folder / "catalog.sqlite").read_bytes()
    assert list(place.iterdir()) == [loaded]


def test_a_damaged_and_a_cut_copy_make_one_whole(stored: tuple[Path, Manifest]) -> None:
    folder, told = stored
    spoil(folder / CATALOG, 9)
    cut(folder / CATALOG_COPY)
    loaded = load_catalog(folder, told, scratch(folder))
    assert loaded.read_bytes() == (folder / "catalog.sqlite").read_bytes()


@pytest.mark.parametrize("places", [(9,), (9, 8192, 16_384)], ids=["one", "three"])
def test_copies_damaged_in_one_place_are_a_set_lost(
    stored: tuple[Path, Manifest], places: tuple[int, ...]
) -> None:
    folder, told = stored
    spoil(folder / CATALOG, *places)
    spoil(folder / CATALOG_COPY, *(place + 1 for place in places))
    with pytest.raises(SetDamaged, match="and its copy are damaged"):
        load_catalog(folder, told, scratch(folder))


def planted(folder: Path, data: bytes, raw_size: int) -> Manifest:
    """Put bytes in place of the catalog, with a manifest that vouches for them."""
    for name in (CATALOG, CATALOG_COPY):
        (folder / name).write_bytes(data)
    told = CatalogFile(len(data), hashlib.sha256(data).hexdigest(), raw_size)
    return dataclasses.replace(manifest(), catalog=told)


def bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size))


def test_a_bomb_that_says_so_is_refused(tmp_path: Path) -> None:
    told = planted(tmp_path, bomb(200 << 20), 200 << 20)
    with pytest.raises(SetDamaged, match="no catalog is like that"):
        load_catalog(tmp_path, told, scratch(tmp_path))


def test_a_bomb_that_lies_is_stopped(tmp_path: Path) -> None:
    told = planted(tmp_path, bomb(200 << 20), 10_000)
    place = scratch(tmp_path)
    with pytest.raises(SetDamaged, match="another number of bytes"):
        load_catalog(tmp_path, told, place)
    assert sum(path.stat().st_size for path in place.iterdir()) <= 10_000


def test_a_frame_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(words(1000)) + packer.flush()
    with pytest.raises(SetDamaged, match="memory"):
        load_catalog(tmp_path, planted(tmp_path, data, 1000), scratch(tmp_path))


@pytest.mark.parametrize(
    "data", [b"", b"plain words", bomb(100)[:-1]], ids=["empty", "foreign", "cut"]
)
def test_what_is_no_zstd_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SetDamaged):
        load_catalog(tmp_path, planted(tmp_path, data, 100), scratch(tmp_path))


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["fifo", "folder"])
def test_what_is_no_file_is_refused_at_once(
    stored: tuple[Path, Manifest], make: Callable[[Path], None]
) -> None:
    folder, told = stored
    for name in (CATALOG, CATALOG_COPY):
        (folder / name).unlink()
        make(folder / name)
    with pytest.raises(SetDamaged, match="no regular file"):
        load_catalog(folder, told, scratch(folder))


def test_no_room_is_told_from_damage(stored: tuple[Path, Manifest]) -> None:
    folder, told = stored
    with pytest.raises(CannotWrite, match="cannot be unpacked"):
        load_catalog(folder, told, folder / "missing")


def test_a_catalog_larger_than_the_disk_is_not_begun(stored: tuple[Path, Manifest]) -> None:
    folder, told = stored
    huge = dataclasses.replace(told.catalog, size=1 << 38, raw_size=1 << 39)
    with pytest.raises(CannotWrite, match="has no room"):
        load_catalog(folder, dataclasses.replace(told, catalog=huge), scratch(folder))


def test_a_medium_that_is_not_there_is_said(tmp_path: Path) -> None:
    database = SetBuilder(tmp_path).catalog(tmp_path / "catalog.sqlite", "id")
    with pytest.raises(CannotWrite, match="the catalog cannot be written"):
        store_catalog(database, tmp_path / "missing")
