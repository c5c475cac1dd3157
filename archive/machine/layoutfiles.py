"""The nodes of a storage layout that hold files: filesystems, subvolumes, swap, mounts.

A filesystem's settings are those that its mkfs can set and that make it what it is; each family
has a type of its own. Hash seeds and the like, which no restored file depends on, are left out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from archive.errors import LayoutInvalid
from archive.machine import layoutchecks as check
from archive.machine.layoutnodes import Node


class Family(enum.StrEnum):
    """A filesystem's type, as mount(8) calls it."""

    EXT2 = "ext2"
    EXT3 = "ext3"
    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"
    VFAT = "vfat"
    EXFAT = "exfat"
    F2FS = "f2fs"
    JFS = "jfs"
    NILFS2 = "nilfs2"
    NTFS = "ntfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtSettings:
    """Of ext2, ext3 and ext4: see tune2fs(8), mke2fs(8), ext4(5)."""

    features: tuple[str, ...]
    """Without those that a state causes (``needs_recovery``, ``orphan_present``)."""
    block_bytes: int
    blocks: int
    inode_bytes: int
    inodes: int
    reserved_blocks: int
    reserved_uid: int
    reserved_gid: int
    blocks_per_group: int
    flex_group: int | None
    """Groups in a flex_bg."""
    cluster_bytes: int | None
    """With bigalloc."""
    stride_blocks: int | None
    stripe_width_blocks: int | None
    journal_bytes: int | None
    """None without a journal of its own."""
    journal_uuid: str | None
    """Of a journal on another device."""
    mount_options: tuple[str, ...]
    errors: str
    """``continue``, ``remount-ro``, ``panic``."""
    hash: str | None
    encoding: str | None
    """Of file names, with casefold: ``utf8-12.1``."""
    max_mounts: int | None
    """None is never."""
    check_interval_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class XfsSettings:
    """Of XFS: what ``xfs_db -r -c info`` tells, see mkfs.xfs(8)."""

    block_bytes: int
    sector_bytes: int
    inode_bytes: int
    blocks: int
    group_count: int
    group_blocks: int
    stripe_unit_blocks: int
    stripe_width_blocks: int
    inode_percent: int
    directory_block_bytes: int
    log_blocks: int
    log_version: int
    log_sector_bytes: int
    log_stripe_unit_blocks: int
    internal_log: bool
    realtime: bool
    features: tuple[str, ...]
    """Those that are on: ``crc``, ``reflink``, ``bigtime``, ``lazy-count``, ``ftype``, ..."""


@dataclass(frozen=True, slots=True)
class BtrfsMember:
    """A device of a btrfs filesystem."""

    number: int
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BtrfsSettings:
    """Of btrfs: see mkfs.btrfs(8). ``members`` are in the order of the filesystem's devices."""

    sector_bytes: int
    node_bytes: int
    checksum: str
    incompat: int
    compat_ro: int
    members: tuple[BtrfsMember, ...]
    data: str | None = None
    """Profiles: ``single``, ``dup``, ``raid1``, ...; None where it was not mounted."""
    metadata: str | None = None
    default_subvolume: str | None = None
    """The path of the subvolume that a mount without options shows; None for the top level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FatSettings:
    """Of FAT: see mkfs.fat(8)."""

    bits: int
    sector_bytes: int
    cluster_bytes: int
    reserved_sectors: int
    tables: int
    root_entries: int
    """0 with FAT32."""
    media: int
    hidden_sectors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Of exFAT and NTFS: see mkfs.exfat(8), mkntfs(8)."""

    sector_bytes: int
    cluster_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class F2fsSettings:
    """Of F2FS: see mkfs.f2fs(8)."""

    sector_bytes: int
    features: int
    """The bits of the super block."""
    section_segments: int
    zone_sections: int
    encoding: int
    """The number of the file names' encoding, with casefold; 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JfsSettings:
    """Of JFS: see mkfs.jfs(8)."""

    block_bytes: int
    log_bytes: int
    case_insensitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NilfsSettings:
    """Of NILFS2: see mkfs.nilfs2(8)."""

    block_bytes: int
    segment_blocks: int
    reserved_percent: int
    features: int
    """The bits of its compatible, read-only features."""


Settings = (
    ExtSettings
    | XfsSettings
    | BtrfsSettings
    | FatSettings
    | ClusterSettings
    | F2fsSettings
    | JfsSettings
    | NilfsSettings
)

SETTINGS_OF: dict[Family, type] = {
    Family.EXT2: ExtSettings,
    Family.EXT3: ExtSettings,
    Family.EXT4: ExtSettings,
    Family.XFS: XfsSettings,
    Family.BTRFS: BtrfsSettings,
    Family.VFAT: FatSettings,
    Family.EXFAT: ClusterSettings,
    Family.F2FS: F2fsSettings,
    Family.JFS: JfsSettings,
    Family.NILFS2: NilfsSettings,
    Family.NTFS: ClusterSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem(Node):
    """A filesystem on one device, or, of btrfs, on several, by their numbers in it."""

    devices: tuple[str, ...]
    family: Family
    uuid: str | None
    label: str
    settings: Settings
    size_bytes: int | None = None
    """Of what it covers of its device, where it tells."""

    @property
    def below(self) -> tuple[str, ...]:
        """The devices."""
        return self.devices

    @property
    def claims(self) -> tuple[str, ...]:
        """The devices."""
        return self.devices

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a filesystem's UUID", self.uuid, check.VOLUME_ID)
        check.plain("a filesystem's label", self.label, most=512)
        if not isinstance(self.settings, SETTINGS_OF[self.family]):
            raise LayoutInvalid(f"{self.id} has settings that {self.family} does not have")
        if not self.devices or (len(self.devices) > 1 and self.family is not Family.BTRFS):
            raise LayoutInvalid(f"{self.id} lies on {len(self.devices)} devices")
        match self.settings:
            case BtrfsSettings(members=members) as settings:
                words = (settings.checksum, settings.data, settings.metadata)
                check.words("a setting of btrfs", tuple(word for word in words if word is not None))
                if len(members) != len(self.devices):
                    raise LayoutInvalid(f"{self.id} has {len(members)} members on its devices")
            case ExtSettings() as settings:
                every = (*settings.features, *settings.mount_options, settings.errors)
                check.words("a setting of ext4", every)
                check.fits("a hash", settings.hash, check.WORD)
                check.fits("an encoding", settings.encoding, check.WORD)
            case XfsSettings(features=features):
                check.words("a feature of XFS", features)
            case _:
                pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Subvolume(Node):
    """A subvolume of btrfs at ``path`` from the filesystem's top, without a leading slash."""

    filesystem: str
    path: str
    read_only: bool = False
    snapshot: bool = False
    """It was made of another; its files are restored, what they shared is not."""

    @property
    def below(self) -> tuple[str, ...]:
        """The filesystem."""
        return (self.filesystem,)

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.relative("a subvolume's path", self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap(Node):
    """Swap space on a device, or in the file ``path`` (from the filesystem's top)."""

    on: str
    """A device; of a file its filesystem."""
    path: str | None = None
    size_bytes: int
    uuid: str | None = None
    label: str = ""
    page_bytes: int = 4096
    priority: int | None = None
    """The one that was given; None for the kernel's own, and where it was not in use."""

    @property
    def below(self) -> tuple[str, ...]:
        """The device or filesystem."""
        return (self.on,)

    @property
    def claims(self) -> tuple[str, ...]:
        """The device."""
        return (self.on,) if self.path is None else ()

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.fits("a swap area's UUID", self.uuid, check.UUID)
        check.plain("a swap area's label", self.label, most=64)
        if self.path is not None:
            check.absolute("a swap file's path", self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount(Node):
    """A place in the tree of files where a filesystem is seen."""

    source: str
    """A filesystem, a subvolume, or something opaque."""
    point: str
    root: str = "/"
    """The directory of the filesystem (not of the subvolume) that is seen there."""
    bind: bool = False
    """It shows what another mount shows too, or a part of it: nothing of it is saved twice."""
    options: tuple[str, ...] = ()
    """As the kernel tells them: of the mount, then of the filesystem."""
    fstab: str | None = None
    """The options of its line in /etc/fstab, None where it has none."""

    @property
    def below(self) -> tuple[str, ...]:
        """What is mounted."""
        return (self.source,)

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for what cannot be."""
        Node.__post_init__(self)
        check.absolute("a mount point", self.point)
        check.absolute("a mount's root", self.root)
        check.plain("options", self.fstab)
        for option in self.options:
            check.plain("an option", option)
