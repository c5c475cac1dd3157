"""What a kernel module says of itself: the ``.modinfo`` section of its ELF file.

A module is a relocatable object, so it has sections and no segments; the section is a run
of ``key=value`` strings, each ended by a NUL (include/linux/moduleparam.h of the kernel).
ELF: System V gABI, chapter 4, both classes and byte orders; only the header, the section
table, its names and the section itself are read.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from initramfs.decompress import Compression, decompress
from initramfs.errors import InputError

_ET_REL = 1
_SHN_XINDEX = 0xFFFF
_HEAD_SIZE = 64
_FIELDS = re.compile(rb"(?:^|\0)(depends|alias|softdep|weakdep|firmware)=([^\0]*)")
_EXPORT = re.compile(rb"\0__ksymtab_([^\0]+)")

Read = Callable[[int, int], bytes]
"""Reads (size in bytes, offset in bytes) of a module, like pread(2); short at its end."""


@dataclass(frozen=True, slots=True)
class Modinfo:
    """The fields that decide what a module needs and what asks for it, in the file's order.

    ``depends`` are names of modules, normalised; ``aliases`` are patterns as written;
    ``softdeps`` whole values ("pre: a b post: c"); ``firmware`` paths below the firmware folder.
    """

    depends: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    softdeps: tuple[str, ...] = ()
    weakdeps: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()

    @property
    def pre(self) -> tuple[str, ...]:
        """Names or aliases to load before the module, where they exist.

        Words outside of "pre:" and "post:" count too: modprobe ignores them, but the authors
        of ``softdep cifs gcm`` (Linux 6.1) meant what they wrote.
        """
        return self._soft(post=False)

    @property
    def post(self) -> tuple[str, ...]:
        """Names or aliases to load after the module, where they exist."""
        return self._soft(post=True)

    @property
    def weak(self) -> tuple[str, ...]:
        """Names or aliases that the module may ask for itself later (kmod 33)."""
        return tuple(word for value in self.weakdeps for word in value.split())

    def _soft(self, *, post: bool) -> tuple[str, ...]:
        found: list[str] = []
        for value in self.softdeps:
            after = False
            for word in value.split():
                if word in ("pre:", "post:"):
                    after = word == "post:"
                elif after is post:
                    found.append(word)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fields of one ELF class and byte order that matter here (gABI 4)."""

    header: struct.Struct
    section: struct.Struct
    size: str


def _layout(order: str, *, wide: bool) -> _Layout:
    if wide:
        header, section, size = "16sHHIQQQIHHHHHH", "IIQQQQIIQQ", "Q"
    else:
        header, section, size = "16sHHIIIIIHHHHHH", "IIIIIIIIII", "I"
    return _Layout(struct.Struct(order + header), struct.Struct(order + section), size)


# Keyed by e_ident[EI_CLASS], e_ident[EI_DATA].
_LAYOUTS = {
    b"\1\1": _layout("<", wide=False),
    b"\1\2": _layout(">", wide=False),
    b"\2\1": _layout("<", wide=True),
    b"\2\2": _layout(">", wide=True),
}


class _Damaged(Exception):
    """Why the bytes are no kernel module."""


def normalise(name: str) -> str:
    """Return a module's name as the kernel knows it: every '-' is a '_'."""
    return name.replace("-", "_")


def name_of(file_name: str) -> str | None:
    """Return the module's name for a file name ("dm-mod.ko.xz": "dm_mod"), None for others."""
    stem, dot, suffix = file_name.rpartition("/")[2].partition(".ko")
    if not dot or suffix not in ("", ".xz", ".zst", ".gz"):
        return None
    return normalise(stem)


def parse_modinfo(section: bytes) -> Modinfo:
    """Parse the bytes of a ``.modinfo`` section."""
    fields: dict[bytes, list[str]] = {}
    for key, value in _FIELDS.findall(section):
        fields.setdefault(key, []).append(value.decode("utf-8", "surrogateescape"))
    depends = ",".join(fields.get(b"depends", ()))
    return Modinfo(
        depends=tuple(normalise(name) for name in depends.split(",") if name),
        aliases=tuple(fields.get(b"alias", ())),
        softdeps=tuple(fields.get(b"softdep", ())),
        weakdeps=tuple(fields.get(b"weakdep", ())),
        firmware=tuple(fields.get(b"firmware", ())),
    )


def modinfo_of(content: bytes, *, origin: str) -> Modinfo:
    """Return the modinfo of a whole module; ``origin`` names it in errors (InputError)."""
    return parse_modinfo(_checked(_reader(content), b".modinfo", origin))


def exports_of(content: bytes) -> tuple[str, ...]:
    """Return the symbols that a whole module exports, sorted."""
    return _exports(_reader(content))


def read_modinfo(path: str, *, origin: str) -> Modinfo:
    """Return the modinfo of the build host's module file ``path``, plain or compressed.

    A plain file is not read whole. Raises InputError where it is no module or damaged, and
    FileNotFoundError where there is none: only the caller knows who asked for it.
    """
    with _opened(path, origin) as read:
        return parse_modinfo(_checked(read, b".modinfo", origin))


def read_exports(path: str, *, origin: str) -> tuple[str, ...]:
    """Return the symbols that the module file ``path`` exports; like ``read_modinfo``."""
    with _opened(path, origin) as read:
        return _exports(read)


@contextmanager
def _opened(path: str, origin: str) -> Iterator[Read]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            read: Read = partial(_pread, descriptor)
            if Compression.of(read(_HEAD_SIZE, 0)) is not Compression.PLAIN:
                content = read(os.fstat(descriptor).st_size, 0)
                read = _reader(decompress(content, origin=origin))
            yield read
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {origin}: {error.strerror}") from error


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _exports(read: Read) -> tuple[str, ...]:
    try:
        strings = _section(read, b".strtab")
    except (_Damaged, struct.error):  # a module without symbols exports none
        return ()
    names = {name.decode("utf-8", "surrogateescape") for name in _EXPORT.findall(strings)}
    return tuple(sorted(names))


def _reader(content: bytes) -> Read:
    return lambda size, offset: content[offset : offset + size]


def _checked(read: Read, name: bytes, origin: str) -> bytes:
    try:
        return _section(read, name)
    except (_Damaged, struct.error) as error:
        raise InputError(
            f"{origin}: no kernel module, or a damaged one: {error}",
            hint="install the package that brought this file once more",
        ) from error


def _section(read: Read, name: bytes) -> bytes:
    """Return the bytes of the section ``name``."""
    header = read(_HEAD_SIZE, 0)
    layout = _LAYOUTS.get(header[4:6])
    if not header.startswith(b"\x7fELF") or layout is None:
        raise _Damaged("it is not in ELF format")
    if len(header) < layout.header.size:
        raise _Damaged("it ends within its header")
    (_, kind, _, _, _, _, table_at, _, _, _, _, entry_size, count, names_index) = (
        layout.header.unpack_from(header)
    )
    if kind != _ET_REL:
        raise _Damaged("it is not a relocatable object")
    if table_at == 0 or entry_size != layout.section.size:
        raise _Damaged("it has no section table")
    if count == 0 or names_index == _SHN_XINDEX:
        first = layout.section.unpack(_whole(read, entry_size, table_at))
        count = count or first[5]
        names_index = first[6] if names_index == _SHN_XINDEX else names_index
    table = _whole(read, entry_size * count, table_at)
    if names_index >= count:
        raise _Damaged("its section names are missing")
    names_at, names_size = layout.section.unpack_from(table, names_index * entry_size)[4:6]
    names = _whole(read, names_size, names_at)
    for section in layout.section.iter_unpack(table):
        if names.startswith(name + b"\0", section[0]) and section[0]:
            return _whole(read, section[5], section[4])
    raise _Damaged(f"it has no {name.decode()} section")


def _whole(read: Read, size: int, offset: int) -> bytes:
    content = read(size, offset)
    if len(content) != size:
        raise _Damaged(f"it ends at byte {offset + len(content)}, {size - len(content)} too early")
    return content
