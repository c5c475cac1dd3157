"""An image of an arm64 tree, built where nothing of the tree can run, boots and works on arm64."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindi.boot import architecture_of_image, boot_source, check, direct_cmdline
from mindi.qemu import QEMU_ARM, VERDICT_LOG, Machine, Medium
from mindi.verdict import Reader, Tool
from qemu_tests.conftest import Measure
from qemu_tests.images import Images
from tests.support.foreign import arm64_root
from tests.support.tools import require_tool

ESSENTIAL = {
    *("python3: standard library", "udevadm", "sfdisk", "mke2fs"),
    *("lvm", "LVM works", "mdadm", "RAID 1 works", "cryptsetup", "LUKS works"),
}
MODULES = 100


@pytest.fixture
def arm64(images: Images) -> tuple[Path, Path]:
    """The initrd of a tree of unpacked Debian packages, and the kernel of that tree."""
    require_tool(QEMU_ARM, package="qemu-system-arm")
    root = arm64_root()
    options = ("--output", "initramfs", "--root", str(root.path))
    return images.build("arm64.img", *options), root.kernel


def test_an_image_for_another_architecture_boots_and_checks_itself(
    arm64: tuple[Path, Path], logs: Path, measured: Measure
) -> None:
    initrd, kernel = arm64
    architecture = architecture_of_image(initrd)
    direct, medium = boot_source(
        initrd, medium=Medium.KERNEL, kernel=kernel, cmdline=direct_cmdline(architecture)
    )
    machine = Machine(image=direct, medium=medium, architecture=architecture, logs=logs)
    report = measured(check(machine))
    assert report.ok, report.to_text()
    events = Reader(logs / VERDICT_LOG).finish()
    assert {event.name for event in events if isinstance(event, Tool) and event.ok} >= ESSENTIAL
    assert report.verdict.modules > MODULES
