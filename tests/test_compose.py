"""What a tree is composed of: files at its front for its shell, firmware for its drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.closure import Because
from initramfs.firmware import BuiltinDriver
from initramfs.kmod import ModuleTree, Wanted, resolve_modules
from initramfs.rootfs import Root
from mindi.compose import add_firmware, files_for
from mindi.kernel import Kernel
from mindi.sources import Sources
from tests.support.modules import VERSION, Ko, write_tree
from tests.support.tree import LOADER, Tree

SEED = Because("asked for by the test")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A root with a shell that is linked with one library, which needs another."""
    tree = Tree(tmp_path / "root")
    tree.loader()
    tree.library("/usr/lib/libc.so.6")
    tree.library("/usr/lib/libm.so.6", "libc.so.6")
    tree.program("/usr/bin/shell", "libm.so.6")
    tree.program("/usr/bin/other", "libc.so.6")
    return tree


@pytest.mark.parametrize("order", [("shell", "other"), ("other", "shell")], ids="-".join)
def test_a_program_comes_with_its_loader_and_libraries(tree: Tree, order: tuple[str, str]) -> None:
    builder = tree.builder()
    for name in order:
        builder.add(f"/usr/bin/{name}", SEED)
    assert files_for(builder.build(), "/usr/bin/shell") == {
        *("/usr/bin/shell", LOADER, "/usr/lib/libm.so.6", "/usr/lib/libc.so.6"),
    }


def test_a_static_program_comes_alone(tree: Tree) -> None:
    tree.file("/bin/static", b"script or static program", mode=0o755)
    builder = tree.builder()
    builder.add("/bin/static", SEED)
    builder.add("/usr/bin/other", SEED)
    assert files_for(builder.build(), "/bin/static") == {"/bin/static"}


def test_firmware_comes_from_the_root_that_has_it_and_says_for_what(tmp_path: Path) -> None:
    tools, kernel = Tree(tmp_path / "tools"), Tree(tmp_path / "kernel")
    write_tree(kernel.path, [Ko("kernel/nic.ko", firmware=("nic.bin", "nobody.bin"))])
    kernel.file("/lib/firmware/nic.bin", "blob")
    tools.file("/lib/firmware/own.bin", "blob")
    root = Root(kernel.path)
    modules = ModuleTree(root, VERSION)
    chosen = resolve_modules(modules, [Wanted("nic", SEED)])
    sources = Sources(tools.root(), Kernel(Path("/"), VERSION, root, frozenset()), False, False)
    driver = BuiltinDriver("own", ("own.bin", "lost.bin"))
    builder = tools.builder()
    folder = builder.add_directory(f"/lib/modules/{VERSION}", SEED)
    builder.add_file(root.host(chosen[0].module.path), f"{folder}/kernel/nic.ko", SEED)

    report = add_firmware(builder, sources, chosen, [driver], folder=folder)

    closure = builder.build()
    assert [(blob.name, blob.module) for blob in report.absent] == [
        ("nobody.bin", "nic"),
        ("lost.bin", "own"),
    ]
    assert [str(b) for b in closure.entries["/lib/firmware/own.bin"].because] == [
        "firmware for the built-in driver own"
    ]
    assert closure.entries["/lib/firmware/nic.bin"].because[0].by == f"{folder}/kernel/nic.ko"


def test_firmware_that_both_roots_have_comes_from_the_kernels(tmp_path: Path) -> None:
    """It was looked for in the second as well, if its driver asks for more: two for one path."""
    tools, kernel = Tree(tmp_path / "tools"), Tree(tmp_path / "kernel")
    kernel.file("/lib/firmware/own.bin", "of the kernel")
    tools.file("/lib/firmware/own.bin", "of the tools")
    root = Root(kernel.path)
    sources = Sources(tools.root(), Kernel(Path("/"), VERSION, root, frozenset()), False, False)
    builder = tools.builder()

    add_firmware(builder, sources, (), [BuiltinDriver("own", ("own.bin", "x"))], folder="/x")

    entry = builder.build().entries["/lib/firmware/own.bin"]
    assert entry.source == kernel.host("/lib/firmware/own.bin")
