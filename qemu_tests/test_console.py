"""The keyboard map of the console: keys that are pressed on the machine's own keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mindi.boot import READY_S
from mindi.qemu import Accelerator, Machine, Medium
from mindi.vm import Vm
from qemu_tests.images import Images
from qemu_tests.shell import ask, open_shell

# A map that includes others, and has signs that are not ASCII.
KEYMAP = "de-latin1-nodeadkeys"

# Named for a US keyboard; between them lies all of a shell's command.
KEYS = ("t", "o", "u", "c", "h", "spc", "z", "y", "minus")
GERMAN, AMERICAN = "yzß", "zy-"


def german(images: Images) -> Path:
    """Return an initrd with the map."""
    options = ("--output", "initramfs", "--kernel", "failsafe", "--generic")
    return images.build("german.img", *options, "--keymap", KEYMAP)


@pytest.mark.parametrize(
    ("image", "typed"),
    [(german, GERMAN), (Images.initrd, AMERICAN)],
    ids=["with --keymap", "without"],
)
def test_keys_give_the_signs_of_the_map(
    image: Callable[[Images], Path],
    typed: str,
    images: Images,
    accelerator: Accelerator,
    logs: Path,
) -> None:
    machine = Machine(
        image=images.direct(initrd=image(images)), medium=Medium.KERNEL, memory_mib=512, logs=logs
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        open_shell(vm)
        vm.press(*KEYS, "ret")
        # The screen's shell may not have taken the line yet.
        waited = ask(vm, "until ls /root | grep -q .; do sleep 0.2; done", timeout_s=30)
        assert waited.status == 0
        assert ask(vm, "cd /root; echo *").text.strip() == typed
