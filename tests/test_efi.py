"""Which loader goes under which name, and the system partition that holds it."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from initramfs.errors import InputError, MissingDependency, ToolError
from mindi.bootfiles import BootFiles, Machine, UefiFiles, UefiKind, find_boot_files
from mindi.efi import ESP_MARK, efi_files, id_path, system_partition, way_to_medium
from tests.support.bootroot import add_unsigned, boot_tree, made
from tests.support.tools import require_file, require_tool
from tests.support.tree import Tree

IDENTITY = uuid.UUID("00000000-0000-5000-8000-000000000000")
GOLDEN = Path(__file__).parent / "golden"


def of_modules(modules: Path, mkimage: Path) -> BootFiles:
    """Return boot files whose GRUB is still to be made."""
    loader = UefiFiles(UefiKind.MODULES, Machine.X64, Path("/"), modules=modules, mkimage=mkimage)
    return BootFiles("x86_64", None, (loader,))


def test_shim_starts_first_and_finds_grub_beside_it(tmp_path: Path) -> None:
    boot = find_boot_files([boot_tree(tmp_path).root()], architecture="x86_64")
    assert efi_files(boot, IDENTITY) == {
        "/EFI/BOOT/BOOTX64.EFI": made("shim", 90_000),
        "/EFI/BOOT/grubx64.efi": made("gcd", 300_003),
        "/EFI/BOOT/mmx64.efi": made("mm", 80_001),
    }


def test_grub_without_shim_starts_first(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    add_unsigned(tree)
    boot = find_boot_files([tree.root()], architecture="x86_64")
    assert efi_files(boot, IDENTITY) == {"/EFI/BOOT/BOOTX64.EFI": made("plain", 200_002)}


def test_a_loader_that_is_gone_is_named(tmp_path: Path) -> None:
    boot = find_boot_files([boot_tree(tmp_path).root()], architecture="x86_64")
    shim = tmp_path / "usr/lib/shim/shimx64.efi.signed"
    shim.unlink()
    with pytest.raises(InputError, match=str(shim)):
        efi_files(boot, IDENTITY)


def test_a_grub_is_made_of_modules_and_always_the_same() -> None:
    mkimage = require_tool("grub-mkimage", package="grub-common")
    modules = require_file("/usr/lib/grub/x86_64-efi", package="grub-efi-amd64-bin")
    boot = of_modules(modules, mkimage)
    files = efi_files(boot, IDENTITY)
    assert files == efi_files(boot, IDENTITY)
    grub = files["/EFI/BOOT/BOOTX64.EFI"]
    assert grub.startswith(b"MZ")
    assert id_path(IDENTITY).encode() in grub


def test_a_failing_grub_mkimage_is_told_with_its_words(tmp_path: Path) -> None:
    mkimage = require_tool("grub-mkimage", package="grub-common")
    with pytest.raises(ToolError, match="grub-mkimage .*failed with exit status 1") as caught:
        efi_files(of_modules(tmp_path, mkimage), IDENTITY)
    assert "grub-efi-amd64" in (caught.value.hint or "")


def test_a_missing_grub_mkimage_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="grub-mkimage is not here"):
        efi_files(of_modules(tmp_path, tmp_path / "grub-mkimage"), IDENTITY)


def test_the_system_partition_leads_to_the_medium(tmp_path: Path) -> None:
    mtype = require_tool("mtype", package="mtools")
    image = tmp_path / "esp"
    image.write_bytes(system_partition({"/EFI/BOOT/a.efi": b"a"}, IDENTITY, timestamp_s=0))

    def shown(path: str) -> str:
        return subprocess.run(
            [mtype, "-i", image, f"::{path}"], capture_output=True, text=True, check=True
        ).stdout

    assert shown("/boot/grub/grub.cfg") == way_to_medium(IDENTITY)
    assert shown(ESP_MARK).strip() == str(IDENTITY)
    assert shown("/EFI/BOOT/A.EFI") == "a"


def test_the_way_to_the_medium_as_it_should_be() -> None:
    assert way_to_medium(IDENTITY) == (GOLDEN / "esp.cfg").read_text()
