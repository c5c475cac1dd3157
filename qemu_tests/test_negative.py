"""The twins that must fail: a damaged image never passes for a good one, whatever it says."""

from __future__ import annotations

from pathlib import Path

from mindi.boot import READY_S, BootReport, check
from mindi.qemu import Accelerator, DirectBoot, Firmware, Machine, Medium
from mindi.vm import Vm
from qemu_tests.images import Images, flipped, overlaid
from restore.contract import READY

MEMORY_MIB = 1024
# A good image is ready in a fraction of it; a kernel that hangs is not worth more.
BROKEN_READY_S = 6.0


def check_direct(
    image: DirectBoot, logs: Path, accelerator: Accelerator, *, ready_timeout_s: float = READY_S
) -> BootReport:
    """Return the report on a kernel and initrd."""
    machine = Machine(image=image, medium=Medium.KERNEL, memory_mib=MEMORY_MIB, logs=logs)
    return check(machine, accelerator=accelerator, ready_timeout_s=ready_timeout_s)


def test_a_truncated_kernel_is_never_ready(
    images: Images, accelerator: Accelerator, tmp_path: Path, logs: Path
) -> None:
    whole = images.kernel().read_bytes()
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(whole[: len(whole) // 2])
    report = check_direct(
        images.direct(kernel=kernel), logs, accelerator, ready_timeout_s=BROKEN_READY_S
    )
    assert report.ready_s is None
    assert READY in report.reasons[0]


def test_an_initrd_with_a_flipped_bit_does_not_pass(
    images: Images, accelerator: Accelerator, tmp_path: Path, logs: Path
) -> None:
    whole = images.initrd()
    initrd = flipped(whole, tmp_path / "initrd", offset=whole.stat().st_size // 2)
    report = check_direct(images.direct(initrd=initrd), logs, accelerator)
    assert "could not unpack its initrd" in report.reasons[0]


def test_a_tool_that_does_not_start_is_found(
    images: Images, accelerator: Accelerator, tmp_path: Path, logs: Path
) -> None:
    broken = {"/usr/sbin/mdadm": b"#!/bin/sh\necho 'a library is missing' >&2\nexit 127\n"}
    initrd = overlaid(images.initrd(), broken, folder=tmp_path)
    report = check_direct(images.direct(initrd=initrd), logs, accelerator)
    assert report.ready_s is not None
    assert "mdadm" in report.verdict.tools_failed
    assert "lvm" not in report.verdict.tools_failed
    assert not report.ok


def test_secure_boot_refuses_a_kernel_with_a_flipped_bit(
    images: Images, accelerator: Accelerator, tmp_path: Path, logs: Path
) -> None:
    iso, kernel = images.iso(), images.kernel().read_bytes()
    start = iso.read_bytes().index(kernel)
    tampered = flipped(iso, tmp_path / "tampered.iso", offset=start + len(kernel) // 2)
    machine = Machine(
        image=tampered, firmware=Firmware.SECURE_BOOT, memory_mib=MEMORY_MIB, logs=logs
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.expect("bad shim signature", READY_S)
        assert READY not in vm.serial_text()
