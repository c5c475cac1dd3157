"""No failure of the rescue environment ends in a panic: it is named, and there is a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindi.qemu import Accelerator, DirectBoot, Machine, Medium
from mindi.vm import PANIC, Vm
from qemu_tests.images import Images, overlaid

READY_S = 60.0
PROMPT_S = 10.0
EXIT_1 = b"#!/bin/sh\nexit 1\n"


def assert_shell(image: DirectBoot, logs: Path, accelerator: Accelerator, *words: str) -> str:
    """Boot ``image``, use the shell on its serial console; return what the console showed."""
    machine = Machine(image=image, medium=Medium.KERNEL, memory_mib=512, logs=logs, words=words)
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        vm.sendline()
        vm.expect(r"[#$] ", PROMPT_S)
        vm.sendline("echo $((6 * 7)) done")
        vm.expect("42 done", PROMPT_S)
        text = vm.serial_text()
    assert PANIC not in text
    return text


def test_an_unknown_mode_is_named(images: Images, accelerator: Accelerator, logs: Path) -> None:
    shown = assert_shell(images.direct(), logs, accelerator, "mindi.mode=nosuch")
    assert "nosuch" in shown


@pytest.mark.parametrize(
    "broken",
    ["/usr/bin/udevadm", "/usr/bin/kmod", "/usr/bin/python3.11"],
)
def test_a_tool_of_the_start_that_fails(
    broken: str, images: Images, accelerator: Accelerator, tmp_path: Path, logs: Path
) -> None:
    initrd = overlaid(images.initrd(), {broken: EXIT_1}, folder=tmp_path)
    assert_shell(images.direct(initrd=initrd), logs, accelerator)
