"""The whole plan: of recorded machines, to blank disks of their sizes and to disks in use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from archive.machine.layout import Layout
from archive.machine.layoutfiles import Filesystem
from archive.machine.layoutlvm import LogicalVolume, LvKind
from archive.machine.layoutnodes import Disk, Luks, MdArray, Partition, PartitionTable
from restore.plan.actions import Phase
from restore.plan.build import Plan, make_plan
from restore.plan.mapping import in_use
from restore.plan.view import plan_text
from tests.test_probe import layout

GOLDEN = Path(__file__).parent / "golden"
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
