"""A saved layout without some of its disks: those that hold the set, or that were only plugged in.

A restore makes all of a layout. The disk that holds the set is most often part of what was saved,
it was mounted then; it stays as it is, and what is on it with it.
"""

from __future__ import annotations

from collections.abc import Collection

from archive.errors import LayoutInvalid
from archive.machine.layout import AnyNode, Layout


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
