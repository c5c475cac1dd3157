"""Writes minimal ELF files: headers, segments, a dynamic section, notes, and no sections."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from initramfs.elf import ByteOrder

X86_64, I386, AARCH64, ARM, S390, MIPS = 62, 3, 183, 40, 22, 8
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_BASE = 0x400000


@dataclass(frozen=True, kw_only=True)
class Elf:
    """An ELF file to be; ``bytes()`` makes it."""

    bits: int = 64
    order: ByteOrder = ByteOrder.LITTLE
    machine: int = X86_64
    kind: int = ET_DYN
    flags: int = 0
    interpreter: str | None = None
    soname: str | None = None
    needed: Sequence[str] = ()
    rpath: str | None = None
    runpath: str | None = None
    flags_1: int = 0
    notes: bytes = b""
    note_alignment: int = 4
    is_dynamic: bool = True
    padding_strings: int = 0

    def __bytes__(self) -> bytes:
        strings = bytearray(b"\0" + b"x" * self.padding_strings + b"\0")
        tags = self._tags(strings) if self.is_dynamic else []
        word = "Q" if self.bits == 64 else "I"
        bodies: list[tuple[int, bytes]] = []
        if self.interpreter is not None:
            bodies.append((_PT_INTERP, self.interpreter.encode() + b"\0"))
        if self.notes:
            bodies.append((_PT_NOTE, self.notes))
        if self.is_dynamic:
            bodies.append((_PT_DYNAMIC, b""))
        header_bytes, entry_bytes = (64, 56) if self.bits == 64 else (52, 32)
        at = header_bytes + entry_bytes * (len(bodies) + 1)
        strings_at = at
        content = bytearray(strings)
        segments: list[tuple[int, int, int]] = []
        for kind, body in bodies:
            content += b"\0" * (-len(content) % 8)
            if kind == _PT_DYNAMIC:
                found = [*tags, (5, _BASE + strings_at), (10, len(strings)), (0, 0)]
                body = b"".join(struct.pack(self.order.value + word * 2, *tag) for tag in found)
            segments.append((kind, at + len(content), len(body)))
            content += body
        size = at + len(content)
        headers = [self._segment(_PT_LOAD, 0, size)]
        headers += [self._segment(*segment) for segment in segments]
        return self._header(header_bytes, entry_bytes, len(headers)) + b"".join(headers) + content

    def _tags(self, strings: bytearray) -> list[tuple[int, int]]:
        values = [(1, name) for name in self.needed]
        values += [
            (tag, text)
            for tag, text in ((14, self.soname), (15, self.rpath), (29, self.runpath))
            if text is not None
        ]
        tags = []
        for tag, text in values:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
        if self.flags_1:
            tags.append((0x6FFFFFFB, self.flags_1))
        return tags

    def _header(self, header_bytes: int, entry_bytes: int, count: int) -> bytes:
        ident = struct.pack(
            "4sBBBB8x",
            b"\x7fELF",
            self.bits // 32,
            1 if self.order is ByteOrder.LITTLE else 2,
            1,
            0,
        )
        word = "Q" if self.bits == 64 else "I"
        fields = (self.kind, self.machine, 1, 0, header_bytes, 0, self.flags)
        sizes = (header_bytes, entry_bytes, count, 0, 0, 0)
        return ident + struct.pack(f"{self.order.value}HHI{word * 3}I6H", *fields, *sizes)

    def _segment(self, kind: int, offset: int, size: int) -> bytes:
        alignment = self.note_alignment if kind == _PT_NOTE else 8
        address = _BASE + offset
        if self.bits == 64:
            fields = (kind, 4, offset, address, address, size, size, alignment)
            return struct.pack(self.order.value + "IIQQQQQQ", *fields)
        small = (kind, offset, address, address, size, size, 4, alignment)
        return struct.pack(self.order.value + "8I", *small)


def library(soname: str, *needed: str) -> Elf:
    """Return a shared library for x86-64."""
    return Elf(soname=soname, needed=needed)


def program(*needed: str, interpreter: str | None = "/lib64/ld-linux-x86-64.so.2") -> Elf:
    """Return a position-independent executable for x86-64."""
    return Elf(needed=needed, interpreter=interpreter, flags_1=0x08000000)


def foreign(elf: Elf, machine: int, *, bits: int, order: ByteOrder = ByteOrder.LITTLE) -> Elf:
    """Return the same file for another machine."""
    return replace(elf, machine=machine, bits=bits, order=order)


def note(
    content: bytes,
    *,
    owner: bytes = b"FDO\0",
    kind: int = 0x407C0C0A,
    order: ByteOrder = ByteOrder.LITTLE,
    alignment: int = 4,
) -> bytes:
    """Return one ELF note."""
    head = struct.pack(order.value + "III", len(owner), len(content), kind)
    body = head + owner
    body += b"\0" * (-len(body) % alignment)
    body += content
    return body + b"\0" * (-len(body) % alignment)


def dlopen_note(
    *sonames: str, priority: str | None = None, order: ByteOrder = ByteOrder.LITTLE
) -> bytes:
    """Return a dlopen note of one feature."""
    entry: dict[str, object] = {"feature": "thing", "description": "a thing", "soname": sonames}
    if priority is not None:
        entry["priority"] = priority
    return note(json.dumps([entry]).encode() + b"\0", order=order)
