"""Mounts and subvolumes for restored files: what is planned, and what the kernel makes of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import LayoutInvalid
from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutchecks import node_id
from archive.machine.layoutfiles import BtrfsSettings, Filesystem, Mount, Subvolume, Swap
from archive.machine.probefiles import parse_default, parse_subvolumes
from archive.run import run
from restore.plan.filesystems import format_action, seal_action, subvolume_action
from restore.plan.mounts import chosen, mount_actions, mount_refusals, place_of, unmount_actions
from restore.plan.swaps import swap_action
from tests.support.formats import attached, devices, images, perform
from tests.support.layouts import simple
from tests.test_probe import MACHINES, layout


def mounts(held: Layout) -> list[tuple[str, ...]]:
    """Return the last command of each mount."""
    return [one.commands[-1].argv for one in mount_actions(held, devices(held), root="/r")]


def with_mounts(held: Layout, *mounts: Mount) -> Layout:
    """Return a layout with other mounts."""
    return Layout.of([*(one for one in held.nodes if not isinstance(one, Mount)), *mounts])


def mount(source: str, point: str, *options: str, root: str = "/", bind: bool = False) -> Mount:
    return Mount(
        id=node_id("mount", point),
        source=source,
        point=point,
        options=options,
        root=root,
        bind=bind,
    )


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_that_was_recorded_is_refused(name: str) -> None:
    assert mount_refusals(layout(name)) == ()


def test_parents_come_first_and_binds_not_at_all() -> None:
    assert mounts(layout("mbr")) == [
        ("mount", "-t", "ext4", "-o", "rw", "/dev/vda2", "/r/mnt"),
        ("mount", "-t", "ext2", "-o", "rw", "/dev/vda1", "/r/mnt/boot"),
        ("mount", "-t", "vfat", "-o", "rw,utf8", "/dev/vda6", "/r/mnt/with space"),
    ]


def test_subvolumes_are_mounted_by_their_paths_and_compressed() -> None:
    found = [argv[4] for argv in mounts(layout("luks-lvm")) if argv[2] == "btrfs"]
    assert found == ["rw,subvolid=5,compress=zstd:3", "rw,subvol=/@www,compress=zstd:3"]


def test_the_kernel_is_told_of_all_devices_of_btrfs() -> None:
    held = layout("families")
    pair = next(one for one in mount_actions(held, devices(held)) if one.node == "mount:/mnt/pair")
    assert pair.commands[0].argv == ("btrfs", "device", "scan", "/dev/vda8", "/dev/vda9")


def test_what_is_unknown_is_not_mounted() -> None:
    assert all("minix" not in argv[-1] for argv in mounts(layout("families")))


def test_the_root_is_mounted_at_the_root_itself() -> None:
    held = Layout.of(simple())
    assert mounts(held) == [("mount", "-t", "ext4", "-o", "rw", "/dev/sda1", "/r")]


def test_options_that_forbid_or_need_more_are_left_out() -> None:
    words = ("ro", "noexec", "nodev", "usrquota", "prjquota", "data=journal", "commit=1", "discard")
    held = with_mounts(layout("mbr"), mount("fs:vda2", "/", *words))
    assert mounts(held) == [("mount", "-t", "ext4", "-o", "rw", "/dev/vda2", "/r")]


def test_options_that_decide_how_data_is_stored_are_kept() -> None:
    words = ("ro", "nodatacow", "nodatasum", "compress-force=lzo", "autodefrag", "subvolid=256")
    held = with_mounts(layout("luks-lvm"), mount("fs:vg0/srv", "/", *words))
    assert mounts(held)[0][4] == "rw,subvolid=5,nodatacow,nodatasum,compress-force=lzo"


def test_an_option_is_no_more_than_one() -> None:
    held = with_mounts(layout("luks-lvm"), mount("fs:vg0/srv", "/", "compress=zstd,exec"))
    assert mounts(held)[0][4] == "rw,subvolid=5"


def test_names_in_a_code_page_are_written_in_it() -> None:
    held = with_mounts(layout("mbr"), mount("fs:vda6", "/", "iocharset=iso8859-1"))
    assert mounts(held)[0][4] == "rw,iocharset=iso8859-1"


def test_of_several_mounts_that_without_bind_is_taken() -> None:
    first = mount("fs:vda2", "/a", bind=True)
    held = with_mounts(layout("mbr"), first, mount("fs:vda2", "/b"), mount("fs:vda1", "/b/c"))
    assert [one.mount.point for one in chosen(held)] == ["/b", "/b/c"]


def test_unmounting_is_the_reverse() -> None:
    held = layout("mbr")
    found = [one.commands[0].argv for one in unmount_actions(held, root="/r")]
    assert found == [("umount", argv[-1]) for argv in reversed(mounts(held))]


def test_what_cannot_be_mounted_is_not() -> None:
    held = with_mounts(layout("mbr"), mount("fs:vda2", "/srv", root="/home", bind=True))
    with pytest.raises(LayoutInvalid, match="only the directory"):
        mount_actions(held, devices(held))


def test_words_have_no_control_characters() -> None:
    held = with_mounts(layout("mbr"), mount("fs:vda2", "/\x1b[2J\n"))
    actions = (*mount_actions(held, devices(held)), *unmount_actions(held))
    assert all(one.words.isprintable() for one in actions)


def test_a_filesystem_of_which_a_part_was_mounted_is_refused() -> None:
    held = with_mounts(layout("mbr"), mount("fs:vda2", "/srv", root="/home", bind=True))
    (refused,) = mount_refusals(held)
    assert "only the directory /home" in refused.words


def test_a_subvolume_that_no_option_names_is_refused() -> None:
    held = layout("luks-lvm")
    subvolume = Subvolume(id="subvolume:odd", filesystem="fs:vg0/srv", path="a,exec")
    odd = with_mounts(Layout.of([*held.nodes, subvolume]), mount(subvolume.id, "/"))
    (refused,) = mount_refusals(odd)
    assert refused.node == subvolume.id


@given(st.text(max_size=30).map(lambda text: "/" + text))
def test_no_point_leads_out_of_the_root(point: str) -> None:
    try:
        place = place_of(point, "/r/oot")
    except LayoutInvalid:
        return
    assert PurePosixPath("/r/oot") in (PurePosixPath(place), *PurePosixPath(place).parents)
    assert ".." not in place.split("/")


@pytest.mark.parametrize("point", ["/../etc", "/a/../../b", "relative", "//etc", "/a/", "/a\0b"])
def test_a_point_that_leads_elsewhere_cannot_be(point: str) -> None:
    with pytest.raises(LayoutInvalid):
        place_of(point, "/r")


def test_parents_of_subvolumes_are_made_first() -> None:
    held = layout("luks-lvm")
    deep = Subvolume(id="subvolume:x", filesystem="fs:vg0/srv", path="@www/a b/c/-deep")
    held = Layout.of([*held.nodes, deep])
    action = subvolume_action(held, held.get("fs:vg0/srv", Filesystem), devices(held), at="/at")
    assert action is not None
    made = [one.argv[-1] for one in action.commands if one.argv[0] in ("mkdir", "btrfs")]
    assert made == [
        *("/at", "/at/@snap", "/at/@www", "/at/@www/a b/c", "/at/@www/a b/c/-deep"),
        *("/at/@www", "/at/@www/deep", "/at/with space", "/at/@www"),
    ]


def test_without_subvolumes_there_is_nothing_to_do() -> None:
    held = layout("families")
    pair = held.get("fs:vda8", Filesystem)
    assert subvolume_action(held, pair, devices(held), at="/at") is None
    assert seal_action(held, pair, devices(held), at="/at") is None


@pytest.fixture
def unmounted(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder of which all mounts are undone in the end."""
    yield tmp_path
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([one for one in points if one.startswith(f"{tmp_path}/")]):
        subprocess.run(["umount", point], check=False)


def can_mount(family: str) -> bool:
    return os.geteuid() == 0 and f"\t{family}\n" in Path("/proc/filesystems").read_text()


def ask(*argv: str) -> str:
    ended = run(argv, timeout_s=60)
    assert ended.status == 0, ended.output
    return ended.output


@pytest.mark.skipif(not can_mount("btrfs"), reason="this kernel mounts no btrfs, or for root only")
def test_subvolumes_become_what_they_were(unmounted: Path) -> None:
    held = layout("luks-lvm")
    node = held.get("fs:vg0/srv", Filesystem)
    at, top = str(unmounted / "at"), str(unmounted / "top")
    with attached(images(held, node, unmounted)) as loops:
        perform(format_action(held, node, devices(held)), loops)
        for make in (subvolume_action, seal_action):
            action = make(held, node, devices(held), at=at)
            assert action is not None
            perform(action, loops)
        Path(top).mkdir()
        ask("mount", "-t", "btrfs", "-o", "subvolid=5,ro", *loops.values(), top)
        listed = parse_subvolumes(ask("btrfs", "subvolume", "list", "-a", "-q", top), seen_at="")
        frozen = ask("btrfs", "subvolume", "list", "-a", "-q", "-r", top)
        default = parse_default(ask("btrfs", "subvolume", "get-default", top))
        ask("umount", top)
    sealed = {one.path for one in parse_subvolumes(frozen, seen_at="")}
    assert {(one.path, one.path in sealed) for one in listed} == {
        (one.path, one.read_only) for one in held.all(Subvolume)
    }
    assert isinstance(node.settings, BtrfsSettings)
    assert [one.path for one in listed if one.number == default] == [
        node.settings.default_subvolume
    ]


@pytest.mark.skipif(not can_mount("btrfs"), reason="this kernel mounts no btrfs, or for root only")
def test_files_come_to_lie_where_they_were(unmounted: Path) -> None:
    held = layout("luks-lvm")
    wanted = ("fs:vg0/srv", "fs:vg0/data")
    points = {"fs:vg0/data": "/", "fs:vg0/srv": "/srv", "subvolume:vg0/srv/@www": "/srv/w\n 'x"}
    held = with_mounts(held, *(mount(source, point) for source, point in points.items()))
    root = unmounted / "root"
    for name in wanted:
        (unmounted / name.rpartition("/")[2]).mkdir()
    files = {
        path: image
        for name in wanted
        for path, image in images(
            held, held.get(name, Filesystem), unmounted / name.rpartition("/")[2]
        ).items()
    }
    with attached(files) as loops:
        for name in wanted:
            perform(format_action(held, held.get(name, Filesystem), devices(held)), loops)
        made = subvolume_action(
            held, held.get("fs:vg0/srv", Filesystem), devices(held), at=str(unmounted / "at")
        )
        assert made is not None
        perform(made, loops)
        for action in mount_actions(held, devices(held), root=str(root)):
            perform(action, loops)
        (root / "srv/w\n 'x/file").write_text("x")
        assert (root / "srv/@www/file").read_text() == "x"
        assert len({place.stat().st_dev for place in (unmounted, root, root / "srv")}) == 3
        for action in unmount_actions(held, root=str(root)):
            perform(action, loops)
    assert list(root.iterdir()) == []


@pytest.mark.skipif(not can_mount("btrfs"), reason="this kernel mounts no btrfs, or for root only")
def test_a_swap_file_on_btrfs_has_neither_copies_nor_holes(unmounted: Path) -> None:
    held = with_mounts(layout("luks-lvm"), mount("fs:vg0/srv", "/", "compress-force=zstd"))
    swap = Swap(id="swap:file", on="fs:vg0/srv", path="/swap/file", size_bytes=2 << 20)
    held = Layout.of([*held.nodes, swap])
    node, root = held.get(swap.on, Filesystem), str(unmounted / "root")
    with attached(images(held, node, unmounted)) as loops:
        perform(format_action(held, node, devices(held)), loops)
        for action in mount_actions(held, devices(held), root=root):
            perform(action, loops)
        perform(swap_action(held, swap, devices(held), root=root), loops)
        file = unmounted / "root/swap/file"
        assert "C" in ask("lsattr", str(file)).split()[0]
        assert file.stat().st_size == swap.size_bytes == file.stat().st_blocks * 512
        for action in unmount_actions(held, root=root):
            perform(action, loops)


def test_nodes_of_a_small_layout_are_mounted_as_they_were_written() -> None:
    nodes: list[AnyNode] = simple()
    assert [one.mount for one in chosen(Layout.of(nodes))] == [nodes[0]]
