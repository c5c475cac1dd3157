"""Filesystems as they were: the mkfs of each family with all that its layout knows of it.

Each family has a module of its own, restore/plan/mkfs*.py. What no tool can make again is told
by ``format_refusals``; what it leaves out without harm is told at the top of those modules.
Filesystems are made as large as they were, where their layout tells it, and elsewhere as large as
their devices.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from archive.errors import LayoutInvalid
from archive.machine import layoutchecks as check
from archive.machine.layout import Layout
from archive.machine.layoutfiles import (
    BtrfsSettings,
    ClusterSettings,
    ExtSettings,
    F2fsSettings,
    Family,
    FatSettings,
    Filesystem,
    JfsSettings,
    NilfsSettings,
    Settings,
    Subvolume,
    XfsSettings,
)
from archive.machine.layoutnodes import Partition
from archive.machine.layoutview import size_words
from restore.plan import mkfsbtrfs, mkfsdos, mkfsext, mkfsflash, mkfsxfs
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices
from restore.words import count_words, shown_text

_UUID_OF = {
    Family.VFAT: re.compile(r"[0-9A-F]{4}-[0-9A-F]{4}"),
    Family.EXFAT: re.compile(r"[0-9A-F]{4}-[0-9A-F]{4}"),
    Family.NTFS: re.compile(r"[0-9A-F]{16}"),
}
# Of labels, as their super blocks have room: bytes; units of UTF-16.
_LABEL_BYTES = {
    Family.EXT2: 16,
    Family.EXT3: 16,
    Family.EXT4: 16,
    Family.XFS: 12,
    Family.BTRFS: 255,
    Family.JFS: 16,
    Family.NILFS2: 80,
}
_LABEL_UNITS = {Family.EXFAT: 11, Family.NTFS: 128, Family.F2FS: 512}


def format_action(layout: Layout, filesystem: Filesystem, devices: Devices) -> Action:
    """Return what makes a filesystem. Raises LayoutInvalid for what ``format_refusals`` names."""
    refused = format_refusals(layout, filesystem)
    if refused:
        raise LayoutInvalid(f"{filesystem.id[:80]} cannot be made: {refused[0].words}")
    paths = tuple(devices.path(name) for name in filesystem.devices)
    label = f' "{shown_text(filesystem.label)}"' if filesystem.label else ""
    size = size_words(_size(layout, filesystem))
    return Action.of(
        "format",
        filesystem,
        phase=Phase.FORMAT,
        words=f"make {filesystem.family}{label} of {size} on {_and(paths)}",
        commands=_commands(layout, filesystem, paths),
        destroys=paths,
    )


def _commands(layout: Layout, node: Filesystem, paths: tuple[str, ...]) -> tuple[Command, ...]:
    match node.settings:
        case ExtSettings() as settings:
            return mkfsext.commands(node, settings, paths[0])
        case XfsSettings() as settings:
            return mkfsxfs.commands(node, settings, paths[0])
        case BtrfsSettings() as settings:
            return mkfsbtrfs.commands(node, settings, paths)
        case FatSettings() as settings:
            return mkfsdos.fat(node, settings, paths[0])
        case ClusterSettings() as settings:
            if node.family is Family.EXFAT:
                return mkfsdos.exfat(node, settings, paths[0])
            return mkfsdos.ntfs(node, settings, paths[0], start=_start(layout, node))
        case F2fsSettings() as settings:
            return mkfsflash.f2fs(node, settings, paths[0])
        case JfsSettings() as settings:
            return mkfsflash.jfs(node, settings, paths[0])
        case NilfsSettings() as settings:
            return mkfsflash.nilfs2(node, settings, paths[0])


def _start(layout: Layout, filesystem: Filesystem) -> int:
    (device,) = layout.below(filesystem)
    return device.start if isinstance(device, Partition) else 0


def _size(layout: Layout, filesystem: Filesystem) -> int | None:
    """Return what it has in bytes, or what its devices have together."""
    if filesystem.size_bytes is not None:
        return filesystem.size_bytes
    sizes = [layout.size_of(device) for device in layout.below(filesystem)]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _and(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def format_refusals(layout: Layout, filesystem: Filesystem) -> tuple[Refusal, ...]:
    """Return why a filesystem cannot be made as it was: empty where it can."""
    found = [*_lacking(filesystem.settings), *_impossible(layout, filesystem)]
    if filesystem.family is Family.BTRFS:
        found += [one.words for one in layout.unsupported if one.node == filesystem.id]
    hint = "make it by hand, and restore the files alone (--all --to DIR)"
    return tuple(Refusal(filesystem.id, f"{words}; {hint}") for words in found)


def _lacking(settings: Settings) -> Iterator[str]:
    match settings:
        case ExtSettings():
            yield from mkfsext.lacking(settings)
        case XfsSettings():
            yield from mkfsxfs.lacking(settings)
        case BtrfsSettings():
            yield from mkfsbtrfs.lacking(settings)
        case FatSettings() | ClusterSettings():
            yield from mkfsdos.lacking(settings)
        case F2fsSettings() | JfsSettings() | NilfsSettings():
            yield from mkfsflash.lacking(settings)


def _impossible(layout: Layout, filesystem: Filesystem) -> Iterator[str]:
    """Yield what no machine says of a filesystem, and an enemy may."""
    settings = filesystem.settings
    fields = dataclasses.fields(settings)
    negative = [
        field.name
        for field in fields
        if isinstance(value := getattr(settings, field.name), int) and value < 0
    ]
    if negative:
        yield f"it has settings below zero: {', '.join(negative)}"
    pattern = _UUID_OF.get(filesystem.family, check.UUID)
    if filesystem.uuid is not None and pattern.fullmatch(filesystem.uuid) is None:
        yield f"{filesystem.family} has no UUID like {filesystem.uuid}"
    text, family = filesystem.label, filesystem.family
    length = len(text.encode("utf-8", "surrogateescape"))
    if length > _LABEL_BYTES.get(family, length) or len(text) > _LABEL_UNITS.get(family, len(text)):
        yield f"{family} has no room for its label {shown_text(text[:80])}"
    room = layout.size_of(layout.below(filesystem)[0])
    if filesystem.size_bytes is not None and room is not None and filesystem.size_bytes > room:
        words = f"{size_words(filesystem.size_bytes)} on a device of {size_words(room)}"
        yield f"it is larger than its device: {words}"
    subvolume = settings.default_subvolume if isinstance(settings, BtrfsSettings) else None
    if subvolume is not None and all(
        one.path != subvolume for one in _subvolumes(layout, filesystem)
    ):
        yield f"its default subvolume {shown_text(subvolume[:80])} is not among its subvolumes"


def _subvolumes(layout: Layout, filesystem: Filesystem) -> tuple[Subvolume, ...]:
    """Return the subvolumes of a filesystem, parents first."""
    mine = [one for one in layout.all(Subvolume) if one.filesystem == filesystem.id]
    return tuple(sorted(mine, key=lambda one: one.path.split("/")))


def subvolume_action(
    layout: Layout, filesystem: Filesystem, devices: Devices, *, at: str
) -> Action | None:
    """Return what makes the subvolumes of a btrfs filesystem; None where there are none.

    The filesystem is mounted at ``at`` (an absolute path, made where it is missing) meanwhile.
    All subvolumes can be written: see ``seal_action``. Snapshots are subvolumes like others.
    """
    subvolumes = _subvolumes(layout, filesystem)
    if not subvolumes:
        return None
    made = []
    for one in subvolumes:
        above = one.path.rpartition("/")[0]
        # A subvolume may lie in a directory of the one above, which no file has made yet.
        made += [Command(argv=("mkdir", "-p", f"{at}/{above}"))] if above else []
        made.append(Command(argv=("btrfs", "subvolume", "create", f"{at}/{one.path}")))
    settings = filesystem.settings
    if isinstance(settings, BtrfsSettings) and settings.default_subvolume is not None:
        path = f"{at}/{settings.default_subvolume}"
        made.append(Command(argv=("btrfs", "subvolume", "set-default", path)))
    number = count_words(len(subvolumes), "subvolume")
    return Action.of(
        "subvolumes",
        filesystem,
        phase=Phase.FORMAT,
        words=f"make {number} of btrfs on {devices.path(filesystem.devices[0])}",
        commands=_at_the_top(filesystem, devices, at, made),
    )


def seal_action(
    layout: Layout, filesystem: Filesystem, devices: Devices, *, at: str
) -> Action | None:
    """Return what makes subvolumes read-only that were; None where none was.

    It is for when all files are restored and unmounted.
    """
    sealed = [one for one in _subvolumes(layout, filesystem) if one.read_only]
    if not sealed:
        return None
    made = [
        Command(argv=("btrfs", "property", "set", "-t", "subvol", f"{at}/{one.path}", "ro", "true"))
        for one in reversed(sealed)
    ]
    number = count_words(len(sealed), "subvolume")
    return Action.of(
        "seal",
        filesystem,
        phase=Phase.FINISH,
        words=f"make {number} of btrfs on {devices.path(filesystem.devices[0])} read-only",
        commands=_at_the_top(filesystem, devices, at, made),
    )


def _at_the_top(
    filesystem: Filesystem, devices: Devices, at: str, commands: list[Command]
) -> tuple[Command, ...]:
    """Return commands between those that mount the top of a btrfs filesystem and let go of it."""
    check.absolute("a place to mount", at)
    paths = [devices.path(name) for name in filesystem.devices]
    return (
        *scanned(paths),
        Command(argv=("mkdir", "-p", at)),
        Command(argv=("mount", "-t", "btrfs", "-o", "subvolid=5", paths[0], at)),
        *commands,
        Command(argv=("umount", at)),
    )


def scanned(paths: list[str]) -> tuple[Command, ...]:
    """Return what tells the kernel of all devices of a btrfs filesystem, which udev may not do."""
    return (Command(argv=("btrfs", "device", "scan", *paths)),) if len(paths) > 1 else ()
