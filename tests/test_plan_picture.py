"""The saved layout on other disks, as a plan shows it."""

from __future__ import annotations

import dataclasses

import pytest

from archive.machine.layout import Layout
from archive.machine.layoutnodes import Disk
from archive.machine.layoutview import tree
from restore.plan.picture import moved, pictures
from tests.test_probe import MACHINES, layout


def called(held: Layout, names: dict[str, str]) -> dict[str, Disk]:
    """Return disks like those of a layout, under other names."""
    return {
        disk.id: dataclasses.replace(
            disk, kernel_name=names[disk.kernel_name], id=f"disk:{names[disk.kernel_name]}"
        )
        for disk in held.all(Disk)
    }


def others(held: Layout) -> dict[str, str]:
    """Return a name for each disk: they take each other's, the last an NVMe disk's."""
    names = [disk.kernel_name for disk in held.all(Disk)]
    return dict(zip(names, [*names[1:], "nvme7n1"], strict=True))


@pytest.mark.parametrize("name", MACHINES)
def test_there_and_back(name: str) -> None:
    held = layout(name)
    names = others(held)
    there = moved(held, called(held, names))
    assert there.nodes != held.nodes
    back = {new: old for old, new in names.items()}
    again = moved(there, called(there, back))
    assert tree(again) == tree(Layout.of(held.nodes))
    assert set(again.nodes) == set(held.nodes)


def test_partitions_are_called_after_their_disk() -> None:
    held = layout("raid")
    there = moved(held, called(held, {"vda": "nvme0n1", "vdb": "sda"}))
    text = "\n".join(line for lines in pictures(there).values() for line in lines)
    assert "/dev/md126  raid1 316 MiB, metadata 1.2, of /dev/nvme0n1p3, /dev/sda3" in text
    assert "vda" not in text
    assert "vdb" not in text


def test_what_lies_on_a_disk_that_stays_is_left_out() -> None:
    held = layout("mbr")
    assert moved(held, {}).nodes == ()
