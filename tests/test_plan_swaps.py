"""Swap areas made by their plans, against what was saved."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutfiles import Mount, Swap
from restore.plan.actions import Phase
from restore.plan.swaps import swap_action, swap_refusals
from tests.support.formats import devices, images, perform, seen
from tests.test_probe import MACHINES, layout

AREAS = [
    (machine, one.id)
    for machine in MACHINES
    for one in layout(machine).all(Swap)
    if one.path is None
]
FILE = "swap:/mnt/swapfile"


def made(held: Layout, swap: Swap, folder: Path) -> Swap:
    """Make a swap area on a file and return what a probe sees; it cannot tell the priority."""
    files = images(held, swap, folder)
    perform(swap_action(held, swap, devices(held)), files)
    found = seen(swap, list(files.values()))
    assert isinstance(found, Swap)
    return replace(found, priority=swap.priority)


@pytest.mark.parametrize(("machine", "name"), AREAS, ids=[" ".join(one) for one in AREAS])
def test_an_area_becomes_what_it_was(machine: str, name: str, tmp_path: Path) -> None:
    held = layout(machine)
    swap = held.get(name, Swap)
    assert made(held, swap, tmp_path) == swap


@pytest.mark.parametrize(
    "changes",
    [
        {"page_bytes": 65536},
        {"label": "-f \u00e4 '\"$("},
        {"uuid": "41c0bdec-8cb2-4a25-a21a-0dbdfb3f908a"},
        {"uuid": None},
        {"size_bytes": 16 << 20},
    ],
    ids=["pages", "label", "UUID", "no UUID", "size"],
)
def test_a_setting_is_kept_and_seen(changes: dict[str, object], tmp_path: Path) -> None:
    held = layout("mbr")
    swap = held.get("swap:vda5", Swap)
    changed = replace(swap, **changes)  # type: ignore[arg-type]
    assert made(held, changed, tmp_path) == changed != swap


def test_a_file_becomes_what_it_was(tmp_path: Path) -> None:
    held = layout("mbr")
    swap = held.get(FILE, Swap)
    perform(swap_action(held, swap, devices(held), root=str(tmp_path)), {})
    place = tmp_path / "mnt/swapfile"
    found = seen(swap, [str(place)])
    assert isinstance(found, Swap)
    assert replace(found, path=swap.path, on=swap.on) == swap


def test_a_file_is_for_nobody_else_and_has_no_holes(tmp_path: Path) -> None:
    held = layout("mbr")
    swap = held.get(FILE, Swap)
    perform(swap_action(held, swap, devices(held), root=str(tmp_path)), {})
    status = (tmp_path / "mnt/swapfile").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == swap.size_bytes <= status.st_blocks * 512


def test_a_file_that_is_there_becomes_swap_too(tmp_path: Path) -> None:
    held = layout("mbr")
    swap = held.get(FILE, Swap)
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt/swapfile").write_bytes(b"x" * (9 << 20))
    perform(swap_action(held, swap, devices(held), root=str(tmp_path)), {})
    assert (tmp_path / "mnt/swapfile").stat().st_size == swap.size_bytes


def test_a_file_comes_with_the_mounts() -> None:
    held = layout("mbr")
    action = swap_action(held, held.get(FILE, Swap), devices(held))
    assert (action.phase, action.destroys) == (Phase.MOUNT, ())
    assert action.words == "make swap of 8 MiB in /mnt/mindi/mnt/swapfile"


def on_btrfs(path: str, *points: tuple[str, str]) -> tuple[Layout, Swap]:
    """Return a layout with a swap file on btrfs: its path from the top, and what is mounted."""
    held = layout("luks-lvm")
    swap = Swap(id="swap:file", on="fs:vg0/srv", path=path, size_bytes=1 << 20)
    nodes = [one for one in held.nodes if not isinstance(one, Mount)]
    mounts = [Mount(id=f"mount:{point}", source=source, point=point) for source, point in points]
    return Layout.of([*nodes, *mounts, swap]), swap


@pytest.mark.parametrize(
    ("path", "mounts", "place"),
    [
        ("/file", [("fs:vg0/srv", "/srv")], "/r/srv/file"),
        ("/@www/file", [("fs:vg0/srv", "/srv")], "/r/srv/@www/file"),
        ("/@www/file", [("subvolume:vg0/srv/@www", "/")], "/r/file"),
        ("/@www/deep/a/file", [("subvolume:vg0/srv/@www", "/w")], "/r/w/deep/a/file"),
        (
            "/@www/a/file",
            [("subvolume:vg0/srv/@www", "/w"), ("fs:vg0/root", "/w/a"), ("fs:vg0/srv", "/s")],
            "/r/s/@www/a/file",
        ),
    ],
    ids=["top", "subvolume in top", "subvolume", "nested subvolume", "another mount over it"],
)
def test_a_file_is_found_where_its_subvolume_is(
    path: str, mounts: list[tuple[str, str]], place: str
) -> None:
    held, swap = on_btrfs(path, *mounts)
    action = swap_action(held, swap, devices(held), root="/r")
    assert action.commands[-1].argv[-1] == place


def test_on_btrfs_copy_on_write_is_off_before_it_is_written() -> None:
    held, swap = on_btrfs("/file", ("fs:vg0/srv", "/srv"))
    programs = [one.argv[0] for one in swap_action(held, swap, devices(held)).commands]
    assert programs == ["mkdir", "truncate", "chmod", "chattr", "dd", "mkswap"]


def test_elsewhere_copy_on_write_is_not_spoken_of() -> None:
    held = layout("mbr")
    action = swap_action(held, held.get(FILE, Swap), devices(held))
    assert "chattr" not in [one.argv[0] for one in action.commands]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("swap:vda5", {"page_bytes": 512}, "pages of 512"),
        ("swap:vda5", {"size_bytes": 4096}, "too small"),
        ("swap:vda5", {"size_bytes": -1}, "too small"),
        ("swap:vda5", {"size_bytes": 1 << 40}, "larger than its device"),
        ("swap:vda5", {"label": "\u00e4" * 8}, "label"),
    ],
    ids=["pages", "small", "negative", "large", "label"],
)
def test_what_cannot_be_made_is_refused(name: str, changes: dict[str, object], words: str) -> None:
    held = layout("mbr")
    swap = replace(held.get(name, Swap), **changes)  # type: ignore[arg-type]
    (refused,) = swap_refusals(held, swap)
    assert words in refused.words
    with pytest.raises(LayoutInvalid):
        swap_action(held, swap, devices(held))


def test_a_file_that_no_mount_shows_is_refused() -> None:
    held, swap = on_btrfs("/file", ("subvolume:vg0/srv/@www", "/"))
    (refused,) = swap_refusals(held, swap)
    assert "where nothing was mounted" in refused.words


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_that_was_recorded_is_refused(name: str) -> None:
    held = layout(name)
    assert [one for swap in held.all(Swap) for one in swap_refusals(held, swap)] == []
