"""A damaged initrd: the guest says so and opens a shell, for what it needs lies at the front.

Each is one initrd of this session with one thing wrong with it; the twin with nothing wrong is
ready and says nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from initramfs.unpack import InitrdReader, Segment
from mindi.boot import READY_S, check
from mindi.qemu import SERIAL_LOG, Accelerator, Machine, Medium
from mindi.vm import BAD_INITRD, PANIC, Vm
from qemu_tests.images import Images
from restore.contract import DAMAGED, READY, Mode

PROMPT_S = 10.0
FLIPPED_BYTES = 16


def flip(data: bytes, offset: int) -> bytes:
    """Return ``data`` with some bytes changed from ``offset`` on."""
    changed = bytes(byte ^ 0x55 for byte in data[offset : offset + FLIPPED_BYTES])
    return data[:offset] + changed + data[offset + FLIPPED_BYTES :]


def in_the_second_frame(data: bytes, frames: list[Segment]) -> bytes:
    """Damage what comes right behind the first frame."""
    return flip(data, frames[1].offset + frames[1].size_bytes // 2)


def in_a_late_frame(data: bytes, frames: list[Segment]) -> bytes:
    """Damage the largest frame of the second half."""
    late = max(frames[len(frames) // 2 :], key=lambda frame: frame.size_bytes)
    return flip(data, late.offset + late.size_bytes // 2)


def cut_within_a_frame(data: bytes, frames: list[Segment]) -> bytes:
    """Cut in the middle of a frame."""
    middle = frames[len(frames) // 2]
    return data[: middle.offset + middle.size_bytes // 2]


def cut_between_frames(data: bytes, frames: list[Segment]) -> bytes:
    """Cut where a frame ends, of which the kernel says nothing."""
    return data[: frames[-1].offset]


DAMAGES = [in_the_second_frame, in_a_late_frame, cut_within_a_frame, cut_between_frames]


@pytest.fixture
def whole(images: Images) -> Path:
    """An initrd with nothing wrong with it."""
    return images.build(
        "initrd.zstd",
        *("--output", "initramfs", "--kernel", "failsafe", "--host-only", "--codec", "zstd"),
        *("--level", "1"),
    )


def frames_of(initrd: Path) -> list[Segment]:
    """Return the compressed frames of ``initrd``, microcode left out."""
    with initrd.open("rb") as file:
        reader = InitrdReader(file)
        for _ in reader:
            pass
    return list(itertools.dropwhile(lambda part: part.codec == "none", reader.segments))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_initrd_says_so_and_opens_a_shell(
    damage: Callable[[bytes, list[Segment]], bytes],
    whole: Path,
    images: Images,
    accelerator: Accelerator,
    tmp_path: Path,
    logs: Path,
) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(damage(whole.read_bytes(), frames_of(whole)))
    machine = Machine(
        image=images.direct(initrd=initrd),
        medium=Medium.KERNEL,
        memory_mib=512,
        logs=logs,
        # What powers a machine off, or would do worse, must not run from half an image.
        words=(Mode.SELFCHECK.value,),
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.expect(DAMAGED, READY_S)
        vm.expect("here is a shell", READY_S)
        vm.sendline()
        vm.expect(r"[#$] ", PROMPT_S)
        vm.sendline("echo $((6 * 7)) done")
        vm.expect("42 done", PROMPT_S)
    shown = (logs / SERIAL_LOG).read_text(errors="replace")
    assert PANIC not in shown
    assert READY not in shown
    assert (BAD_INITRD in shown) == (damage is not cut_between_frames)


def test_an_initrd_with_no_damage_is_ready_and_says_nothing(
    whole: Path, images: Images, accelerator: Accelerator, logs: Path
) -> None:
    machine = Machine(
        image=images.direct(initrd=whole), medium=Medium.KERNEL, memory_mib=512, logs=logs
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        assert DAMAGED not in vm.serial_text()


def test_a_check_of_an_initrd_that_was_cut_between_frames_says_what_is_wrong(
    whole: Path, images: Images, accelerator: Accelerator, tmp_path: Path, logs: Path
) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(cut_between_frames(whole.read_bytes(), frames_of(whole)))
    machine = Machine(
        image=images.direct(initrd=initrd), medium=Medium.KERNEL, memory_mib=512, logs=logs
    )
    report = check(machine, accelerator=accelerator)
    assert not report.ok
    assert "says that its image is damaged" in report.reasons[0]
