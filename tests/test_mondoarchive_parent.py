"""The parent of a differential: found, and refused where it could not be restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from archive.catalog import Catalog
from archive.errors import ParentMissing, SetDamaged
from mindi.backup.parent import choose_parent, open_parent
from tests.support.mondoarchive import PREFIX, backup_json


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a prefix's folder with two full sets, and a differential on the older one."""
    folder = tmp_path_factory.mktemp("parent")
    (folder / "file").write_bytes(b"content")
    (folder / "medium").mkdir()
    first = backup_json(folder / "medium", "-I", folder / "file")["set"]
    backup_json(folder / "medium", "-I", folder / "file")
    (folder / "file").write_bytes(b"changed")
    backup_json(folder / "medium", "-I", folder / "file", "-D", "--parent", first)
    return folder / "medium" / PREFIX


@pytest.fixture
def folder(chains: Path, tmp_path: Path) -> Path:
    """Give a copy that may be damaged."""
    return Path(shutil.copytree(chains, tmp_path / "copy"))


def named(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def opened(folder: Path, scratch: Path, wanted: str | None = None) -> str:
    """Choose and open a parent; return its id as its unpacked catalog has it."""
    with ExitStack() as stack:
        path = choose_parent(folder, wanted, None)
        parent = open_parent(path, scratch=scratch, stack=stack)
        with Catalog.open_read(parent.catalog) as catalog:
            assert catalog.members(limit=9)[0] == parent.set_id
        return path.name


def test_it_is_the_newest_full_set(folder: Path, tmp_path: Path) -> None:
    assert opened(folder, tmp_path) == named(folder)[1].name


def test_it_is_the_one_that_is_named(folder: Path, tmp_path: Path) -> None:
    last = named(folder)[2]
    assert opened(folder, tmp_path, last.name) == last.name


def test_nothing_of_it_stays_unpacked(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    opened(folder, scratch, named(folder)[2].name)
    assert list(scratch.iterdir()) == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("member", [0, 2], ids=["parent's-parent", "parent"])
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("slices/0000001.afio.zst", remove),
        ("slices/0000001.afio.zst", cut),
        ("catalog.sqlite.zst", flip),
        ("catalog.sqlite.zst", remove),
        ("catalog-copy.sqlite.zst", flip),
        ("catalog-copy.sqlite.zst", remove),
        ("manifest.json", flip),
        ("manifest.json", remove),
        ("manifest-copy.json", flip),
        ("manifest-copy.json", remove),
    ],
    ids=[
        *("no-slice", "short-slice", "bad-catalog", "no-catalog", "bad-copy", "no-copy"),
        *("bad-manifest", "no-manifest", "bad-manifest-copy", "no-manifest-copy"),
    ],
)
def test_a_damaged_one_is_refused(
    member: int, file: str, damage: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    last = named(folder)[2]
    damage(named(folder)[member] / file)
    with pytest.raises(SetDamaged) as caught:
        opened(folder, tmp_path, last.name)
    assert caught.value.hint is not None
    assert "without -D" in caught.value.hint


def test_an_older_one_does_not_take_the_place_of_the_newest(folder: Path, tmp_path: Path) -> None:
    newest = named(folder)[1]
    remove(newest / "manifest.json")
    remove(newest / "manifest-copy.json")
    with pytest.raises(SetDamaged, match=newest.name):
        opened(folder, tmp_path)


def test_a_missing_one_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ParentMissing, match="20200101T000000Z-full"):
        opened(folder, tmp_path, "20200101T000000Z-full")


def test_a_missing_parent_of_it_is_named(folder: Path, tmp_path: Path) -> None:
    first, _, last = named(folder)
    first.rename(tmp_path / first.name)
    with pytest.raises(ParentMissing, match="is a differential"):
        opened(folder, tmp_path, last.name)
