"""LVM in a plan: physical volumes, groups and their volumes, all with the UUIDs that they had.

The metadata of a group is written as text (restore/plan/lvmtext.py), given to pvcreate(8) for each
physical volume and to vgcfgrestore(8) for the group. What lies in volumes and not in LVM's
metadata is made first:

- RAID volumes, mirrors and caches note about themselves in hidden volumes what is in sync or
  cached. These are zeroed where they lie on the disks, so that the kernel begins anew: it brings
  parity and copies in sync on its own, in the background, and trusts nothing of what was there
  before.
- A thin pool's own metadata is written by thin_restore(8), with its volumes in it and nothing in
  them, and at the pool's transaction: LVM starts no pool that is at another.

The commands are in restore/plan/lvmcommands.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import (
    LogicalVolume,
    LvKind,
    LvSegment,
    PhysicalVolume,
    VolumeGroup,
)
from archive.machine.layoutnodes import Node
from archive.machine.layoutview import size_words
from restore.plan import lvmgroup, lvmtext
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices
from restore.plan.lvmcommands import SYSTEM_ID, LvmCommands, written, zeroes

_NO_NAMES = (".", "..")
_IN_AREAS = ("linear", "striped", "mirror")
_TYPES = (*_IN_AREAS, "thin-pool", "thin", "cache", "cache-pool")
_RAID = re.compile(r"raid(0(_meta)?|1|4|5(_(ls|rs|la|ra|n))?|6(_\w+)?|10(_near)?)")
_ALLOCATION = ("normal", "contiguous", "cling", "cling_by_tags", "anywhere")
_DISCARDS = ("ignore", "nopassdown", "passdown", None)
_CACHE_MODES = ("writethrough", "writeback", "passthrough", None)
_MOVED = re.compile(r"pvmove\d+")


def physical_action(
    layout: Layout, volume: PhysicalVolume, devices: Devices, *, scratch: str
) -> Action:
    """Return what makes a physical volume that is in no group.

    ``scratch``: the path of a directory for files that commands need, in the rescue environment.
    Raises LayoutInvalid.
    """
    path = devices.path(volume.on)
    file = f"{scratch}/{volume.uuid}.vg"
    text = lvmtext.physical_text(layout, volume, devices)
    return Action.of(
        "physical",
        volume,
        phase=Phase.STORAGE,
        words=f"make {path} a physical volume of LVM, in no volume group",
        commands=(
            *written(file, text),
            LvmCommands.of(layout, (volume,)).physical_volume(volume, path, file),
        ),
        destroys=(path,),
    )


def group_actions(
    layout: Layout, group: VolumeGroup, devices: Devices, *, scratch: str
) -> tuple[Action, ...]:
    """Return what makes a group, its physical and logical volumes, and starts it, in order.

    Each can be run again from its beginning. After a restart of the machine the last, the only
    ``activate:``, has to be run again. ``scratch`` is as of ``physical_action``. Raises
    LayoutInvalid.
    """
    text = lvmtext.metadata_text(layout, group, devices)
    volumes = lvmgroup.restored(layout, group)
    file = f"{scratch}/{group.name}.vg"
    actions = [_physical(layout, group, name, devices, file, text) for name in group.volumes]
    zeroed = _zeroed(layout, group, volumes, devices)
    if zeroed is not None:
        actions.append(zeroed)
    actions += [
        _pool(layout, group, one, devices, scratch)
        for one in volumes
        if one.segments[0].type == "thin-pool"
    ]
    size = size_words(sum(layout.get(name, PhysicalVolume).size_bytes for name in group.volumes))
    shown = [one.name for one in volumes if one.kind is not LvKind.HIDDEN]
    names = ", ".join(shown) if shown else "none"
    actions.append(
        Action.of(
            "group",
            group,
            phase=Phase.STORAGE,
            words=f"make the volume group {group.name} of {size} with its volumes: {names}",
            commands=(*written(file, text), *_commands(layout, group).restored(file)),
        )
    )
    actions.append(_activated(layout, group))
    return tuple(actions)


def final_actions(layout: Layout, group: VolumeGroup) -> tuple[Action, ...]:
    """Return what makes volumes read-only again: their files are there, and they are not mounted.

    That they are skipped when a group is started is in the metadata from the beginning.
    """
    return tuple(
        Action.of(
            "readonly",
            one,
            phase=Phase.FINISH,
            words=f"make the volume {group.name}/{one.name} read-only, as it was",
            commands=(
                _commands(layout, group).lvm(
                    "lvchange", "--permission", "r", f"{group.name}/{one.name}"
                ),
            ),
        )
        for one in lvmgroup.restored(layout, group)
        if one.read_only and one.kind is not LvKind.HIDDEN
    )


def group_refusals(layout: Layout, group: VolumeGroup) -> tuple[Refusal, ...]:
    """Return why a group cannot be made."""
    try:
        return tuple(_refusals(layout, group))
    except LayoutInvalid as error:
        return (Refusal(group.id, f"LVM has no words for it: {error}"),)


def group_conflicts(
    layout: Layout, group: VolumeGroup, target: Layout, *, cleared: Collection[str]
) -> tuple[Refusal, ...]:
    """Return why a group cannot be made beside what stays on the target's other disks.

    ``cleared``: the ids of the target's disks that nothing stays on. LVM tells groups apart by
    their names, and physical volumes by their UUIDs.
    """
    uuids = {layout.get(name, PhysicalVolume).uuid for name in group.volumes}
    found = []
    for node in target.nodes:
        disks = [one for one in target.disks_of(node) if one.id not in cleared]
        where = " and ".join(f"/dev/{one.kernel_name}" for one in disks)
        match node:
            case VolumeGroup(name=name, uuid=uuid) if disks:
                if group.name == name or group.uuid == uuid:
                    words = f"{where} has a volume group {name}: rename it or take the disk away"
                    found.append(Refusal(group.id, words))
            case PhysicalVolume(uuid=uuid) if disks and uuid in uuids:
                words = f"{where} has a physical volume of the same UUID: take that disk away"
                found.append(Refusal(group.id, words))
    return tuple(found)


def group_losses(layout: Layout, group: VolumeGroup) -> tuple[Refusal, ...]:
    """Return what of a group does not come back, while all else of it does."""
    found = []
    for volume in lvmgroup.members(layout, group).values():
        if volume.kind is LvKind.SNAPSHOT:
            found.append(Refusal(volume.id, "a snapshot is not restored, what it is of is"))
        elif volume.kind is LvKind.OTHER and not layout.above(volume):
            kind = volume.segments[0].type
            found.append(Refusal(volume.id, f"volumes of type {kind} are not restored"))
        elif volume.kind is LvKind.CACHE and lvmgroup.uncached(layout, volume):
            words = "it comes back without its cache: add that again with lvconvert(8)"
            found.append(Refusal(volume.id, words))
    return tuple(found)


def _refusals(layout: Layout, group: VolumeGroup) -> list[Refusal]:
    found = [Refusal(group.id, words) for words in _group_faults(layout, group)]
    for volume in lvmgroup.members(layout, group).values():
        if volume.kind is LvKind.OTHER and layout.above(volume):
            kind = volume.segments[0].type
            words = f"volumes of type {kind} are not restored, and something lies on this one"
            found.append(Refusal(volume.id, words))
    for volume in lvmgroup.restored(layout, group):
        found += [Refusal(volume.id, words) for words in _faults(layout, group, volume)]
    if not found:
        lvmtext.check_text(layout, group)
        for volume in lvmgroup.restored(layout, group):
            if volume.segments[0].type == "thin-pool":
                lvmtext.thin_xml(layout, volume)
    return found


def _physical(
    layout: Layout, group: VolumeGroup, name: str, devices: Devices, file: str, text: str
) -> Action:
    volume = layout.get(name, PhysicalVolume)
    path = devices.path(volume.on)
    lvm = _commands(layout, group)
    return Action.of(
        "physical",
        volume,
        phase=Phase.STORAGE,
        words=f"make {path} a physical volume of the volume group {group.name}",
        commands=(
            *written(file, text),
            lvm.stopped(),
            lvm.physical_volume(volume, path, file),
        ),
        destroys=(path,),
    )


def _zeroed(
    layout: Layout, group: VolumeGroup, volumes: Iterable[LogicalVolume], devices: Devices
) -> Action | None:
    """Return what zeroes the notes that RAID volumes, mirrors and caches keep."""
    noted = _notes(layout, group, volumes)
    if not noted:
        return None
    return Action.of(
        "zero",
        group,
        phase=Phase.STORAGE,
        words=f"zero what volumes of {group.name} note about themselves, so that their copies, "
        f"parity and caches begin anew: {', '.join(one.name for one in noted)}",
        commands=(
            _commands(layout, group).stopped(),
            *(
                zeroes(devices.path(volume.on), volume, group, start, extents)
                for one in noted
                for volume, start, extents in _runs(layout, one)
            ),
        ),
    )


def _pool(
    layout: Layout, group: VolumeGroup, pool: LogicalVolume, devices: Devices, scratch: str
) -> Action:
    """Return what writes a thin pool's own metadata.

    Of a pool LVM lets nobody write it, so for as long as that takes the group has but this one
    volume in it.
    """
    file = f"{scratch}/{group.name}@{pool.name}"
    name = f"{group.name}/{pool.name}"
    lvm = _commands(layout, group)
    return Action.of(
        "pool",
        pool,
        phase=Phase.STORAGE,
        words=f"write the metadata of the thin pool {name}: its volumes, with nothing in them yet",
        commands=(
            *written(f"{file}.vg", lvmtext.pool_text(layout, pool, devices)),
            *written(f"{file}.xml", lvmtext.thin_xml(layout, pool)),
            *lvm.restored(f"{file}.vg"),
            lvm.started("lvchange", name),
            Command(argv=("thin_restore", "-i", f"{file}.xml", "-o", f"/dev/{name}")),
            lvm.stopped(),
        ),
    )


def _activated(layout: Layout, group: VolumeGroup) -> Action:
    lvm = _commands(layout, group)
    return Action.of(
        "activate",
        group,
        phase=Phase.STORAGE,
        words=f"start the volume group {group.name}",
        commands=(
            lvm.started("vgchange", group.name),
            lvm.lvm("vgmknodes", group.name),
        ),
    )


def _commands(layout: Layout, group: VolumeGroup) -> LvmCommands:
    volumes = tuple(layout.get(name, PhysicalVolume) for name in group.volumes)
    return LvmCommands.of(layout, volumes, group)


def _notes(
    layout: Layout, group: VolumeGroup, volumes: Iterable[LogicalVolume]
) -> tuple[LogicalVolume, ...]:
    """Return the hidden volumes that say what is in sync, or what a cache holds."""
    named = lvmgroup.members(layout, group)
    found: dict[str, LogicalVolume] = {}
    for volume in volumes:
        for segment in lvmgroup.segments(layout, volume):
            if segment.type == "cache-pool" or segment.type.startswith("raid"):
                for area in segment.metadata:
                    found[area.on] = layout.get(area.on, LogicalVolume)
        log = lvmgroup.mirror_log(volume, named)
        if log is not None:
            found[log.id] = log
    return tuple(found.values())


def _runs(layout: Layout, volume: LogicalVolume) -> Iterator[tuple[PhysicalVolume, int, int]]:
    """Yield where a volume lies: a physical volume, an extent of it, how many from there on."""
    for segment in lvmgroup.segments(layout, volume):
        for area in (*segment.areas, *segment.metadata):
            match layout.get(area.on, Node):
                case PhysicalVolume() as physical:
                    yield physical, area.start, lvmgroup.area_extents(segment)
                case LogicalVolume() as lower:
                    yield from _runs(layout, lower)


def _group_faults(layout: Layout, group: VolumeGroup) -> Iterator[str]:
    if group.name in _NO_NAMES:
        yield "LVM takes no such name"
    if group.system_id and not SYSTEM_ID.fullmatch(group.system_id):
        yield "it belongs to a machine that is called as LVM calls none"
    if group.allocation not in _ALLOCATION:
        yield f"LVM knows no allocation policy {group.allocation}"
    if not any(layout.get(name, PhysicalVolume).metadata_copies for name in group.volumes):
        yield "none of its physical volumes has LVM's metadata"
    yield from (one.words for one in layout.unsupported if one.node == group.id)


def _faults(layout: Layout, group: VolumeGroup, volume: LogicalVolume) -> Iterator[str]:
    """Yield why a volume cannot be made."""
    if volume.name in _NO_NAMES:
        yield "LVM takes no such name"
    if _MOVED.fullmatch(volume.name):
        yield "pvmove was moving what is on it: end that and make another backup"
    if volume.allocation not in (*_ALLOCATION, "inherit"):
        yield f"LVM knows no allocation policy {volume.allocation}"
    for segment in lvmgroup.segments(layout, volume):
        is_raid = _RAID.fullmatch(segment.type) is not None
        if segment.type not in _TYPES and not is_raid:
            yield f"volumes of type {segment.type} are not restored"
        elif segment.discards not in _DISCARDS or segment.cache_mode not in _CACHE_MODES:
            yield "it has settings that LVM does not know"
        elif (is_raid or segment.type in _IN_AREAS) and len(segment.areas) != segment.stripes:
            yield f"of its {segment.stripes} parts {len(segment.areas)} are there"
        elif is_raid:
            yield from _raid_faults(layout, group, segment)


def _raid_faults(layout: Layout, group: VolumeGroup, segment: LvSegment) -> Iterator[str]:
    if len(segment.metadata) not in (len(segment.areas), 0) or not (
        segment.metadata or segment.type == "raid0"
    ):
        yield "some of its parts have no metadata"
    try:
        size_bytes = lvmgroup.area_extents(segment) * group.extent_bytes
    except LayoutInvalid as error:
        yield str(error)
        return
    images = [layout.get(area.on, LogicalVolume) for area in segment.areas]
    if any(one.size_bytes != size_bytes for one in images):
        yield (
            "its parts are larger or smaller than it needs: it is being reshaped, or keeps room "
            "for that (lvconvert(8) ends it, see --type in lvmraid(7))"
        )
