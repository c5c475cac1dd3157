"""Modules are read as modinfo(8) reads them, whatever their class, order and compression."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from initramfs.errors import InputError
from initramfs.modinfo import Modinfo, exports_of, modinfo_of, name_of, read_modinfo
from tests.support.modules import COMPRESSORS, Ko, elf_module, module
from tests.support.tools import require_tool

KO = Ko(
    "kernel/a.ko",
    depends=("dm-mod", "b"),
    aliases=("pci:v00008086d*", "fs-a"),
    softdeps=("pre: c d post: e",),
    weakdeps=("f g",),
    firmware=("a/one.bin",),
    exports=("a_register", "a_unregister"),
)
INFO = Modinfo(
    depends=("dm_mod", "b"),
    aliases=KO.aliases,  # type: ignore[arg-type]
    softdeps=KO.softdeps,  # type: ignore[arg-type]
    weakdeps=KO.weakdeps,  # type: ignore[arg-type]
    firmware=KO.firmware,  # type: ignore[arg-type]
)


@pytest.mark.parametrize("extended", [False, True], ids=["plain-count", "extended-count"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("wide", [False, True], ids=["32", "64"])
def test_reads_every_class_and_byte_order(wide: bool, order: str, extended: bool) -> None:
    content = elf_module(KO.fields(), wide=wide, order=order, extended=extended)

    assert modinfo_of(content, origin="x") == INFO


@pytest.mark.parametrize("suffix", COMPRESSORS, ids=lambda suffix: suffix or "plain")
def test_reads_plain_and_compressed_files(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.ko{suffix}"
    file.write_bytes(COMPRESSORS[suffix](module(KO)))

    assert read_modinfo(str(file), origin="x") == INFO


def test_a_signature_at_the_end_does_not_matter() -> None:
    signed = module(KO) + bytes(700) + b"~Module signature appended~\n"

    assert modinfo_of(signed, origin="x") == INFO


def test_exports_are_the_symbols_of_the_string_table() -> None:
    assert exports_of(module(KO)) == ("a_register", "a_unregister")


def test_splits_soft_dependencies() -> None:
    info = Modinfo(softdeps=("pre: a b post: c", "post: d"))

    assert (info.pre, info.post) == (("a", "b"), ("c", "d"))


def test_soft_dependencies_without_a_word_of_when_count_as_before() -> None:
    # Linux 6.1: MODULE_SOFTDEP("gcm") in fs/cifs.
    assert Modinfo(softdeps=("gcm",)).pre == ("gcm",)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("kernel/drivers/md/dm-mod.ko", "dm_mod"),
        ("a.ko.xz", "a"),
        ("a.ko.zst", "a"),
        ("a.ko.gz", "a"),
        ("a.ko.bak", None),
        ("vdso64.so", None),
    ],
)
def test_name_of(file: str, name: str | None) -> None:
    assert name_of(file) == name


def _no_modinfo() -> bytes:
    return module(KO).replace(b".modinfo\0", b".nothing\0")


def _wrong_type() -> bytes:
    content = bytearray(module(KO))
    content[16] = 3
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "not in ELF format", id="empty"),
        pytest.param(b"#!/bin/sh\n" * 20, "not in ELF format", id="script"),
        pytest.param(module(KO)[:40], "header", id="cut in the header"),
        pytest.param(module(KO)[:-20], "too early", id="cut in the section table"),
        pytest.param(_no_modinfo(), "no .modinfo section", id="no modinfo"),
        pytest.param(_wrong_type(), "not a relocatable object", id="shared object"),
    ],
)
def test_refuses_what_is_no_module(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"^/bad.ko: .*{words}"):
        modinfo_of(content, origin="/bad.ko")


def test_modinfo_of_kmod_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.ko"
    file.write_bytes(module(KO))
    modinfo = require_tool("modinfo", package="kmod")

    def field(name: str) -> list[str]:
        argv = [str(modinfo), "-F", name, str(file)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split("\n")

    assert field("alias")[:-1] == list(INFO.aliases)
    assert field("softdep")[:-1] == list(INFO.softdeps)
    assert field("firmware")[:-1] == list(INFO.firmware)
    assert field("depends")[:-1] == ["dm-mod,b"]
