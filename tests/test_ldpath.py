"""Where a loader looks, in made trees and against the machine's own ld.so and ldconfig."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from initramfs.elf import Abi, ByteOrder, read_elf, read_elf_file
from initramfs.ldpath import (
    LibC,
    Loaded,
    SearchOrder,
    default_directories,
    expand,
    read_ld_so_conf,
)
from initramfs.rootfs import Root
from tests.support.elf import X86_64, Elf, program
from tests.support.tools import require_tool
from tests.support.tree import Tree

AMD64 = Abi(X86_64, 64, ByteOrder.LITTLE)
DEFAULTS = default_directories(AMD64)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def loaded(elf: Elf, path: str = "/usr/bin/main", loader: Loaded | None = None) -> Loaded:
    found = read_elf(bytes(elf))
    assert found is not None
    return Loaded(path, path, found, loader)


def extra(tree: Tree, asker: Loaded, main: Loaded) -> tuple[str, ...]:
    """Return what is searched before the default directories."""
    found = SearchOrder(tree.root()).directories(asker, main)
    assert found[len(found) - len(DEFAULTS) :] == DEFAULTS
    return found[: len(found) - len(DEFAULTS)]


def test_rpath_of_the_object_comes_before_its_loaders(tree: Tree) -> None:
    main = loaded(Elf(rpath="/main", interpreter="/ld.so"))
    middle = loaded(Elf(rpath="/middle"), "/a/libmiddle.so", main)
    asker = loaded(Elf(rpath="/asker"), "/b/libasker.so", middle)
    assert extra(tree, asker, main) == ("/asker", "/middle", "/main")


def test_rpath_is_inherited_and_runpath_is_not(tree: Tree) -> None:
    asker = Elf()
    by_rpath = loaded(Elf(rpath="/main"))
    by_runpath = loaded(Elf(runpath="/main"))
    assert extra(tree, loaded(asker, "/l.so", by_rpath), by_rpath) == ("/main",)
    assert extra(tree, loaded(asker, "/l.so", by_runpath), by_runpath) == ()


def test_runpath_shuts_off_every_rpath(tree: Tree) -> None:
    main = loaded(Elf(rpath="/main"))
    asker = loaded(Elf(rpath="/ignored", runpath="/asker"), "/l.so", main)
    assert extra(tree, asker, main) == ("/asker",)


def test_rpath_of_a_loader_with_runpath_does_not_count(tree: Tree) -> None:
    main = loaded(Elf(rpath="/main"))
    middle = loaded(Elf(rpath="/ignored", runpath="/middle"), "/m.so", main)
    assert extra(tree, loaded(Elf(), "/l.so", middle), main) == ("/main",)


def test_relative_and_empty_elements_are_left_out(tree: Tree) -> None:
    main = loaded(Elf(runpath=":relative:/kept/::./x"))
    assert extra(tree, main, main) == ("/kept",)


def test_origin_is_the_directory_of_the_object_as_found(tree: Tree) -> None:
    main = loaded(Elf(rpath="$ORIGIN/../lib"), "/opt/x/bin/main")
    asker = loaded(Elf(rpath="${ORIGIN}/more"), "/opt/link/liba.so", main)
    assert extra(tree, asker, main) == ("/opt/link/more", "/opt/x/bin/../lib")


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("$LIB/x", ("lib/x86_64-linux-gnu/x", "lib64/x", "lib/x")),
        ("/p/${PLATFORM}", ("/p/haswell", "/p/xeon_phi", "/p/x86_64")),
        ("$ORIGINAL/${OTHER}$", ("$ORIGINAL/${OTHER}$",)),
        ("$ORIGIN:$ORIGIN", ("/usr/bin:/usr/bin",)),
        ("plain", ("plain",)),
    ],
)
def test_tokens(text: str, results: tuple[str, ...]) -> None:
    assert expand(text, loaded(Elf())) == results


def test_origin_in_the_top_directory() -> None:
    assert expand("$ORIGIN/lib", loaded(Elf(), "/init")) == ("//lib",)


@pytest.mark.parametrize(
    ("machine", "bits", "order", "flags", "triplet"),
    [
        (62, 64, "LITTLE", 0, "x86_64-linux-gnu"),
        (62, 32, "LITTLE", 0, "x86_64-linux-gnux32"),
        (3, 32, "LITTLE", 0, "i386-linux-gnu"),
        (183, 64, "LITTLE", 0, "aarch64-linux-gnu"),
        (40, 32, "LITTLE", 0x5000400, "arm-linux-gnueabihf"),
        (40, 32, "LITTLE", 0x5000200, "arm-linux-gnueabi"),
        (243, 64, "LITTLE", 5, "riscv64-linux-gnu"),
        (21, 64, "LITTLE", 2, "powerpc64le-linux-gnu"),
        (21, 64, "BIG", 1, "powerpc64-linux-gnu"),
        (22, 64, "BIG", 0, "s390x-linux-gnu"),
        (258, 64, "LITTLE", 0, "loongarch64-linux-gnu"),
        (8, 64, "LITTLE", 0, "mips64el-linux-gnuabi64"),
    ],
)
def test_multiarch_directories(
    machine: int, bits: int, order: str, flags: int, triplet: str
) -> None:
    found = default_directories(Abi(machine, bits, ByteOrder[order]), flags)
    assert found[:2] == (f"/lib/{triplet}", f"/usr/lib/{triplet}")
    assert found[-2:] == ("/lib", "/usr/lib")


@pytest.mark.parametrize(("bits", "last"), [(64, "/usr/lib64"), (32, "/usr/lib")])
def test_unknown_machine_has_the_common_directories(bits: int, last: str) -> None:
    assert last in default_directories(Abi(9999, bits, ByteOrder.BIG))


def test_configuration_with_includes(tree: Tree) -> None:
    tree.file(
        "/etc/ld.so.conf",
        "# first\n/opt/one  # why\ninclude ld.so.conf.d/*.conf /etc/more.conf\n"
        "hwcap 1 x\n/opt/last/\nrelative\n/opt/old=libc5\n/opt/one\n",
    )
    tree.file("/etc/ld.so.conf.d/b.conf", "/opt/b\n")
    tree.file("/etc/ld.so.conf.d/a.conf", "/opt/a\ninclude nested.inc\n")
    tree.file("/etc/ld.so.conf.d/nested.inc", "/opt/nested")
    tree.file("/etc/ld.so.conf.d/no.txt", "/opt/no")
    tree.file("/etc/more.conf", "/opt/more\n")
    assert read_ld_so_conf(tree.root()) == (
        *("/opt/one", "/opt/a", "/opt/nested", "/opt/b", "/opt/more"),
        *("/opt/last", "/opt/old"),
    )


def test_configuration_that_includes_itself_ends(tree: Tree) -> None:
    tree.file("/etc/ld.so.conf", "include ld.so.c*\n/opt/a\n")
    assert read_ld_so_conf(tree.root()) == ("/opt/a",)


def test_tree_without_configuration_has_the_defaults(tree: Tree) -> None:
    main = loaded(program())
    assert SearchOrder(tree.root()).directories(main, main) == DEFAULTS


def test_configured_directories_come_before_the_defaults(tree: Tree) -> None:
    tree.file("/etc/ld.so.conf", "/opt/lib\n/usr/lib\n")
    main = loaded(program())
    found = SearchOrder(tree.root()).directories(main, main)
    assert found[:3] == ("/opt/lib", "/usr/lib", "/lib/x86_64-linux-gnu")
    assert found.count("/usr/lib") == 1


def test_nodeflib_leaves_out_the_default_directories(tree: Tree) -> None:
    tree.file("/etc/ld.so.conf", "/opt/lib\n/usr/lib\n")
    main = loaded(Elf(runpath="/own", flags_1=0x800))
    assert SearchOrder(tree.root()).directories(main, main) == ("/own", "/opt/lib")


def test_folders_for_some_processors(tree: Tree) -> None:
    for folder in ("glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2", "tls/haswell", "unrelated"):
        tree.directory(f"/usr/lib/{folder}")
    assert SearchOrder(tree.root()).variants("/usr/lib") == (
        "/usr/lib/glibc-hwcaps/x86-64-v2",
        "/usr/lib/glibc-hwcaps/x86-64-v3",
        "/usr/lib/tls",
        "/usr/lib/tls/haswell",
    )


MUSL = program(interpreter="/lib/ld-musl-x86_64.so.1")


def test_musl_searches_its_own_directories(tree: Tree) -> None:
    tree.file("/etc/ld.so.conf", "/opt/glibc")
    main = loaded(MUSL)
    assert SearchOrder(tree.root()).directories(main, main) == (
        "/lib",
        "/usr/local/lib",
        "/usr/lib",
    )


def test_musl_reads_its_path_file(tree: Tree) -> None:
    tree.file("/etc/ld-musl-x86_64.path", "/one:/two\n/three\n")
    main = loaded(MUSL)
    assert SearchOrder(tree.root()).directories(main, main) == ("/one", "/two", "/three")


def test_musl_inherits_runpath_too(tree: Tree) -> None:
    main = loaded(Elf(interpreter="/lib/ld-musl-x86_64.so.1", runpath="/main", rpath="/ignored"))
    asker = loaded(Elf(rpath="/asker"), "/l.so", main)
    assert SearchOrder(tree.root()).directories(asker, main)[:2] == ("/asker", "/main")


@pytest.mark.parametrize(
    ("elf", "libc"),
    [
        pytest.param(Elf(interpreter="/lib/ld-musl-armhf.so.1"), LibC.MUSL, id="interpreter"),
        pytest.param(Elf(needed=["libc.musl-x86_64.so.1"]), LibC.MUSL, id="alpine"),
        pytest.param(Elf(needed=["libc.so"]), LibC.MUSL, id="void"),
        pytest.param(Elf(needed=["libc.so.6"]), LibC.GLIBC, id="glibc"),
        pytest.param(Elf(), LibC.GLIBC, id="nothing-known"),
    ],
)
def test_libc_of_an_object(tree: Tree, elf: Elf, libc: LibC) -> None:
    assert SearchOrder(tree.root()).libc(loaded(elf)) is libc


def test_library_without_libc_is_of_what_the_tree_has(tree: Tree) -> None:
    tree.file("/lib/ld-musl-x86_64.so.1")
    assert SearchOrder(tree.root()).libc(loaded(Elf())) is LibC.MUSL
    tree.file("/lib64/ld-linux-x86-64.so.2")
    assert SearchOrder(tree.root()).libc(loaded(Elf())) is LibC.GLIBC


def test_default_directories_hold_those_of_the_machines_loader() -> None:
    found = read_elf_file(Path("/bin/sh").resolve())
    assert found is not None
    assert found.interpreter is not None
    output = subprocess.run(
        [found.interpreter, "--list-diagnostics"], capture_output=True, check=False, text=True
    ).stdout
    theirs = [one.rstrip("/") for one in re.findall(r'^path\.system_dirs.*="(.*)"$', output, re.M)]
    if not theirs:
        pytest.skip("this loader says nothing of its directories (glibc before 2.33)")
    ours = default_directories(found.abi, found.flags)
    assert [one for one in ours if one in theirs] == theirs


def test_configuration_agrees_with_ldconfig() -> None:
    ldconfig = require_tool("ldconfig", package="libc-bin")
    output = subprocess.run(
        [ldconfig, "-v", "-N", "-X"], capture_output=True, check=False, text=True
    ).stdout
    theirs = [line.partition(":")[0] for line in output.splitlines() if line[:1] == "/"]
    configured = read_ld_so_conf(Root(Path("/")))
    ours = [one for one in configured if Path(one).is_dir()]
    seen = {Path(one).resolve() for one in theirs}
    assert {Path(one).resolve() for one in ours} <= seen
    assert [one for one in theirs if one in ours] == [one for one in ours if one in theirs]
