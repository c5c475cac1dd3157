"""Which files must be at the front of an initrd, for its shell to run whatever else is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.closure import Because
from mindi.compose import files_for
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
