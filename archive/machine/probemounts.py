"""Mounts, swap in use and /etc/fstab: fstab(5), proc(5)'s mountinfo and swaps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from archive import mounts as kernel
from archive.machine.layoutchecks import node_id
from archive.machine.layoutfiles import Filesystem, Mount, Subvolume, Swap
from archive.machine.layoutnodes import Opaque
from archive.machine.probecontent import Gathering, read_signature, swap_size
from archive.machine.probedevices import Device
from archive.machine.probesystem import Asker
from archive.mounts import MountTable, Nature, parse_mountinfo, unescaped

_MOUNTINFO = "/proc/self/mountinfo"
_SHOWN = (Nature.LOCAL, Nature.USER)


@dataclass(frozen=True, slots=True)
class SwapInUse:
    """A line of /proc/swaps."""

    path: str
    is_file: bool
    size_bytes: int
    priority: int | None


def parse_swaps(text: str) -> tuple[SwapInUse, ...]:
    """Return the swap areas in use; a priority below 0 is the kernel's own, and None."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) == 5:
            priority = int(fields[4])
            found.append(
                SwapInUse(
                    path=os.fsdecode(unescaped(os.fsencode(fields[0]))),
                    is_file=fields[1] == "file",
                    size_bytes=int(fields[2]) * 1024,
                    priority=None if priority < 0 else priority,
                )
            )
    return tuple(found)


def parse_fstab(text: str) -> dict[str, str]:
    """Return the options of each mount point in a file as fstab(5) has it."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 4 and not fields[0].startswith("#") and fields[1].startswith("/"):
            point = os.fsdecode(unescaped(os.fsencode(fields[1])))
            found[point.rstrip("/") or "/"] = fields[3]
    return found


def read_table(asker: Asker) -> MountTable:
    """Return what is mounted. Raises CannotRead."""
    text = asker.system.read(_MOUNTINFO) or ""
    return MountTable(parse_mountinfo(os.fsencode(text)))


def numbers_of(table: MountTable, asker: Asker) -> dict[int, str]:
    """Return the block device's number, as ``254:1``, of each mount, by the mount's number.

    The files of btrfs have a number that is no device's: there the source tells.
    """
    found = {}
    for mount in table.mounts:
        number = f"{os.major(mount.device)}:{os.minor(mount.device)}"
        if mount.source.startswith(b"/") and number.startswith("0:"):
            number = asker.system.number(os.fsdecode(mount.source)) or number
        found[mount.number] = number
    return found


def points_of(table: MountTable, numbers: Mapping[int, str]) -> dict[str, tuple[str, str]]:
    """Return, by device number, where each is mounted, and which of its subvolumes is there.

    Of several places the one that shows most: the top of btrfs.
    """
    found: dict[str, tuple[str, str]] = {}
    for mount in table.mounts:
        subvolume = os.fsdecode(mount.subvolume or b"/").strip("/")
        known = found.get(numbers[mount.number])
        if known is None or (known[1] and not subvolume):
            found[numbers[mount.number]] = (os.fsdecode(mount.point), subvolume)
    return found


def add_mounts(found: Gathering, table: MountTable, numbers: Mapping[int, str]) -> None:
    """Add what is mounted of the machine's own filesystems."""
    options = parse_fstab(found.asker.system.read("/etc/fstab") or "")
    flags = parse_flags(found.asker.system.read(_MOUNTINFO) or "")
    devices = {device.number: device for device in found.devices}
    shown: set[tuple[str, str]] = set()
    for mount in table.mounts:
        if mount.nature not in _SHOWN:
            continue
        source = _source(found, mount, devices.get(numbers[mount.number]))
        if source is None:
            continue
        root = _root(mount)
        point = os.fsdecode(mount.point)
        found.nodes.append(
            Mount(
                id=node_id("mount", point),
                source=source,
                point=point,
                root=root,
                bind=root != "/" or (source, root) in shown,
                options=_options(mount, flags.get(mount.number, "")),
                fstab=options.get(point),
            )
        )
        shown.add((source, root))


def parse_flags(text: str) -> dict[int, str]:
    """Return the options of each mount (not of its filesystem) by its number in mountinfo."""
    rows = (line.split(" ") for line in text.splitlines())
    return {int(row[0]): row[5] for row in rows if len(row) > 6 and row[0].isdecimal()}


def _options(mount: kernel.Mount, flags: str) -> tuple[str, ...]:
    words = f"{flags},{os.fsdecode(mount.options)}".split(",")
    access = "ro" if mount.read_only else "rw"
    return tuple(dict.fromkeys((access, *(one for one in words if one not in ("rw", "ro", "")))))


def _root(mount: kernel.Mount) -> str:
    """Return the directory of the subvolume, or filesystem, that a mount shows."""
    root = os.fsdecode(mount.root)
    subvolume = os.fsdecode(mount.subvolume or b"/").rstrip("/")
    if subvolume and (root == subvolume or root.startswith(subvolume + "/")):
        root = root[len(subvolume) :]
    return root or "/"


def _source(found: Gathering, mount: kernel.Mount, device: Device | None) -> str | None:
    """Return the id of what a mount shows; None where it is nothing of this machine's disks."""
    if device is None:
        if mount.nature is Nature.USER or mount.source.startswith(b"/dev/loop"):
            return None
        return _strange(found, mount)
    held = found.files.get(device.kernel_name)
    if held is None:
        return _strange(found, mount, device)
    subvolume = os.fsdecode(mount.subvolume or b"/").strip("/")
    if subvolume:
        wanted = node_id("subvolume", f"{held.partition(':')[2]}/{subvolume}")
        if any(isinstance(node, Subvolume) and node.id == wanted for node in found.nodes):
            return wanted
    return held


def _strange(found: Gathering, mount: kernel.Mount, device: Device | None = None) -> str:
    """Add a node for a filesystem on nothing that is known."""
    on = () if device is None else (found.ids[device.kernel_name],)
    source = os.fsdecode(mount.source)
    name = node_id("opaque", source if device is None else found.tail(device))
    if not any(node.id == name for node in found.nodes):
        found.nodes.append(Opaque(id=name, on=on, what=f"{mount.kind} of {source}"))
        found.refuse(name, f"{mount.kind} of {source} cannot be made anew")
    return name


def add_swap(found: Gathering, table: MountTable) -> None:
    """Add swap files, and the priority of areas in use."""
    devices = {device.number: device for device in found.devices}
    points = {node.point: node for node in found.nodes if isinstance(node, Mount)}
    for one in parse_swaps(found.asker.system.read("/proc/swaps") or ""):
        if not one.is_file:
            device = devices.get(found.asker.system.number(one.path) or "")
            if device is not None:
                _set_priority(found, f"swap:{found.tail(device)}", one.priority)
            continue
        holder = table.holder(os.fsencode(one.path))
        mount = None if holder is None else points.get(os.fsdecode(holder.point))
        if mount is not None:
            found.nodes.append(_swap_file(found, one, mount))


def _set_priority(found: Gathering, name: str, priority: int | None) -> None:
    for place, node in enumerate(found.nodes):
        if isinstance(node, Swap) and node.id == name:
            found.nodes[place] = replace(node, priority=priority)


def _swap_file(found: Gathering, one: SwapInUse, mount: Mount) -> Swap:
    nodes = {node.id: node for node in found.nodes}
    source = nodes[mount.source]
    path = one.path.removeprefix(mount.point.rstrip("/"))
    if mount.root != "/":
        path = mount.root + path
    if isinstance(source, Subvolume):
        path = f"/{source.path}{path}"
        source = nodes[source.filesystem]
    signature = read_signature(found.asker, one.path)
    # Of a file the kernel uses what lies in whole pages of the disk, not all of it.
    page, size = swap_size(found.asker, one.path, one.size_bytes)
    return Swap(
        id=node_id("swap", one.path),
        on=source.id if isinstance(source, Filesystem) else mount.source,
        path=path,
        size_bytes=size,
        page_bytes=page,
        uuid=signature.uuid,
        label=signature.label,
        priority=one.priority,
    )
