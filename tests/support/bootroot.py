"""Makes root trees that hold boot loaders: files of the right names, with made content."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.tree import Tree

ISOLINUX_BYTES = 38_912
MBR_BYTES = 432


def made(name: str, size_bytes: int) -> bytes:
    """Return bytes that look like nothing else, the same for the same name and size."""
    return random.Random(f"{name} {size_bytes}").randbytes(size_bytes)  # noqa: S311 no secret


def add_bios(tree: Tree) -> None:
    """Add Debian's isolinux and its modules."""
    tree.file("/usr/lib/ISOLINUX/isolinux.bin", made("isolinux.bin", ISOLINUX_BYTES))
    tree.file("/usr/lib/ISOLINUX/isohdpfx.bin", made("isohdpfx.bin", MBR_BYTES))
    for name in ("ldlinux.c32", "libcom32.c32", "libutil.c32", "menu.c32", "chain.c32"):
        tree.file(f"/usr/lib/syslinux/modules/bios/{name}", made(name, 20_000))


def add_signed(tree: Tree, *, machine: str = "x64", platform: str = "x86_64-efi") -> None:
    """Add Debian's signed shim, MOK manager and GRUB."""
    tree.file(f"/usr/lib/shim/shim{machine}.efi.signed", made("shim", 90_000))
    tree.file(f"/usr/lib/shim/mm{machine}.efi.signed", made("mm", 80_001))
    tree.file(f"/usr/lib/grub/{platform}-signed/gcd{machine}.efi.signed", made("gcd", 300_003))


def add_unsigned(tree: Tree, *, machine: str = "x64", platform: str = "x86_64-efi") -> None:
    """Add Debian's GRUB for media, with no signature."""
    tree.file(f"/usr/lib/grub/{platform}/monolithic/gcd{machine}.efi", made("plain", 200_002))


def boot_tree(path: Path) -> Tree:
    """Return a tree that boots everywhere: isolinux, signed shim and GRUB."""
    tree = Tree(path)
    add_bios(tree)
    add_signed(tree)
    return tree
