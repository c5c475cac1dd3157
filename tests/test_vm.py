"""The driver's dealings with QEMU's process and logs, with an executable in QEMU's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.errors import InputError, OutputError, ToolError
from mindi.qemu import SERIAL_LOG, TCG, Firmware, Machine
from mindi.vm import ARGV, QEMU_LOG, Vm, last_lines, prepare
from tests.support.fakeqemu import put_qemu
from tests.support.tools import require_file


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with an (empty) image."""
    image = tmp_path / "image.iso"
    image.touch()
    return Machine(image=image, logs=tmp_path / "logs")


def test_a_qemu_that_refuses_its_options_is_quoted(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_qemu(tmp_path / "bin", "echo 'qemu: no such machine' >&2; exit 1", monkeypatch)
    with pytest.raises(ToolError, match="qemu: no such machine"), Vm(machine, accelerator=TCG):
        pass


def test_the_command_line_is_kept(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_qemu(tmp_path / "bin", "exit 1", monkeypatch)
    argv = prepare(machine, TCG, folder=tmp_path)
    kept = (machine.logs / ARGV).read_text()
    assert argv[0] in kept
    assert f"file={machine.image}" in kept


def test_logs_of_an_earlier_run_are_gone(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_qemu(tmp_path / "bin", "exit 1", monkeypatch)
    machine.logs.mkdir()
    (machine.logs / SERIAL_LOG).write_text("mindi: rescue environment ready\n")
    prepare(machine, TCG, folder=tmp_path)
    assert not (machine.logs / SERIAL_LOG).exists()
    assert (machine.logs / QEMU_LOG).read_text() == ""


def test_a_missing_image_is_named(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_qemu(tmp_path / "bin", "exit 1", monkeypatch)
    missing = Machine(image=tmp_path / "missing.iso", logs=machine.logs)
    with pytest.raises(InputError, match="missing.iso"):
        prepare(missing, TCG, folder=tmp_path)


def test_logs_that_cannot_be_kept_are_an_error(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_qemu(tmp_path / "bin", "exit 1", monkeypatch)
    machine.logs.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot keep logs"):
        prepare(machine, TCG, folder=tmp_path)


def test_a_ready_line_torn_by_a_kernel_message_is_whole(machine: Machine) -> None:
    machine.logs.mkdir()
    (machine.logs / SERIAL_LOG).write_bytes(
        b"mindi: rescue envir[    5.123456] usb 1-1: new device\r\nonment ready\r\n"
    )
    text = Vm(machine, accelerator=TCG).serial_text()
    assert "mindi: rescue environment ready" in text


def test_variables_are_a_fresh_copy(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pristine = require_file("/usr/share/OVMF/OVMF_VARS_4M.fd", package="ovmf")
    put_qemu(tmp_path / "bin", "exit 1", monkeypatch)
    uefi = Machine(image=machine.image, logs=machine.logs, firmware=Firmware.UEFI)
    argv = prepare(uefi, TCG, folder=tmp_path)
    assert any(f"file={tmp_path / 'variables.fd'}" in word for word in argv)
    assert (tmp_path / "variables.fd").read_bytes() == pristine.read_bytes()


def test_the_end_of_a_log_has_no_escapes() -> None:
    menu = "\x1b[0;37;40m\x1b[2J\x1b[1;1HRescue shell\x1b[2;1H Boot from disk\a\n\n"
    assert last_lines(menu) == ("Rescue shell", "Boot from disk")
