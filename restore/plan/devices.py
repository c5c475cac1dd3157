"""What the devices of a saved layout will be called on the machine that it is restored to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import LogicalVolume, VolumeGroup
from archive.machine.layoutnodes import Disk, Luks, MdArray, Node, Partition, PartitionTable


@dataclass(frozen=True, slots=True)
class Devices:
    """Device paths of the target. ``disks``: for the id of each saved disk the target's path."""

    layout: Layout
    disks: Mapping[str, str]

    def path(self, name: str) -> str:
        """Return the path of the device that the node of that id will be.

        Raises LayoutInvalid for what is no device, and for a disk that has no counterpart.
        """
        node = self.layout.get(name, Node)
        match node:
            case Disk():
                if node.id not in self.disks:
                    raise LayoutInvalid(f"{node.id} has no counterpart here")
                return self.disks[node.id]
            case Partition(table=table, number=number):
                return self._partition(self.layout.get(table, PartitionTable).on, number)
            case MdArray(kernel_name=kernel_name):
                return f"/dev/{kernel_name}"
            case Luks(mapper=str(mapper)):
                return f"/dev/mapper/{mapper}"
            case LogicalVolume(group=group, name=volume):
                return f"/dev/{self.layout.get(group, VolumeGroup).name}/{volume}"
            case _:
                raise LayoutInvalid(f"{name[:80]} is no device")

    def _partition(self, on: str, number: int) -> str:
        above = self.path(on)
        if above.startswith("/dev/mapper/") or isinstance(self.layout.get(on, Node), LogicalVolume):
            raise LayoutInvalid(f"{on[:80]} has partitions, for which the kernel makes no devices")
        return partition_name(above, number)


def partition_name(disk: str, number: int) -> str:
    """Return what a partition is called after its disk: the kernel has a letter between numbers."""
    return f"{disk}{'p' if disk[-1].isdigit() else ''}{number}"
