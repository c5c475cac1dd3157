"""btrfs as it was: mkfs.btrfs(8) of btrfs-progs 6.2.

Not kept, as mkfs.btrfs cannot set them and nothing that mounts the filesystem asks for them: the
UUIDs and numbers of its single devices, a tree of block groups (it makes mounting faster), a UUID
of the metadata that differs from the filesystem's, quota groups. What using a filesystem turns on
(compression, a default subvolume, blocks larger than a page) comes with its use.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

from archive.machine.layoutfiles import BtrfsSettings, Filesystem
from restore.plan.actions import Command


class Incompat(enum.IntFlag):
    """Of btrfs: include/uapi/linux/btrfs.h of the kernel."""

    MIXED_BACKREF = 1 << 0
    DEFAULT_SUBVOLUME = 1 << 1
    MIXED_GROUPS = 1 << 2
    COMPRESS_LZO = 1 << 3
    COMPRESS_ZSTD = 1 << 4
    BIG_METADATA = 1 << 5
    EXTENDED_IREF = 1 << 6
    RAID56 = 1 << 7
    SKINNY_METADATA = 1 << 8
    NO_HOLES = 1 << 9
    METADATA_UUID = 1 << 10
    RAID1C34 = 1 << 11
    SIMPLE_QUOTA = 1 << 16


class ReadOnly(enum.IntFlag):
    """Of btrfs: what a kernel that does not know it can still read."""

    FREE_SPACE_TREE = 1 << 0
    FREE_SPACE_TREE_VALID = 1 << 1
    VERITY = 1 << 2
    BLOCK_GROUP_TREE = 1 << 3


_SWITCHES = {
    Incompat.EXTENDED_IREF: "extref",
    Incompat.SKINNY_METADATA: "skinny-metadata",
    Incompat.NO_HOLES: "no-holes",
}
# RAID56 and RAID1C34 are turned on by the profiles that need them.
_KNOWN = sum(Incompat)
_KNOWN_READ_ONLY = sum(ReadOnly)
# By what dump-super calls them, which is not what mkfs.btrfs does.
_CHECKSUMS = {"crc32c": "crc32c", "xxhash64": "xxhash", "sha256": "sha256", "blake2": "blake2"}
_PROFILES = frozenset(
    {"single", "dup", "raid0", "raid1", "raid1c3", "raid1c4", "raid5", "raid6", "raid10"}
)


def lacking(settings: BtrfsSettings) -> Iterator[str]:
    """Yield why a filesystem with these settings cannot be made, in words."""
    if settings.incompat & ~_KNOWN:
        yield f"mkfs.btrfs 6.2 does not make its features {settings.incompat & ~_KNOWN:#x}"
    if settings.compat_ro & ~_KNOWN_READ_ONLY:
        beyond = settings.compat_ro & ~_KNOWN_READ_ONLY
        yield f"mkfs.btrfs 6.2 does not make its read-only features {beyond:#x}"
    if settings.checksum not in _CHECKSUMS:
        yield f"its checksums are {settings.checksum}, which is not known"
    for profile in (settings.data, settings.metadata):
        if profile is not None and profile not in _PROFILES:
            yield f"its blocks have the profile {profile}, which is not known"


def commands(
    filesystem: Filesystem, settings: BtrfsSettings, devices: Sequence[str]
) -> tuple[Command, ...]:
    """Return what makes it on all of its devices."""
    mixed = bool(settings.incompat & Incompat.MIXED_GROUPS)
    argv = ["mkfs.btrfs", "-q", "-f", "-s", str(settings.sector_bytes)]
    argv += ["-n", str(settings.node_bytes), "--csum", _CHECKSUMS[settings.checksum]]
    argv += ["-M"] if mixed else []
    # What was not mounted does not tell them: then those of mkfs.btrfs are as good.
    argv += ["-d", settings.data] if settings.data else []
    argv += ["-m", settings.metadata] if settings.metadata else []
    words = [name if settings.incompat & bit else f"^{name}" for bit, name in _SWITCHES.items()]
    tree = "" if settings.compat_ro & ReadOnly.FREE_SPACE_TREE else "^"
    argv += ["-O", ",".join(words), "-R", f"{tree}free-space-tree"]
    argv += ["-U", filesystem.uuid] if filesystem.uuid else []
    argv += ["-L", filesystem.label] if filesystem.label else []
    return (Command(argv=(*argv, *devices), timeout_s=3600),)
