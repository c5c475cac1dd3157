"""What a machine holds now, and what it will: the saved layout as it will be on other disks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from archive.machine.layout import Layout, partitions_of
from archive.machine.layoutnodes import Disk, PartitionTable
from archive.machine.layoutview import trees
from restore.plan.devices import partition_name


def moved(layout: Layout, disks: Mapping[str, Disk]) -> Layout:
    """Return a layout on other disks: to be looked at, not to plan by.

    ``disks``: for the id of each disk that is used the one that takes its place; partitions
    are called after it. What lies on other disks is left out.
    """
    ids: dict[str, str] = {}
    for disk in layout.all(Disk):
        if disk.id in disks:
            ids |= _ids(layout, disk, disks[disk.id].kernel_name)
    moving = (
        node for node in layout.nodes if all(one.id in disks for one in layout.disks_of(node))
    )
    return Layout.of(
        dataclasses.replace(disks[node.id], id=ids[node.id])
        if isinstance(node, Disk)
        else _renamed(node, ids)
        for node in moving
    )


def pictures(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Return the lines of each tree of a layout by the id of what it begins with."""
    return {root.id: lines for root, lines in trees(layout)}


def _ids(layout: Layout, disk: Disk, name: str) -> dict[str, str]:
    """Return the new ids of a disk, its table and its partitions by their old ones."""
    found = {disk.id: f"disk:{name}"}
    for table in layout.above(disk):
        if isinstance(table, PartitionTable):
            found[table.id] = f"table:{name}"
            for partition in partitions_of(layout, table):
                found[partition.id] = f"part:{partition_name(name, partition.number)}"
    return found


def _renamed(value: Any, ids: Mapping[str, str]) -> Any:
    """Return a node, or what a field of one holds, with other ids."""
    if isinstance(value, str):
        return ids.get(value, value)
    if isinstance(value, tuple):
        return tuple(_renamed(one, ids) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return dataclasses.replace(
            value, **{name: _renamed(held, ids) for name, held in fields.items()}
        )
    return value
