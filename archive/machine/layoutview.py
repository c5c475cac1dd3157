"""A storage layout for people: a tree, and Mondo's mountlist.

Arrays and volume groups, which lie on several devices, begin trees of their own below those of
the disks; their members name them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from archive.machine.layout import AnyNode, Layout, files_of, partitions_of
from archive.machine.layoutfiles import BtrfsSettings, Filesystem, Mount, Subvolume, Swap
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

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_SECTOR = 512
_DEVICES = (Disk, Partition, MdArray, Luks, LogicalVolume)


def size_words(size_bytes: int | None) -> str:
    """Return a size such as ``512 MiB`` or ``1.5 GiB``; the units are powers of 1024."""
    if size_bytes is None:
        return "unknown size"
    size = float(size_bytes)
    for unit in _UNITS[:-1]:
        if size < 1023.95:
            return f"{size:.1f} {unit}".replace(".0 ", " ")
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def device_path(node: Node) -> str:
    """Return the device that a node was when it was seen, as ``/dev/vg0/root``."""
    match node:
        case Disk(kernel_name=name) | MdArray(kernel_name=name):
            return f"/dev/{name.replace('!', '/')}"
        case Luks(mapper=str(name)):
            return f"/dev/mapper/{name}"
        case _:
            return f"/dev/{node.id.partition(':')[2].replace('!', '/')}"


def tree(layout: Layout) -> str:
    """Return the layout as lines of a tree, then what is not supported."""
    lines = [line for _, branch in trees(layout) for line in branch]
    if layout.unsupported:
        lines += ["", "cannot be restored:"]
        lines += [f"  {one.node}: {one.words}" for one in layout.unsupported]
    return "\n".join(lines)


def trees(layout: Layout) -> Iterator[tuple[AnyNode, tuple[str, ...]]]:
    """Yield what begins a tree of its own, a disk, an array, a volume group, and its lines."""
    for node in layout.nodes:
        if _is_root(node):
            yield node, (describe(node, layout), *_branches(node, layout, ""))


def _is_root(node: Node) -> bool:
    return isinstance(node, (Disk, MdArray, VolumeGroup)) or not node.below


def _branches(node: AnyNode, layout: Layout, indent: str) -> Iterator[str]:
    children = list(_children(node, layout))
    for number, child in enumerate(children):
        is_last = number == len(children) - 1
        is_shown = not _is_root(child) and not _is_elsewhere(node, child, layout)
        words = describe(child, layout) if is_shown else f"part of {_name(child)}"
        yield f"{indent}{'└─' if is_last else '├─'} {words}"
        if is_shown:
            yield from _branches(child, layout, indent + ("   " if is_last else "│  "))


def _name(node: Node) -> str:
    return device_path(node) if isinstance(node, MdArray) else node.id


def _is_elsewhere(node: Node, child: AnyNode, layout: Layout) -> bool:
    """Tell whether what lies on a child is shown below another of its devices."""
    several = isinstance(child, (Filesystem, Opaque)) and len(child.below) > 1
    return several and layout.below(child)[0].id != node.id


def _children(node: AnyNode, layout: Layout) -> Iterator[AnyNode]:
    """Yield what a tree shows below a node: tables, mounts and hidden volumes are words."""
    for child in layout.above(node):
        match child:
            case Mount():
                continue
            case PartitionTable():
                yield from sorted(partitions_of(layout, child), key=lambda one: one.start)
            case LogicalVolume(kind=kind):
                if kind is not LvKind.HIDDEN and isinstance(node, VolumeGroup):
                    yield child
            case _:
                yield child


def _where(node: AnyNode, layout: Layout) -> str:
    """Return the mount points of a filesystem or subvolume, in words."""
    mounts = [mount for mount in files_of(layout, node) if mount.source == node.id]
    points = [f"{mount.point} (bind)" if mount.bind else mount.point for mount in mounts]
    return f" on {', '.join(points)}" if points else ""


def _label(label: str | None) -> str:
    return f' "{label}"' if label else ""


def describe(node: AnyNode, layout: Layout) -> str:
    """Return one line that says what a node is."""
    return _words(node, layout)


@singledispatch
def _words(node: AnyNode, layout: Layout) -> str:
    raise TypeError(f"no words for {type(node).__name__}")


@_words.register
def _disk(node: Disk, layout: Layout) -> str:
    tables = [one for one in layout.above(node) if isinstance(one, PartitionTable)]
    parts = [f"disk {size_words(node.size_bytes)}"]
    parts += [f"{one.kind} {one.uuid}" for one in tables]
    parts += [text for text in (node.model, node.transport) if text]
    if node.serial:
        parts.append(f"serial {node.serial}")
    elif node.wwn:
        parts.append(f"WWN {node.wwn}")
    if (node.logical_sector, node.physical_sector) != (_SECTOR, _SECTOR):
        parts.append(f"sectors {node.logical_sector}/{node.physical_sector}")
    return f"{device_path(node)}  {', '.join(parts)}"


@_words.register
def _table(node: PartitionTable, layout: Layout) -> str:
    return f"{node.kind} {node.uuid}"


@_words.register
def _partition(node: Partition, layout: Layout) -> str:
    kind = "" if node.kind is PartitionKind.PRIMARY else f"{node.kind} "
    active = ", active" if node.active else ""
    words = f"{kind}partition {size_words(node.size_bytes)}, type {node.type}{active}"
    return f"{device_path(node)}  {words}{_label(node.name)}"


@_words.register
def _array(node: MdArray, layout: Layout) -> str:
    names = [
        f"{device_path(device)}{' (spare)' if member.slot is None else ''}"
        for member, device in zip(node.members, layout.below(node), strict=True)
    ]
    layout_words = f" {node.layout}" if node.layout else ""
    words = f"{node.level}{layout_words} {size_words(node.size_bytes)}, metadata {node.metadata}"
    missing = node.slots - sum(member.slot is not None for member in node.members)
    lacks = f", {missing} missing" if missing else ""
    return f"{device_path(node)}  {words}, of {', '.join(names)}{lacks}"


@_words.register
def _physical(node: PhysicalVolume, layout: Layout) -> str:
    return f"physical volume {node.uuid}"


@_words.register
def _group(node: VolumeGroup, layout: Layout) -> str:
    size = sum(one.size_bytes for one in layout.all(PhysicalVolume) if one.id in node.volumes)
    extent = size_words(node.extent_bytes)
    return f"{node.id}  volume group {size_words(size)}, extents of {extent}"


@_words.register
def _logical(node: LogicalVolume, layout: Layout) -> str:
    words = node.segments[0].type if node.kind is LvKind.RAID else node.kind.value
    origin = f" of {node.origin}" if node.origin else ""
    pool = f" in {node.pool}" if node.pool else ""
    return f"{device_path(node)}  {words}{origin}{pool} {size_words(node.size_bytes)}"


@_words.register
def _luks(node: Luks, layout: Layout) -> str:
    name = f"opened as {node.mapper}" if node.mapper else "locked"
    return f"LUKS {node.version} {node.cipher} {node.key_bits} bits{_label(node.label)}, {name}"


@_words.register
def _filesystem(node: Filesystem, layout: Layout) -> str:
    profile = ""
    if isinstance(node.settings, BtrfsSettings) and len(node.devices) > 1:
        profile = f" {node.settings.data or ''} of {len(node.devices)} devices"
    uuid = f" {node.uuid}" if node.uuid else ""
    return f"{node.family}{profile}{_label(node.label)}{uuid}{_where(node, layout)}"


@_words.register
def _subvolume(node: Subvolume, layout: Layout) -> str:
    kind = "snapshot" if node.snapshot else "subvolume"
    (filesystem,) = layout.below(node)
    settings = filesystem.settings if isinstance(filesystem, Filesystem) else None
    is_default = isinstance(settings, BtrfsSettings) and settings.default_subvolume == node.path
    words = [f"{kind} {node.path}"]
    words += ["read-only"] if node.read_only else []
    words += ["default"] if is_default else []
    return f"{', '.join(words)}{_where(node, layout)}"


@_words.register
def _swap(node: Swap, layout: Layout) -> str:
    where = f" in {node.path}" if node.path else ""
    uuid = f" {node.uuid}" if node.uuid else ""
    return f"swap{where}{_label(node.label)} {size_words(node.size_bytes)}{uuid}"


@_words.register
def _opaque(node: Opaque, layout: Layout) -> str:
    return f"{node.what} ({size_words(node.size_bytes)}){_where(node, layout)}"


@_words.register
def _mount(node: Mount, layout: Layout) -> str:
    return f"{node.point} ({','.join(node.options)})"


def mountlist(layout: Layout) -> str:
    """Return the layout as Mondo Rescue's mountlist.

    A line for each device: device, mount point, filesystem, size in KiB, label or UUID. What is not
    mounted but used has what uses it (``raid``, ``lvm``, ``luks``, ``swap``, ``none``) in place
    of a mount point. White space in a mount point is escaped as in fstab(5).
    """
    lines = []
    for node in layout.nodes:
        above = [one for one in layout.above(node) if node.id in one.claims]
        size = getattr(node, "size_bytes", None) if isinstance(node, _DEVICES) else None
        if size is None or not above or isinstance(above[0], PartitionTable):
            continue
        for point, family, name in _uses(above[0], layout):
            line = f"{device_path(node)} {_escaped(point)} {family} {size // 1024} {_escaped(name)}"
            lines.append(line.rstrip())
    for swap in layout.all(Swap):
        if swap.path is not None:
            size_kib = swap.size_bytes // 1024
            lines.append(f"{_escaped(swap.path)} swap swap {size_kib} {swap.uuid or ''}".rstrip())
    return "\n".join(lines)


def _uses(node: AnyNode, layout: Layout) -> Iterator[tuple[str, str, str]]:
    match node:
        case MdArray():
            yield "raid", "raid", node.uuid
        case PhysicalVolume():
            yield "lvm", "lvm", node.uuid
        case Luks():
            yield "luks", "luks", node.uuid
        case Swap():
            yield "swap", "swap", node.label or node.uuid or ""
        case Filesystem():
            points = [mount.point for mount in files_of(layout, node) if not mount.bind]
            for point in points or ["none"]:
                yield point, node.family, node.label or node.uuid or ""
        case _:
            yield "none", "unknown", ""


def _escaped(text: str) -> str:
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in text)
