"""Initrds on their own: every codec, and as little memory as promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.codec import Codec
from mindi.boot import check
from mindi.qemu import Accelerator, Machine, Medium
from mindi.vm import Vm
from qemu_tests.conftest import Measure
from qemu_tests.images import Images


@pytest.mark.parametrize("codec", list(Codec))
def test_the_kernel_unpacks_each_codec(
    codec: Codec, images: Images, accelerator: Accelerator, logs: Path
) -> None:
    initrd = images.build(
        f"initrd.{codec}",
        *("--output", "initramfs", "--kernel", "failsafe", "--host-only", "--codec", codec),
        *("--level", "1"),
    )
    machine = Machine(
        image=images.direct(initrd=initrd), medium=Medium.KERNEL, memory_mib=512, logs=logs
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(60)


def test_a_host_only_image_boots_with_256_mib(
    images: Images, accelerator: Accelerator, logs: Path, measured: Measure
) -> None:
    initrd = images.build(
        "host-only.img", "--output", "initramfs", "--kernel", "failsafe", "--host-only"
    )
    machine = Machine(
        image=images.direct(initrd=initrd), medium=Medium.KERNEL, memory_mib=256, logs=logs
    )
    report = measured(check(machine, accelerator=accelerator))
    assert report.ready_s is not None, report.to_text()
