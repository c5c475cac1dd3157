"""What an ELF file says about how it is loaded, read from its segments.

Sections are never looked at except to notice a truncated file: a stripped file may have
none, and the loader reads none. The headers are parsed by pyelftools, whose structures
are built once for each class and byte order; the dynamic segment is decoded with
``struct``, because pyelftools makes an object of every tag, ten times slower over a tree.

Format: System V gABI, chapters 4 and 5.
"""

from __future__ import annotations

import enum
import io
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFParseError
from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE
from elftools.elf.structs import ELFStructs

from initramfs.elfnotes import DlopenNote, dlopen_notes
from initramfs.errors import InputError

MAGIC = b"\x7fELF"
HEAD_BYTES = 4096
"""As much is read of every file at once: headers, interpreter and notes are nearly always in it."""

_IDENT_BYTES = 16
_STRING_BYTES = 256
_WHOLE_STRINGS_BYTES = 1 << 16

_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME = 0, 1, 5, 10, 14
_DT_RPATH, _DT_RUNPATH, _DT_FLAGS_1 = 15, 29, 0x6FFFFFFB
_DF_1_NODEFLIB, _DF_1_PIE = 0x800, 0x08000000

_EM_MIPS, _EF_MIPS_ABI2 = 8, 0x20

Reader = Callable[[int, int], bytes]
"""Returns the bytes at (offset, size); fewer where the file ends."""


class ByteOrder(enum.Enum):
    """The byte order of a file; the value is its prefix for ``struct``."""

    LITTLE = "<"
    BIG = ">"


class ElfKind(enum.Enum):
    """What a file is to the loader."""

    STATIC = "static executable"
    STATIC_PIE = "static position-independent executable"
    DYNAMIC = "dynamic executable"
    PIE = "position-independent executable"
    SHARED = "shared object"
    OTHER = "no loadable file"
    """A relocatable object (kernel modules are), or a core file."""


@dataclass(frozen=True, slots=True)
class Abi:
    """What has to agree between a file and the libraries that it is loaded with.

    ``bits`` is 32 or 64, ``machine`` the e_machine number, ``flags`` those e_flags bits that
    tell one ABI of a machine from another that the loader refuses to mix with it.
    """

    machine: int
    bits: int
    byte_order: ByteOrder
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ElfFile:
    """What one file asks of the loader; ``flags`` is e_flags.

    ``rpath`` and ``runpath`` are split at their colons and not expanded. Where a file has a
    ``runpath``, loaders ignore its ``rpath``; both are here as they are.
    """

    abi: Abi
    flags: int
    kind: ElfKind
    interpreter: str | None = None
    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    nodeflib: bool = False
    """Set by DF_1_NODEFLIB: the default directories are not searched."""
    dlopen: tuple[DlopenNote, ...] = ()


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: str | int
    offset: int
    address: int
    size: int
    alignment: int


@dataclass(slots=True)
class _Dynamic:
    needed: list[int]
    soname: int | None = None
    rpath: int | None = None
    runpath: int | None = None
    strings_address: int | None = None
    strings_bytes: int = 0
    flags_1: int = 0


class _DamagedError(Exception):
    """What is wrong with the file; becomes an InputError that names it."""


def read_elf(data: bytes, *, name: str = "the file") -> ElfFile | None:
    """Return what the ELF file with content ``data`` says; None if it is no ELF file.

    Raises InputError, with ``name``, if it is one and damaged or truncated.
    """
    return parse_elf(data[:HEAD_BYTES], lambda at, size: data[at : at + size], len(data), name=name)


def read_elf_file(path: Path) -> ElfFile | None:
    """Like ``read_elf``, but read of the file at ``path`` no more than is needed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_elf_descriptor(descriptor, name=os.fspath(path))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def read_elf_descriptor(descriptor: int, *, name: str, head: bytes | None = None) -> ElfFile | None:
    """Like ``read_elf``, of an open file; ``head`` are its first HEAD_BYTES if known.

    Raises OSError if reading fails.
    """
    if head is None:
        head = os.pread(descriptor, HEAD_BYTES, 0)
    if not head.startswith(MAGIC):
        return None
    begin = head

    def read(offset: int, size: int) -> bytes:
        if offset + size <= len(begin):
            return begin[offset : offset + size]
        return os.pread(descriptor, size, offset)

    return parse_elf(head, read, os.fstat(descriptor).st_size, name=name)


def parse_elf(head: bytes, read: Reader, size_bytes: int, *, name: str) -> ElfFile | None:
    """Do the work of ``read_elf`` for a file of ``size_bytes`` that begins with ``head``."""
    if not head.startswith(MAGIC):
        return None
    try:
        if len(head) < _IDENT_BYTES:
            raise _DamagedError("it ends within the ELF header")
        if head[4] not in (1, 2) or head[5] not in (1, 2) or head[6] != 1:
            return None
        return _parse(head, read, size_bytes)
    except _DamagedError as error:
        raise InputError(
            f"{name} is a damaged ELF file: {error}",
            hint="install the package that it belongs to once more",
        ) from error


def _parse(head: bytes, read: Reader, size_bytes: int) -> ElfFile:
    bits = 32 * head[4]
    order = ByteOrder.LITTLE if head[5] == 1 else ByteOrder.BIG
    try:
        header = _structs(bits, order).Elf_Ehdr.parse_stream(io.BytesIO(head))
    except _parse_errors() as error:
        raise _DamagedError("it ends within the ELF header") from error
    machine = _number(header.e_machine, ENUM_E_MACHINE)
    flags = header.e_flags
    abi = Abi(machine, bits, order, flags & _EF_MIPS_ABI2 if machine == _EM_MIPS else 0)
    sections_end = header.e_shoff + header.e_shnum * header.e_shentsize
    if header.e_shoff and sections_end > size_bytes:
        raise _DamagedError(f"it is {size_bytes} bytes long and its sections end at {sections_end}")
    if _number(header.e_type, ENUM_E_TYPE) not in (2, 3):
        return ElfFile(abi, flags, ElfKind.OTHER)
    segments = _segments(header, bits, order, read, size_bytes)
    dynamic = _dynamic(segments, bits, order, read)
    interpreter = _interpreter(segments, read)
    kind = _kind(header.e_type == "ET_DYN", interpreter is not None, dynamic)
    notes = _dlopen_notes(segments, order, read)
    if dynamic is None:
        return ElfFile(abi, flags, kind, interpreter, dlopen=notes)
    text = _strings(dynamic, segments, read)
    return ElfFile(
        abi,
        flags,
        kind,
        interpreter,
        soname=None if dynamic.soname is None else text(dynamic.soname),
        needed=tuple(text(at) for at in dynamic.needed),
        rpath=() if dynamic.rpath is None else _split(text(dynamic.rpath)),
        runpath=() if dynamic.runpath is None else _split(text(dynamic.runpath)),
        nodeflib=bool(dynamic.flags_1 & _DF_1_NODEFLIB),
        dlopen=notes,
    )


@cache
def _structs(bits: int, order: ByteOrder) -> Any:  # noqa: ANN401 attributes are made at run time
    structs = ELFStructs(little_endian=order is ByteOrder.LITTLE, elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    return structs


@cache
def _parse_errors() -> tuple[type[Exception], ...]:
    from elftools.construct import ConstructError

    return (ConstructError, ELFParseError)


def _number(value: str | int, names: Mapping[str, int]) -> int:
    return names[value] if isinstance(value, str) else value


def _segments(
    header: Any,  # noqa: ANN401 pyelftools' container
    bits: int,
    order: ByteOrder,
    read: Reader,
    size_bytes: int,
) -> list[_Segment]:
    layout = _structs(bits, order).Elf_Phdr
    entry_bytes = 32 if bits == 32 else 56
    if header.e_phnum and header.e_phentsize != entry_bytes:
        raise _DamagedError(f"its program headers have {header.e_phentsize} bytes each")
    table_bytes = header.e_phnum * entry_bytes
    table = _exactly(read, header.e_phoff, table_bytes, size_bytes, "program headers")
    stream = io.BytesIO(table)
    found = []
    for _ in range(header.e_phnum):
        entry = layout.parse_stream(stream)
        segment = _Segment(
            entry.p_type, entry.p_offset, entry.p_vaddr, entry.p_filesz, entry.p_align
        )
        if segment.kind in _READ_KINDS:
            if segment.offset + segment.size > size_bytes:
                raise _DamagedError(
                    f"it is {size_bytes} bytes long and a segment of it ends at "
                    f"{segment.offset + segment.size}"
                )
            found.append(segment)
    return found


_READ_KINDS = frozenset({"PT_LOAD", "PT_DYNAMIC", "PT_INTERP", "PT_NOTE"})


def _exactly(read: Reader, offset: int, size: int, size_bytes: int, what: str) -> bytes:
    data = read(offset, size) if offset + size <= size_bytes else b""
    if len(data) != size:
        raise _DamagedError(f"it is {size_bytes} bytes long and its {what} end at {offset + size}")
    return data


def _dynamic(
    segments: list[_Segment], bits: int, order: ByteOrder, read: Reader
) -> _Dynamic | None:
    segment = next((one for one in segments if one.kind == "PT_DYNAMIC"), None)
    if segment is None:
        return None
    layout = struct.Struct(order.value + ("iI" if bits == 32 else "qQ"))
    data = read(segment.offset, segment.size)
    found = _Dynamic([])
    for tag, value in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            found.needed.append(value)
        elif tag == _DT_SONAME:
            found.soname = value
        elif tag == _DT_STRTAB:
            found.strings_address = value
        elif tag == _DT_STRSZ:
            found.strings_bytes = value
        elif tag == _DT_RPATH:
            found.rpath = value
        elif tag == _DT_RUNPATH:
            found.runpath = value
        elif tag == _DT_FLAGS_1:
            found.flags_1 = value
    return found


def _strings(dynamic: _Dynamic, segments: list[_Segment], read: Reader) -> Callable[[int], str]:
    """Return what gives the string at an offset into the dynamic string table."""
    offset, available = _in_file(dynamic.strings_address, segments)
    size = min(dynamic.strings_bytes, available)
    table = read(offset, size) if size <= _WHOLE_STRINGS_BYTES else None

    def text(at: int) -> str:
        if at >= size:
            raise _DamagedError("a name is outside of its dynamic string table")
        if table is not None:
            end = table.find(b"\0", at)
            raw = table[at:end] if end >= 0 else None
        else:
            raw = _long_string(read, offset + at, size - at)
        if raw is None:
            raise _DamagedError("a name in its dynamic string table has no end")
        return os.fsdecode(raw)

    return text


def _long_string(read: Reader, offset: int, limit: int) -> bytes | None:
    """Read the string at ``offset`` out of a table too large to be read whole."""
    length = min(_STRING_BYTES, limit)
    while True:
        data = read(offset, length)
        end = data.find(b"\0")
        if end >= 0:
            return data[:end]
        if length == limit or len(data) < length:
            return None
        length = min(length * 16, limit)


def _in_file(address: int | None, segments: list[_Segment]) -> tuple[int, int]:
    """Return where a loaded ``address`` is in the file, and how many bytes of it follow."""
    for segment in segments:
        if segment.kind == "PT_LOAD" and address is not None:
            into = address - segment.address
            if 0 <= into < segment.size:
                return segment.offset + into, segment.size - into
    return 0, 0


def _interpreter(segments: list[_Segment], read: Reader) -> str | None:
    segment = next((one for one in segments if one.kind == "PT_INTERP"), None)
    if segment is None:
        return None
    # The kernel refuses an interpreter path that is longer than PATH_MAX or has no end.
    raw = read(segment.offset, min(segment.size, 4096))
    if b"\0" not in raw:
        raise _DamagedError("the path of its interpreter has no end")
    return os.fsdecode(raw.partition(b"\0")[0])


def _kind(is_dyn: bool, has_interpreter: bool, dynamic: _Dynamic | None) -> ElfKind:
    if not is_dyn:
        return ElfKind.DYNAMIC if has_interpreter else ElfKind.STATIC
    if dynamic is not None and dynamic.flags_1 & _DF_1_PIE:
        return ElfKind.PIE if has_interpreter else ElfKind.STATIC_PIE
    # libc.so.6 has an interpreter too, and old linkers set no DF_1_PIE; executables have no soname.
    if has_interpreter and (dynamic is None or dynamic.soname is None):
        return ElfKind.PIE
    return ElfKind.SHARED


def _split(value: str) -> tuple[str, ...]:
    return tuple(value.split(":"))


def _dlopen_notes(
    segments: list[_Segment], order: ByteOrder, read: Reader
) -> tuple[DlopenNote, ...]:
    found: list[DlopenNote] = []
    try:
        for segment in segments:
            if segment.kind == "PT_NOTE":
                data = read(segment.offset, segment.size)
                found.extend(dlopen_notes(data, order.value, alignment=segment.alignment))
    except ValueError as error:
        raise _DamagedError(f"its dlopen note cannot be read: {error}") from error
    return tuple(found)
