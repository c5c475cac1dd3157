"""Our answer for every program of the machine equals its own loader's (ldd(1)).

What is there for run time only (dlopened, variants for other processors) is beyond ldd.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.elf import ElfKind, read_elf_file
from initramfs.libraries import Dependencies, Libraries, Need
from initramfs.rootfs import Root
from tests.support.tools import require_tool

FOLDERS = (Path("/usr/bin"), Path("/usr/sbin"))
BATCH = 40

# "libc.so.6 => /lib/libc.so.6 (0x...)", "/lib/ld.so (0x...)", "libx.so => not found"
LIBRARY = re.compile(
    r"^\t(?:(?P<name>\S+) => )?(?P<path>/.*?|not found)(?: \(0x[0-9a-f]+\))?$", re.M
)
VARIANT = re.compile(r"/glibc-hwcaps/[^/]+/")


def programs() -> list[Path]:
    """Return every ELF file of FOLDERS, links left out."""
    files = {
        path.resolve()
        for folder in FOLDERS
        for path in folder.iterdir()
        if path.is_file() and not path.is_symlink()
    }
    elves = {path: found for path in files if (found := read_elf_file(path)) is not None}
    native = {path: found for path, found in elves.items() if found.kind is not ElfKind.OTHER}
    return sorted(native)


def parse(text: str) -> frozenset[str]:
    """Return the canonical paths in one answer of ldd, and the names that it did not find."""
    found = set()
    for match in LIBRARY.finditer(text):
        missing = match["path"] == "not found"
        found.add(match["name"] if missing else os.path.realpath(VARIANT.sub("/", match["path"])))
    return frozenset(found)


def ask_ldd(ldd: Path, paths: list[Path]) -> Iterator[frozenset[str]]:
    """Return what ldd says of each path; nothing for what it does not load."""
    output = subprocess.run(
        [ldd, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    ).stdout.decode()
    if len(paths) == 1:
        output = f"{paths[0]}:\n{output}"
    sections = re.split(r"^(/.*):$", output, flags=re.MULTILINE)[1:]
    said = dict(zip(sections[::2], sections[1::2], strict=True))
    return (parse(said.get(os.fspath(path), "")) for path in paths)


def linked(answer: Dependencies) -> frozenset[str]:
    """Return of our answer what the loader itself would find, and the names that it would not."""
    beyond: set[str] = set()
    found = set()
    for one in answer.found:
        canonical = os.path.realpath(one.path)
        if one.by not in beyond and one.need in (Need.LINKED, Need.INTERPRETER):
            found.add(canonical)
        else:
            beyond.add(canonical)
    return frozenset(found | {one.name for one in answer.missing})


def differences(
    libraries: Libraries, answers: Iterable[tuple[Path, frozenset[str]]]
) -> dict[str, str]:
    """Return the programs about which ldd and we disagree, with what only one of us names."""
    wrong = {}
    for path, theirs in answers:
        ours = linked(libraries.of(os.fspath(path)))
        if ours != theirs:
            wrong[os.fspath(path)] = f"only ldd: {theirs - ours}; only we: {ours - theirs}"
    return wrong


@pytest.fixture(scope="module")
def ldd() -> Path:
    return require_tool("ldd", package="libc-bin")


@pytest.mark.slow
def test_every_program_of_the_machine(ldd: Path) -> None:
    paths = programs()
    batches = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(lambda batch: list(ask_ldd(ldd, batch)), batches)
    theirs = [one for batch in answers for one in batch]
    assert len(theirs) == len(paths) > 50
    assert sum(bool(one) for one in theirs) > len(paths) // 2
    assert differences(Libraries(Root(Path("/"))), zip(paths, theirs, strict=True)) == {}


def test_library_too_many_or_too_few_would_be_noticed(ldd: Path) -> None:
    shell = Path("/bin/sh").resolve()
    (theirs,) = ask_ldd(ldd, [shell])
    libraries = Libraries(Root(Path("/")))
    assert differences(libraries, [(shell, theirs)]) == {}
    fewer = theirs - {next(iter(theirs))}
    assert differences(libraries, [(shell, fewer)])
    assert differences(libraries, [(shell, theirs | {"libgone.so.1"})])


def test_dlopened_library_with_its_own_needs_is_not_held_against_us() -> None:
    libraries = Libraries(Root(Path("/")))
    answer = libraries.of(os.fspath(Path("/bin/sh").resolve()))
    extra = replace(answer.found[-1], path="/x", need=Need.DLOPENED)
    its_own = replace(answer.found[-1], path="/y", by="/x")
    more = replace(answer, found=(*answer.found, extra, its_own))
    assert linked(more) == linked(answer)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("\tlinux-vdso.so.1 (0x00007fff)\n", set()),
        ("\tstatically linked\n", set()),
        ("\tlibgone.so.3 => not found\n", {"libgone.so.3"}),
        ("\tliba.so => /no/such/liba.so (0x00007f12)\n", {"/no/such/liba.so"}),
        ("\t/no/such/ld.so (0x00007f12)\n", {"/no/such/ld.so"}),
        ("\ta => /x/glibc-hwcaps/x86-64-v3/a (0x00007f12)\n", {"/x/a"}),
    ],
)
def test_lines_of_ldd(line: str, found: set[str]) -> None:
    assert parse(line) == found
