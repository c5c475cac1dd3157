"""What an ELF file asks of the loader, against readelf and made files of every class."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initramfs.elf import Abi, ByteOrder, ElfFile, ElfKind, read_elf, read_elf_file
from initramfs.elfnotes import DlopenNote, Priority
from initramfs.errors import InputError
from tests.support.elf import (
    ARM,
    ET_EXEC,
    ET_REL,
    I386,
    MIPS,
    S390,
    X86_64,
    Elf,
    dlopen_note,
    library,
    note,
    program,
)
from tests.support.tools import require_tool

EVERY_CLASS = [
    pytest.param(bits, order, id=f"{bits}-{order.name.lower()}")
    for bits in (32, 64)
    for order in ByteOrder
]


def read(elf: Elf) -> ElfFile:
    found = read_elf(bytes(elf))
    assert found is not None
    return found


@pytest.mark.parametrize(("bits", "order"), EVERY_CLASS)
def test_reads_what_is_asked_for_in_every_class(bits: int, order: ByteOrder) -> None:
    found = read(
        Elf(
            bits=bits,
            order=order,
            machine=S390,
            interpreter="/lib/ld64.so.1",
            soname="libme.so.1",
            needed=("libone.so.1", "libtwo.so.2"),
            rpath="/a:$ORIGIN/b",
            runpath="/c",
            flags_1=0x800,
        )
    )
    assert found == ElfFile(
        Abi(S390, bits, order),
        0,
        ElfKind.SHARED,
        "/lib/ld64.so.1",
        soname="libme.so.1",
        needed=("libone.so.1", "libtwo.so.2"),
        rpath=("/a", "$ORIGIN/b"),
        runpath=("/c",),
        nodeflib=True,
    )


@pytest.mark.parametrize(
    ("elf", "kind"),
    [
        pytest.param(Elf(kind=ET_EXEC, is_dynamic=False), ElfKind.STATIC, id="static"),
        pytest.param(Elf(flags_1=0x08000000), ElfKind.STATIC_PIE, id="static-pie"),
        pytest.param(Elf(kind=ET_EXEC, interpreter="/ld.so"), ElfKind.DYNAMIC, id="dynamic"),
        pytest.param(program(), ElfKind.PIE, id="pie"),
        pytest.param(Elf(interpreter="/ld.so"), ElfKind.PIE, id="pie-of-an-old-linker"),
        pytest.param(library("liba.so"), ElfKind.SHARED, id="shared"),
        pytest.param(
            Elf(soname="libc.so.6", interpreter="/ld.so"), ElfKind.SHARED, id="library-that-runs"
        ),
        pytest.param(Elf(kind=ET_REL), ElfKind.OTHER, id="relocatable"),
    ],
)
def test_tells_the_kind(elf: Elf, kind: ElfKind) -> None:
    assert read(elf).kind is kind


def test_empty_runpath_is_one_nevertheless() -> None:
    assert read(Elf(rpath="/a", runpath="")).runpath == ("",)


def test_names_are_found_in_a_string_table_too_large_to_read_whole() -> None:
    found = read(Elf(padding_strings=1 << 17, needed=("libfar.so.1", "lib" + "n" * 700 + ".so")))
    assert found.needed == ("libfar.so.1", "lib" + "n" * 700 + ".so")


def test_name_that_is_not_utf_8_survives() -> None:
    name = b"lib\xff.so"
    data = bytes(library("libz.so", "libQ.so")).replace(b"libQ.so", name)
    found = read_elf(data)
    assert found is not None
    assert os.fsencode(found.needed[0]) == name


def test_n32_is_another_abi_than_o32() -> None:
    o32 = Elf(bits=32, machine=MIPS)
    assert read(o32).abi != read(replace(o32, flags=0x20)).abi


def test_float_abi_of_arm_is_in_the_flags() -> None:
    assert read(Elf(bits=32, machine=ARM, flags=0x5000400)).flags == 0x5000400


@pytest.mark.parametrize("order", list(ByteOrder), ids=lambda order: order.name.lower())
def test_dlopen_notes(order: ByteOrder) -> None:
    notes = dlopen_note("libx.so.2", "libx.so.1", priority="required", order=order)
    found = read(Elf(order=order, notes=notes)).dlopen
    assert found == (DlopenNote("thing", "a thing", Priority.REQUIRED, ("libx.so.2", "libx.so.1")),)


def test_dlopen_note_after_others_is_found() -> None:
    others = note(b"\x01\x02\x03", owner=b"GNU\0", kind=3) + note(b"", owner=b"FDO\0", kind=1)
    assert read(Elf(notes=others + dlopen_note("liba.so.1"))).dlopen[0].sonames == ("liba.so.1",)


def test_priority_is_recommended_if_not_given() -> None:
    assert read(Elf(notes=dlopen_note("a.so"))).dlopen[0].priority is Priority.RECOMMENDED


def test_note_of_a_draft_of_the_specification_is_read() -> None:
    notes = note(b'{"soname": "liba.so.1", "priority": "suggested"}\0')
    assert read(Elf(notes=notes)).dlopen == (
        DlopenNote("", "", Priority.SUGGESTED, ("liba.so.1",)),
    )


def test_notes_aligned_to_eight_bytes_are_read() -> None:
    notes = note(b"1", owner=b"GNU\0", alignment=8) + note(b'[{"soname": ["a.so"]}]\0', alignment=8)
    assert read(Elf(notes=notes, note_alignment=8)).dlopen[0].sonames == ("a.so",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[1]",
        b"[{}]",
        b'[{"soname": ["a"], "priority": "dear"}]',
        b"\xff",
        b"null",
    ],
)
def test_damaged_dlopen_note_is_an_error(content: bytes) -> None:
    with pytest.raises(InputError, match="dlopen note"):
        read_elf(bytes(Elf(notes=note(content))), name="/bin/x")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"#!/bin/sh\n", id="script"),
        pytest.param(b"\x7fEL", id="part-of-the-magic"),
        pytest.param(b"\x7fELF is how such a file begins\n", id="looks-like"),
        pytest.param(b"\x7fELF\x02\x01\x09" + bytes(60), id="unknown-version"),
    ],
)
def test_what_is_no_elf_file_is_none(data: bytes) -> None:
    assert read_elf(data) is None


def test_every_truncation_is_an_error_that_names_the_file() -> None:
    data = bytes(replace(program("libone.so.1"), notes=dlopen_note("a.so")))
    for length in range(4, len(data)):
        with pytest.raises(InputError, match=r"/bin/cut is a damaged ELF file"):
            read_elf(data[:length], name="/bin/cut")


def test_truncated_relocatable_object_is_an_error() -> None:
    data = bytearray(bytes(Elf(kind=ET_REL)))
    struct.pack_into("<Q", data, 40, 10_000)
    struct.pack_into("<HH", data, 58, 64, 3)
    with pytest.raises(InputError, match="its sections end at 10192"):
        read_elf(bytes(data))


def test_unreadable_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        read_elf_file(tmp_path / "gone")


def test_file_and_bytes_read_alike(tmp_path: Path) -> None:
    data = bytes(Elf(padding_strings=9000, needed=("liba.so.1",), notes=dlopen_note("b.so")))
    path = tmp_path / "lib.so"
    path.write_bytes(data)
    assert read_elf_file(path) == read_elf(data)


SAMPLES = [
    bytes(Elf(bits=bits, order=order, machine=machine, needed=("a.so",), rpath="/r", notes=notes))
    for bits, order, machine in (
        (64, ByteOrder.LITTLE, X86_64),
        (32, ByteOrder.LITTLE, I386),
        (32, ByteOrder.BIG, MIPS),
    )
    for notes in (b"", dlopen_note("b.so", order=order))
]


def read_or_refuse(data: bytes) -> None:
    try:
        found = read_elf(data)
    except InputError as error:
        assert "damaged" in error.message
    else:
        assert found is None or isinstance(found, ElfFile)


@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_read_or_refused(tail: bytes) -> None:
    read_or_refuse(b"\x7fELF" + tail)


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=8)), max_size=5),
    st.integers(16, 900),
)
def test_any_damage_is_read_or_refused(
    sample: bytes, changes: list[tuple[int, bytes]], length: int
) -> None:
    data = bytearray(sample)
    for at, value in changes:
        data[at : at + len(value)] = value
    read_or_refuse(bytes(data[:length]))


def test_agrees_with_readelf() -> None:
    readelf = require_tool("readelf", package="binutils")
    paths = [path for path in sorted(Path("/usr/bin").iterdir()) if path.is_file()]
    elves = {path: found for path in paths if (found := read_elf_file(path)) is not None}
    chosen = list(elves)[:: max(1, len(elves) // 60)]
    output = subprocess.run(
        [readelf, "-W", "-d", "-l", *chosen],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        env={"LC_ALL": "C"},
    ).stdout.decode(errors="replace")
    sections = re.split(r"^File: (.*)$", output, flags=re.MULTILINE)[1:]
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        found = elves[Path(name)]
        assert found.needed == tuple(re.findall(r"\(NEEDED\) .*\[(.*)\]", text)), name
        assert [found.interpreter or ""] == (
            re.findall(r"program interpreter: (.*)\]", text) or [""]
        ), name
        assert ":".join(found.runpath) == "".join(re.findall(r"\(RUNPATH\).*\[(.*)\]", text)), name
