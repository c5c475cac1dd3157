"""What makes a graph of storage nodes one that can be: layout.py builds no other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from archive.errors import LayoutInvalid
from archive.machine.layoutfiles import Filesystem, Mount, Subvolume, Swap
from archive.machine.layoutlvm import LogicalVolume, LvKind, PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import (
    Disk,
    Luks,
    MdArray,
    Node,
    Opaque,
    Partition,
    PartitionKind,
    PartitionTable,
    TableKind,
)

N = TypeVar("N", bound=Node)
T = TypeVar("T", bound=Node)

_MOST_NODES = 100_000
_PLAIN = ("linear", "striped")
"""Types of segments that have their areas for themselves, side by side."""
_DEVICES = (Disk, Partition, MdArray, Luks, LogicalVolume, Opaque)
# What each kind of node may lie on.
_BELOW: dict[type[Node], tuple[type[Node], ...]] = {
    Disk: (),
    PartitionTable: _DEVICES,
    Partition: (PartitionTable,),
    MdArray: _DEVICES,
    PhysicalVolume: _DEVICES,
    VolumeGroup: (PhysicalVolume,),
    LogicalVolume: (VolumeGroup, LogicalVolume, PhysicalVolume),
    Luks: _DEVICES,
    Opaque: _DEVICES,
    Filesystem: _DEVICES,
    Subvolume: (Filesystem,),
    Swap: (*_DEVICES, Filesystem),
    Mount: (Filesystem, Subvolume, Opaque),
}


def check(nodes: Sequence[N]) -> dict[str, N]:
    """Return the nodes by id. Raises LayoutInvalid for a graph that cannot be."""
    if len(nodes) > _MOST_NODES:
        raise LayoutInvalid(f"a layout of {len(nodes)} nodes")
    known: dict[str, N] = {}
    claimed: dict[str, str] = {}
    for node in nodes:
        if node.id in known:
            raise LayoutInvalid(f"{node.id[:80]} is there twice")
        for name in node.below:
            # All that it lies on comes before it: a cycle cannot be written down.
            if not isinstance(known.get(name), _BELOW[type(node)]):
                raise LayoutInvalid(f"{node.id[:80]} cannot lie on {name[:80]}")
        _claim(node, known, claimed)
        known[node.id] = node
    _check_tables(known)
    _check_volumes(known)
    _check_once(mount.point for mount in _all(known, Mount))
    _check_once(f"{one.filesystem}/{one.path}" for one in _all(known, Subvolume))
    return known


def _all(known: dict[str, N], kind: type[T]) -> list[T]:
    return [node for node in known.values() if isinstance(node, kind)]


def _claim(node: Node, known: dict[str, N], claimed: dict[str, str]) -> None:
    for name in node.claims:
        device = known[name]
        if name in claimed:
            both = f"{claimed[name][:80]} and {node.id[:80]}"
            raise LayoutInvalid(f"{both} cannot both lie on {name[:80]}")
        if isinstance(device, Partition) and device.kind is PartitionKind.EXTENDED:
            raise LayoutInvalid(f"{node.id[:80]} cannot lie on {name[:80]}: it is extended")
        if isinstance(device, LogicalVolume) and device.kind is LvKind.HIDDEN:
            raise LayoutInvalid(f"{node.id[:80]} cannot lie on {name[:80]}: it is hidden")
        claimed[name] = node.id


def _check_once(values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise LayoutInvalid(f"{value[:80]} is there twice")
        seen.add(value)


def _check_tables(known: dict[str, N]) -> None:
    partitions: dict[str, list[Partition]] = {}
    for partition in _all(known, Partition):
        partitions.setdefault(partition.table, []).append(partition)
    for table in _all(known, PartitionTable):
        size_bytes = getattr(known[table.on], "size_bytes", None)
        check_table(table, partitions.get(table.id, []), size_bytes)


def check_table(
    table: PartitionTable, partitions: Sequence[Partition], size_bytes: int | None
) -> None:
    """Raise LayoutInvalid where these are not the partitions of a table on ``size_bytes``."""
    end = None if size_bytes is None else size_bytes // table.sector_bytes
    if table.last_sector is not None:
        end = table.last_sector + 1 if end is None else min(end, table.last_sector + 1)
    first = table.first_sector or 1
    _check_once(f"{table.id} {one.number}" for one in partitions)
    extended = [one for one in partitions if one.kind is PartitionKind.EXTENDED]
    if len(extended) > 1 or (partitions and table.kind is TableKind.GPT and extended):
        raise LayoutInvalid(f"{table.id[:80]} has extended partitions that no table has")
    for one in partitions:
        if one.start < first or (end is not None and one.end > end):
            raise LayoutInvalid(f"{one.id[:80]} lies outside of its table")
        if one.size_bytes != one.size * table.sector_bytes:
            raise LayoutInvalid(f"{one.id[:80]} is of another size than its sectors are")
        _check_partition(one, table)
    logical = [one for one in partitions if one.kind is PartitionKind.LOGICAL]
    _check_apart([one for one in partitions if one.kind is not PartitionKind.LOGICAL])
    _check_apart(logical)
    for one in logical:
        if not extended or not extended[0].start < one.start < one.end <= extended[0].end:
            raise LayoutInvalid(f"{one.id[:80]} does not lie in an extended partition")


def _check_partition(one: Partition, table: PartitionTable) -> None:
    is_gpt = table.kind is TableKind.GPT
    fits = (len(one.type) > 2) == is_gpt and (one.uuid is not None) == is_gpt
    if is_gpt and one.active:
        fits = False
    if not is_gpt and (one.attributes or one.name):
        fits = False
    if not is_gpt and (one.number > 4) != (one.kind is PartitionKind.LOGICAL):
        fits = False
    if not fits:
        raise LayoutInvalid(f"{one.id[:80]} is none that a {table.kind} table has")


def _check_apart(partitions: list[Partition]) -> None:
    ordered = sorted(partitions, key=lambda one: one.start)
    for one, other in zip(ordered, ordered[1:], strict=False):
        if other.start < one.end:
            raise LayoutInvalid(f"{one.id[:80]} and {other.id[:80]} overlap")


def _check_volumes(known: dict[str, N]) -> None:
    group_of: dict[str, str] = {}
    for group in _all(known, VolumeGroup):
        group_of.update(dict.fromkeys(group.volumes, group.id))
    volumes = _all(known, LogicalVolume)
    group_of.update({volume.id: volume.group for volume in volumes})
    _check_once(f"{volume.group}/{volume.name}" for volume in volumes)
    for volume in volumes:
        for name in volume.below[1:]:
            if group_of.get(name) != volume.group:
                raise LayoutInvalid(f"{volume.id[:80]} lies in another group than {name[:80]}")
    _check_extents(known, volumes)


def _check_extents(known: dict[str, N], volumes: list[LogicalVolume]) -> None:
    """Raise LayoutInvalid where two volumes have the same extents, or some that are not there."""
    taken: dict[str, list[tuple[int, int, str]]] = {}
    for volume in volumes:
        for segment in volume.segments:
            if segment.type not in _PLAIN or not segment.areas:
                continue
            length = segment.extents // len(segment.areas)
            for area in segment.areas:
                runs = taken.setdefault(area.on, [])
                runs.append((area.start, area.start + length, volume.id))
    for name, runs in taken.items():
        runs.sort()
        for (_, end, one), (start, _, other) in zip(runs, runs[1:], strict=False):
            if start < end:
                raise LayoutInvalid(f"{one[:80]} and {other[:80]} overlap on {name[:80]}")
        device = known[name]
        if isinstance(device, PhysicalVolume) and runs[-1][1] > device.extents:
            raise LayoutInvalid(f"{runs[-1][2][:80]} lies behind the end of {name[:80]}")
