"""XFS as it was: mkfs.xfs(8) of xfsprogs 6.1, which can set all of it.

Not kept, as mkfs.xfs sets them only together with others and no file depends on them: a log stripe
unit of none where the data has one, and sectors of the log that differ from those of the data.
"""

from __future__ import annotations

from collections.abc import Iterator

from archive.machine.layoutfiles import Filesystem, XfsSettings
from restore.plan.actions import Command

_SECTOR = 512
"""In which mkfs.xfs counts stripes."""
_METADATA = ("crc", "finobt", "rmapbt", "reflink", "inobtcount", "bigtime")
_INODES = ("sparse", "projid32bit", "nrext64")
_KNOWN = frozenset({*_METADATA, *_INODES, "ascii-ci", "ftype", "lazy-count"})
# Below these, filesystems are made by older mkfs.xfs, and by a newer one if it is told to.
_LEAST_BYTES = 300 << 20
_LEAST_LOG_BYTES = 64 << 20
_LEAST_GROUPS = 2


def lacking(settings: XfsSettings) -> Iterator[str]:
    """Yield why a filesystem with these settings cannot be made, in words."""
    if not settings.internal_log:
        yield "its log is on another device"
    if settings.realtime:
        yield "it has a realtime section on another device"
    unknown = sorted(set(settings.features) - _KNOWN)
    if unknown:
        yield f"mkfs.xfs 6.1 does not make its features: {', '.join(unknown)}"


def commands(filesystem: Filesystem, settings: XfsSettings, device: str) -> tuple[Command, ...]:
    """Return what makes it: the blocks that it had, however large the device is."""
    block = settings.block_bytes

    def switches(names: tuple[str, ...]) -> list[str]:
        return [f"{name}={int(name in settings.features)}" for name in names]

    argv = ["mkfs.xfs", "-q", "-f", *_unsupported(settings)]
    argv += ["-b", f"size={block}", "-s", f"size={settings.sector_bytes}"]
    named = [] if filesystem.uuid is None else [f"uuid={filesystem.uuid}"]
    argv += ["-m", ",".join(switches(_METADATA) + named)]
    data = [f"size={settings.blocks * block}", f"agsize={settings.group_blocks * block}"]
    argv += ["-d", ",".join([*data, *_stripes(settings)])]
    inodes = [f"size={settings.inode_bytes}", f"maxpct={settings.inode_percent}"]
    argv += ["-i", ",".join(inodes + switches(_INODES))]
    argv += ["-l", ",".join(_log(settings))]
    # The version of case-insensitive directories is a word; theirs of ftype goes with it.
    version = "ci" if "ascii-ci" in settings.features else "2"
    naming = [f"version={version}", f"size={settings.directory_block_bytes}"]
    argv += ["-n", ",".join(naming + switches(("ftype",)))]
    if filesystem.label:
        argv += ["-L", filesystem.label]
    return (Command(argv=(*argv, device), timeout_s=3600),)


def _unsupported(settings: XfsSettings) -> tuple[str, ...]:
    small = (
        settings.blocks * settings.block_bytes < _LEAST_BYTES
        or settings.log_blocks * settings.block_bytes < _LEAST_LOG_BYTES
        or settings.group_count < _LEAST_GROUPS
    )
    return ("--unsupported",) if small else ()


def _stripes(settings: XfsSettings) -> list[str]:
    if not settings.stripe_unit_blocks:
        return ["noalign"]
    sectors = settings.block_bytes // _SECTOR
    return [
        f"sunit={settings.stripe_unit_blocks * sectors}",
        f"swidth={settings.stripe_width_blocks * sectors}",
    ]


def _log(settings: XfsSettings) -> list[str]:
    found = [
        f"size={settings.log_blocks * settings.block_bytes}",
        f"version={settings.log_version}",
    ]
    if settings.log_stripe_unit_blocks:
        found.append(f"sunit={settings.log_stripe_unit_blocks * settings.block_bytes // _SECTOR}")
    return [*found, f"lazy-count={int('lazy-count' in settings.features)}"]
