"""Finds libraries and other files for a loader in one root tree, and reads what they are."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from initramfs.elf import HEAD_BYTES, Abi, ElfFile, ElfKind, read_elf_descriptor
from initramfs.errors import InputError
from initramfs.ldpath import SearchOrder
from initramfs.rootfs import LinkLoopError, Located, Root
from initramfs.scripts import Script, read_script


@dataclass(frozen=True, slots=True)
class Library:
    """A library: the ``path`` where it was found, the ``canonical`` one where that leads.

    ``variants`` are the same library for other processors, where the search would find them.
    """

    path: str
    canonical: str
    elf: ElfFile
    variants: tuple[Library, ...] = ()


class LibrarySearch:
    """Look-ups in one root tree; all of them are cached, so build one per tree and build."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.order = SearchOrder(root)
        self._examined: dict[str, ElfFile | Script | None] = {}
        self._searched: dict[tuple[str, Abi, tuple[str, ...]], Library | None] = {}
        self._below: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def examine(self, path: str) -> ElfFile | Script | None:
        """Return what the file at the canonical ``path`` is to a loader; None if it is data.

        A script is one only if somebody may execute it. Raises InputError if the file cannot
        be read or is damaged.
        """
        try:
            return self._examined[path]
        except KeyError:
            pass
        host = os.fspath(self._root.host(path))
        content: ElfFile | Script | None
        try:
            descriptor = os.open(host, os.O_RDONLY | os.O_CLOEXEC)
            try:
                head = os.pread(descriptor, HEAD_BYTES, 0)
                if head.startswith(b"#!"):
                    may_run = os.fstat(descriptor).st_mode & 0o111
                    content = read_script(head) if may_run else None
                else:
                    content = read_elf_descriptor(descriptor, name=host, head=head)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InputError(
                f"cannot read {path} in the root tree {self._root.path}: {error.strerror}",
                hint="building an image of this tree needs the right to read it; try as root",
            ) from error
        self._examined[path] = content
        return content

    def search(self, name: str, abi: Abi, directories: tuple[str, ...]) -> Library | None:
        """Return the first library ``name`` for ``abi`` in ``directories``, as ld.so(8) does."""
        key = (name, abi, directories)
        try:
            return self._searched[key]
        except KeyError:
            pass
        found: Library | None = None
        for directory in directories:
            base = self.library(f"{directory}/{name}", abi)
            if base is not None:
                places = (f"{folder}/{name}" for folder in self.order.variants(directory))
                others = (self.library(place, abi) for place in places)
                variants = tuple(other for other in others if other is not None)
                found = Library(base.path, base.canonical, base.elf, variants)
                break
        self._searched[key] = found
        return found

    def library(self, path: str, abi: Abi) -> Library | None:
        """Return the object at ``path``; None if there is none, or none for ``abi``.

        The loader passes over one for another machine, class or byte order, and ends the
        process for a file that is no ELF file at all: that raises InputError.
        """
        located = self.regular(path)
        if located is None:
            return None
        elf = self.examine(located.path)
        if not isinstance(elf, ElfFile):
            raise InputError(
                f"{path} in the root tree {self._root.path} is no ELF file, but stands where "
                "the loader finds a library",
                hint="install the package that it belongs to once more",
            )
        if elf.abi != abi or elf.kind is ElfKind.OTHER:
            return None
        return Library(path, located.path, elf)

    def regular(self, path: str) -> Located | None:
        """Return where ``path`` leads, if that is a regular file."""
        try:
            located = self._root.locate(path)
        except LinkLoopError:
            return None
        if located is None or not stat.S_ISREG(located.status.st_mode):
            return None
        return located

    def below(self, pattern: str, directories: tuple[str, ...]) -> tuple[str, ...]:
        """Return what ``pattern`` matches: absolutely, or else below ``directories``."""
        tops = ("",) if pattern.startswith("/") else tuple(f"{one}/" for one in directories)
        key = (pattern, tops)
        known = self._below.get(key)
        if known is None:
            known = tuple(path for top in tops for path in self._root.glob(top + pattern))
            self._below[key] = known
        return known
