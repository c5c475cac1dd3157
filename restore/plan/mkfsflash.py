"""F2FS, JFS and NILFS2 as they were: mkfs.f2fs(8), mkfs.jfs(8), mkfs.nilfs2(8).

The UUIDs of JFS and NILFS2 are set behind: jfs_tune(8), nilfs-tune(8). Not kept, as no layout has
it: whether F2FS refuses names that are no UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator

from archive.machine.layoutfiles import F2fsSettings, Filesystem, JfsSettings, NilfsSettings
from restore.plan.actions import Command

_MIB = 1 << 20
_F2FS_FEATURES = {
    0x1: "encrypt",
    0x8: "extra_attr",
    0x10: "project_quota",
    0x20: "inode_checksum",
    0x40: "flexible_inline_xattr",
    0x80: "quota",
    0x100: "inode_crtime",
    0x200: "lost_found",
    0x400: "verity",
    0x800: "sb_checksum",
    0x1000: "casefold",
    0x2000: "compression",
}
_CASEFOLD = 0x1000
_UTF8 = 1
_JFS_BLOCK = 4096
_NILFS_BLOCK_COUNT = 0x1


def lacking(settings: F2fsSettings | JfsSettings | NilfsSettings) -> Iterator[str]:
    """Yield why a filesystem with these settings cannot be made, in words."""
    match settings:
        case F2fsSettings(features=features, encoding=encoding):
            beyond = features & ~sum(_F2FS_FEATURES)
            if beyond:
                yield f"mkfs.f2fs 1.15 does not make its features {beyond:#x}"
            if features & _CASEFOLD and encoding != _UTF8:
                yield f"its names have the encoding {encoding}, which is not known"
        case JfsSettings(block_bytes=block, log_bytes=log):
            if block != _JFS_BLOCK:
                yield f"mkfs.jfs makes no blocks of {block} bytes"
            if not log:
                yield "its log is on another device"
        case NilfsSettings(features=features):
            if features & ~_NILFS_BLOCK_COUNT:
                yield f"mkfs.nilfs2 2.2 does not make its features {features:#x}"


def f2fs(filesystem: Filesystem, settings: F2fsSettings, device: str) -> tuple[Command, ...]:
    """Return what makes F2FS on all of its device."""
    argv = ["mkfs.f2fs", "-q", "-f", "-w", str(settings.sector_bytes)]
    argv += ["-s", str(settings.section_segments), "-z", str(settings.zone_sections)]
    names = [name for bit, name in _F2FS_FEATURES.items() if settings.features & bit]
    argv += ["-O", ",".join(names)] if names else []
    argv += ["-C", "utf8"] if settings.features & _CASEFOLD else []
    argv += ["-U", filesystem.uuid] if filesystem.uuid else []
    argv += ["-l", filesystem.label] if filesystem.label else []
    return (Command(argv=(*argv, device), timeout_s=3600),)


def jfs(filesystem: Filesystem, settings: JfsSettings, device: str) -> tuple[Command, ...]:
    """Return what makes JFS on all of its device."""
    argv = ["mkfs.jfs", "-q", *(["-O"] if settings.case_insensitive else [])]
    argv += ["-s", str(-(-settings.log_bytes // _MIB))]
    argv += ["-L", filesystem.label] if filesystem.label else []
    made = Command(argv=(*argv, device), timeout_s=3600)
    if filesystem.uuid is None:
        return (made,)
    return made, Command(argv=("jfs_tune", "-U", filesystem.uuid, device))


def nilfs2(filesystem: Filesystem, settings: NilfsSettings, device: str) -> tuple[Command, ...]:
    """Return what makes NILFS2 on all of its device."""
    features = "none,block_count" if settings.features & _NILFS_BLOCK_COUNT else "none"
    argv = ["mkfs.nilfs2", "-q", "-f", "-b", str(settings.block_bytes)]
    argv += ["-B", str(settings.segment_blocks), "-m", str(settings.reserved_percent)]
    argv += ["-O", features, *(["-L", filesystem.label] if filesystem.label else [])]
    made = Command(argv=(*argv, device), timeout_s=3600)
    if filesystem.uuid is None:
        return (made,)
    return made, Command(argv=("nilfs-tune", "-U", filesystem.uuid, device))
