"""What the machine says of its modules is read from any sysfs and procfs given."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.errors import InputError
from initramfs.hostmodules import HostModules, gather_host
from tests.support.sysfs import empty_machine, encrypted_server


def _device(sys: Path, path: str, modalias: str) -> None:
    folder = sys / "devices" / path
    folder.mkdir(parents=True)
    (folder / "modalias").write_text(f"{modalias}\n")


def test_gathers_modaliases_and_loaded_modules(tmp_path: Path) -> None:
    _device(tmp_path / "sys", "pci0/0000:00:01.0", "pci:v1d2")
    _device(tmp_path / "sys", "pci0/0000:00:01.0/usb1/1-0", "usb:v3p4")
    _device(tmp_path / "sys", "pci0/0000:00:02.0", "pci:v1d2")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text(
        "b 16384 0 - Live 0x0000000000000000\na 20480 1 b, Live 0x0000000000000000 (OE)\n"
    )

    found = gather_host(tmp_path / "sys", tmp_path / "proc", tmp_path / "fstab")

    assert found == HostModules(modaliases=("pci:v1d2", "usb:v3p4"), loaded=("a", "b"))


def test_links_are_not_followed(tmp_path: Path) -> None:
    _device(tmp_path / "sys", "pci0", "pci:v1")
    (tmp_path / "sys/devices/pci0/subsystem").symlink_to("..")

    assert gather_host(tmp_path / "sys", tmp_path, tmp_path / "fstab").modaliases == ("pci:v1",)


def test_a_kernel_without_modules_has_none_loaded(tmp_path: Path) -> None:
    _device(tmp_path / "sys", "pci0", "pci:v1")

    assert gather_host(tmp_path / "sys", tmp_path, tmp_path / "fstab").loaded == ()


def test_a_machine_without_sysfs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="devices is missing"):
        gather_host(tmp_path / "sys", tmp_path, tmp_path / "fstab")


def test_gathers_the_types_of_what_is_mounted_or_may_be(tmp_path: Path) -> None:
    _device(tmp_path / "sys", "pci0", "pci:v1")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/mounts").write_text("/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n")
    fstab = tmp_path / "fstab"
    fstab.write_text("# <file system> is a comment\nUUID=1 /srv xfs defaults 0 2\n\n")

    found = gather_host(tmp_path / "sys", tmp_path / "proc", fstab)

    assert found.filesystems == ("ext4", "proc", "xfs")


@pytest.mark.parametrize("bus", ["auxiliary", "mmc"])
def test_devices_that_tell_their_alias_to_udev_alone_are_read(bus: str, tmp_path: Path) -> None:
    machine = empty_machine(tmp_path)
    machine.file("devices/pci0/mlx5_core.rdma.0/uevent", "DRIVER=x\nMODALIAS=auxiliary:mlx5.rdma")
    machine.link(f"bus/{bus}/devices/mlx5_core.rdma.0", "devices/pci0/mlx5_core.rdma.0")

    found = gather_host(machine.sys, machine.proc, machine.fstab)

    assert found.modaliases == ("auxiliary:mlx5.rdma", "cpu:type:x86")


def test_every_parent_of_a_device_gives_its_alias(tmp_path: Path) -> None:
    machine = empty_machine(tmp_path)
    bridge = machine.device("pci0000:00/0000:00:1c.0", modalias="pci:bridge")
    disk = machine.device(f"{bridge}/0000:01:00.0", modalias="pci:nvme", driver="pci/nvme")
    machine.block("nvme0n1", f"{disk}/nvme/nvme0")

    found = gather_host(machine.sys, machine.proc, machine.fstab)

    assert found.modaliases == ("cpu:type:x86", "pci:bridge", "pci:nvme")


def test_gathers_what_storage_network_and_ciphers_need(tmp_path: Path) -> None:
    machine = encrypted_server(tmp_path)
    machine.interface("br0", kind="bridge")
    (machine.proc / "crypto").write_text("name : xts(aes)\nrefcnt : 2\ninternal : no\n")

    found = gather_host(machine.sys, machine.proc, machine.fstab)

    words = [word for need in found.needs for word in need.words]
    assert words == [
        *("dm_crypt", "dm_mod", "md-raid1", "nvme"),
        *("rtnl-link-bridge", "crypto-xts", "crypto-aes"),
    ]
