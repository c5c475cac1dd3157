"""The nodes of a storage layout, from disks up to encrypted volumes.

Each node has an id, which is made of its kind and of what it is called on its machine, and names
the nodes that it lies on by theirs. What makes a node come back as it was is in it; what a
restore cannot set (when it was made, how full it is) is not. Filesystems and what lies on them
are in archive/machine/layoutfiles.py.

Sizes and offsets are bytes unless a name says otherwise.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from archive.errors import LayoutInvalid
from archive.machine import layoutchecks as check


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A part of a layout."""

    id: str

    @property
    def below(self) -> tuple[str, ...]:
        """The ids of all nodes that it needs to be there."""
        return ()

    @property
    def claims(self) -> tuple[str, ...]:
        """Those of them that nothing else may lie on."""
        return ()

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        check.fits("a node's id", self.id, check.ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk(Node):
    """A disk as the kernel shows it; told from others by ``serial`` or ``wwn``."""

    kernel_name: str
    """As it was called when it was seen; another boot may call it otherwise."""
    size_bytes: int
    logical_sector: int
    physical_sector: int
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    transport: str | None = None
    """``sata``, ``nvme``, ``usb``, ``iscsi``, ..."""
    rotational: bool = False

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a disk's name", self.kernel_name, check.KERNEL_NAME)
        check.power_of_two("a logical sector's size", self.logical_sector, least=512, most=65536)
        check.power_of_two(
            "a physical sector's size", self.physical_sector, least=512, most=1 << 30
        )
        for text in (self.model, self.serial, self.wwn, self.transport):
            check.plain("a disk's name", text, most=256)


_GPT_ENTRIES = 128
_GPT_ENTRY_BYTES = 128


class TableKind(enum.StrEnum):
    """A partition table's format."""

    GPT = "gpt"
    DOS = "dos"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTable(Node):
    """A partition table, on a disk or on any other device."""

    on: str
    kind: TableKind
    uuid: str
    """A GPT's GUID in upper case; a dos table's number as ``0x1234abcd``."""
    sector_bytes: int
    """All sectors of the table and its partitions are of this size."""
    first_sector: int | None = None
    """Of a GPT the first and the last sector that partitions may have."""
    last_sector: int | None = None
    entries: int | None = None
    """Of a GPT: how many partitions it has room for."""

    @property
    def room(self) -> int:
        """How many partitions a GPT has room for, where it does not tell as many as most."""
        return self.entries or _GPT_ENTRIES

    @property
    def entry_sectors(self) -> int:
        """The sectors that each of a GPT's two copies of its entries takes."""
        return -(-self.room * _GPT_ENTRY_BYTES // self.sector_bytes)

    @property
    def below(self) -> tuple[str, ...]:
        """The device."""
        return (self.on,)

    @property
    def claims(self) -> tuple[str, ...]:
        """The device."""
        return (self.on,)

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a partition table's UUID", self.uuid, check.DISK_UUID)
        check.power_of_two("a sector's size", self.sector_bytes, least=512, most=65536)
        is_gpt = self.kind is TableKind.GPT
        if is_gpt == self.uuid.startswith("0x"):
            raise LayoutInvalid(f"{self.uuid} cannot be the UUID of a {self.kind} table")
        if is_gpt and None in (self.first_sector, self.last_sector):
            raise LayoutInvalid(f"{self.id} is a GPT without bounds")


class PartitionKind(enum.StrEnum):
    """What a partition is in its table."""

    PRIMARY = "primary"
    EXTENDED = "extended"
    """Of a dos table: nothing lies on it but its logical partitions."""
    LOGICAL = "logical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Node):
    """A partition; ``start`` and ``size`` in sectors of its table."""

    table: str
    number: int
    start: int
    size: int
    size_bytes: int
    type: str
    """A GUID in upper case; of a dos table one byte in hexadecimal, as ``83``."""
    kind: PartitionKind = PartitionKind.PRIMARY
    uuid: str | None = None
    """Of a GPT."""
    name: str | None = None
    """Of a GPT."""
    attributes: int = 0
    """Of a GPT: the 64 bits of the entry."""
    active: bool = False
    """Of a dos table: marked for the BIOS."""

    @property
    def below(self) -> tuple[str, ...]:
        """The table."""
        return (self.table,)

    @property
    def end(self) -> int:
        """The first sector behind it."""
        return self.start + self.size

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a partition's type", self.type, check.PARTITION_TYPE)
        check.fits("a partition's UUID", self.uuid, check.UUID)
        check.plain("a partition's name", self.name, most=72)
        check.at_least("a partition's number", self.number, 1)
        check.at_least("a partition's start", self.start, 1)
        check.at_least("a partition's size", self.size, 1)


class MdLevel(enum.StrEnum):
    """What md makes of its members."""

    LINEAR = "linear"
    RAID0 = "raid0"
    RAID1 = "raid1"
    RAID4 = "raid4"
    RAID5 = "raid5"
    RAID6 = "raid6"
    RAID10 = "raid10"


class MdBitmap(enum.StrEnum):
    """Where an array notes what is being written."""

    NONE = "none"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class MdMember:
    """A device of an array; ``slot`` is its place in it, None that of a spare."""

    on: str
    slot: int | None
    data_offset_sectors: int | None = None
    """Where its data begins, in sectors of 512 bytes; None for metadata that lies at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MdArray(Node):
    """An array of Linux' own software RAID."""

    kernel_name: str
    name: str
    """With its home host, as ``host:0``, as the metadata has it; empty for metadata 0.90."""
    uuid: str
    level: MdLevel
    metadata: str
    size_bytes: int
    component_bytes: int
    """How much of each member is used; 0 with LINEAR."""
    slots: int
    """How many members it has when none is missing, spares not counted."""
    members: tuple[MdMember, ...]
    """By slot, spares last."""
    chunk_bytes: int | None = None
    layout: str | None = None
    """As mdadm(8) calls it: ``left-symmetric``, ``n2``."""
    bitmap: MdBitmap = MdBitmap.NONE

    @property
    def below(self) -> tuple[str, ...]:
        """The members."""
        return tuple(member.on for member in self.members)

    @property
    def claims(self) -> tuple[str, ...]:
        """The members."""
        return self.below

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("an array's UUID", self.uuid, check.MD_UUID)
        check.fits("a version of md's metadata", self.metadata, check.MD_METADATA)
        check.fits("an array's kernel name", self.kernel_name, check.KERNEL_NAME)
        check.fits("an array's layout", self.layout, check.WORD)
        check.plain("an array's name", self.name, most=64)
        filled = [member.slot for member in self.members if member.slot is not None]
        if not self.members or len(set(filled)) != len(filled) or self.slots < 1:
            raise LayoutInvalid(f"{self.id} has members that no array has")
        if any(slot >= self.slots for slot in filled):
            raise LayoutInvalid(f"{self.id} has a member in a place that it does not have")


@dataclass(frozen=True, slots=True)
class LuksSlot:
    """A key slot's parameters: what unlocks it is never read."""

    number: int
    key_bits: int
    cipher: str
    kdf: str
    """``pbkdf2``, ``argon2i``, ``argon2id``."""
    hash: str | None
    """Of PBKDF2."""
    iterations: int
    """Argon2's time cost, PBKDF2's iterations."""
    memory_kib: int | None = None
    threads: int | None = None
    stripes: int = 4000
    priority: str = "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Luks(Node):
    """An encrypted volume; its content was only seen if it was open (``mapper`` is there)."""

    on: str
    version: int
    uuid: str
    cipher: str
    key_bits: int
    hash: str
    """Of LUKS 1 that of everything, of LUKS 2 that of the volume key's digest."""
    sector_bytes: int
    offset_bytes: int
    """Where its data begins."""
    label: str = ""
    subsystem: str = ""
    mapper: str | None = None
    size_bytes: int | None = None
    """Of its content, if it was open."""
    slots: tuple[LuksSlot, ...] = ()
    flags: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    """Kinds of tokens (a TPM's, a FIDO key's): they are of this machine, no restore makes them."""

    @property
    def below(self) -> tuple[str, ...]:
        """The device."""
        return (self.on,)

    @property
    def claims(self) -> tuple[str, ...]:
        """The device."""
        return (self.on,)

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a LUKS volume's UUID", self.uuid, check.UUID)
        check.fits("a mapping's name", self.mapper, check.MAPPER_NAME)
        check.words("a cipher or hash", (self.cipher, self.hash, *self.flags, *self.tokens))
        check.plain("a LUKS volume's label", self.label, most=48)
        check.plain("a LUKS volume's subsystem", self.subsystem, most=48)
        check.power_of_two("a sector's size", self.sector_bytes, least=512, most=4096)
        if self.version not in (1, 2):
            raise LayoutInvalid(f"{self.id} is of LUKS version {self.version}")
        for slot in self.slots:
            check.words("a key slot's setting", (slot.cipher, slot.kdf, slot.priority))
            check.fits("a key slot's hash", slot.hash, check.WORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque(Node):
    """Something that is there and cannot be brought back: ZFS, bcache, a foreign filesystem."""

    on: tuple[str, ...]
    what: str
    size_bytes: int | None = None

    @property
    def below(self) -> tuple[str, ...]:
        """The devices, as far as they are known."""
        return self.on

    @property
    def claims(self) -> tuple[str, ...]:
        """The devices."""
        return self.on

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.plain("what a node is", self.what, most=200)
