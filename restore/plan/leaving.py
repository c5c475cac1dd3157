"""A saved layout without some of it: disks that hold the set, and what no restore makes.

A restore makes all of a layout. The disk that holds the set is most often part of what was saved,
it was mounted then; it stays as it is, and what is on it with it.
"""

from __future__ import annotations

from collections.abc import Collection

from archive.errors import LayoutInvalid
from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutfiles import Mount, Swap
from archive.machine.layoutlvm import LogicalVolume, LvKind
from archive.machine.layoutnodes import Disk, Opaque, Partition, PartitionTable


def without(saved: Layout, disks: Collection[str]) -> Layout:
    """Return a layout without the disks of those ids and all that lies on them.

    Raises LayoutInvalid where something lies on them and on others: see ``shared``.
    """
    across = shared(saved, disks)
    if across:
        raise LayoutInvalid(f"{across[0].id[:80]} lies on a disk that is left out, and on others")
    _, gone = _reached(saved, disks)
    return Layout.of(
        (node for node in saved.nodes if node.id not in gone),
        (one for one in saved.unsupported if one.node not in gone),
    )


def shared(saved: Layout, disks: Collection[str]) -> tuple[AnyNode, ...]:
    """Return what lies on some of those disks and on others too: arrays, groups, btrfs."""
    across, _ = _reached(saved, disks)
    return tuple(node for node in saved.nodes if node.id in across)


def _reached(saved: Layout, disks: Collection[str]) -> tuple[set[str], set[str]]:
    """Return what lies on those disks and others, and what lies on those disks."""
    across: set[str] = set()
    touched = set(disks)
    for node in saved.nodes:
        on = [name in touched for name in node.below]
        if any(on):
            touched.add(node.id)
            if not all(on) or not across.isdisjoint(node.below):
                across.add(node.id)
    return across, touched


def makeable(saved: Layout) -> tuple[Layout, tuple[str, ...]]:
    """Return what of a layout is made anew, and notes of what is not: whoever saved it knew.

    Partitions stay, whatever was in them: their table has no gaps.
    """
    words = {one.node: one.words for one in saved.unsupported}
    gone: set[str] = set()
    hollow: set[str] = set()
    notes = []
    for node in saved.nodes:
        on = [name for name in node.below if name in gone or name in hollow]
        if isinstance(node, Partition | PartitionTable) and not gone.intersection(node.below):
            if node.id in words:
                hollow.add(node.id)
                notes.append(f"what was in {node.id} is not made anew: {words[node.id]}")
        elif node.id in words or isinstance(node, Opaque) or _is_snapshot(node):
            gone.add(node.id)
            notes.append(f"{node.id} is not made anew: {words.get(node.id, _reason(node))}")
        elif on:
            gone.add(node.id)
            notes.append(f"{node.id} is not made anew, as {on[0]} is not")
    return Layout.of(node for node in saved.nodes if node.id not in gone), tuple(notes)


def idle_disks(made: Layout) -> tuple[str, ...]:
    """Return the ids of the disks that no file and no swap needs: nothing of them was saved."""
    used: set[str] = set()
    for node in made.nodes:
        if isinstance(node, Mount | Swap):
            used.update(disk.id for disk in made.disks_of(node))
    idle = [disk.id for disk in made.all(Disk) if disk.id not in used and made.above(disk)]
    return tuple(name for name in idle if not shared(made, [name]))


def _is_snapshot(node: AnyNode) -> bool:
    return isinstance(node, LogicalVolume) and node.kind is LvKind.SNAPSHOT


def _reason(node: AnyNode) -> str:
    return node.what if isinstance(node, Opaque) else "a snapshot is of a moment that is over"
