"""The driver itself: accelerator probe, console, screen, power, and how a run ends."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from mindi.accelerator import boots
from mindi.qemu import TCG, Accelerator, Machine, Medium
from mindi.verdict import Ready
from mindi.vm import SCREEN, GuestError, Vm
from qemu_tests.images import Images
from restore.contract import READY, VERDICT_PORT

# hlt; jmp to the hlt
HANG = bytes.fromhex("f4ebfd")
PROMPT_S = 10.0
REPORT = {"event": "ready", "uptime_s": 4.5}


@pytest.fixture
def machine(images: Images, logs: Path) -> Machine:
    """A machine that boots a kernel and an initrd directly: the quickest there is."""
    return Machine(image=images.direct(), medium=Medium.KERNEL, memory_mib=512, logs=logs)


def test_a_probe_that_ends_is_believed() -> None:
    assert boots(TCG)


def test_a_probe_that_hangs_is_not() -> None:
    assert not boots(TCG, sector=HANG)


def test_console_screen_and_verdict_of_one_machine(
    machine: Machine, accelerator: Accelerator, tmp_path: Path
) -> None:
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(60)
        vm.expect(READY, PROMPT_S)
        vm.sendline()
        vm.expect(r"[#$] ", PROMPT_S)
        vm.sendline("echo $((6 * 7)) done")
        vm.expect("42 done", PROMPT_S)
        vm.sendline(f"echo '{json.dumps(REPORT)}' >/dev/virtio-ports/{VERDICT_PORT}")
        assert next(vm.verdicts(PROMPT_S)) == Ready(4.5)
        png = vm.screendump(tmp_path / "screen.png").read_bytes()
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert width >= 640
        assert height >= 400
        with pytest.raises(GuestError, match="did not show"):
            vm.expect("what nobody says", 0.1)
        vm.sendline("poweroff")
        vm.wait(30)
        with pytest.raises(GuestError, match="ended"):
            vm.expect("anything", 1)


def test_a_failure_keeps_the_screen(machine: Machine, accelerator: Accelerator) -> None:
    with pytest.raises(AssertionError), Vm(machine, accelerator=accelerator) as vm:
        raise AssertionError
    assert not vm.is_alive()
    assert (machine.logs / SCREEN).read_bytes().startswith(b"\x89PNG")


def test_a_machine_that_is_killed_is_reported(machine: Machine, accelerator: Accelerator) -> None:
    with Vm(machine, accelerator=accelerator) as vm:
        vm.quit()
        with pytest.raises(GuestError, match="ended before"):
            vm.wait_ready(60)
