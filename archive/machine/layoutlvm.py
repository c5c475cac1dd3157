"""The nodes of LVM in a storage layout, in LVM's own terms: lvm(8), lvs(8), lvmraid(7), lvmthin(7).

A logical volume is its segments; each segment maps a run of extents to areas, which are runs of
extents of physical volumes or of other logical volumes, the hidden ones among them
(``pool_tdata``, ``root_rimage_0``). So all that LVM's metadata says of where data lies is here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from archive.errors import LayoutInvalid
from archive.machine import layoutchecks as check
from archive.machine.layoutnodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalVolume(Node):
    """A device that LVM may use; its volume group names it, if it is in one."""

    on: str
    uuid: str
    size_bytes: int
    """Of its extents; of the device where it is in no group."""
    data_start: int
    extents: int
    metadata_copies: int
    metadata_bytes: int
    boot_area_start: int = 0
    boot_area_bytes: int = 0
    allocatable: bool = True
    tags: tuple[str, ...] = ()

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
        check.fits("a physical volume's UUID", self.uuid, check.LVM_UUID)
        check.words("a tag", self.tags, check.LVM_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeGroup(Node):
    """A volume group over ``volumes``, the ids of its physical volumes in LVM's order."""

    name: str
    uuid: str
    volumes: tuple[str, ...]
    extent_bytes: int
    allocation: str = "normal"
    tags: tuple[str, ...] = ()
    max_logical: int = 0
    max_physical: int = 0
    """0 is no limit."""
    metadata_copies: int = 0
    """0 is unmanaged."""
    system_id: str = ""
    autoactivation: bool = True

    @property
    def below(self) -> tuple[str, ...]:
        """The physical volumes."""
        return self.volumes

    @property
    def claims(self) -> tuple[str, ...]:
        """The physical volumes."""
        return self.volumes

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a volume group's name", self.name, check.LVM_NAME)
        check.fits("a volume group's UUID", self.uuid, check.LVM_UUID)
        check.fits("a policy", self.allocation, check.WORD)
        check.words("a tag", self.tags, check.LVM_TAG)
        check.plain("a system's id", self.system_id, most=128)
        check.at_least("an extent's size", self.extent_bytes, 1024)
        if not self.volumes:
            raise LayoutInvalid(f"{self.id} has no physical volume")


class LvKind(enum.StrEnum):
    """What a logical volume is."""

    LINEAR = "linear"
    STRIPED = "striped"
    MIRROR = "mirror"
    RAID = "raid"
    """Of the level that its segments' type tells."""
    THIN_POOL = "thin-pool"
    THIN = "thin"
    CACHE = "cache"
    """A volume with a cache in front of it; its segment's pool is the cache."""
    CACHE_POOL = "cache-pool"
    SNAPSHOT = "snapshot"
    """Of another volume, or of a thin one: it is not restored."""
    HIDDEN = "hidden"
    """A part of another: it comes with that."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class LvArea:
    """Where data lies: from extent ``start`` of a physical volume or of a hidden volume on."""

    on: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LvSegment:
    """A run of a logical volume's extents."""

    start: int
    extents: int
    type: str
    """LVM's word: ``linear``, ``striped``, ``raid1``, ``raid5_ls``, ``thin-pool``, ``thin``."""
    areas: tuple[LvArea, ...] = ()
    metadata: tuple[LvArea, ...] = ()
    """Of RAID the volumes that hold its metadata, of a pool the one that does."""
    stripes: int = 1
    stripe_bytes: int = 0
    region_bytes: int = 0
    chunk_bytes: int = 0
    thin_id: int | None = None
    """Of a thin volume its number in the pool."""
    transaction: int | None = None
    discards: str | None = None
    zero: bool | None = None
    cache_mode: str | None = None
    cache_policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalVolume(Node):
    """A logical volume; ``pool`` and ``origin`` are ids of others of its group."""

    group: str
    name: str
    uuid: str
    kind: LvKind
    size_bytes: int
    segments: tuple[LvSegment, ...]
    pool: str | None = None
    """Of a thin volume its pool, of a cached one its cache."""
    origin: str | None = None
    """Of a snapshot what it is of."""
    allocation: str = "inherit"
    read_only: bool = False
    skip_activation: bool = False
    autoactivation: bool = True
    active: bool = True
    read_ahead: str = "auto"
    minor: int | None = None
    """A fixed number of its device."""
    tags: tuple[str, ...] = ()

    @property
    def below(self) -> tuple[str, ...]:
        """Its group, and the volumes that hold its data."""
        areas = (
            area.on for segment in self.segments for area in (*segment.areas, *segment.metadata)
        )
        others = (one for one in (self.pool, self.origin) if one is not None)
        return (self.group, *dict.fromkeys((*areas, *others)))

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a logical volume's name", self.name, check.LVM_NAME)
        check.fits("a logical volume's UUID", self.uuid, check.LVM_UUID)
        check.words("a policy", (self.allocation, self.read_ahead))
        check.words("a tag", self.tags, check.LVM_TAG)
        if not self.segments:
            raise LayoutInvalid(f"{self.id[:80]} has no segment")
        for segment in self.segments:
            check.words("a segment's type", (segment.type,))
            for word in (segment.discards, segment.cache_mode, segment.cache_policy):
                check.fits("a segment's setting", word, check.WORD)
