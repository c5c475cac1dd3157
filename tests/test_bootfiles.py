"""Boot loaders are found where distributions keep them, the best first, or asked for by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.errors import MissingDependency
from mindi.bootfiles import Machine, UefiKind, find_boot_files
from tests.support.bootroot import add_bios, add_signed, add_unsigned, boot_tree
from tests.support.rights import run_bound
from tests.support.tree import Tree

NO_MKIMAGE = Path("/nowhere/grub-mkimage")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty root tree."""
    return Tree(tmp_path / "root")


def test_a_debian_root_boots_everywhere(tmp_path: Path) -> None:
    found = find_boot_files([boot_tree(tmp_path).root()], architecture="x86_64")
    assert found.bios is not None
    assert found.bios.isolinux_bin == tmp_path / "usr/lib/ISOLINUX/isolinux.bin"
    assert found.bios.mbr == tmp_path / "usr/lib/ISOLINUX/isohdpfx.bin"
    assert found.uefi[0].kind is UefiKind.SIGNED
    assert found.uefi[0].shim == tmp_path / "usr/lib/shim/shimx64.efi.signed"
    assert found.has_secure_boot
    assert found.lacking == ()


def test_neither_half_names_the_packages_of_both(tree: Tree) -> None:
    with pytest.raises(MissingDependency) as caught:
        find_boot_files([tree.root()], architecture="x86_64", mkimage=NO_MKIMAGE)
    for package in ("isolinux", "syslinux-common", "shim-signed", "grub-efi-amd64-signed"):
        assert package in caught.value.message
    assert str(tree.path) in caught.value.message


def test_a_missing_bios_half_is_said(tree: Tree) -> None:
    add_signed(tree)
    found = find_boot_files([tree.root()], architecture="x86_64")
    assert found.bios is None
    assert [line for line in found.lacking if "no BIOS boot" in line and "isolinux" in line]


def test_a_missing_uefi_half_is_said(tree: Tree) -> None:
    add_bios(tree)
    found = find_boot_files([tree.root()], architecture="x86_64", mkimage=NO_MKIMAGE)
    assert found.uefi == ()
    assert [line for line in found.lacking if "no UEFI boot" in line and "grub-efi-amd64" in line]


def test_isolinux_without_a_module_of_its_menu_is_no_bios_half(tree: Tree) -> None:
    add_bios(tree)
    add_signed(tree)
    tree.host("/usr/lib/syslinux/modules/bios/menu.c32").unlink()
    assert find_boot_files([tree.root()], architecture="x86_64").bios is None


def test_missing_code_for_disks_is_said(tree: Tree) -> None:
    add_bios(tree)
    tree.host("/usr/lib/ISOLINUX/isohdpfx.bin").unlink()
    found = find_boot_files([tree.root()], architecture="x86_64", mkimage=NO_MKIMAGE)
    assert found.bios is not None
    assert [line for line in found.lacking if "isohdpfx.bin" in line]


def test_each_half_may_come_from_another_root(tmp_path: Path) -> None:
    first, second = Tree(tmp_path / "first"), Tree(tmp_path / "second")
    add_bios(first)
    add_signed(second)
    found = find_boot_files([first.root(), second.root()], architecture="x86_64")
    assert found.bios is not None
    assert (found.bios.root, found.uefi[0].root) == (first.path, second.path)


def test_signed_loaders_of_a_later_root_are_better(tmp_path: Path) -> None:
    first, second = Tree(tmp_path / "first"), Tree(tmp_path / "second")
    add_unsigned(first)
    add_signed(second)
    found = find_boot_files([first.root(), second.root()], architecture="x86_64")
    assert (found.uefi[0].kind, found.uefi[0].root) == (UefiKind.SIGNED, second.path)


def test_a_grub_for_media_will_do_without_shim(tree: Tree) -> None:
    add_unsigned(tree)
    found = find_boot_files([tree.root()], architecture="x86_64")
    assert found.uefi[0].kind is UefiKind.COMPLETE
    assert not found.has_secure_boot


def test_grub_modules_are_the_last_resort(tree: Tree) -> None:
    tree.file("/usr/lib/grub/x86_64-efi/moddep.lst", "")
    mkimage = Path("/usr/bin/grub-mkimage")
    found = find_boot_files([tree.root()], architecture="x86_64", mkimage=mkimage)
    assert found.uefi[0].kind is UefiKind.MODULES
    assert found.uefi[0].modules == tree.host("/usr/lib/grub/x86_64-efi")


def test_links_of_ubuntu_are_followed_in_the_root(tree: Tree) -> None:
    add_signed(tree)
    shim = tree.host("/usr/lib/shim/shimx64.efi.signed")
    shim.rename(shim.with_name("shimx64.efi.signed.previous"))
    tree.link("/etc/alternatives/shim", "/usr/lib/shim/shimx64.efi.signed.previous")
    tree.link("/usr/lib/shim/shimx64.efi.signed", "/etc/alternatives/shim")
    found = find_boot_files([tree.root()], architecture="x86_64")
    assert found.uefi[0].shim == tree.host("/usr/lib/shim/shimx64.efi.signed.previous")


def test_loaders_on_a_mounted_system_partition_are_found(tree: Tree) -> None:
    for name in ("shimx64.efi", "gcdx64.efi", "mmx64.efi"):
        tree.file(f"/boot/efi/EFI/fedora/{name}", name)
    found = find_boot_files([tree.root()], architecture="x86_64")
    assert found.uefi[0].kind is UefiKind.SIGNED


def test_both_kinds_of_pc_firmware_are_served(tree: Tree) -> None:
    add_signed(tree)
    add_unsigned(tree, machine="ia32", platform="i386-efi")
    found = find_boot_files([tree.root()], architecture="x86_64")
    assert [loader.machine for loader in found.uefi] == [Machine.X64, Machine.IA32]


@pytest.mark.parametrize("architecture", ["aarch64", "arm64"])
def test_arm64_has_uefi_alone_and_lacks_nothing(tree: Tree, architecture: str) -> None:
    add_bios(tree)
    add_signed(tree, machine="aa64", platform="arm64-efi")
    found = find_boot_files([tree.root()], architecture=architecture)
    assert found.bios is None
    assert [loader.machine for loader in found.uefi] == [Machine.AA64]
    assert found.lacking == ()


def test_an_architecture_without_loaders_is_an_error(tree: Tree) -> None:
    add_bios(tree)
    with pytest.raises(MissingDependency, match="s390x"):
        find_boot_files([tree.root()], architecture="s390x")


@pytest.mark.parametrize("closed", ["/boot/efi", "/boot/efi/EFI", "/boot/efi/EFI/fedora"])
def test_a_system_partition_that_may_not_be_read_is_passed_over(tree: Tree, closed: str) -> None:
    """Many distributions mount it for root only, and an ordinary user builds images too."""
    add_unsigned(tree)
    tree.file("/boot/efi/EFI/fedora/shimx64.efi")
    program = (
        "import sys; from pathlib import Path; from initramfs.rootfs import Root;"
        "from mindi.bootfiles import find_boot_files;"
        "found = find_boot_files([Root(Path(sys.argv[1]))], architecture='x86_64');"
        "print(found.uefi[0].kind.name)"
    )
    tree.host(closed).chmod(0)
    try:
        said = run_bound(program, tree.path)
    finally:
        tree.host(closed).chmod(0o755)
    assert said.strip() == UefiKind.COMPLETE.name


def test_the_firmware_of_the_machine_itself_is_not_forgotten(tree: Tree) -> None:
    add_bios(tree)
    add_unsigned(tree, machine="ia32", platform="i386-efi")
    found = find_boot_files([tree.root()], architecture="x86_64", mkimage=NO_MKIMAGE)
    assert [loader.machine for loader in found.uefi] == [Machine.IA32]
    assert [line for line in found.lacking if "no UEFI boot on x64" in line]
