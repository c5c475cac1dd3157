"""Makes root trees out of nothing."""

from __future__ import annotations

from pathlib import Path

from initramfs.closure import ClosureBuilder
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from tests.support.elf import Elf, library, program

LOADER = "/lib64/ld-linux-x86-64.so.2"


class Tree:
    """A root tree below ``path``; what it is asked for is resolved afresh each time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def host(self, path: str) -> Path:
        """Return where ``path`` of the tree is on the machine."""
        return self.path / path.lstrip("/")

    def file(self, path: str, content: bytes | str | Elf = b"", *, mode: int = 0o644) -> str:
        """Make a file with its parents; return its path in the tree."""
        host = self.host(path)
        host.parent.mkdir(parents=True, exist_ok=True)
        host.write_bytes(content.encode() if isinstance(content, str) else bytes(content))
        host.chmod(mode)
        return path

    def link(self, path: str, target: str) -> str:
        """Make a symbolic link with its parents; return its path in the tree."""
        host = self.host(path)
        host.parent.mkdir(parents=True, exist_ok=True)
        host.symlink_to(target)
        return path

    def directory(self, path: str) -> str:
        """Make a directory with its parents; return its path in the tree."""
        self.host(path).mkdir(parents=True, exist_ok=True)
        return path

    def loader(self, path: str = LOADER) -> str:
        """Make glibc's loader for x86-64."""
        return self.file(path, library("ld-linux-x86-64.so.2"), mode=0o755)

    def program(self, path: str, *needed: str) -> str:
        """Make a program for x86-64, and its loader if there is none."""
        if not self.host(LOADER).exists():
            self.loader()
        return self.file(path, program(*needed), mode=0o755)

    def library(self, path: str, *needed: str) -> str:
        """Make a shared library for x86-64 whose soname is its file name."""
        return self.file(path, library(path.rpartition("/")[2], *needed))

    def root(self) -> Root:
        """Return the tree as the code sees it."""
        return Root(self.path)

    def libraries(self) -> Libraries:
        """Return what resolves in the tree."""
        return Libraries(self.root())

    def builder(self) -> ClosureBuilder:
        """Return what builds an image of the tree."""
        root = self.root()
        return ClosureBuilder(root, Libraries(root))
