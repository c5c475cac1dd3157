"""Builds the plan of a restore: from what was saved and what is here, the steps in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutfiles import Filesystem, Mount, Swap
from archive.machine.layoutlvm import LogicalVolume, LvKind, PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import Luks, MdArray, Opaque, PartitionTable
from restore.plan.actions import Action, Phase, Refusal
from restore.plan.arrays import array_action, array_refusals
from restore.plan.clearing import clearing_actions, clearing_refusals
from restore.plan.devices import Devices
from restore.plan.encryption import luks_actions, luks_notes, luks_refusals
from restore.plan.filesystems import (
    format_action,
    format_refusals,
    seal_action,
    subvolume_action,
)
from restore.plan.mapping import Matched, match_disks
from restore.plan.mounts import ROOT, mount_actions, mount_refusals
from restore.plan.swaps import swap_action, swap_refusals
from restore.plan.tables import table_action, table_refusals
from restore.plan.volumes import (
    final_actions,
    group_actions,
    group_conflicts,
    group_losses,
    group_refusals,
    physical_action,
)

_ORDER = {phase: number for number, phase in enumerate(Phase)}
_TOP = f"{ROOT}-top"
"""Where the top of a btrfs filesystem is mounted while its subvolumes are made."""
_SCRATCH = "/run/mindi/plan"
"""For files that LVM reads."""
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore does. With a refusal there are no actions: it is all or nothing."""

    saved: Layout
    """As far as it is made anew."""
    target: Layout
    matched: Matched
    actions: tuple[Action, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    """What comes back otherwise than it was, and what is to be done about it afterwards."""

    @property
    def destroys(self) -> tuple[str, ...]:
        """The disks of which all content is lost."""
        cleared = (one for one in self.actions if one.phase is Phase.CLEAR)
        return tuple(dict.fromkeys(path for one in cleared for path in one.destroys))


def make_plan(saved: Layout, target: Layout, *, kept: Mapping[str, str] = _NOTHING) -> Plan:
    """Return the plan of restoring a saved layout to a machine.

    ``target``: the layout that the machine has now. ``kept``: by the id of a disk of it words
    why it is not to be touched.
    """
    made, notes = _makeable(saved)
    matched = match_disks(made, target, kept=kept)
    disks = tuple(one.target for one in matched.matches)
    refusals = (
        *matched.refusals,
        *clearing_refusals(target, disks),
        *(refusal for node in made.nodes for refusal in _refusals(made, node)),
        *mount_refusals(made),
        *_conflicts(made, target, {disk.id for disk in disks}),
    )
    notes += tuple(note for node in made.nodes for note in _notes(made, node))
    if refusals:
        return Plan(made, target, matched, (), refusals, notes)
    devices = Devices(made, matched.paths())
    steps = (
        *clearing_actions(target, disks),
        *(action for node in made.nodes for action in _actions(made, node, devices)),
        *mount_actions(made, devices),
    )
    ordered = sorted(steps, key=lambda one: _ORDER[one.phase])
    return Plan(made, target, matched, tuple(ordered), (), notes)


def _makeable(saved: Layout) -> tuple[Layout, tuple[str, ...]]:
    """Return what of a layout is made anew, and notes of what is not: whoever saved it knew."""
    words = {one.node: one.words for one in saved.unsupported}
    gone: set[str] = set()
    notes = []
    for node in saved.nodes:
        lies_on = [name for name in node.below if name in gone]
        if isinstance(node, Opaque) or node.id in words or _is_snapshot(node):
            gone.add(node.id)
            notes.append(f"{node.id} is not made anew: {words.get(node.id, _reason(node))}")
        elif lies_on:
            gone.add(node.id)
            if isinstance(node, Mount):
                notes.append(
                    f"{node.point} is not mounted, as {lies_on[0]} is not made anew: its files "
                    "come to the filesystem that holds the directory"
                )
    return Layout.of(node for node in saved.nodes if node.id not in gone), tuple(notes)


def _is_snapshot(node: AnyNode) -> bool:
    return isinstance(node, LogicalVolume) and node.kind is LvKind.SNAPSHOT


def _reason(node: AnyNode) -> str:
    return node.what if isinstance(node, Opaque) else "a snapshot is of a moment that is over"


def _refusals(layout: Layout, node: AnyNode) -> Iterator[Refusal]:
    match node:
        case PartitionTable():
            yield from table_refusals(layout, node)
        case MdArray():
            yield from array_refusals(layout, node)
        case Luks():
            yield from luks_refusals(layout, node)
        case VolumeGroup():
            yield from group_refusals(layout, node)
        case Filesystem():
            yield from format_refusals(layout, node)
        case Swap():
            yield from swap_refusals(layout, node)
        case _:
            pass


def _conflicts(made: Layout, target: Layout, cleared: set[str]) -> Iterator[Refusal]:
    for group in made.all(VolumeGroup):
        yield from group_conflicts(made, group, target, cleared=cleared)


def _notes(layout: Layout, node: AnyNode) -> Iterator[str]:
    match node:
        case Luks():
            yield from luks_notes(node)
        case VolumeGroup():
            yield from (f"{one.node}: {one.words}" for one in group_losses(layout, node))
        case _:
            pass


def _actions(layout: Layout, node: AnyNode, devices: Devices) -> Iterator[Action]:
    """Give what makes a node; a volume group is made with all that is in it."""
    match node:
        case PartitionTable():
            yield table_action(layout, node, devices)
        case MdArray():
            yield array_action(layout, node, devices)
        case Luks():
            yield from luks_actions(layout, node, devices)
        case PhysicalVolume():
            if not any(isinstance(one, VolumeGroup) for one in layout.above(node)):
                yield physical_action(layout, node, devices, scratch=_SCRATCH)
        case VolumeGroup():
            yield from group_actions(layout, node, devices, scratch=_SCRATCH)
            yield from final_actions(layout, node)
        case Filesystem():
            yield format_action(layout, node, devices)
            for action in (
                subvolume_action(layout, node, devices, at=_TOP),
                seal_action(layout, node, devices, at=_TOP),
            ):
                if action is not None:
                    yield action
        case Swap():
            yield swap_action(layout, node, devices)
        case _:
            pass
