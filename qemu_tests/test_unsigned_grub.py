"""An ISO of a root without shim and signed GRUB: the GRUB that is made for it boots under UEFI.

The root is this system with the folders of those packages hidden, in a mount namespace of the
build's own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mindi.boot import READY_S
from mindi.kernel import is_signed
from mindi.qemu import Accelerator, Firmware, Machine, Medium
from mindi.vm import GuestError, Vm
from qemu_tests.images import Images
from tests.support.tools import lacking, require_file, require_tool

HIDDEN = (
    *("/usr/lib/shim", "/boot/efi"),
    *("/usr/lib/grub/x86_64-efi-signed", "/usr/lib/grub/x86_64-efi/monolithic"),
)
HIDE = 'for f in {}; do [ ! -d "$f" ] || mount -t tmpfs tmpfs "$f" || exit; done; exec "$@"'
MENU_S = 30.0
REFUSAL_S = 45.0
TITLE = "mindi rescue - "
ENTRY = "Rescue shell"


def hiding() -> tuple[str, ...]:
    """Return the words that, before a command, hide from it what is HIDDEN."""
    unshare = [str(require_tool("unshare", package="util-linux")), "--mount"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        lacking("no mount namespace can be made here")
    return (*unshare, "sh", "-c", HIDE.format(" ".join(HIDDEN)), "sh")


@pytest.fixture(scope="module")
def iso(images: Images) -> Path:
    """The ISO of this system without the packages shim-signed and grub-efi-amd64-signed."""
    require_tool("grub-mkimage", package="grub-common")
    require_file("/usr/lib/grub/x86_64-efi/moddep.lst", package="grub-efi-amd64-bin")
    options = ("--output", "iso", "--host-only")
    return images.build("unsigned-grub.iso", *options, before=hiding())


def loaders(iso: Path, folder: Path) -> dict[str, bool]:
    """Return the names of all UEFI programs of ``iso``, and whether each is signed."""
    argv = [str(require_tool("xorriso")), "-osirrox", "on", "-indev", str(iso)]
    subprocess.run([*argv, "-extract", "/EFI", str(folder)], check=True, capture_output=True)
    return {file.name: is_signed(file) for file in folder.rglob("*") if file.is_file()}


def test_nothing_signed_is_on_the_iso(iso: Path, tmp_path: Path) -> None:
    assert loaders(iso, tmp_path) == {"BOOTX64.EFI": False}


def test_the_twin_with_all_packages_has_them(images: Images, tmp_path: Path) -> None:
    require_file("/usr/lib/shim/shimx64.efi.signed", package="shim-signed")
    names = ("BOOTX64.EFI", "grubx64.efi", "mmx64.efi")
    assert loaders(images.host_only_iso(), tmp_path) == dict.fromkeys(names, True)


@pytest.mark.parametrize("medium", [Medium.CDROM, Medium.USB])
def test_its_menu_is_on_the_serial_line_and_it_boots(
    medium: Medium, iso: Path, accelerator: Accelerator, logs: Path
) -> None:
    machine = Machine(image=iso, firmware=Firmware.UEFI, medium=medium, memory_mib=512, logs=logs)
    with Vm(machine, accelerator=accelerator) as vm:
        vm.expect(ENTRY, MENU_S)
        vm.expect(TITLE, MENU_S)
        vm.sendline()
        vm.wait_ready(READY_S)


def test_firmware_with_secure_boot_refuses_it(
    iso: Path, accelerator: Accelerator, logs: Path
) -> None:
    machine = Machine(image=iso, firmware=Firmware.SECURE_BOOT, memory_mib=512, logs=logs)
    with Vm(machine, accelerator=accelerator) as vm:
        vm.expect("Access Denied|Security Violation", REFUSAL_S)
        with pytest.raises(GuestError):
            vm.expect(ENTRY, 1)
