"""The QEMU command line, as a pure function of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from initramfs.errors import MissingDependency, UsageError
from mindi.qemu import (
    KVM,
    TCG,
    Accelerator,
    Architecture,
    Channels,
    Console,
    DirectBoot,
    Firmware,
    Machine,
    Medium,
    Network,
    arguments,
    find_firmware,
    find_qemu,
)

ISO = Path("/images/rescue.iso")
LOGS = Path("/logs")
CODE = Path("/firmware/code.fd")


def pairs(machine: Machine, *, accelerator: Accelerator = TCG, code: Path | None = None) -> str:
    """Return the arguments as one line, an option and its value a word apart."""
    channels = Channels(Path("/run/qmp"), Path("/run/variables.fd"))
    return " ".join(arguments(machine, accelerator, channels=channels, code=code))


def test_a_cdrom_is_read_only_and_boots_first() -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, medium=Medium.CDROM))
    assert "file=/images/rescue.iso,media=cdrom,readonly=on" in line
    assert "-device ide-cd,drive=medium,bootindex=0" in line


@pytest.mark.parametrize("medium", [Medium.USB, Medium.DISK])
def test_a_writable_medium_is_written_to_a_snapshot(medium: Medium) -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, medium=medium))
    assert "file=/images/rescue.iso,snapshot=on" in line


def test_a_usb_stick_hangs_on_xhci() -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, medium=Medium.USB))
    assert "-device qemu-xhci -device usb-storage,drive=medium" in line


def test_bios_has_no_flash() -> None:
    assert "pflash" not in pairs(Machine(image=ISO, logs=LOGS))


def test_uefi_has_read_only_code_and_writable_variables() -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, firmware=Firmware.UEFI), code=CODE)
    assert "if=pflash,unit=0,format=raw,readonly=on,file=/firmware/code.fd" in line
    assert "if=pflash,unit=1,format=raw,file=/run/variables.fd" in line
    assert "smm=on" not in line


def test_secure_boot_protects_its_variables() -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, firmware=Firmware.SECURE_BOOT), code=CODE)
    assert "-machine q35,smm=on" in line
    assert "driver=cfi.pflash01,property=secure,value=on" in line


def test_kvm_uses_the_hosts_processor() -> None:
    assert "-accel kvm -cpu host" in pairs(Machine(image=ISO, logs=LOGS), accelerator=KVM)


def arm_machine(**changes: Any) -> Machine:
    direct = DirectBoot(Path("/k"), Path("/i"), "console=ttyAMA0")
    values: dict[str, Any] = {"image": direct, "medium": Medium.KERNEL, "logs": LOGS}
    return Machine(architecture=Architecture.AARCH64, **(values | changes))


def test_a_machine_for_arm_has_its_own_board_and_no_screen() -> None:
    line = pairs(arm_machine())
    assert "-machine virt -accel tcg,thread=multi -cpu max,pauth-impdef=on" in line
    assert "-vga" not in line
    assert "virtserialport,chardev=verdict" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"image": ISO, "medium": Medium.CDROM},
        {"firmware": Firmware.UEFI},
    ],
    ids=["cdrom", "uefi"],
)
def test_what_a_machine_for_arm_does_not_have_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="aarch64 cannot boot"):
        arm_machine(**changes)


def test_words_travel_in_one_fw_cfg_string() -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, words=("selfcheck", "ipconf=eth0:dhcp")))
    assert "-fw_cfg name=opt/mindi/cmdline,string=selfcheck ipconf=eth0:dhcp" in line


def test_no_words_no_fw_cfg() -> None:
    assert "-fw_cfg" not in pairs(Machine(image=ISO, logs=LOGS))


def test_a_comma_in_a_file_name_is_doubled() -> None:
    line = pairs(Machine(image=Path("/images/a,b.iso"), logs=LOGS))
    assert "file=/images/a,,b.iso" in line


def test_a_kernel_is_loaded_directly() -> None:
    direct = DirectBoot(Path("/k"), Path("/i"), "console=ttyS0 quiet")
    channels = Channels(Path("/run/qmp"), Path("/run/variables.fd"))
    machine = Machine(image=direct, medium=Medium.KERNEL, logs=LOGS)
    argv = arguments(machine, TCG, channels=channels, code=None)
    start = argv.index("-kernel")
    assert argv[start : start + 6] == (
        *("-kernel", "/k", "-initrd", "/i"),
        *("-append", "console=ttyS0 quiet"),
    )


def test_disks_follow_the_medium_in_the_boot_order() -> None:
    machine = Machine(image=ISO, logs=LOGS, disks=(Path("/a.img"), Path("/b.qcow2")))
    line = pairs(machine)
    assert "format=raw,file=/a.img" in line
    assert "format=qcow2,file=/b.qcow2" in line
    assert "virtio-blk-pci,drive=disk1,serial=mindi-disk1,bootindex=2" in line


def test_a_machine_without_a_network_has_no_card() -> None:
    assert "-nic none" in pairs(Machine(image=ISO, logs=LOGS))


def test_a_card_on_qemus_own_network() -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, network=Network()))
    assert "-netdev user,id=network -device virtio-net-pci,netdev=network,romfile= " in line
    assert "-nic" not in line


@pytest.mark.parametrize("port", [0, 2222])
def test_a_port_of_the_loopback_leads_to_the_ssh_server(port: int) -> None:
    line = pairs(Machine(image=ISO, logs=LOGS, network=Network(ssh_port=port)))
    assert f"-netdev user,id=network,hostfwd=tcp:127.0.0.1:{port}-:22 " in line


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(UsageError, match=f"no port {port}"):
        Network(ssh_port=port)


def test_a_terminal_shares_the_console_with_the_monitor() -> None:
    channels = Channels(Path("/run/qmp"), Path("/run/variables.fd"))
    machine = Machine(image=ISO, logs=LOGS)
    argv = arguments(machine, TCG, channels=channels, code=None, console=Console.TERMINAL)
    assert "stdio,id=console,mux=on,signal=off,logfile=/logs/serial.log" in argv


def test_a_kernel_from_a_cdrom_is_refused() -> None:
    direct = DirectBoot(Path("/k"), Path("/i"), "")
    with pytest.raises(UsageError, match="as cdrom"):
        Machine(image=direct, medium=Medium.CDROM, logs=LOGS)


def test_nothing_to_boot_from_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to boot"):
        Machine(image=None, logs=LOGS)


@pytest.mark.parametrize("memory_mib", [-1, 0, 127, (1 << 20) + 1])
def test_memory_that_cannot_be_had_is_refused(memory_mib: int) -> None:
    with pytest.raises(UsageError, match=f"{memory_mib} MiB"):
        Machine(image=ISO, logs=LOGS, memory_mib=memory_mib)


@pytest.mark.parametrize("memory_mib", [128, 1 << 20])
def test_memory_at_either_end_can_be_had(memory_mib: int) -> None:
    assert f"-m {memory_mib} " in pairs(Machine(image=ISO, logs=LOGS, memory_mib=memory_mib))


def test_missing_firmware_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"OVMF_CODE_4M\.fd") as caught:
        find_firmware(Firmware.UEFI, folder=tmp_path)
    assert "ovmf" in str(caught.value.hint)


def test_missing_qemu_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for architecture, package in (
        (Architecture.X86_64, "qemu-system-x86"),
        (Architecture.AARCH64, "qemu-system-arm"),
    ):
        with pytest.raises(MissingDependency, match=architecture) as caught:
            find_qemu(architecture)
        assert package in str(caught.value.hint)
