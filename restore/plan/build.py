"""Builds the plan of a restore: from what was saved and what is here, the steps in between."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from archive.machine.layout import AnyNode, Layout, files_of
from archive.machine.layoutfiles import Filesystem, Mount, Swap
from archive.machine.layoutlvm import PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import Luks, MdArray, PartitionTable
from restore.plan.actions import Action, Phase, Refusal
from restore.plan.arrays import array_action, array_refusals
from restore.plan.clearing import clearing_actions, clearing_refusals
from restore.plan.conflicts import conflicts
from restore.plan.devices import Devices
from restore.plan.encryption import luks_actions, luks_notes, luks_refusals
from restore.plan.filesystems import (
    format_action,
    format_refusals,
    seal_action,
    subvolume_action,
)
from restore.plan.leaving import idle_disks, makeable, shared, without
from restore.plan.mapping import Matched, match_disks
from restore.plan.mounts import ROOT, chosen, mount_actions, mount_refusals, unmount_actions
from restore.plan.swaps import swap_action, swap_refusals
from restore.plan.tables import table_action, table_refusals
from restore.plan.volumes import (
    final_actions,
    group_actions,
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


def make_plan(
    saved: Layout,
    target: Layout,
    *,
    kept: Mapping[str, str] = _NOTHING,
    staying: Collection[str] = (),
) -> Plan:
    """Return the plan of restoring a saved layout to a machine.

    ``target``: the layout that the machine has now. ``kept``: by the id of a disk of it words
    why it is not to be touched. ``staying``: the ids of saved disks that are here and hold the
    set: they are left as they are, with all that is on them.
    """
    made, notes, torn = _made(saved, staying)
    matched = match_disks(made, target, kept=kept)
    disks = tuple(one.target for one in matched.matches)
    in_the_way = conflicts(made, target, {disk.id for disk in disks})
    refusals = (
        *torn,
        *matched.refusals,
        *clearing_refusals(target, disks),
        *(refusal for node in made.nodes for refusal in _refusals(made, node)),
        *mount_refusals(made),
        *(() if matched.refusals else in_the_way),
        *_lacking(saved, made),
    )
    notes += tuple(note for node in made.nodes for note in _notes(made, node))
    if refusals:
        return Plan(made, target, matched, (), refusals, notes)
    devices = Devices(made, matched.paths())
    steps = (
        *clearing_actions(target, disks),
        # Before the swap files, which are in what is mounted.
        *mount_actions(made, devices),
        *(action for node in made.nodes for action in _actions(made, node, devices)),
    )
    finish = unmount_actions(made)
    ordered = sorted((*finish, *steps), key=lambda one: _ORDER[one.phase])
    return Plan(made, target, matched, tuple(ordered), (), notes)


def _made(
    saved: Layout, staying: Collection[str]
) -> tuple[Layout, tuple[str, ...], tuple[Refusal, ...]]:
    """Return what of a layout is made anew, notes of what is not, and what cannot be left out."""
    words = "it lies on the disk that holds the set, and on others: copy the set elsewhere"
    torn = tuple(Refusal(node.id, words) for node in shared(saved, staying))
    rest = saved if torn else without(saved, staying)
    notes = tuple(f"{name} holds the set: it stays as it is" for name in staying if not torn)
    made, lost = makeable(rest)
    idle = idle_disks(made)
    notes += lost + tuple(
        f"{name} is left out: of what was on it nothing was mounted, so nothing was saved"
        for name in idle
    )
    return without(made, idle), notes, torn


def _lacking(saved: Layout, made: Layout) -> Iterator[Refusal]:
    """Refuse what would leave the files without a place to go to."""
    roots = [mount for mount in saved.all(Mount) if mount.point == "/"]
    if roots and not any(one.mount.point == "/" for one in chosen(made)):
        words = "nothing that is made anew would be mounted there: the files have no place to go to"
        yield Refusal(roots[0].id, words)
    elif not made.nodes:
        yield Refusal("machine:", "nothing is left of it that could be made anew")


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


def _notes(layout: Layout, node: AnyNode) -> Iterator[str]:
    match node:
        case Luks():
            yield from luks_notes(node)
        case VolumeGroup():
            yield from (f"{one.node}: {one.words}" for one in group_losses(layout, node))
        case Filesystem() if not any(files_of(layout, node)):
            yield f"{node.id} is made, and empty: it was not mounted, so nothing of it was saved"
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
