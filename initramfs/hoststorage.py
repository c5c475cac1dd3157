"""What the storage layout of a machine asks of a kernel: device mapper, RAID arrays, far disks.

Every block device has its own folder in /sys/block, so a stack of them (LVM on LUKS on RAID on
NVMe) is read by reading each. What a device-mapper device is of is in no attribute; its UUID
says who made it and, for LVM's hidden layers, its suffix or its name says what as (lvm2:
``lib/activate/dev_manager.c``, and the names that lvm(8) reserves).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from initramfs.hostneeds import (
    Device,
    HostNeed,
    attribute,
    driver_needs,
    first_of_each,
    host_of,
    names_in,
)

_AREA = "storage of this machine"


@dataclass(frozen=True, slots=True)
class _Kind:
    """``marks`` by which something is known, the ``words`` that it needs, what it ``is``."""

    marks: tuple[str, ...]
    words: tuple[str, ...]
    what: str


def _kind(marks: str, words: str, what: str) -> _Kind:
    return _Kind(tuple(marks.split()), tuple(words.split()), what)


# By the beginning of the UUID; the first that fits.
_MAKERS = (
    _kind("CRYPT-VERITY-", "dm_verity", "checked by dm-verity"),
    _kind("CRYPT-INTEGRITY- CRYPT-SUBDEV-", "dm_integrity", "checked by dm-integrity"),
    _kind("CRYPT-", "dm_crypt", "encrypted"),
    _kind("mpath-", "dm_multipath", "a disk with several paths"),
    _kind("DMRAID-", "dm_mirror dm_raid", "an array of dmraid"),
    _kind("VDO-", "dm_vdo kvdo", "a volume of VDO"),
    _kind("stratis-1-", "dm_thin_pool dm_cache", "of a Stratis pool"),
    _kind("LVM-", "dm_mod", "a volume of LVM"),
)

# Parts of LVM's volumes, which it activates by these names: a user's own may not have them.
_LAYERS = (
    _kind("tpool tdata tmeta", "dm_thin_pool", "of a thin pool"),
    _kind("cdata cmeta corig", "dm_cache", "of a cached volume"),
    _kind("wcorig", "dm_writecache", "of a volume with a write cache"),
    _kind("rimage rmeta", "dm_raid", "of a RAID volume of LVM"),
    _kind("mimage mlog", "dm_mirror", "of a mirrored volume"),
    _kind("imeta iorig", "dm_integrity", "of a RAID volume with integrity"),
    _kind("cow", "dm_snapshot", "of a snapshot"),
    _kind("vpool vdata", "dm_vdo kvdo", "of a VDO pool"),
)
_LAYER = re.compile(rf"[-_]({'|'.join(m for kind in _LAYERS for m in kind.marks)})(?![a-z])")

# "LVM-" with the UUIDs of a group and of a volume, 32 characters each.
_LVM_UUID_CHARS = 4 + 64

# By the kernel's name, the number left out, where a device is more than an empty place.
_NAMES = (
    _kind("bcache", "bcache", "a cached device"),
    _kind("drbd", "drbd", "a replicated device"),
    _kind("loop", "loop", "a file as a device"),
    _kind("mmcblk", "mmc_block", "a memory card"),
    _kind("nbd", "nbd", "a disk of the network"),
    _kind("rbd", "rbd", "a disk of Ceph"),
    _kind("zram", "zram", "compressed memory"),
)
_NAME = re.compile(r"([a-z]+)\d+")

_TRANSPORTS = (
    _kind("tcp", "nvme_tcp", "NVMe over TCP"),
    _kind("rdma", "nvme_rdma", "NVMe over RDMA"),
    _kind("fc", "nvme_fc", "NVMe over Fibre Channel"),
)


def storage_needs(sys: Path) -> tuple[HostNeed, ...]:
    """Return what the layout below ``sys``/block needs, the devices' own drivers last.

    Each is named once, with the first device that needs it.
    """
    blocks = [Device(name, sys / "block" / name) for name in names_in(sys / "block")]
    controllers = [Device(name, sys / "class/nvme" / name) for name in names_in(sys / "class/nvme")]
    found = [need for block in blocks for need in _block_needs(block)]
    found += _transport_needs(controllers)
    found += _iscsi_needs(sys)
    found += driver_needs(sys, (*blocks, *controllers), _AREA)
    return first_of_each(found)


def cipher_needs(proc: Path) -> tuple[HostNeed, ...]:
    """Return the ciphers and digests that are in use, by ``proc``/crypto.

    What is registered alone has a reference count of 1; a volume that uses it adds to it.
    """
    found: dict[str, HostNeed] = {}
    for record in attribute(proc / "crypto").split("\n\n"):
        rows = dict(re.findall(r"^(name|refcnt|internal) *: (.*)$", record, re.MULTILINE))
        if rows.get("internal") == "no" and rows.get("refcnt") not in ("1", None):
            words = tuple(f"crypto-{word}" for word in re.split(r"[(),]+", rows["name"]) if word)
            why = f"cipher in use on this machine: {rows['name']}"
            found.setdefault(rows["name"], HostNeed(words, why, is_of_layout=False))
    return tuple(found.values())


def _block_needs(block: Device) -> Iterator[HostNeed]:
    uuid = attribute(block.folder / "dm/uuid")
    if uuid:
        name = attribute(block.folder / "dm/name")
        for kind in _mapper_kinds(uuid, name):
            yield _need(kind, f"{block.name} ({name})")
    level = attribute(block.folder / "md/level")
    if level:
        # What the kernel itself asks for; a container of other arrays has no level.
        yield HostNeed((f"md-{level}",), f"{_AREA}: {block.name} is {level}")
    numbered = _NAME.fullmatch(block.name)
    if numbered and attribute(block.folder / "size") not in ("0", ""):
        yield from (_need(kind, block.name) for kind in _NAMES if numbered[1] in kind.marks)


def _mapper_kinds(uuid: str, name: str) -> Iterator[_Kind]:
    yield from [kind for kind in _MAKERS if uuid.startswith(kind.marks)][:1]
    if uuid.startswith("LVM-"):
        # In a name, the hyphens of the group and of the volume are doubled.
        _, _, volume = name.replace("--", ".").partition("-")
        marks = set(_LAYER.findall(f"_{volume} {uuid[_LVM_UUID_CHARS:]}"))
        yield from (kind for kind in _LAYERS if marks.intersection(kind.marks))


def _transport_needs(controllers: list[Device]) -> Iterator[HostNeed]:
    for controller in controllers:
        transport = attribute(controller.folder / "transport")
        yield from (_need(kind, controller.name) for kind in _TRANSPORTS if transport in kind.marks)


def _iscsi_needs(sys: Path) -> Iterator[HostNeed]:
    sessions = sys / "class/iscsi_session"
    for name in names_in(sessions):
        if module := host_of(sys, sessions / name):
            yield HostNeed((module,), f"{_AREA}: {name} is of iSCSI, over {module}")
    if names_in(sys / "firmware/ibft"):
        why = f"{_AREA}: its firmware boots from iSCSI"
        yield HostNeed(("iscsi_ibft",), why, is_of_layout=False)


def _need(kind: _Kind, name: str) -> HostNeed:
    return HostNeed(kind.words, f"{_AREA}: {name} is {kind.what}")
