"""What stays on a machine and is in the way of what is to be made: a name or UUID that is taken."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutfiles import Filesystem, Swap
from archive.machine.layoutlvm import VolumeGroup
from archive.machine.layoutnodes import Luks, MdArray, PartitionTable
from restore.plan.actions import Refusal
from restore.plan.volumes import group_conflicts


def conflicts(made: Layout, target: Layout, cleared: Collection[str]) -> Iterator[Refusal]:
    """Give why a layout cannot be made beside what stays on the target's other disks.

    ``cleared``: the ids of the target's disks that nothing stays on.
    """
    for group in made.all(VolumeGroup):
        yield from group_conflicts(made, group, target, cleared=cleared)
    staying = [
        node for node in target.nodes if any(d.id not in cleared for d in target.disks_of(node))
    ]
    uuids = {uuid: node for node in staying for uuid in _uuids(node)}
    names = {name: node for node in staying for name in _names(node)}
    for node in made.nodes:
        for uuid in _uuids(node):
            if uuid in uuids:
                disks = _disks(target, uuids[uuid])
                words = f"{disks} has a copy of it, with the same UUID: take that disk away"
                yield Refusal(node.id, words)
        for name in _names(node):
            if name in names:
                disks = _disks(target, names[name])
                words = f"{name} is taken by what is on {disks}: stop that, or take the disk away"
                yield Refusal(node.id, words)


def _uuids(node: AnyNode) -> Iterator[str]:
    """Give what no two devices of a machine may share; LVM's are looked at apart."""
    match node:
        case Filesystem(uuid=str(uuid)) | Swap(uuid=str(uuid)):
            yield uuid.lower()
        case Luks(uuid=uuid) | MdArray(uuid=uuid) | PartitionTable(uuid=uuid):
            yield uuid.lower()
        case _:
            pass


def _names(node: AnyNode) -> Iterator[str]:
    match node:
        case MdArray(kernel_name=name):
            yield f"/dev/{name}"
        case Luks(mapper=str(name)):
            yield f"/dev/mapper/{name}"
        case _:
            pass


def _disks(target: Layout, node: AnyNode) -> str:
    return " and ".join(f"/dev/{disk.kernel_name}" for disk in target.disks_of(node))
