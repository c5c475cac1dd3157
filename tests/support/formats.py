"""Makes what a plan says on sparse files, and sees what came of it as a probe does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from archive.machine.layout import Layout
from archive.machine.layoutfiles import Filesystem, Swap
from archive.machine.layoutnodes import Disk
from archive.machine.probecontent import Gathering, add_filesystem, read_signature
from archive.machine.probedevices import Device
from archive.machine.probesystem import Asker, LiveSystem
from archive.run import run
from restore.plan.actions import Action
from restore.plan.devices import Devices
from tests.support.tools import require_tool

PACKAGES = {
    "btrfs": "btrfs-progs",
    "jfs_tune": "jfsutils",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.exfat": "exfatprogs",
    "mkfs.f2fs": "f2fs-tools",
    "mkfs.jfs": "jfsutils",
    "mkfs.nilfs2": "nilfs-tools",
    "mkfs.vfat": "dosfstools",
    "mkfs.xfs": "xfsprogs",
    "mkntfs": "ntfs-3g",
    "nilfs-tune": "nilfs-tools",
    "ntfslabel": "ntfs-3g",
    "tune.exfat": "exfatprogs",
    "tune2fs": "e2fsprogs",
}
CHECKS = {
    "ext2": ("e2fsck", "-f", "-n"),
    "ext3": ("e2fsck", "-f", "-n"),
    "ext4": ("e2fsck", "-f", "-n"),
    "xfs": ("xfs_repair", "-n", "-f", "-o", "force_geometry"),
    "btrfs": ("btrfs", "check", "--readonly"),
    "vfat": ("fsck.fat", "-n"),
    "exfat": ("fsck.exfat", "-n"),
    "f2fs": ("fsck.f2fs", "--dry-run"),
    "jfs": ("jfs_fsck", "-n"),
    "ntfs": ("ntfsfix", "-n"),
}
"""NILFS2 has none."""


class _Lock:
    held = False


_LOCK = _Lock()


def devices(layout: Layout) -> Devices:
    """Return devices that are called as they were."""
    return Devices(layout, {disk.id: f"/dev/{disk.kernel_name}" for disk in layout.all(Disk)})


def images(layout: Layout, node: Filesystem | Swap, folder: Path) -> dict[str, str]:
    """Make a sparse file for each device of a node; returns them by the device's path."""
    found = {}
    for number, device in enumerate(layout.below(node)):
        image = folder / f"image{number}"
        with image.open("xb") as file:
            file.truncate(layout.size_of(device) or 0)
        found[devices(layout).path(device.id)] = str(image)
    return found


@contextmanager
def alone() -> Iterator[None]:
    """Keep other processes from making filesystems: mkfs.btrfs refuses a UUID that is there.

    May be entered again in it.
    """
    if _LOCK.held:
        yield
        return
    with (Path(tempfile.gettempdir()) / "mindi-test-filesystems.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _LOCK.held = True
        try:
            yield
        finally:
            _LOCK.held = False


def perform(action: Action, instead: dict[str, str]) -> None:
    """Run an action's commands with other paths in place of devices; each must succeed."""
    with alone():
        for command in action.commands:
            argv = tuple(instead.get(word, word) for word in command.argv)
            require_tool(argv[0], package=PACKAGES.get(argv[0]))
            ended = run(argv, timeout_s=command.timeout_s)
            assert ended.status == 0, f"{argv}: {ended.output}"


@contextmanager
def attached(instead: dict[str, str]) -> Iterator[dict[str, str]]:
    """Put loop devices in the place of files; skip where there are none."""
    if os.geteuid() != 0:
        pytest.skip("only root makes loop devices")
    with alone():
        yield from _attached(instead)


def _attached(instead: dict[str, str]) -> Iterator[dict[str, str]]:
    made: list[str] = []
    try:
        for image in instead.values():
            ended = subprocess.run(
                ["losetup", "--find", "--show", image], capture_output=True, text=True, check=False
            )
            if ended.returncode:
                pytest.skip(f"there are no loop devices: {ended.stderr.strip()}")
            made.append(ended.stdout.strip())
        yield dict(zip(instead, made, strict=True))
    finally:
        for loop in made:
            subprocess.run(["losetup", "--detach", loop], check=True)


def seen(node: Filesystem | Swap, files: Sequence[str]) -> Filesystem | Swap:
    """Return what the probe makes of files in the place of a node's devices."""
    names = node.devices if isinstance(node, Filesystem) else (node.on,)
    found = Gathering(
        asker=Asker(LiveSystem()),
        devices=tuple(_device(f"image{number}", file) for number, file in enumerate(files)),
        ids={f"image{number}": name for number, name in enumerate(names)},
    )
    for device in found.devices:
        found.signatures[device.kernel_name] = read_signature(found.asker, device.path)
    for device in found.devices:
        add_filesystem(found, device, found.signatures[device.kernel_name], {})
    (made,) = found.nodes
    assert isinstance(made, (Filesystem, Swap))
    return replace(made, id=node.id)


def check(family: str, files: Sequence[str]) -> None:
    """Let the family's own program look for faults."""
    argv = CHECKS[family]
    require_tool(argv[0])
    ended = run((*argv, files[0]), timeout_s=60)
    assert ended.status == 0, ended.output


def _device(name: str, path: str) -> Device:
    return Device(
        kernel_name=name,
        path=path,
        number="0:0",
        kind="disk",
        size_bytes=Path(path).stat().st_size,
        logical_sector=512,
        physical_sector=512,
        parents=(),
        model=None,
        serial=None,
        wwn=None,
        transport=None,
        rotational=False,
        name=name,
    )
