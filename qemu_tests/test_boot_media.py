"""One ISO boots as CD-ROM, USB stick and plain disk, and all that it carries works there.

Each boot is of the unmodified image; the guest starts every tool, loads every module and
reports on the verdict port.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mindi.boot import READY_S, BootReport, check
from mindi.qemu import SERIAL_LOG, VERDICT_LOG, Accelerator, Firmware, Machine, Medium
from mindi.verdict import Reader, Tool
from mindi.vm import Vm
from qemu_tests.conftest import Measure
from qemu_tests.images import Images

# A self-check has all modules loaded, which no other use of the image needs: at once where there
# is memory, and otherwise, which takes longer, as many at a time as it has room for.
CHECK_MEMORY_MIB = 1024
LITTLE_MEMORY_MIB = 512
PROMPT_S = 10.0
COMBINATIONS = [
    *((Firmware.BIOS, medium) for medium in (Medium.CDROM, Medium.USB, Medium.DISK)),
    *((Firmware.UEFI, medium) for medium in (Medium.CDROM, Medium.USB, Medium.DISK)),
    (Firmware.SECURE_BOOT, Medium.CDROM),
]
# What no rescue environment of ours is without; the guest reports on whatever it holds.
ESSENTIAL = {
    *("python3: standard library", "udevadm", "sfdisk", "sgdisk", "mke2fs", "grub-install"),
    *("lvm", "LVM works", "mdadm", "RAID 1 works", "cryptsetup", "LUKS works"),
}


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
    is_first = (firmware, medium) == COMBINATIONS[0]
    machine = Machine(
        image=images.iso(),
        firmware=firmware,
        medium=medium,
        memory_mib=LITTLE_MEMORY_MIB if is_first else CHECK_MEMORY_MIB,
        logs=logs,
    )
    report = measured(check(machine, accelerator=accelerator))
    assert report.ok, report.to_text()
    assert tools_started(report) >= ESSENTIAL


@pytest.mark.parametrize(
    ("image", "memory_mib"),
    [(Images.iso, 512), (Images.host_only_iso, 256)],
    ids=["generic-512", "host-only-256"],
)
def test_little_memory_is_enough(
    image: Callable[[Images], Path],
    memory_mib: int,
    images: Images,
    accelerator: Accelerator,
    logs: Path,
) -> None:
    machine = Machine(image=image(images), memory_mib=memory_mib, logs=logs)
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        vm.sendline()
        vm.expect("# ", PROMPT_S)
        vm.sendline("python3 --version; lvm version; cryptsetup --version; echo all $((6 * 7))")
        shown = vm.expect(r"(?s).*all 42", PROMPT_S).group()
        assert "Python 3" in shown
        assert "LVM version" in shown
        assert "cryptsetup 2" in shown
    assert "Out of memory" not in (logs / SERIAL_LOG).read_text(errors="replace")
