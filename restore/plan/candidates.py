"""What speaks against a disk of the target becoming a saved one, and for it.

A disk may be larger: its table and partitions are made as they were, and what lies on a whole disk
fits. One with a partition table may be smaller, too, down to the end of what is in the table. A
table counts in sectors, so their size has to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archive.machine.layout import Layout
from archive.machine.layoutfiles import Mount
from archive.machine.layoutnodes import Disk, Opaque, Partition, PartitionTable, TableKind
from archive.machine.layoutview import device_path, size_words
from restore.plan.identity import Recognition, natural, recognize, twins

_OUTSIDE = frozenset({"usb", "sbp", "mmc", "iscsi", "fc", "fcoe"})
"""Transports of disks that may belong to others than this machine, as lsblk calls them."""
_EMPTIES = "wipefs --all empties it"
_NO_UUID = "0x00000000"


@dataclass(frozen=True, slots=True)
class Case:
    """What a choice depends on; the keys are ids of disks."""

    saved: Layout
    target: Layout
    kept: Mapping[str, str]
    known: Recognition
    least: Mapping[str, int]
    """The bytes that each of the saved disks needs."""
    taken: Mapping[str, Disk]
    """By ids of the target: the saved disks that they are, or may be."""
    twins: Mapping[str, Disk]
    """By ids of the target: the same disk, over another path."""
    held: Mapping[str, frozenset[str]]
    """By ids of the target: the UUIDs on it, empty of an empty disk."""
    meant: Mapping[str, frozenset[str]]
    """By ids of the saved disks: the UUIDs that will be on them."""
    needed: frozenset[str]
    """The saved disks that something is restored to."""
    is_same_machine: bool

    def is_empty(self, disk: Disk) -> bool:
        """Tell whether nothing lies on a disk of the target."""
        return not self.held[disk.id]

    def is_own(self, saved: Disk, disk: Disk) -> bool:
        """Tell whether a disk of the target holds what the saved one did."""
        return not self.meant[saved.id].isdisjoint(self.held[disk.id])


def needed_disks(saved: Layout) -> tuple[Disk, ...]:
    """Return the disks under all that a restore makes: what it cannot read it does not make."""
    wanted: set[str] = set()
    for node in reversed(saved.nodes):
        if node.id in wanted or not isinstance(node, (Disk, Opaque, Mount)):
            wanted.update(node.below)
    return tuple(sorted((one for one in saved.all(Disk) if one.id in wanted), key=natural))


def build_case(
    saved: Layout, target: Layout, needed: Sequence[Disk], kept: Mapping[str, str]
) -> Case:
    """Return what is to be known of a saved machine and one that it may be restored to."""
    known = recognize(saved, target)
    taken = {one.disk.id: saved.get(name, Disk) for name, one in known.found.items()}
    for name, disks in known.disputed.items():
        taken.update({disk.id: saved.get(name, Disk) for disk in disks})
    meant = _uuids(saved)
    held = _uuids(target)
    for node in target.nodes:
        for name in node.below:
            if name in held:
                held[name].add(node.id)
    return Case(
        saved=saved,
        target=target,
        kept=kept,
        known=known,
        least=_least(saved),
        taken=taken,
        twins=twins(target),
        held={name: frozenset(uuids) for name, uuids in held.items()},
        meant={name: frozenset(uuids) for name, uuids in meant.items()},
        needed=frozenset(disk.id for disk in needed),
        is_same_machine=any(
            one.disk.id not in kept and one.disk.transport not in _OUTSIDE
            for one in known.found.values()
        ),
    )


def _uuids(layout: Layout) -> dict[str, set[str]]:
    """Return the UUIDs of what lies on each disk, right on it."""
    found: dict[str, set[str]] = {disk.id: set() for disk in layout.all(Disk)}
    for node in layout.nodes:
        uuid = getattr(node, "uuid", None)
        for name in node.below:
            if name in found and isinstance(uuid, str) and uuid != _NO_UUID:
                found[name].add(uuid)
    return found


def _least(saved: Layout) -> dict[str, int]:
    """Return how large a disk has to be that takes the place of each saved one."""
    least = {disk.id: disk.size_bytes for disk in saved.all(Disk)}
    ends: dict[str, int] = {}
    for partition in saved.all(Partition):
        ends[partition.table] = max(partition.end, ends.get(partition.table, 1))
    for table in saved.all(PartitionTable):
        if table.on in least:
            end = ends.get(table.id, 1)
            if table.kind is TableKind.GPT:
                # Its own end is part of a GPT; its copy lies behind: the entries, the header.
                end = max(end, (table.last_sector or 0) + 1) + table.entry_sectors + 1
            least[table.on] = min(least[table.on], end * table.sector_bytes)
    return least


def obstacle(saved: Disk, disk: Disk, case: Case) -> str | None:
    """Return why a disk of the target cannot be a saved one, whichever it is."""
    if disk.id in case.kept:
        return case.kept[disk.id]
    if disk.logical_sector != saved.logical_sector:
        wanted = f"{saved.logical_sector} bytes are needed"
        return f"it has sectors of {disk.logical_sector} bytes, {wanted}"
    missing = case.least[saved.id] - disk.size_bytes
    return f"it is too small by {size_words(missing)}" if missing > 0 else None


def stranger(saved: Disk, disk: Disk, case: Case) -> str | None:
    """Return why a disk of the target that nothing tells to be a saved one is not taken for it."""
    known = case.taken.get(disk.id)
    if known is not None:
        idle = "" if known.id in case.needed else ", on which there is nothing to restore"
        return f"it is the disk that was {device_path(known)}{idle}"
    fault = obstacle(saved, disk, case)
    if fault is not None:
        return fault
    if disk.id in case.twins:
        return f"it is the same disk as {device_path(case.twins[disk.id])}, over another path"
    is_foreign = not case.is_empty(disk) and not case.is_own(saved, disk)
    if disk.transport in _OUTSIDE and (disk.transport != saved.transport or is_foreign):
        other = "and what was saved was not"
        held = f"and there is something on it ({_EMPTIES})"
        return f"it is connected by {disk.transport}, {held if is_foreign else other}"
    if case.is_same_machine and is_foreign:
        return (
            "there is something on it, and it was no disk of this machine when that was saved "
            f"({_EMPTIES})"
        )
    return None


def free_for(saved: Disk, case: Case) -> tuple[Disk, ...]:
    """Return the disks of the target that a saved one may become, the best first."""
    found = [one for one in case.target.all(Disk) if stranger(saved, one, case) is None]

    def rank(disk: Disk) -> tuple[object, ...]:
        own, empty = case.is_own(saved, disk), case.is_empty(disk)
        return (not own, not empty, disk.transport != saved.transport, disk.size_bytes)

    return tuple(sorted(sorted(found, key=natural), key=rank))
