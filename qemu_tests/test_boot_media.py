"""One ISO boots as CD-ROM, USB stick and plain disk, and all that it carries works there.

Each boot is of the unmodified image with 512 MiB of memory; the guest starts every tool,
loads every module and reports on the verdict port.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mindi.boot import BootReport, check
from mindi.qemu import VERDICT_LOG, Accelerator, Firmware, Machine, Medium
from mindi.verdict import Reader, Tool
from qemu_tests.conftest import Measure
from qemu_tests.images import Images

MEMORY_MIB = 512
COMBINATIONS = [
    *((Firmware.BIOS, medium) for medium in (Medium.CDROM, Medium.USB, Medium.DISK)),
    *((Firmware.UEFI, medium) for medium in (Medium.CDROM, Medium.USB, Medium.DISK)),
    (Firmware.SECURE_BOOT, Medium.CDROM),
]
# What no rescue environment of ours is without; the guest reports on whatever it holds.
ESSENTIAL = {"python3", "lvm", "mdadm", "cryptsetup", "sfdisk", "sgdisk", "mke2fs", "busybox"}


def tools_started(report: BootReport) -> set[str]:
    """Return the names of the tools that the guest says it started."""
    events = Reader(report.logs / VERDICT_LOG).finish()
    return {event.name for event in events if isinstance(event, Tool) and event.ok}


@pytest.mark.parametrize(
    ("firmware", "medium"), COMBINATIONS, ids=[f"{f}-{m}" for f, m in COMBINATIONS]
)
def test_the_image_boots_and_checks_itself(
    firmware: Firmware,
    medium: Medium,
    images: Images,
    accelerator: Accelerator,
    logs: Path,
    measured: Measure,
) -> None:
    machine = Machine(
        image=images.iso(),
        firmware=firmware,
        medium=medium,
        memory_mib=MEMORY_MIB,
        logs=logs,
    )
    report = measured(check(machine, accelerator=accelerator))
    assert report.ok, report.to_text()
    assert tools_started(report) >= ESSENTIAL
