"""Builder of synthetic kernel module trees: minimal relocatable ELF files with a .modinfo."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

VERSION = "6.1.0-test"

COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".xz": lambda content: lzma.compress(content, check=lzma.CHECK_CRC32),
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
    ".gz": gzip.compress,
}


@dataclass(frozen=True, slots=True)
class Ko:
    """A module to write: ``path`` below the version's folder ("kernel/fs/a.ko")."""

    path: str
    depends: Sequence[str] = ()
    aliases: Sequence[str] = ()
    softdeps: Sequence[str] = ()
    weakdeps: Sequence[str] = ()
    firmware: Sequence[str] = ()
    exports: Sequence[str] = ()

    def fields(self) -> Iterable[tuple[str, str]]:
        """Yield the records of .modinfo, with some that say nothing to us among them."""
        yield "license", "GPL"
        for key, values in (
            ("alias", self.aliases),
            ("softdep", self.softdeps),
            ("weakdep", self.weakdeps),
            ("firmware", self.firmware),
        ):
            for value in values:
                yield key, value
        yield "depends", ",".join(self.depends)
        yield "vermagic", f"{VERSION} SMP"


def elf_module(
    fields: Iterable[tuple[str, str]],
    *,
    exports: Sequence[str] = (),
    wide: bool = True,
    order: str = "<",
    extended: bool = False,
) -> bytes:
    """Return a relocatable ELF file; ``wide`` for 64 bit, ``order`` as in struct.

    ``extended`` writes the number of sections and the index of their names the long way, into
    the first section header (gABI 4, "e_shnum").
    """
    modinfo = b"".join(f"{key}={value}\0".encode() for key, value in fields)
    strtab = b"\0init_module\0" + b"".join(f"__ksymtab_{name}\0".encode() for name in exports)
    # What depmod reads exported symbols from, where there is no symbol table.
    strings = b"".join(f"{name}\0".encode() for name in exports)
    names = b"\0.modinfo\0.strtab\0__ksymtab_strings\0.shstrtab\0"
    header_size, entry_size = (64, 64) if wide else (52, 40)
    contents = [b"", modinfo, strtab, strings, names]
    offsets, at = [], header_size
    for content in contents:
        offsets.append(at)
        at += len(content)
    word = "Q" if wide else "I"
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    count, index = (0, 0xFFFF) if extended else (len(contents), len(contents) - 1)
    header = ident + struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        *(1, 62, 1, 0, 0, at, 0, header_size, 0, 0, entry_size, count, index),
    )
    sections = (b".modinfo", b".strtab", b"__ksymtab_strings", b".shstrtab")
    name_at = [0, *(names.index(name) for name in sections)]
    table = b""
    for number, content in enumerate(contents):
        size, link = len(content), 0
        if extended and number == 0:
            size, link = len(contents), len(contents) - 1
        table += struct.pack(
            f"{order}II{word}{word}{word}{word}II{word}{word}",
            *(name_at[number], 1, 0, 0, offsets[number], size, link, 0, 1, 0),
        )
    return header + b"".join(contents) + table


def module(ko: Ko) -> bytes:
    """Return the bytes of one module."""
    return elf_module(ko.fields(), exports=ko.exports)


def write_tree(
    root: Path,
    modules: Iterable[Ko],
    *,
    builtin: Iterable[str] = (),
    builtin_info: Sequence[str] = (),
    suffix: str = "",
    folder: str = "lib/modules",
) -> Path:
    """Write a tree as packages bring it, with no depmod files; return the version's folder.

    ``builtin`` are paths ("kernel/fs/ext4/ext4.ko"), ``builtin_info`` records ("ext4.alias=x");
    ``suffix`` is that of the compression to store modules with.
    """
    top = root / folder / VERSION
    top.mkdir(parents=True)
    paths = []
    for ko in modules:
        paths.append(ko.path)
        file = top / (ko.path + suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(COMPRESSORS[suffix](module(ko)))
    (top / "modules.order").write_text("".join(f"{path}\n" for path in paths))
    (top / "modules.builtin").write_text("".join(f"{path}\n" for path in builtin))
    (top / "modules.builtin.modinfo").write_bytes(
        b"".join(r.encode() + b"\0" for r in builtin_info)
    )
    return top


def write_dep(top: Path, lines: Mapping[str, Sequence[str]]) -> None:
    """Write a modules.dep into the version's folder: path -> paths that it needs."""
    text = "".join(f"{path}: {' '.join(needs)}".rstrip() + "\n" for path, needs in lines.items())
    (top / "modules.dep").write_text(text)
