"""What `mindi boot` makes of the file that it is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.errors import InputError, ToolError, UsageError
from mindi.boot import (
    BootReport,
    architecture_of_image,
    boot_source,
    direct_cmdline,
    interact,
    lacked_memory,
)
from mindi.qemu import TCG, Architecture, DirectBoot, Engine, Firmware, Machine, Medium
from mindi.verdict import judge
from tests.support.fakeqemu import put_qemu
from tests.support.initrds import odd_tree, packed, recorded, written_iso


def write(file: Path, data: bytes, *, offset: int = 0) -> Path:
    """Write ``data`` at ``offset`` of a new file."""
    file.write_bytes(bytes(offset) + data)
    return file


def test_an_iso_boots_from_the_medium_asked_for(tmp_path: Path) -> None:
    iso = write(tmp_path / "x", b"CD001", offset=32769)
    assert boot_source(iso, medium=Medium.USB, kernel=None) == (iso, Medium.USB)


def test_a_disk_image_boots(tmp_path: Path) -> None:
    disk = write(tmp_path / "x", b"\x55\xaa", offset=510)
    assert boot_source(disk, medium=Medium.DISK, kernel=None) == (disk, Medium.DISK)


@pytest.mark.parametrize(
    "magic",
    [b"070701", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x89LZO\0"],
    ids=["cpio", "gzip", "xz", "zstd", "lzo"],
)
def test_an_initrd_boots_with_its_kernel(magic: bytes, tmp_path: Path) -> None:
    initrd = write(tmp_path / "x", magic)
    source, medium = boot_source(initrd, medium=Medium.CDROM, kernel=Path("/k"))
    assert isinstance(source, DirectBoot)
    assert (source.kernel, source.initrd, medium) == (Path("/k"), initrd, Medium.KERNEL)


def test_an_initrd_without_a_kernel_is_refused(tmp_path: Path) -> None:
    initrd = write(tmp_path / "x", b"070701")
    with pytest.raises(UsageError, match="only with a kernel") as caught:
        boot_source(initrd, medium=Medium.CDROM, kernel=None)
    assert "--kernel" in str(caught.value.hint)


def test_an_iso_with_a_kernel_is_refused(tmp_path: Path) -> None:
    iso = write(tmp_path / "x", b"CD001", offset=32769)
    with pytest.raises(UsageError, match="its own kernel"):
        boot_source(iso, medium=Medium.CDROM, kernel=Path("/k"))


def image_for(architecture: str, folder: Path) -> Path:
    image = folder / "initrd.img"
    closure = recorded(odd_tree(folder / "root").build(), architecture=architecture)
    image.write_bytes(packed(closure)[0])
    return image


@pytest.mark.parametrize(
    ("recorded_as", "machine"),
    [
        ("x86_64", Architecture.X86_64),
        ("i686", Architecture.X86_64),
        ("aarch64", Architecture.AARCH64),
    ],
)
def test_an_image_says_what_machine_it_is_for(
    recorded_as: str, machine: Architecture, tmp_path: Path
) -> None:
    assert architecture_of_image(image_for(recorded_as, tmp_path)) is machine


def test_an_image_for_a_machine_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="riscv64"):
        architecture_of_image(image_for("riscv64", tmp_path))


def test_an_initrd_without_a_record_is_tried_on_a_pc(tmp_path: Path) -> None:
    initrd = write(tmp_path / "x", packed(odd_tree(tmp_path / "root").build())[0])
    assert architecture_of_image(initrd) is Architecture.X86_64


@pytest.mark.parametrize(("mark", "offset"), [(b"CD001", 32769), (b"\x55\xaa", 510)])
def test_a_foreign_medium_is_tried_on_a_pc(mark: bytes, offset: int, tmp_path: Path) -> None:
    medium = write(tmp_path / "x", mark, offset=offset)
    assert architecture_of_image(medium) is Architecture.X86_64


def test_a_truncated_initrd_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        architecture_of_image(write(tmp_path / "x", b"070701"))


def test_a_truncated_iso_is_refused_before_it_is_booted(tmp_path: Path) -> None:
    (tmp_path / "iso").mkdir()
    iso = written_iso(tmp_path / "iso", odd_tree(tmp_path / "root").build())
    assert architecture_of_image(iso) is Architecture.X86_64
    data = iso.read_bytes()
    iso.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="ends before the end"):
        architecture_of_image(iso)


def test_the_console_is_where_the_machine_has_its_serial_port() -> None:
    assert "console=ttyS0," in direct_cmdline(Architecture.X86_64)
    assert "console=ttyAMA0," in direct_cmdline(Architecture.AARCH64)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "x", b"#!/bin/sh\n")
    with pytest.raises(InputError, match="no ISO"):
        boot_source(other, medium=Medium.CDROM, kernel=None)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        boot_source(tmp_path / "missing", medium=Medium.CDROM, kernel=None)


def run_in(folder: Path, qemu: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a machine as a person would, with the shell script ``qemu`` in QEMU's place."""
    put_qemu(folder / "bin", qemu, monkeypatch)
    machine = Machine(image=write(folder / "x.iso", b""), logs=folder / "logs")
    return interact(machine, accelerator=TCG)


def test_a_machine_that_ends_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_in(tmp_path, "exit 0", monkeypatch) == 0


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ("echo 'qemu: no such machine' >&2; exit 1", "status 1\n  qemu: no such machine"),
        ("kill -9 $$", "killed by signal 9"),
    ],
    ids=["refuses", "killed"],
)
def test_a_qemu_that_fails_is_the_tools_failure(
    ends: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolError, match=words):
        run_in(tmp_path, ends, monkeypatch)


def failed_report() -> BootReport:
    """Return a report on a machine that said nothing."""
    verdict = judge(())
    return BootReport(
        image=Path("/images/rescue.iso"),
        firmware=Firmware.UEFI,
        medium=Medium.USB,
        engine=Engine.TCG,
        memory_mib=1024,
        ok=False,
        reasons=("the guest's kernel panicked",),
        ready_s=None,
        total_s=12.5,
        verdict=verdict,
        screenshots=(Path("/logs/screen.png"),),
        logs=Path("/logs"),
    )


@pytest.mark.parametrize(
    ("said", "lacked"),
    [
        ("[   53.09] Out of memory: Killed process 285 (python3) total-vm:242912kB", True),
        ("Kernel panic - not syncing: System is deadlocked on memory", True),
        ("mindi: rescue environment ready", False),
    ],
    ids=["killed", "panic", "well"],
)
def test_a_guest_without_memory_is_known_by_its_kernels_words(
    said: str, lacked: bool, tmp_path: Path
) -> None:
    (tmp_path / "serial.log").write_text(f"some\nlines\n{said}\n")
    assert lacked_memory(tmp_path / "serial.log") == lacked


def test_a_guest_that_said_nothing_lacked_nothing(tmp_path: Path) -> None:
    assert not lacked_memory(tmp_path / "serial.log")


def test_a_report_says_why_it_failed() -> None:
    text = failed_report().to_text()
    assert "rescue.iso: FAILED" in text
    assert "failed: the guest's kernel panicked" in text
    assert "ready line   never" in text


def test_what_a_guest_says_does_not_steer_the_terminal() -> None:
    report = replace(failed_report(), reasons=("tool x failed: \x1b[2J\x9b31mfine",))
    assert "failed: tool x failed: \\x1b[2J\\xc2\\x9b31mfine" in report.to_text()


def test_a_report_is_json() -> None:
    values = json.loads(json.dumps(failed_report().to_json()))
    assert values["firmware"] == "uefi"
    assert values["screenshots"] == ["/logs/screen.png"]
    assert values["verdict"]["ok"] is False
