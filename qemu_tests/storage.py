"""Machines with storage of every kind, made by the rescue environment's own tools in a guest.

``python -m qemu_tests.storage FOLDER [NAME ...]`` records them anew: tests/recorded has the result.
"""

from __future__ import annotations

import base64
import gzip
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindi.accelerator import probe_accelerator
from mindi.boot import READY_S
from mindi.qemu import Accelerator, Firmware, Machine, Medium
from mindi.vm import GuestError, Vm
from qemu_tests.images import Images, overlaid
from qemu_tests.shell import ask, open_shell

HOUSE = Path(__file__).parent.parent
RECORDER = "/root/recording.py"
SETUP = "/root/setup"
STEP_S = 60.0
"""In seconds of real hardware."""
_MODULES = "dm_mod dm_crypt dm_thin_pool dm_raid dm_snapshot dm_cache raid1 raid456 raid10"
_FAMILIES = "xfs btrfs vfat ext4 f2fs jfs nilfs2 exfat"


SCRIPTS = Path(__file__).parent / "storage_scripts"

DISKS_MIB = {
    "mbr": (512,),
    "luks-lvm": (1536,),
    "raid": (384, 384),
    "families": (1024,),
    "nested": (256, 256, 256, 256),
    "sectors": (32,),
}
"""The disks of each machine; SCRIPTS have the commands that make something of them."""

FIRMWARE = {"luks-lvm": Firmware.UEFI}
"""Of machines that have another than the BIOS."""


@contextmanager
def running(name: str, images: Images, *, accelerator: Accelerator, folder: Path) -> Iterator[Vm]:
    """Boot the rescue environment with the storage ``name``, made; its shell is open."""
    files = {
        RECORDER: (HOUSE / "tests/support/recording.py").read_bytes(),
        SETUP: (SCRIPTS / f"{name}.sh").read_bytes(),
    }
    base = images.initrd()
    if name == "sectors":
        # The module makes a disk in memory, with sectors of any size.
        options = ("--kernel", "failsafe", "--generic", "--add-module", "scsi_debug")
        base = images.build("sectors.img", "--output", "initramfs", *options)
    initrd = overlaid(base, files, folder=folder)
    disks = []
    for number, size_mib in enumerate(DISKS_MIB[name]):
        disk = folder / f"disk{number}.raw"
        with disk.open("xb") as file:
            file.truncate(size_mib << 20)
        disks.append(disk)
    machine = Machine(
        image=images.direct(initrd=initrd),
        medium=Medium.KERNEL,
        memory_mib=768,
        firmware=FIRMWARE.get(name, Firmware.BIOS),
        logs=folder / "logs",
        disks=tuple(disks),
    )
    with Vm(machine, accelerator=accelerator) as vm:
        vm.wait_ready(READY_S)
        open_shell(vm)
        ask(vm, f"mkdir -p /mnt; modprobe -a {_MODULES} {_FAMILIES}", timeout_s=STEP_S)
        made = ask(vm, f"sh -ex {SETUP}", timeout_s=STEP_S)
        if made.status:
            raise GuestError(f"{name}: {made.text[-2000:]}")
        yield vm


def record(vm: Vm) -> bytes:
    """Return the recording of a machine."""
    answer = ask(vm, f"python3 -I {RECORDER} /tmp/recording", timeout_s=STEP_S)
    packed = ask(vm, "gzip -9 </tmp/recording | base64", timeout_s=STEP_S).text
    content = gzip.decompress(base64.b64decode(packed))
    if answer.status:
        sys.stderr.write(answer.text)
    return content


def main(argv: list[str]) -> None:
    """Record the machines that are named, or all, into tests/recorded."""
    images = Images(Path(argv[0]))
    for name in argv[1:] or list(DISKS_MIB):
        with (
            tempfile.TemporaryDirectory(prefix="mindi-storage-") as folder,
            running(name, images, accelerator=probe_accelerator(), folder=Path(folder)) as vm,
        ):
            (HOUSE / f"tests/recorded/{name}.json").write_bytes(record(vm))
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
