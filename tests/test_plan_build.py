"""The whole plan: of recorded machines, to blank disks of their sizes and to disks in use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from archive.machine.layout import AnyNode, Layout, Unsupported
from archive.machine.layoutfiles import Filesystem, Swap
from archive.machine.layoutlvm import LogicalVolume, LvKind
from archive.machine.layoutnodes import Disk, Luks, MdArray, Partition, PartitionTable
from restore.plan.actions import Phase
from restore.plan.build import Plan, make_plan
from restore.plan.mapping import in_use
from restore.plan.view import plan_text
from tests.support import layouts
from tests.test_probe import layout

GOLDEN = Path(__file__).parent / "golden"
OTHER = "0B9F6E2A-6A0C-4D0C-9C5B-3E4F5A6B7C8D"
WHOLE = ["mbr", "raid", "luks-lvm", "families"]
"""Machines of which everything can be made anew, their snapshots aside."""


def blank(saved: Layout) -> Layout:
    """Return the same disks with nothing on them, called otherwise."""
    return Layout.of(
        dataclasses.replace(disk, kernel_name=f"sd{letter}", id=f"disk:sd{letter}")
        for letter, disk in zip("bcdefghijklmnop", saved.all(Disk), strict=False)
    )


def planned(name: str) -> Plan:
    saved = layout(name)
    return make_plan(saved, blank(saved))


@pytest.mark.parametrize("name", ["mbr", "raid", "luks-lvm"])
def test_the_plan_is_as_agreed(name: str) -> None:
    assert plan_text(planned(name)) + "\n" == (GOLDEN / f"plan-{name}.txt").read_text()


@pytest.mark.parametrize("name", WHOLE)
def test_everything_is_made_once(name: str) -> None:
    plan = planned(name)
    assert plan.refusals == ()
    made = [action.node for action in plan.actions if action.phase is not Phase.CLEAR]
    for kind in (PartitionTable, MdArray, Luks, Filesystem):
        for node in plan.saved.all(kind):
            assert node.id in made
    assert len({action.id for action in plan.actions}) == len(plan.actions)


@pytest.mark.parametrize("name", WHOLE)
def test_no_saved_name_of_a_disk_is_used(name: str) -> None:
    words = [
        word
        for action in planned(name).actions
        for command in action.commands
        for word in (*command.argv, command.given)
    ]
    assert not [word for word in words if "/dev/vd" in word]


@pytest.mark.parametrize("name", WHOLE)
def test_partitions_come_before_what_lies_on_them(name: str) -> None:
    plan = planned(name)
    order = {action.node: number for number, action in reversed(list(enumerate(plan.actions)))}
    for node in plan.saved.nodes:
        if isinstance(node, LogicalVolume):
            continue  # a pool's metadata is written before the group is made
        for below in plan.saved.below(node):
            if isinstance(below, Partition):
                below = plan.saved.get(below.table, PartitionTable)
            if node.id in order and below.id in order:
                assert order[below.id] <= order[node.id]


def test_snapshots_are_named_and_nothing_is_made_on_them() -> None:
    saved = layout("luks-lvm")
    snapshots = [one for one in saved.all(LogicalVolume) if one.kind is LvKind.SNAPSHOT]
    plan = planned("luks-lvm")
    assert snapshots
    for one in snapshots:
        assert any(note.startswith(one.id) for note in plan.notes)
        assert all(one.id != node.id for node in plan.saved.nodes)


def test_a_table_without_devices_is_refused() -> None:
    plan = planned("nested")
    assert plan.actions == ()
    assert [one.node for one in plan.refusals] == ["table:outer"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_machine_that_runs_is_not_overwritten(name: str) -> None:
    saved = layout(name)
    plan = make_plan(saved, saved, kept=in_use(saved))
    assert plan.actions == ()
    assert plan.refusals
    assert "cannot be restored here" in plan_text(plan)


def test_a_disk_that_is_too_small_is_refused() -> None:
    saved = layout("mbr")
    small = Layout.of(
        dataclasses.replace(disk, size_bytes=disk.size_bytes // 2)
        for disk in blank(saved).all(Disk)
    )
    plan = make_plan(saved, small)
    assert plan.actions == ()
    assert len(plan.refusals) == 1


def two_disks(*more: AnyNode) -> Layout:
    """Return a machine with / on its first disk, and a second one."""
    return Layout.of([*layouts.simple(), layouts.disk("sdb"), *more])


def on_second() -> list[AnyNode]:
    """Return a table with a filesystem for the second disk, not mounted."""
    table = dataclasses.replace(layouts.table("disk:sdb"), uuid=OTHER)
    part = layouts.partition(of=table)
    held = dataclasses.replace(layouts.ext4("part:sdb1"), uuid=OTHER.lower())
    return [table, part, held]


def test_a_swap_file_is_made_in_what_is_mounted() -> None:
    swap = Swap(id="swap:/swap.img", on="fs:sda1", path="/swap.img", size_bytes=512 << 10)
    saved = Layout.of([*layouts.simple(), swap])
    made = [action.node for action in make_plan(saved, blank(saved)).actions]
    assert made.index("mount:/") < made.index(swap.id)


def test_all_is_unmounted_before_what_wants_that() -> None:
    ids = [action.id for action in planned("luks-lvm").actions]
    assert ids.index("unmount:mount:/mnt/srv") < ids.index("seal:fs:vg0/srv")
    assert ids.index("mount:mount:/mnt/www") < ids.index("unmount:mount:/mnt/www")


def test_files_without_a_place_to_go_to_are_refused() -> None:
    saved = layouts.simple()
    told = [Unsupported("fs:sda1", "it cannot be made")]
    plan = make_plan(Layout.of(saved, told), blank(Layout.of(saved)))
    assert plan.actions == ()
    assert "mount:/" in [one.node for one in plan.refusals]


def test_a_disk_of_which_nothing_was_saved_is_left_alone() -> None:
    saved = two_disks(*on_second())
    plan = make_plan(saved, saved)
    assert plan.destroys == ("/dev/sda",)
    assert any(note.startswith("disk:sdb is left out") for note in plan.notes)
    mounted = two_disks(*on_second(), layouts.mount("fs:sdb1", "/data"))
    assert make_plan(mounted, mounted).destroys == ("/dev/sda", "/dev/sdb")


def test_a_disk_that_holds_the_set_is_left_alone() -> None:
    saved = two_disks(*on_second(), layouts.mount("fs:sdb1", "/backup"))
    plan = make_plan(saved, saved, kept={"disk:sdb": "it holds the set"}, staying=["disk:sdb"])
    assert plan.destroys == ("/dev/sda",)
    assert "disk:sdb holds the set: it stays as it is" in plan.notes


def test_a_copy_on_a_disk_that_stays_is_refused() -> None:
    saved = Layout.of(layouts.simple())
    twin = [*on_second()[:2], layouts.ext4("part:sdb1")]
    plan = make_plan(saved, two_disks(*twin))
    assert [one.node for one in plan.refusals] == ["fs:sda1"]
    assert "/dev/sdb has a copy" in plan.refusals[0].words


def test_what_was_in_a_partition_may_be_lost_and_its_table_is_made() -> None:
    saved = layout("mbr")
    told = [Unsupported("part:vda5", "the kernel does not show it")]
    plan = make_plan(Layout.of(saved.nodes, told), blank(saved))
    assert plan.refusals == ()
    assert any(note.startswith("what was in part:vda5") for note in plan.notes)
    assert "swap:vda5" not in [action.node for action in plan.actions]


def test_names_make_no_lines_of_their_own() -> None:
    nodes = [
        layouts.ext4(label="x\nSteps:\n") if isinstance(node, Filesystem) else node
        for node in layouts.simple()
    ]
    saved = Layout.of(nodes)
    assert plan_text(make_plan(saved, blank(saved))).split("\n").count("Steps:") == 1
