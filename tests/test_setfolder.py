"""Folders of sets: born under a dot, named when whole, removed whole, one writer at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archive.errors import CannotWrite
from archive.manifest import Kind
from archive.manifestfile import MANIFEST, MANIFEST_COPY, read_manifest
from archive.setfolder import (
    Held,
    SetName,
    chain,
    discard_partial,
    find_partial,
    finish,
    locked,
    new_partial,
    newest_full,
    remove_leftovers,
    remove_set,
    slice_path,
    surplus,
)
from tests.support.sets import NOW, manifest

FULL, DIFFERENTIAL = Kind.FULL, Kind.DIFFERENTIAL


def make(folder: Path, kind: Kind = FULL, *, later: int = 0) -> SetName:
    folder.mkdir(exist_ok=True)
    partial = new_partial(folder, kind, NOW + timedelta(seconds=later))
    finish(partial, manifest(name=str(partial.name)))
    return partial.name


def test_a_set_is_named_by_its_time(tmp_path: Path) -> None:
    assert str(make(tmp_path)) == "20261122T231449Z-full"


def test_local_time_becomes_utc(tmp_path: Path) -> None:
    here = datetime.fromisoformat("2026-11-23T01:14:49+02:00")
    assert new_partial(tmp_path, FULL, here).name.stamp == "20261122T231449Z"


def test_an_unfinished_set_is_none(tmp_path: Path) -> None:
    partial = new_partial(tmp_path, FULL, NOW)
    assert partial.path.name == ".partial-20261122T231449Z-full"
    assert chain(tmp_path) == ()
    assert find_partial(tmp_path) == partial


def test_a_folder_without_manifest_is_none(tmp_path: Path) -> None:
    (tmp_path / "20261122T231449Z-full").mkdir()
    assert chain(tmp_path) == ()


def test_a_finished_set_is_one(tmp_path: Path) -> None:
    partial = new_partial(tmp_path, FULL, NOW)
    told = manifest(name=str(partial.name))
    folder = finish(partial, told)
    assert (chain(tmp_path), find_partial(tmp_path)) == ((partial.name,), None)
    assert read_manifest(folder) == told


def test_nobody_else_can_look_in(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with locked(tmp_path / "name"):
            folder = finish(new_partial(tmp_path / "name", FULL, NOW), manifest())
    finally:
        os.umask(old)
    for path in (tmp_path / "name", folder, folder / "slices"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (tmp_path / "name" / ".lock", folder / MANIFEST, folder / MANIFEST_COPY):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("later", [0, -3600], ids=["same-second", "clock-set-back"])
def test_order_by_name_is_order_of_birth(tmp_path: Path, later: int) -> None:
    first = make(tmp_path)
    second = make(tmp_path, DIFFERENTIAL, later=later)
    assert chain(tmp_path) == (first, second)


def test_a_partial_left_behind_takes_its_second(tmp_path: Path) -> None:
    left = new_partial(tmp_path, FULL, NOW)
    again = new_partial(tmp_path, FULL, NOW)
    assert (again.path != left.path, find_partial(tmp_path)) == (True, again)


def test_the_newest_full_set_is_found(tmp_path: Path) -> None:
    make(tmp_path)
    second = make(tmp_path, later=10)
    make(tmp_path, DIFFERENTIAL, later=20)
    assert newest_full(tmp_path) == second


def test_a_set_never_replaces_another(tmp_path: Path) -> None:
    partial = new_partial(tmp_path, FULL, NOW)
    (tmp_path / str(partial.name)).mkdir()
    with pytest.raises(CannotWrite, match="File exists"):
        finish(partial, manifest())
    assert partial.path.is_dir()


def test_a_partial_is_discarded(tmp_path: Path) -> None:
    partial = new_partial(tmp_path, FULL, NOW)
    slice_path(partial.path, 1, ".afio").write_bytes(b"x")
    discard_partial(partial)
    assert list(tmp_path.iterdir()) == []


def test_a_set_is_removed(tmp_path: Path) -> None:
    name = make(tmp_path)
    remove_set(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_removal_go(tmp_path: Path) -> None:
    name = make(tmp_path)
    (tmp_path / str(name)).rename(tmp_path / f".removed-{name}")
    assert chain(tmp_path) == ()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_do_not_write_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from archive.setfolder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CannotWrite, match="another run"), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path):
        pass


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWrite, match="Not a directory"), locked(tmp_path / "file" / "name"):
        pass


def test_slices_are_numbered_with_seven_digits(tmp_path: Path) -> None:
    assert slice_path(tmp_path, 12, ".afio.zst") == tmp_path / "slices" / "0000012.afio.zst"


@pytest.mark.parametrize("text", ["lost+found", "20261122T231449Z", "20261122T231449Z-full.bak"])
def test_other_names_are_no_sets(text: str) -> None:
    assert SetName.parse(text) is None


def held(*links: tuple[str, str | None]) -> tuple[Held, ...]:
    """Return sets, a day apart, by their ids and those of their parents."""
    return tuple(
        Held(
            SetName(
                (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y%m%dT%H%M%SZ"),
                DIFFERENTIAL if parent else FULL,
            ),
            set_id,
            parent,
        )
        for day, (set_id, parent) in enumerate(links)
    )


PLANS = {
    "few": ([("a", None), ("b", "a")], 1, []),
    "old-chain-goes-children-first": (
        [("a", None), ("b", "a"), ("c", "b"), ("d", None), ("e", "d")],
        1,
        ["c", "b", "a"],
    ),
    "two-kept": ([("a", None), ("b", None), ("c", None)], 2, ["a"]),
    "late-child-of-an-old-one-goes-too": (
        [("a", None), ("b", None), ("c", "a"), ("d", "b")],
        1,
        ["c", "a"],
    ),
    "orphans-stay": ([("x", "gone"), ("a", None), ("b", None)], 1, ["a"]),
    "rings-stay": ([("x", "y"), ("y", "x"), ("a", None), ("b", None)], 1, ["a"]),
}


@pytest.mark.parametrize("name", PLANS)
def test_retention(name: str) -> None:
    links, keep, gone = PLANS[name]
    sets = held(*links)
    by_name = {one.name: one.set_id for one in sets}
    assert [by_name[one] for one in surplus(sets, keep)] == gone


def test_nothing_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        surplus((), 0)
