"""What lies on disks now is let go of and made unrecognizable, before they are made anew.

From the top down: volume groups, encrypted volumes and arrays are stopped, then what tells what a
device holds is erased from each partition and disk. That matters, as a restore makes the same
things at the same places: an old volume group that shows up in a new array has the UUID of the
one that is to be made, and whatever assembles storage by itself would take it.

What a file held is not erased; it is neither found nor, once written over, there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archive.machine.layout import AnyNode, Layout, partitions_of
from archive.machine.layoutfiles import Family, Filesystem, Mount, Swap
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
)
from archive.machine.layoutview import device_path, size_words
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.words import count_words

_ZEROED_BYTES = 1 << 20
_SECTOR = 512
_PAGE = 4096
_MAPPED = "part:mapper/"


def clearing_actions(target: Layout, disks: Sequence[Disk]) -> tuple[Action, ...]:
    """Return the steps that clear disks of the layout that a machine has now, top first.

    Each can be done again where it was cut off: what it lets go of may have gone.
    """
    lost = _only_on(target, disks)
    released = [_release(target, node) for node in reversed(target.nodes) if node.id in lost]
    found = [action for action in released if action is not None]
    for disk in (one for one in target.all(Disk) if one.id in lost):
        for partition in _partitions(target, disk):
            if partition.kind is not PartitionKind.EXTENDED:
                found.append(_wipe(target, partition))
        found.append(_wipe(target, disk))
    return tuple(found)


def clearing_refusals(target: Layout, disks: Sequence[Disk]) -> tuple[Refusal, ...]:
    """Return why disks must not be cleared: what would be torn, and what nobody knows to stop."""
    lost = {disk.id for disk in disks}
    torn: set[str] = set()
    found = []
    for node in target.nodes:
        needed = target.disks_of(node)
        kept = [one for one in needed if one.id not in lost]
        if kept and len(kept) < len(needed):
            # What lies on something torn is torn by that.
            if torn.isdisjoint(node.below):
                found.append(Refusal(node.id, _torn_words(node, kept)))
            torn.add(node.id)
        elif not kept and needed and isinstance(node, Opaque) and _is_device(node, target):
            paths = " and ".join(device_path(one) for one in needed)
            found.append(
                Refusal(
                    node.id,
                    f"{_shown(node.id.partition(':')[2])} ({_shown(node.what)}) lies on {paths} "
                    "and is of a kind that a restore cannot stop: stop it, or restart "
                    "without it, and try again",
                )
            )
    return tuple(found)


def _only_on(target: Layout, disks: Sequence[Disk]) -> set[str]:
    """Return the ids of all that needs these disks and no others."""
    lost = {target.get(disk.id, Disk).id for disk in disks}
    found = set()
    for node in target.nodes:
        needed = {one.id for one in target.disks_of(node)}
        if needed and needed <= lost:
            found.add(node.id)
    return found


def _partitions(target: Layout, disk: Disk) -> list[Partition]:
    tables = [one for one in target.above(disk) if isinstance(one, PartitionTable)]
    return [partition for table in tables for partition in partitions_of(target, table)]


def _is_device(node: Opaque, target: Layout) -> bool:
    """Tell whether something unknown is a device that the kernel holds, or only what lies on one.

    The probe calls the latter as the device that it lies on.
    """
    below = target.below(node)
    tails = {one.id.partition(":")[2] for one in below}
    holds = any(not isinstance(one, Mount) for one in target.above(node))
    return holds or len(below) != 1 or node.id.partition(":")[2] not in tails


def _release(target: Layout, node: AnyNode) -> Action | None:
    """Return the step that lets go of a node; None where nothing holds it."""
    match node:
        case VolumeGroup():
            shown = [
                one
                for one in target.all(LogicalVolume)
                if one.group == node.id and one.kind is not LvKind.HIDDEN
            ]
            # By its UUID: another of that name may be there, on disks that are kept.
            select = ("--select", f"vg_uuid={node.uuid}")
            commands = (_tried("lvm", "vgchange", "--activate", "n", *select),)
            words = f"deactivate the volume group {node.name} ({count_words(len(shown), 'volume')})"
            return _action("deactivate", node, words, commands)
        case Luks(mapper=str(mapper)):
            on = device_path(target.get(node.on, Node))
            words = f"close the encrypted volume {_shown(mapper)}, which lies on {_shown(on)}"
            return _action("close", node, words, (_tried("cryptsetup", "close", "--", mapper),))
        case MdArray():
            return _stop(target, node)
        case Partition() if node.id.startswith(_MAPPED):
            name = node.id.removeprefix(_MAPPED)
            words = f"let go of the mapped partition {_shown(name)}"
            return _action("unmap", node, words, (_tried("dmsetup", "remove", "--", name),))
        case Filesystem(family=Family.BTRFS):
            # The kernel remembers the devices of a filesystem by its UUID, which is to come back.
            paths = [device_path(one) for one in target.below(node)]
            forget = _tried("btrfs", "device", "scan", "--forget", "--", *paths)
            words = f"forget the btrfs filesystem on {_shown(' and '.join(paths))}"
            return _action("forget", node, words, (forget,))
        case _:
            return None


def _stop(target: Layout, array: MdArray) -> Action:
    path = device_path(array)
    members = [device_path(one) for one in target.below(array)]
    commands = (
        # With its data at the same place a new array shows what the old one held. An array that
        # has failed cannot be written to, and must not be in the way of a restore.
        _tried(*_wipefs(path)),
        _tried("mdadm", "--stop", path),
        *(_tried("mdadm", "--zero-superblock", member) for member in members),
    )
    size = f"{array.level}, {size_words(array.size_bytes)}"
    names = _shown(" and ".join(members))
    words = f"stop the array {path} ({size}) and make {names} forget it: {_held(target, array)}"
    return _action("stop", array, words, commands, destroys=_disk_paths(target, array))


def _wipe(target: Layout, node: Disk | Partition) -> Action:
    path = device_path(node)
    commands = (
        # It is what stops here if anything still uses the device: dd would not.
        Command(argv=_wipefs(path)),
        # What wipefs leaves: a table inside of a partition, and labels of which it erases no more
        # than the mark; what is found by such a rest lies at the start or the end of a device.
        *(Command(argv=argv) for argv in _zeroing(path, node.size_bytes)),
    )
    about = [size_words(node.size_bytes)]
    if isinstance(node, Disk):
        about += [text for text in (node.model, node.serial and f"serial {node.serial}") if text]
    kind = "disk " if isinstance(node, Disk) else ""
    words = f"clear the {kind or 'partition '}{path} ({_shown(', '.join(about))}): "
    paths = _disk_paths(target, node)
    return _action("wipe", node, words + _held(target, node), commands, destroys=paths)


def _wipefs(path: str) -> tuple[str, ...]:
    return ("wipefs", "--all", "--lock=yes", "--", path)


def _zeroing(path: str, size_bytes: int) -> Iterator[tuple[str, ...]]:
    """Yield the argvs that zero a device's first and last MiB, by what every ``dd`` knows."""
    block = _SECTOR if size_bytes % _PAGE else _PAGE
    end = size_bytes // block
    count = min(_ZEROED_BYTES // block, end)
    for seek in dict.fromkeys((0, end - count)):
        place = (f"bs={block}", f"seek={seek}", f"count={count}")
        yield ("dd", "if=/dev/zero", f"of={path}", *place, "conv=notrunc,fsync")


def _held(target: Layout, node: Node) -> str:
    """Return what lies on a device, in words."""
    held = [_content(target, one) for one in target.above(node) if node.id in one.claims]
    return "; ".join(held) or "it holds nothing known"


def _content(target: Layout, node: AnyNode) -> str:
    match node:
        case PartitionTable():
            count = len(partitions_of(target, node))
            return f"a {node.kind} partition table with {count_words(count, 'partition')}"
        case MdArray():
            return f"a part of the array {device_path(node)} ({node.level})"
        case PhysicalVolume():
            groups = [one.name for one in target.all(VolumeGroup) if node.id in one.volumes]
            return f"a part of the volume group {groups[0]}" if groups else "an unused LVM volume"
        case Luks():
            return f"an encrypted volume{_label(node.label)}"
        case Filesystem():
            return f"a filesystem, {node.family}{_label(node.label)}"
        case Swap():
            return f"swap space{_label(node.label)}"
        case Opaque():
            return _shown(node.what)
        case _:
            return node.id


def _torn_words(node: AnyNode, kept: Sequence[Disk]) -> str:
    match node:
        case VolumeGroup():
            name, leave = f"the volume group {node.name}", "take these disks out with vgreduce"
        case MdArray():
            name, leave = (
                f"the array {device_path(node)}",
                "take these disks out with mdadm --fail and --remove",
            )
        case Filesystem():
            name = f"the {node.family} filesystem{_label(node.label)}"
            leave = "take these disks out with btrfs device remove"
        case _:
            name, leave = _shown(node.id), "take it off these disks"
    paths = " and ".join(device_path(disk) for disk in kept)
    return (
        f"{name} lies on disks that are to be overwritten and also on {paths}, to be kept: "
        f"it would be torn apart. Restore to all of its disks, or {leave} first"
    )


def _disk_paths(target: Layout, node: AnyNode) -> tuple[str, ...]:
    return tuple(device_path(disk) for disk in target.disks_of(node))


def _tried(*argv: str) -> Command:
    return Command(argv=argv, may_fail=True)


def _action(
    kind: str,
    node: Node,
    words: str,
    commands: tuple[Command, ...],
    *,
    destroys: tuple[str, ...] = (),
) -> Action:
    return Action.of(
        kind, node, phase=Phase.CLEAR, words=words, commands=commands, destroys=destroys
    )


def _label(label: str) -> str:
    return f' "{_shown(label)}"' if label else ""


def _shown(text: str) -> str:
    """Return text that comes from a disk so that it does nothing to a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
