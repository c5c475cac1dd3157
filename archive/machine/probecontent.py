"""What lies on a block device: its table, its part of an array or a group, its files.

``Gathering`` collects the nodes while a machine is asked; probe.py builds the layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from archive.errors import CannotRead
from archive.machine import layoutchecks as check
from archive.machine import probeluks, probetables
from archive.machine.layout import AnyNode, Unsupported
from archive.machine.layoutfiles import (
    BtrfsMember,
    BtrfsSettings,
    ExtSettings,
    Family,
    Filesystem,
    Settings,
    Subvolume,
    Swap,
    XfsSettings,
)
from archive.machine.layoutnodes import Luks, Opaque
from archive.machine.probedevices import Device
from archive.machine.probefiles import (
    parse_btrfs_super,
    parse_btrfs_usage,
    parse_default,
    parse_dumpe2fs,
    parse_subvolumes,
    parse_xfs,
)
from archive.machine.probesystem import Asker
from archive.machine.probetables import Signature
from archive.machine.superblocks import place, read_settings, read_swap

_EXT = (Family.EXT2, Family.EXT3, Family.EXT4)
_NOTHING_FOUND, _AMBIVALENT = 2, 8
MEMBERS = ("LVM2_member", "linux_raid_member", "mpath_member")
"""Signatures of what is a node of its own only where all of it is there."""


@dataclass(slots=True)
class Gathering:
    """The nodes that were found, and what of a machine has which."""

    asker: Asker
    devices: tuple[Device, ...]
    ids: dict[str, str]
    """Of devices, by kernel name."""
    nodes: list[AnyNode] = field(default_factory=list)
    unsupported: list[Unsupported] = field(default_factory=list)
    signatures: dict[str, Signature] = field(default_factory=dict)
    """By kernel name."""
    files: dict[str, str] = field(default_factory=dict)
    """Filesystem (or opaque) nodes by the kernel name of each of their devices."""

    def refuse(self, node: str, words: str) -> None:
        """Note what a restore could not bring back."""
        self.unsupported.append(Unsupported(node, words))

    def tail(self, device: Device) -> str:
        """Return what ids of nodes on a device end with."""
        return self.ids[device.kernel_name].partition(":")[2]


def read_signature(asker: Asker, path: str) -> Signature:
    """Return what is written on a device or in a file. Raises CannotRead."""
    ended = asker.system.run("blkid", "-p", "-o", "udev", path)
    # The status of a device that cannot be opened is that of one with nothing on it.
    if ended.status in (0, _AMBIVALENT) or (ended.status, ended.errors) == (_NOTHING_FOUND, ""):
        return probetables.parse_blkid(ended.output)
    raise asker.failure(("blkid", "-p", "-o", "udev", path), ended)


def read_luks(
    asker: Asker, device: Device, signature: Signature, *, on: str, mapping: Device | None
) -> Luks:
    """Return the encrypted volume on a device; ``mapping`` is what opened it. Raises CannotRead."""
    name = on.partition(":")[2] if mapping is None else mapping.name
    text = asker.output("cryptsetup", "luksDump", device.path)
    if signature.version == "1":
        luks = probeluks.parse_luks1(text, on=on, name=name)
    else:
        argv = ("cryptsetup", "luksDump", "--dump-json-metadata", device.path)
        luks = probeluks.parse_luks2(text, asker.output(*argv), on=on, name=name)
    if mapping is None:
        return luks
    return replace(luks, mapper=mapping.name, size_bytes=mapping.size_bytes)


def add_filesystem(
    found: Gathering, device: Device, signature: Signature, points: Mapping[str, tuple[str, str]]
) -> None:
    """Add the filesystem or swap area on a device; what is neither, as opaque.

    ``points``: of mounted devices, by number, where, and (of btrfs) which subvolume is seen.
    """
    on, tail = found.ids[device.kernel_name], found.tail(device)
    if signature.type == "swap":
        page, size = swap_size(found.asker, device.path, device.size_bytes)
        found.nodes.append(
            Swap(
                id=f"swap:{tail}",
                on=on,
                size_bytes=size,
                uuid=signature.uuid,
                label=signature.label,
                page_bytes=page,
            )
        )
        return
    try:
        family = Family(signature.type or "")
    except ValueError:
        add_opaque(found, device, signature, used=device.number in points)
        return
    if family is Family.BTRFS:
        _add_btrfs(found, device, signature, points)
        return
    settings = _settings(found.asker, family, device)
    node = Filesystem(
        id=f"fs:{tail}",
        devices=(on,),
        family=family,
        uuid=signature.uuid,
        label=signature.label,
        settings=settings,
        size_bytes=_size(settings),
    )
    found.nodes.append(node)
    found.files[device.kernel_name] = node.id
    _note_outside(found, node)


def swap_size(asker: Asker, path: str, otherwise: int) -> tuple[int, int]:
    """Return page size and size of a swap area, as its header tells them."""
    found = read_swap(lambda offset, size: asker.system.block(path, offset, size))
    return found or (4096, otherwise)


def _size(settings: Settings) -> int | None:
    if isinstance(settings, (ExtSettings, XfsSettings)):
        return settings.blocks * settings.block_bytes
    return None


def _note_outside(found: Gathering, node: Filesystem) -> None:
    settings = node.settings
    if getattr(settings, "internal_log", True) is False:
        found.refuse(node.id, "its log is on another device")
    if getattr(settings, "realtime", False):
        found.refuse(node.id, "it has a realtime section on another device")
    if getattr(settings, "journal_uuid", None) is not None:
        found.refuse(node.id, "its journal is on another device")


def add_opaque(found: Gathering, device: Device, signature: Signature, *, used: bool) -> None:
    """Add what is on a device and not known; ``used``: something of the machine is in it."""
    what = signature.type or f"one of {', '.join(signature.ambivalent)}"
    opaque = Opaque(
        id=f"opaque:{found.tail(device)}",
        on=(found.ids[device.kernel_name],),
        what=what,
        size_bytes=device.size_bytes,
    )
    found.nodes.append(opaque)
    found.files[device.kernel_name] = opaque.id
    if used:
        found.refuse(opaque.id, f"{what} cannot be made anew")


def _settings(asker: Asker, family: Family, device: Device) -> Settings:
    if family in _EXT:
        return parse_dumpe2fs(asker.output("dumpe2fs", "-h", device.path), where=device.path)
    if family is Family.XFS:
        text = asker.output("xfs_db", "-r", "-c", "info", device.path)
        return parse_xfs(text, where=device.path)
    where = place(family)
    data = None if where is None else asker.system.block(device.path, *where)
    if data is None:
        raise CannotRead(
            f"the super block of {device.path} cannot be read", hint="run this as root"
        )
    return read_settings(family, data, where=device.path)


def _add_btrfs(
    found: Gathering, device: Device, signature: Signature, points: Mapping[str, tuple[str, str]]
) -> None:
    """Add a btrfs filesystem, all of its devices at once."""
    if device.kernel_name in found.files:
        return
    mine = [
        one
        for one in found.devices
        if (other := found.signatures.get(one.kernel_name)) is not None
        and (other.type, other.uuid) == (signature.type, signature.uuid)
    ]
    supers: list[tuple[BtrfsMember, Device]] = []
    settings, count = None, 0
    for one in mine:
        text = found.asker.output("btrfs", "inspect-internal", "dump-super", one.path)
        settings, count = parse_btrfs_super(text, where=one.path)
        supers.append((settings.members[0], one))
    if settings is None:
        raise CannotRead(f"the super block of {device.path} cannot be read")
    supers.sort(key=lambda one: one[0].number)
    node_id = f"fs:{found.tail(supers[0][1])}"
    settings = replace(settings, members=tuple(member for member, _ in supers))
    point = next((points[one.number] for _, one in supers if one.number in points), None)
    if point is not None:
        settings = _add_subvolumes(found, node_id, settings, point)
    node = Filesystem(
        id=node_id,
        devices=tuple(found.ids[one.kernel_name] for _, one in supers),
        family=Family.BTRFS,
        uuid=signature.uuid,
        label=signature.label,
        settings=settings,
    )
    found.nodes.append(node)
    for _, one in supers:
        found.files[one.kernel_name] = node_id
    if count != len(supers):
        found.refuse(node_id, f"{count - len(supers)} of its {count} devices are missing")


def _add_subvolumes(
    found: Gathering, node_id: str, settings: BtrfsSettings, point: tuple[str, str]
) -> BtrfsSettings:
    where, seen_at = point
    ask = found.asker.output
    listed = parse_subvolumes(ask("btrfs", "subvolume", "list", "-a", "-q", where), seen_at=seen_at)
    frozen = {
        one.number
        for one in parse_subvolumes(
            ask("btrfs", "subvolume", "list", "-a", "-q", "-r", where), seen_at=seen_at
        )
    }
    default = parse_default(ask("btrfs", "subvolume", "get-default", where))
    profiles = parse_btrfs_usage(ask("btrfs", "filesystem", "usage", "-b", where))
    for one in listed:
        found.nodes.append(
            Subvolume(
                id=check.node_id("subvolume", f"{node_id.partition(':')[2]}/{one.path}"),
                filesystem=node_id,
                path=one.path,
                read_only=one.number in frozen,
                snapshot=one.has_parent,
            )
        )
    return replace(
        settings,
        data=profiles.get("Data"),
        metadata=profiles.get("Metadata"),
        default_subvolume=next((one.path for one in listed if one.number == default), None),
    )
