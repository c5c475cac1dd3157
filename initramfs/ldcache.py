"""The cache of glibc's dynamic loader, /etc/ld.so.cache, made for the finished tree of an image.

The loader itself reads no ld.so.conf: what lies in a directory that only this file names is
found through the cache, or not at all. A root tree's own cache may lack or be stale, and lists
much that is not in the image; so this one is made out of what is, for the image's own machine.

Format: glibc's ``sysdeps/generic/dl-cache.h``, the new format alone ("glibc-ld.so.cache1.1"),
which every loader since glibc 2.2 reads; the extension for glibc-hwcaps is of 2.33, and older
loaders pass over its entries. What is listed, and in which order, is as ldconfig(8) does it.
Folders for some processors of the kind from before glibc-hwcaps are left out: the library
beside them serves every processor.
"""

from __future__ import annotations

import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from initramfs.closure import Because, ClosureBuilder, Entry, FileClosure, Kind
from initramfs.elf import Abi, ByteOrder, ElfFile, ElfKind, read_elf, read_elf_file
from initramfs.ldpath import Machine, default_directories, read_ld_so_conf
from initramfs.rootfs import MAX_LINKS

LD_SO_CACHE = "/etc/ld.so.cache"

_MAGIC, _VERSION = b"glibc-ld.so.cache", b"1.1"
_HEADER = "17s3sIIB3xI12x"
_ENTRY = "IIIIQ"
_ORDER_MARK = {ByteOrder.LITTLE: 2, ByteOrder.BIG: 3}
_EXTENSION_MAGIC, _HWCAPS_TAG, _HWCAP_EXTENSION = 0xEAA42174, 1, 1 << 62

_HWCAPS = "glibc-hwcaps"
# glibc's own loaders (musl's and others' have other names), and what may be a library.
_LOADER = re.compile(r"ld-linux[\w.-]*\.so\.\d+|ld(64)?\.so\.\d+")
_LIBRARY = re.compile(r"(?:lib|ld-).*\.so.*|ld(64)?\.so\..*", re.ASCII)
_NUMBER = re.compile(r"(\d+)", re.ASCII)

# FLAG_ELF_LIBC6 of glibc's ldconfig.h, and those bits of it that tell ABIs apart.
_LIBC6 = 0x003
_ABI_FLAGS: dict[tuple[int, int], int] = {
    (Machine.SPARCV9, 64): 0x100,
    (Machine.IA64, 64): 0x200,
    (Machine.X86_64, 64): 0x300,
    (Machine.S390, 64): 0x400,
    (Machine.PPC64, 64): 0x500,
    (Machine.X86_64, 32): 0x800,
    (Machine.AARCH64, 64): 0xA00,
}
# Machines whose ABIs differ in e_flags: the bits that count, and what their values stand for.
_ARM_FLOAT = (0x600, {0x200: 0xB00, 0x400: 0x900})
_MIPS_32 = (0x420, {0x020: 0x600, 0x400: 0xC00, 0x420: 0xD00})
_MIPS_64 = (0x400, {0x000: 0x700, 0x400: 0xE00})
_RISCV_FLOAT = (0x6, {0x0: 0xF00, 0x4: 0x1000})
_LOONGARCH_FLOAT = (0x7, {0x1: 0x1100, 0x3: 0x1200})
_VARIANTS: dict[tuple[int, int], tuple[int, Mapping[int, int]]] = {
    (Machine.ARM, 32): _ARM_FLOAT,
    (Machine.MIPS, 32): _MIPS_32,
    (Machine.MIPS, 64): _MIPS_64,
    (Machine.RISCV, 32): _RISCV_FLOAT,
    (Machine.RISCV, 64): _RISCV_FLOAT,
    (Machine.LOONGARCH, 64): _LOONGARCH_FLOAT,
}


@dataclass(frozen=True, slots=True)
class CachedLibrary:
    """A row of the cache: who asks for ``name`` gets ``path``.

    ``flags`` tell the ABI; ``hwcap`` names the folder below glibc-hwcaps, None for any processor.
    """

    name: str
    path: str
    flags: int
    hwcap: str | None = None


def add_library_cache(builder: ClosureBuilder) -> None:
    """Add the cache of all libraries that are in the image by now: so as its last part.

    Nothing where the image has no loader of glibc, or has a cache already. Raises
    MissingDependency as ``ClosureBuilder.build`` does.
    """
    if LD_SO_CACHE in builder:
        return
    content = library_cache(builder.build(), read_ld_so_conf(builder.root))
    if content is not None:
        because = Because("where the loader finds libraries out of its usual places")
        builder.add_content(LD_SO_CACHE, content, because)


def library_cache(closure: FileClosure, configured: Sequence[str]) -> bytes | None:
    """Return the cache for ``closure``; ``configured`` are the directories of ld.so.conf.

    None where the image has no loader of glibc. Raises InputError if a library cannot be read.
    """
    tree = _Tree(closure)
    loaders = tree.loaders()
    if not loaders:
        return None
    directories = [*configured]
    for loader in loaders:
        directories += default_directories(loader.abi, loader.flags)
    abis = frozenset(loader.abi for loader in loaders)
    return encode_cache(tree.libraries(directories, abis), loaders[0].abi.byte_order)


def encode_cache(libraries: Iterable[CachedLibrary], order: ByteOrder) -> bytes:
    """Return the file that holds ``libraries``; of equals, the one that comes first is found."""
    rows = sorted(libraries, key=lambda row: (row.hwcap is None, row.hwcap or ""))
    rows.sort(key=lambda row: (_collation(row.name), row.flags), reverse=True)
    hwcaps = sorted({row.hwcap for row in rows if row.hwcap is not None})
    header, entry = struct.Struct(order.value + _HEADER), struct.Struct(order.value + _ENTRY)
    strings = _Strings(header.size + entry.size * len(rows))
    entries = bytearray()
    for row in rows:
        path = strings.add(row.path)
        name = strings.add(row.name)
        hwcap = 0 if row.hwcap is None else _HWCAP_EXTENSION | hwcaps.index(row.hwcap)
        entries += entry.pack(row.flags, name, path, 0, hwcap)
    names = [strings.add(hwcap) for hwcap in hwcaps]
    extension_at = strings.end + -strings.end % 4 if hwcaps else 0
    head = header.pack(
        _MAGIC, _VERSION, len(rows), len(strings.data), _ORDER_MARK[order], extension_at
    )
    content = head + bytes(entries) + bytes(strings.data)
    if not hwcaps:
        return content
    section = struct.Struct(order.value + "IIIIII")
    table = struct.pack(f"{order.value}{len(names)}I", *names)
    extension = section.pack(
        _EXTENSION_MAGIC, 1, _HWCAPS_TAG, 0, extension_at + section.size, len(table)
    )
    return content.ljust(extension_at, b"\0") + extension + table


def abi_flags(elf: ElfFile) -> int | None:
    """Return what a row's ``flags`` are for a library; None if no loader could load it."""
    machine = (elf.abi.machine, elf.abi.bits)
    if machine not in _VARIANTS:
        return _LIBC6 | _ABI_FLAGS.get(machine, 0)
    mask, values = _VARIANTS[machine]
    # Where unmarked files exist (ARM, MIPS), they are of the ABI that has no bits at all.
    is_strict = machine[0] in (Machine.RISCV, Machine.LOONGARCH)
    found = values.get(elf.flags & mask, None if is_strict else 0)
    return None if found is None else _LIBC6 | found


def _collation(name: str) -> tuple[tuple[int, int], ...]:
    """Return what sorts names as _dl_cache_libcmp compares them: numbers as C's int."""
    parts: list[tuple[int, int]] = []
    for number, part in enumerate(_NUMBER.split(name)):
        if number % 2:
            parts.append((1, (int(part) + (1 << 31)) % (1 << 32) - (1 << 31)))
        else:
            parts.extend((0, ord(char)) for char in part)
    return tuple(parts)


class _Strings:
    """The string table; a string may be the end of one that is there already."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._known: dict[str, int] = {}
        self.data = bytearray()

    @property
    def end(self) -> int:
        return self._start + len(self.data)

    def add(self, text: str) -> int:
        """Return where in the file ``text`` is, or its first copy."""
        if text not in self._known:
            name = text.rpartition("/")[2]
            raw = os.fsencode(text)
            self._known[text] = self.end
            self._known.setdefault(name, self.end + len(raw) - len(os.fsencode(name)))
            self.data += raw + b"\0"
        return self._known[text]


class _Tree:
    """A finished image as a loader in it sees it."""

    def __init__(self, closure: FileClosure) -> None:
        self._entries = closure.entries
        self._names: dict[str, list[str]] = defaultdict(list)
        for path in closure.entries:
            folder, _, name = path.rpartition("/")
            self._names[folder].append(name)
        self._read: dict[str, ElfFile | None] = {}

    def loaders(self) -> tuple[ElfFile, ...]:
        """Return the loaders of glibc, one for each ABI."""
        found: dict[Abi, ElfFile] = {}
        for folder, names in self._names.items():
            for name in names:
                if name.startswith("ld") and _LOADER.fullmatch(name):
                    elf = self._shared(f"{folder}/{name}")
                    if elf is not None:
                        found.setdefault(elf.abi, elf)
        return tuple(found.values())

    def libraries(
        self, directories: Iterable[str], abis: frozenset[Abi]
    ) -> Iterator[CachedLibrary]:
        """Yield what ldconfig would list of ``directories``, each read once, in their order."""
        seen: set[str] = set()
        for directory in directories:
            place = self._follow(directory)
            if place is None or place in seen:
                continue
            seen.add(place)
            yield from self._plain(directory, place, abis)
            for hwcap in self._names.get(f"{place}/{_HWCAPS}", ()):
                yield from self._variants(directory, place, hwcap, abis)

    def _plain(self, directory: str, place: str, abis: frozenset[Abi]) -> Iterator[CachedLibrary]:
        for name, elf in self._candidates(place, abis):
            flags = abi_flags(elf)
            if flags is not None and self._is_name_of(f"{place}/{name}", elf):
                yield CachedLibrary(name, f"{directory}/{name}", flags)

    def _variants(
        self, directory: str, place: str, hwcap: str, abis: frozenset[Abi]
    ) -> Iterator[CachedLibrary]:
        """Yield the libraries of one folder, where the path is that of a file, not of a link."""
        sub = f"{_HWCAPS}/{hwcap}"
        best: dict[str, tuple[bool, tuple[tuple[int, int], ...], str, int]] = {}
        folder = self._follow(f"{place}/{sub}")
        if folder is None:
            return
        for name, elf in self._candidates(folder, abis):
            flags = abi_flags(elf)
            if flags is None:
                continue
            is_file = self._entries[f"{folder}/{name}"].kind is Kind.FILE
            key = elf.soname or name
            row = (is_file, _collation(name), name, flags)
            best[key] = max(best.get(key, row), row)
        for key, (_, _, name, flags) in best.items():
            yield CachedLibrary(key, f"{directory}/{sub}/{name}", flags, hwcap)

    def _candidates(self, place: str, abis: frozenset[Abi]) -> Iterator[tuple[str, ElfFile]]:
        for name in self._names.get(place, ()):
            # The loader compares bytes as C's char, which has a sign on some machines only.
            if name.isascii() and _LIBRARY.fullmatch(name):
                elf = self._shared(f"{place}/{name}")
                if elf is not None and elf.abi in abis:
                    yield name, elf

    def _is_name_of(self, path: str, elf: ElfFile) -> bool:
        """Tell whether ``path`` is how a library is asked for: its soname, or the linker's link."""
        name = path.rpartition("/")[2]
        if name == (elf.soname or name):
            return True
        is_link = self._entries[path].kind is Kind.SYMLINK
        return is_link and name.endswith(".so") and (elf.soname or "").startswith(name)

    def _shared(self, path: str) -> ElfFile | None:
        """Return the shared object that ``path`` leads to, if it leads to one."""
        place = self._follow(path)
        if place is None:
            return None
        if place not in self._read:
            elf = _read(self._entries[place])
            self._read[place] = elf if elf is not None and elf.kind is ElfKind.SHARED else None
        return self._read[place]

    def _follow(self, path: str) -> str | None:
        """Return where ``path`` ends in the image; None where something on the way is missing."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        current, crossed = "", 0
        while pending:
            part = pending.pop()
            if part == "..":
                current = current.rpartition("/")[0]
                continue
            entry = self._entries.get(f"{current}/{part}")
            if entry is None:
                return None
            if entry.target is None:
                current = entry.path
                continue
            crossed += 1
            if crossed > MAX_LINKS:
                return None
            if entry.target.startswith("/"):
                current = ""
            pending.extend(one for one in reversed(entry.target.split("/")) if one not in ("", "."))
        return current


def _read(entry: Entry) -> ElfFile | None:
    if entry.source is not None:
        return read_elf_file(entry.source)
    return None if entry.content is None else read_elf(entry.content, name=entry.path)
