"""Where restored files are written: the mounts of a layout, below a root of the restore's own.

Each filesystem and each subvolume is mounted once: its other mounts show the same files, as do
bind mounts, and nothing is saved twice. They can be written whatever they were. Options are kept
only if they decide how data is stored (compression, copy on write) or what bytes a name becomes;
all others, and all that need other programs, are of no use here. Filesystems that were not mounted
have no files in a set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archive.errors import LayoutInvalid
from archive.machine import layoutchecks as check
from archive.machine.layout import Layout
from archive.machine.layoutfiles import Family, Filesystem, Mount, Subvolume
from archive.machine.layoutnodes import Node
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices
from restore.plan.filesystems import scanned
from restore.words import shown_text

ROOT = "/mnt/mindi"
"""Below which a restored machine's files are written."""

_NAMES = r"utf8|iocharset=[A-Za-z0-9_-]{1,32}"
_KEPT: Mapping[Family, re.Pattern[str]] = {
    Family.BTRFS: re.compile(r"compress(-force)?=[a-z0-9]+(:\d+)?|nodatacow|nodatasum"),
    Family.VFAT: re.compile(_NAMES),
    Family.JFS: re.compile(_NAMES),
}
# util-linux takes a comma for the next option, a quote for the begin of a value with commas.
_NOT_IN_AN_OPTION = re.compile(r'[,"\\]')
_TOP = "subvolid=5"


@dataclass(frozen=True, slots=True)
class Mounting:
    """A mount that files are restored through, and the filesystem that it shows."""

    mount: Mount
    filesystem: Filesystem
    subvolume: Subvolume | None


def chosen(layout: Layout) -> tuple[Mounting, ...]:
    """Return the mounts to restore through, those that others lie in first."""
    found: dict[str, Mounting] = {}
    for mount in sorted(layout.all(Mount), key=_rank):
        source = layout.get(mount.source, Node)
        subvolume = source if isinstance(source, Subvolume) else None
        held = source if subvolume is None else layout.get(subvolume.filesystem, Node)
        if isinstance(held, Filesystem) and mount.root == "/":
            found.setdefault(mount.source, Mounting(mount, held, subvolume))
    return tuple(sorted(found.values(), key=lambda one: _parts(one.mount.point)))


def _rank(mount: Mount) -> tuple[bool, list[str]]:
    return mount.bind, _parts(mount.point)


def _parts(point: str) -> list[str]:
    return [part for part in point.split("/") if part]


def mount_refusals(layout: Layout) -> tuple[Refusal, ...]:
    """Return why files of a layout could not be written where they were: empty where they can."""
    return tuple(_refusals(layout))


def _refusals(layout: Layout) -> Iterator[Refusal]:
    every = chosen(layout)
    for one in every:
        if one.subvolume is not None and _NOT_IN_AN_OPTION.search(one.subvolume.path):
            name = shown_text(one.subvolume.path[:200])
            words = f"{name} has a character that no option of mount takes"
            yield Refusal(one.subvolume.id, f"{words}; rename the subvolume before the backup")
    shown = {one.mount.source for one in every}
    for mount in layout.all(Mount):
        source = layout.get(mount.source, Node)
        if mount.source in shown or not isinstance(source, (Filesystem, Subvolume)):
            continue
        shown.add(mount.source)
        words = f"of {source.id[:80]} only the directory {shown_text(mount.root[:200])} was mounted"
        yield Refusal(mount.id, f"{words}; mount all of it before the backup")


def mount_actions(layout: Layout, devices: Devices, *, root: str = ROOT) -> tuple[Action, ...]:
    """Return what mounts all that files are restored to, at ``root`` and the points below it.

    Where files are there already (a restore that goes on), a link among them may lead a point out
    of the root: whoever runs this sees to it that each place is what it resolves to.
    Raises LayoutInvalid for what ``mount_refusals`` names.
    """
    check.absolute("a root to mount at", root)
    for refused in _refusals(layout):
        raise LayoutInvalid(f"{refused.node[:80]} cannot be mounted: {refused.words}")
    return tuple(_mount(one, devices, root) for one in chosen(layout))


def _mount(one: Mounting, devices: Devices, root: str) -> Action:
    paths = [devices.path(name) for name in one.filesystem.devices]
    place = place_of(one.mount.point, root)
    family = one.filesystem.family
    options = _options(one)
    # Of NTFS mount(8) takes ntfs-3g, where it is: not each driver of the kernel's own writes.
    argv = ("mount", "-t", family.value, "-o", ",".join(options))
    which = "" if one.subvolume is None else f"subvolume {shown_text(one.subvolume.path)} of "
    return Action.of(
        "mount",
        one.mount,
        phase=Phase.MOUNT,
        words=f"mount {which}{paths[0]} ({family}) at {shown_text(place)}",
        commands=(
            *scanned(paths),
            Command(argv=("mkdir", "-p", place)),
            Command(argv=(*argv, paths[0], place)),
        ),
    )


def _options(one: Mounting) -> tuple[str, ...]:
    found = ["rw"]
    if one.subvolume is not None:
        found.append(f"subvol=/{one.subvolume.path}")
    elif one.filesystem.family is Family.BTRFS:
        # Without it the default subvolume would be shown.
        found.append(_TOP)
    kept = _KEPT.get(one.filesystem.family)
    words = [] if kept is None else [word for word in one.mount.options if kept.fullmatch(word)]
    # What the kernel writes names with, it tells as its default too: with utf8 it has no say.
    plain = [word for word in words if "utf8" not in words or not word.startswith("iocharset=")]
    return (*found, *plain)


def place_of(point: str, root: str) -> str:
    """Return where a path of the saved machine is while its files are restored."""
    check.absolute("a path", point)
    return root if point == "/" else f"{root.rstrip('/')}{point}"


def unmount_actions(layout: Layout, *, root: str = ROOT) -> tuple[Action, ...]:
    """Return what undoes ``mount_actions``, in reverse. Of what is not mounted it may fail."""
    return tuple(
        Action.of(
            "unmount",
            one.mount,
            phase=Phase.FINISH,
            words=f"unmount {shown_text(place_of(one.mount.point, root))}",
            commands=(Command(argv=("umount", place_of(one.mount.point, root)), may_fail=True),),
        )
        for one in reversed(chosen(layout))
    )
