"""FAT, exFAT and NTFS as they were: mkfs.fat(8), mkfs.exfat(8), mkntfs(8).

Their serials are set behind where the one that makes them cannot: tune.exfat(8), ntfslabel(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from archive.machine.layoutfiles import ClusterSettings, FatSettings, Filesystem
from restore.plan.actions import Command

_FAT_BITS = frozenset({12, 16, 32})
_ENTRY_BYTES = 32
_FAT_LABEL = re.compile(r"""(?! )[^\x00-\x1f\x7f-\U0010ffff"*+,./:;<=>?\[\\\]|]{1,11}""")
# Programs that read a label by the locale; there is no other way to tell them UTF-8.
_UTF8 = ("env", "LC_ALL=C.UTF-8")
# The geometry that all disks have told for long; boot sectors hold it, nothing uses it.
_HEADS, _TRACK = "255", "63"
_MOST_START = (1 << 32) - 1


def lacking(settings: FatSettings | ClusterSettings) -> Iterator[str]:
    """Yield why a filesystem with these settings cannot be made, in words."""
    if settings.sector_bytes < 1 or settings.cluster_bytes < settings.sector_bytes:
        yield "its clusters are smaller than its sectors"
    if isinstance(settings, FatSettings) and settings.bits not in _FAT_BITS:
        yield f"it is a FAT of {settings.bits} bits"


def has_settable_label(filesystem: Filesystem) -> bool:
    """Tell whether mkfs.fat writes the label of a FAT.

    It has no letters beyond ASCII, which lie there in a code page that nobody knows: a label that
    has some is of no use to /etc/fstab, and is left out.
    """
    return _FAT_LABEL.fullmatch(filesystem.label) is not None


def fat(filesystem: Filesystem, settings: FatSettings, device: str) -> tuple[Command, ...]:
    """Return what makes FAT on all of its device."""
    cluster_sectors = settings.cluster_bytes // settings.sector_bytes
    # A table on a removable disk's first sector would be one of its own making.
    argv = ["mkfs.vfat", "-I", "--mbr=n", "-F", str(settings.bits)]
    # By itself it aligns all to clusters: there are more reserved sectors and entries than told.
    roots = settings.root_entries * _ENTRY_BYTES % settings.cluster_bytes
    argv += ["-a"] if settings.reserved_sectors % cluster_sectors or roots else []
    argv += ["-S", str(settings.sector_bytes), "-s", str(cluster_sectors)]
    argv += ["-R", str(settings.reserved_sectors), "-f", str(settings.tables)]
    argv += ["-r", str(settings.root_entries)] if settings.root_entries else []
    argv += ["-M", f"0x{settings.media:02x}", "-h", str(settings.hidden_sectors)]
    argv += ["-i", filesystem.uuid.replace("-", "")] if filesystem.uuid else []
    argv += ["-n", filesystem.label] if has_settable_label(filesystem) else []
    return (Command(argv=(*argv, device)),)


def exfat(filesystem: Filesystem, settings: ClusterSettings, device: str) -> tuple[Command, ...]:
    """Return what makes exFAT on all of its device; its sectors are the device's."""
    argv = ["mkfs.exfat", "-c", str(settings.cluster_bytes)]
    argv += ["-L", filesystem.label] if filesystem.label else []
    made = Command(argv=(*(() if filesystem.label.isascii() else _UTF8), *argv, device))
    if filesystem.uuid is None:
        return (made,)
    serial = f"0x{filesystem.uuid.replace('-', '')}"
    return made, Command(argv=("tune.exfat", "-I", serial, device))


def ntfs(
    filesystem: Filesystem, settings: ClusterSettings, device: str, *, start: int
) -> tuple[Command, ...]:
    """Return what makes NTFS on all of its device; ``start``: its partition's first sector."""
    # Boot sectors have 32 bits for it, and mkntfs takes no more; nothing is booted from behind.
    first = start if start <= _MOST_START else 0
    argv = ["mkntfs", "-Q", "-F", "-q", "-s", str(settings.sector_bytes)]
    argv += ["-c", str(settings.cluster_bytes), "-p", str(first), "-H", _HEADS, "-S", _TRACK]
    argv += ["-L", filesystem.label] if filesystem.label else []
    made = Command(argv=(*argv, device))
    if filesystem.uuid is None:
        return (made,)
    return made, Command(argv=("ntfslabel", f"--new-serial={filesystem.uuid}", device))
