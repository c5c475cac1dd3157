"""From a machine to its storage layout: asks, parses, and puts the nodes together.

What no restore can bring back is in the layout too, as a node and as ``Unsupported``: whoever makes
a backup decides. What cannot be read at all (no right, a missing tool) is CannotRead.
"""

from __future__ import annotations

from archive.errors import ArchiveError, CannotRead, LayoutInvalid
from archive.machine import layoutgraph, probelvm, probemd, probemounts
from archive.machine.layout import Layout
from archive.machine.layoutlvm import LogicalVolume, LvKind, PhysicalVolume
from archive.machine.layoutnodes import Disk, MdArray, Opaque
from archive.machine.probecontent import (
    MEMBERS,
    Gathering,
    add_filesystem,
    add_opaque,
    read_luks,
    read_signature,
)
from archive.machine.probedevices import Device, read_devices
from archive.machine.probelvm import LvmReport
from archive.machine.probesystem import Asker, System
from archive.machine.probetables import Signature, parse_sfdisk

_ARRAYS = ("raid", "linear", "md")
_TABLES = ("gpt", "dos")
_LUKS_MAPPING = "CRYPT-LUKS"
_MOST_WORDS = 100


def probe_layout(system: System) -> Layout:
    """Return the storage layout of a machine. Raises CannotRead."""
    asker = Asker(system)
    devices = read_devices(asker)
    report = LvmReport()
    if any(device.mapper_uuid.startswith("LVM-") for device in devices):
        report = probelvm.read_report(asker)
    found = Gathering(asker, devices, ids={})
    found.ids |= _ids(devices, probelvm.volume_ids(report))
    closed = probelvm.closed_ids(report)
    table = probemounts.read_table(asker)
    numbers = probemounts.numbers_of(table, asker)
    points = probemounts.points_of(table, numbers)
    for device in devices:
        _add_device(found, device)
        if _has_content(found, device, closed):
            _read_signature(found, device)
    if not report.physical and _members(found, "LVM2_member"):
        report = probelvm.read_report(asker)
    for device in devices:
        signature = found.signatures.get(device.kernel_name)
        if signature is None:
            continue
        try:
            _add_content(found, device, signature, points)
        except (CannotRead, LayoutInvalid) as error:
            _add_unreadable(found, device, error)
    _add_lvm(found, report)
    probemounts.add_mounts(found, table, numbers)
    probemounts.add_swap(found, table)
    _complete(found)
    return Layout.of(found.nodes, found.unsupported)


def _read_signature(found: Gathering, device: Device) -> None:
    try:
        signature = read_signature(found.asker, device.path)
    except CannotRead as error:
        _add_unreadable(found, device, error)
    else:
        found.signatures[device.kernel_name] = signature


def _add_unreadable(found: Gathering, device: Device, error: ArchiveError) -> None:
    """Add a device's content that cannot be read: the rest of the layout is known without it."""
    on = found.ids[device.kernel_name]
    name = f"opaque:{found.tail(device)}"
    if any(on in node.claims or node.id == name for node in found.nodes):
        raise error
    what = "something that cannot be read"
    found.nodes.append(Opaque(id=name, on=(on,), what=what, size_bytes=device.size_bytes))
    found.files[device.kernel_name] = name
    found.refuse(name, error.message + (f" ({error.hint})" if error.hint else ""))


def _ids(devices: tuple[Device, ...], volumes: dict[str, str]) -> dict[str, str]:
    """Return the ids of the nodes that devices are, by kernel name."""
    found = {}
    for device in devices:
        name = device.kernel_name
        if device.mapper_uuid in volumes:
            found[name] = volumes[device.mapper_uuid]
        elif device.kind == "crypt" and device.mapper_uuid.startswith(_LUKS_MAPPING):
            found[name] = f"luks:{device.name}"
        elif device.kind == "part" and device.parents:
            found[name] = f"part:mapper/{device.name}" if device.mapper_uuid else f"part:{name}"
        elif _is_array(device):
            found[name] = f"md:{name}"
        elif device.kind == "disk" and not device.parents:
            found[name] = f"disk:{name}"
        else:
            found[name] = f"opaque:{device.name}"
    return found


def _is_array(device: Device) -> bool:
    return device.kernel_name.startswith("md") and device.kind.startswith(_ARRAYS)


def _add_device(found: Gathering, device: Device) -> None:
    """Add the node that a device is, where it is one by itself."""
    name = found.ids[device.kernel_name]
    kind = name.partition(":")[0]
    if kind == "disk":
        found.nodes.append(
            Disk(
                id=name,
                kernel_name=device.kernel_name,
                size_bytes=device.size_bytes,
                logical_sector=device.logical_sector,
                physical_sector=device.physical_sector,
                model=device.model,
                serial=device.serial,
                wwn=device.wwn,
                transport=device.transport,
                rotational=device.rotational,
            )
        )
    elif kind == "md":
        try:
            array = probemd.read_array(found.asker, device, found.ids)
        except CannotRead as error:
            array = error.message
        if isinstance(array, MdArray):
            found.nodes.append(array)
        else:
            _add_strange(found, device, array)
    elif kind == "opaque" and not device.mapper_uuid.startswith("LVM-"):
        _add_strange(found, device, f"a device of type {device.kind}")


def _add_strange(found: Gathering, device: Device, words: str) -> None:
    name = found.ids[device.kernel_name]
    below = {found.ids[parent] for parent in device.parents if parent in found.ids}
    taken = {one for node in found.nodes for one in node.claims}
    on = tuple(sorted(below - taken))
    # With a key that is drawn at each boot there is nothing in it to restore.
    is_passing = device.mapper_uuid.startswith("CRYPT-PLAIN") and _is_swap(found, device)
    what = words if len(words) <= _MOST_WORDS else f"a device of type {device.kind}"
    if is_passing:
        what = "swap with a key of this boot's"
    found.nodes.append(Opaque(id=name, on=on, what=what, size_bytes=device.size_bytes))
    if not is_passing:
        found.refuse(name, f"{words} cannot be made anew")


def _is_swap(found: Gathering, device: Device) -> bool:
    areas = probemounts.parse_swaps(found.asker.system.read("/proc/swaps") or "")
    return any(found.asker.system.number(one.path) == device.number for one in areas)


def _has_content(found: Gathering, device: Device, closed: frozenset[str]) -> bool:
    """Tell whether a device is one that something may be written on."""
    name = found.ids[device.kernel_name]
    if name.startswith("opaque:") or name in closed:
        return False
    # An extended partition is as long as its boot record.
    return device.kind != "part" or device.size_bytes > 1024


def _add_content(
    found: Gathering,
    device: Device,
    signature: Signature,
    points: dict[str, tuple[str, str]],
) -> None:
    on = found.ids[device.kernel_name]
    inside = [one for one in found.devices if device.kernel_name in one.parents]
    if any(on in node.claims for node in found.nodes):
        return  # of an array, of multipath
    if signature.table in _TABLES and (signature.type is None or inside):
        _add_table(found, device)
    elif signature.table is not None and signature.type is None:
        add_opaque(
            found, device, Signature(f"{signature.table} partition table"), used=bool(inside)
        )
    elif signature.type == "crypto_LUKS":
        mapping = next((one for one in inside if one.kind == "crypt"), None)
        luks = read_luks(found.asker, device, signature, on=on, mapping=mapping)
        found.nodes.append(luks)
        if mapping is None:
            found.refuse(luks.id, "it is locked: nothing in it is seen or saved")
    elif signature.type in MEMBERS:
        if signature.type != "LVM2_member":
            add_opaque(found, device, signature, used=False)
    elif signature.type is not None or signature.ambivalent:
        add_filesystem(found, device, signature, points)


def _add_table(found: Gathering, device: Device) -> None:
    text = found.asker.output("sfdisk", "-J", device.path)
    on = found.ids[device.kernel_name]
    shown = {
        one.partition_number: found.ids[one.kernel_name]
        for one in found.devices
        if device.kernel_name in one.parents and one.kind == "part"
    }
    table, partitions = parse_sfdisk(text, on=on, tail=found.tail(device), shown=shown)
    layoutgraph.check_table(table, partitions, device.size_bytes)
    found.nodes.append(table)
    found.nodes += partitions
    for partition in partitions:
        if partition.number not in shown:
            found.refuse(partition.id, "the kernel does not show it: nothing in it is saved")


def _complete(found: Gathering) -> None:
    """Add, as opaque, the devices that something lies on and that nothing else explained."""
    for device in reversed(found.devices):
        name = found.ids[device.kernel_name]
        needed = {one for node in found.nodes for one in node.below}
        if name in needed and not any(node.id == name for node in found.nodes):
            _add_strange(found, device, f"a device of type {device.kind}")


def _members(found: Gathering, kind: str) -> list[Device]:
    return [
        device
        for device in found.devices
        if (signature := found.signatures.get(device.kernel_name)) and signature.type == kind
    ]


def _add_lvm(found: Gathering, report: LvmReport) -> None:
    rows = {row["pv_uuid"]: row for row in report.physical}
    volumes: dict[str, list[PhysicalVolume]] = {}
    paths: dict[str, str] = {}
    for device in _members(found, "LVM2_member"):
        on = found.ids[device.kernel_name]
        row = rows.get(found.signatures[device.kernel_name].uuid or "")
        if row is None or any(on in node.claims for node in found.nodes):
            continue
        volume = probelvm.physical_volume(row, on=on, tail=found.tail(device))
        found.nodes.append(volume)
        volumes.setdefault(row["vg_name"], []).append(volume)
        paths[row["pv_name"]] = volume.id
    for row in report.groups:
        _add_group(found, report, row, tuple(volumes.get(row["vg_name"], ())), paths)


def _add_group(
    found: Gathering,
    report: LvmReport,
    row: probelvm.Row,
    volumes: tuple[PhysicalVolume, ...],
    paths: dict[str, str],
) -> None:
    if not volumes:
        return  # on devices that are left out: loops over files
    group = probelvm.volume_group(row, volumes=tuple(one.id for one in volumes))
    found.nodes.append(group)
    if len(volumes) != int(row["pv_count"]):
        found.refuse(group.id, "some of its physical volumes are missing")
        return
    logical = probelvm.logical_volumes(report, group, paths)
    found.nodes += logical
    for one in logical:
        _note_volume(found, one)


def _note_volume(found: Gathering, volume: LogicalVolume) -> None:
    if volume.kind is LvKind.SNAPSHOT:
        found.refuse(volume.id, "a snapshot is not restored, only what it was made of")
    elif volume.kind is LvKind.OTHER:
        found.refuse(volume.id, f"a volume of type {volume.segments[0].type} cannot be made anew")
