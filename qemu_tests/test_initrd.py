"""Initrds on their own: the kernel unpacks each codec."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.codec import Codec
from mindi.boot import READY_S
from mindi.qemu import Accelerator, Machine, Medium
from mindi.vm import Vm
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
        vm.wait_ready(READY_S)
