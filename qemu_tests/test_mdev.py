"""An image without udev, as --omit-tool makes it: mdev makes nodes, and names disks by content."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from initramfs.unpack import unpack
from mindi.boot import READY_S
from mindi.qemu import Accelerator, Machine, Medium
from mindi.vm import Vm
from qemu_tests.images import Images
from qemu_tests.shell import ask, open_shell
from tests.support.tools import require_tool

UUID = "11111111-2222-3333-4444-555555555555"
LABEL = "root fs"
UDEV = {"udevadm", "systemd-udevd"}
SETTLE_S = 20.0
STORAGE_S = 60.0
# The trials of the self-check, without the start of every tool.
TRIALS = (
    "from pathlib import Path; from restore.storagecheck import run_trial, trials; "
    "tools = ('/usr/sbin/lvm', '/usr/sbin/mdadm', '/usr/sbin/cryptsetup'); "
    "print(*(run_trial(trial, Path('/tmp')) for trial in trials(*tools)), sep='\\n')"
)


@pytest.fixture(scope="module")
def initrd(images: Images) -> Path:
    """An initrd without the tools of the package udev."""
    options = ("--output", "initramfs", "--kernel", "failsafe", "--generic", "--omit-tool", "udev")
    return images.build("without-udev.img", *options)


@pytest.fixture(scope="module")
def guest(
    initrd: Path, images: Images, accelerator: Accelerator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vm]:
    """A machine with one disk, of a filesystem and a swap area, that is ready."""
    folder = tmp_path_factory.mktemp("mdev")
    disk = folder / "disk.raw"
    with disk.open("xb") as file:
        file.truncate(64 << 20)
    table = 'label: gpt\nsize=20MiB, name="one two"\ntype=S\n'
    argv = [require_tool("sfdisk", package="fdisk"), "--quiet", disk]
    subprocess.run(argv, input=table, text=True, check=True)
    argv = [require_tool("mke2fs", package="e2fsprogs"), "-q", "-F", "-L", LABEL, "-U", UUID]
    subprocess.run([*argv, "-E", "offset=1048576", disk, "20M"], check=True, capture_output=True)
    machine = Machine(
        image=images.direct(initrd=initrd),
        medium=Medium.KERNEL,
        memory_mib=1024,
        logs=folder / "logs",
        disks=(disk,),
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        open_shell(vm)
        yield vm


def names_in(initrd: Path) -> set[str]:
    """Return the names of all files of ``initrd``."""
    with initrd.open("rb") as file:
        return {member.path.rpartition("/")[2] for member in unpack(file)}


def test_the_tools_left_out_are_not_in_the_image(initrd: Path) -> None:
    names = names_in(initrd)
    assert names.isdisjoint(UDEV)
    assert {"lvm", "sfdisk", "mdev.conf"} <= names


def test_the_same_image_has_them_if_they_are_not_left_out(images: Images) -> None:
    assert names_in(images.initrd()) >= UDEV


def test_no_step_of_the_start_failed(guest: Vm) -> None:
    assert "failed" not in ask(guest, "cat /var/log/mindi.log").text
    assert ask(guest, "pidof mdev").status == 0


@pytest.mark.parametrize(
    ("link", "partition"),
    [
        (f"by-uuid/{UUID}", "vda1"),
        (r"by-label/root\x20fs", "vda1"),
        (r"by-partlabel/one\x20two", "vda1"),
    ],
    ids=["uuid", "label", "partlabel"],
)
def test_disks_have_names_by_what_is_on_them(link: str, partition: str, guest: Vm) -> None:
    assert ask(guest, f"readlink -f '/dev/disk/{link}'").text.strip() == f"/dev/{partition}"


def test_a_filesystem_is_mounted_by_its_uuid(guest: Vm) -> None:
    shown = ask(guest, f"mount UUID={UUID} /mnt && ls /mnt && umount /mnt")
    assert (shown.status, shown.text.strip()) == (0, "lost+found")


def test_a_disk_that_goes_and_comes_loses_and_gets_its_names(guest: Vm) -> None:
    device = ask(guest, "readlink -f /sys/block/vda/device/..").text.strip()
    gone = f"echo 1 >{device}/remove; {until(f'[ ! -L /dev/disk/by-uuid/{UUID} ]')}"
    assert ask(guest, gone, timeout_s=SETTLE_S).status == 0
    back = f"echo 1 >/sys/bus/pci/rescan; {until(f'[ -b /dev/disk/by-uuid/{UUID} ]')}"
    assert ask(guest, back, timeout_s=SETTLE_S).status == 0


def test_volumes_arrays_and_encryption_work(guest: Vm) -> None:
    assert ask(guest, "modprobe -a loop dm_mod raid1 dm_crypt", timeout_s=STORAGE_S).status == 0
    shown = ask(guest, f'python3 -I -S -c "{TRIALS}"', timeout_s=STORAGE_S).text
    assert shown.count("ok=True") == 3, shown


def test_a_volume_has_its_node_at_once_and_its_names_when_storage_is_started(guest: Vm) -> None:
    made = ask(
        guest,
        "pvcreate -q /dev/vda2 && vgcreate -q vg /dev/vda2 && lvcreate -q -y -L 8M -n lv vg && "
        "mke2fs -q -L volume /dev/vg/lv && [ -b /dev/mapper/vg-lv ] && mindi-storage start",
        timeout_s=STORAGE_S,
    )
    assert made.status == 0, made.text
    named = ask(guest, "readlink -f /dev/disk/by-label/volume").text.strip()
    assert named.startswith("/dev/dm-")
    gone = ask(guest, "vgremove -q -f vg", timeout_s=STORAGE_S)
    assert gone.status == 0, gone.text


def until(condition: str) -> str:
    """Return a shell command that waits, but not for ever, until ``condition`` is true."""
    return f"for _ in 1 2 3 4 5 6 7 8 9; do {condition} && break; sleep 1; done; {condition}"
