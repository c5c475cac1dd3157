"""The loader's cache against ldconfig, which reads and makes such files, and against the loader."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.closure import Because, ClosureBuilder, FileClosure
from initramfs.elf import ByteOrder, read_elf
from initramfs.errors import MissingDependency
from initramfs.ldcache import (
    LD_SO_CACHE,
    CachedLibrary,
    abi_flags,
    add_library_cache,
    encode_cache,
    library_cache,
)
from initramfs.ldpath import Machine, read_ld_so_conf
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from tests.support.elf import AARCH64, ARM, I386, MIPS, S390, Elf, foreign, library
from tests.support.tools import lacking, require_tool
from tests.support.tree import Tree
from tests.support.unpacked import unpack

SEED = Because("asked for by the test")
LITTLE, BIG = ByteOrder.LITTLE, ByteOrder.BIG
MULTIARCH = "/usr/lib/x86_64-linux-gnu"
AMD64 = 0x303


def printed(cache: Path) -> list[str]:
    """Return what ldconfig says is in ``cache``, in its order."""
    argv = [str(require_tool("ldconfig", package="libc-bin")), "-p", "-C", str(cache)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    lines = said.stdout.splitlines()[1:]
    return [line.strip() for line in lines if line.startswith("\t")]


def written(content: bytes | None, folder: Path) -> list[str]:
    """Return what ldconfig reads of a cache of ours."""
    assert content is not None
    (folder / "ours").write_bytes(content)
    return printed(folder / "ours")


def made_by_ldconfig(tree: Path) -> list[str]:
    """Return what ldconfig would write for ``tree``; links are left as they are."""
    argv = [str(require_tool("ldconfig", package="libc-bin")), "-X", "-r", str(tree)]
    subprocess.run([*argv, "-C", "/theirs"], capture_output=True, check=True)
    # Of an i386 library that does not ask for libc.so.6 it says less; a loader takes either.
    return [line.replace("(ELF)", "(libc6)") for line in printed(tree / "theirs")]


def image_of(tree: Tree, *folders: str) -> FileClosure:
    """Return an image with all that is in ``folders`` of the tree."""
    builder = tree.builder()
    for folder in folders:
        builder.add_tree(folder, SEED)
    return builder.build()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree with a loader, and with a directory that only ld.so.conf names."""
    tree = Tree(tmp_path / "root")
    tree.loader(f"{MULTIARCH}/ld-linux-x86-64.so.2")
    tree.file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    tree.file("/etc/ld.so.conf.d/x.conf", f"{MULTIARCH}\n/opt/x/lib\n")
    return tree


def as_ldconfig(tree: Tree, folder: Path, *folders: str) -> list[str]:
    """Return what our cache for an image of ``folders`` lists, if ldconfig lists the same."""
    closure = image_of(tree, *folders)
    ours = written(library_cache(closure, read_ld_so_conf(tree.root())), folder)
    top = unpack(closure, folder / "unpacked")
    shutil.copytree(tree.host("/etc"), top / "etc", dirs_exist_ok=True)
    assert ours == made_by_ldconfig(top)
    return ours


def test_libraries_of_configured_directories_are_listed(tree: Tree, tmp_path: Path) -> None:
    tree.library("/opt/x/lib/liby.so.1")
    found = as_ldconfig(tree, tmp_path, "/opt/x/lib", MULTIARCH)
    assert "liby.so.1 (libc6,x86-64) => /opt/x/lib/liby.so.1" in found


def test_names_are_sonames_and_the_linkers_links(tree: Tree, tmp_path: Path) -> None:
    tree.file("/opt/x/lib/liby.so.1.2.3", library("liby.so.1"))
    tree.link("/opt/x/lib/liby.so.1", "liby.so.1.2.3")
    tree.link("/opt/x/lib/liby.so", "liby.so.1")
    tree.link("/opt/x/lib/libother.so.9", "liby.so.1.2.3")
    tree.file("/opt/x/lib/libplain.so", Elf())
    found = as_ldconfig(tree, tmp_path, "/opt/x/lib", MULTIARCH)
    names = {line.partition(" ")[0] for line in found if "/opt/" in line}
    assert names == {"liby.so.1", "liby.so", "libplain.so"}


def test_what_is_no_library_is_not_listed(tree: Tree, tmp_path: Path) -> None:
    tree.file("/opt/x/lib/libscript.so", "GROUP ( /lib/libc.so.6 )\n")
    tree.file("/opt/x/lib/module.so", Elf())
    tree.file("/opt/x/lib/lib.txt", "text")
    tree.directory("/opt/x/lib/libfolder.so")
    assert not [
        one for one in as_ldconfig(tree, tmp_path, "/opt/x/lib", MULTIARCH) if "/opt" in one
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("libz.so.1", "libzstd.so.1", "libz3.so.4", "libz3.so"),
        ("liba.so.2", "liba.so.10", "liba.so.1", "liba.so"),
        ("liba-2.so", "liba.so.2", "liba2.so", "libA.so", "lib_a.so", "liba+.so"),
        ("libx-20231231235959.so", "libx-20230101000000.so", "libx-5.so"),
    ],
    ids=["letters and digits", "versions", "signs", "beyond an int"],
)
def test_names_are_in_the_order_in_which_they_are_searched(
    names: tuple[str, ...], tree: Tree, tmp_path: Path
) -> None:
    for name in names:
        tree.library(f"/opt/x/lib/{name}")
    found = as_ldconfig(tree, tmp_path, "/opt/x/lib", MULTIARCH)
    assert len(found) == len(names) + 1


def test_of_two_of_a_name_that_of_the_first_directory_comes_first(
    tree: Tree, tmp_path: Path
) -> None:
    tree.library("/opt/x/lib/liby.so.1")
    tree.library(f"{MULTIARCH}/liby.so.1")
    found = as_ldconfig(tree, tmp_path, "/opt/x/lib", MULTIARCH)
    assert [line.rpartition(" ")[2] for line in found if line.startswith("liby")] == [
        f"{MULTIARCH}/liby.so.1",
        "/opt/x/lib/liby.so.1",
    ]


def test_a_directory_under_two_names_is_listed_once(tree: Tree, tmp_path: Path) -> None:
    tree.link("/lib", "usr/lib")
    tree.file("/etc/ld.so.conf", "/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n")
    builder = tree.builder()
    builder.add_tree("/lib/x86_64-linux-gnu", SEED)
    found = written(library_cache(builder.build(), read_ld_so_conf(tree.root())), tmp_path)
    assert found == [
        "ld-linux-x86-64.so.2 (libc6,x86-64) => /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    ]


def test_variants_for_some_processors(tree: Tree, tmp_path: Path) -> None:
    tree.library("/opt/x/lib/liby.so.1")
    for hwcap in ("x86-64-v3", "x86-64-v2"):
        tree.file(f"/opt/x/lib/glibc-hwcaps/{hwcap}/liby.so.1.0", library("liby.so.1"))
        tree.link(f"/opt/x/lib/glibc-hwcaps/{hwcap}/liby.so.1", "liby.so.1.0")
    found = as_ldconfig(tree, tmp_path, "/opt/x/lib", MULTIARCH)
    assert [line for line in found if line.startswith("liby")] == [
        'liby.so.1 (libc6,x86-64, hwcap: "x86-64-v2") => '
        "/opt/x/lib/glibc-hwcaps/x86-64-v2/liby.so.1.0",
        'liby.so.1 (libc6,x86-64, hwcap: "x86-64-v3") => '
        "/opt/x/lib/glibc-hwcaps/x86-64-v3/liby.so.1.0",
        "liby.so.1 (libc6,x86-64) => /opt/x/lib/liby.so.1",
    ]


def test_two_machines_in_one_image(tree: Tree, tmp_path: Path) -> None:
    small = foreign(library("liby.so.1"), I386, bits=32)
    tree.file("/lib/ld-linux.so.2", replace(small, soname="ld-linux.so.2"))
    tree.file("/etc/ld.so.conf.d/i386.conf", "/opt/small\n")
    tree.file("/opt/small/liby.so.1", small)
    tree.library("/opt/x/lib/liby.so.1")
    found = as_ldconfig(tree, tmp_path, "/opt", "/lib", MULTIARCH)
    assert [line for line in found if line.startswith("liby")] == [
        "liby.so.1 (libc6,x86-64) => /opt/x/lib/liby.so.1",
        "liby.so.1 (libc6) => /opt/small/liby.so.1",
    ]


def test_a_machine_without_a_loader_is_not_listed(tree: Tree, tmp_path: Path) -> None:
    tree.file("/opt/x/lib/liby.so.1", foreign(library("liby.so.1"), AARCH64, bits=64))
    closure = image_of(tree, "/opt/x/lib", MULTIARCH)
    assert "liby" not in "".join(written(library_cache(closure, ["/opt/x/lib"]), tmp_path))


def test_only_what_is_in_the_image_is_listed(tree: Tree, tmp_path: Path) -> None:
    tree.library("/opt/x/lib/libin.so.1")
    tree.library("/opt/x/lib/libout.so.1")
    builder = tree.builder()
    builder.add("/opt/x/lib/libin.so.1", SEED)
    builder.add(f"{MULTIARCH}/ld-linux-x86-64.so.2", SEED)
    content = library_cache(builder.build(), read_ld_so_conf(tree.root()))
    names = [line.partition(" ")[0] for line in written(content, tmp_path)]
    assert names == ["libin.so.1", "ld-linux-x86-64.so.2"]


def test_the_same_image_gives_the_same_bytes(tree: Tree) -> None:
    for name in ("liby.so.1", "libx.so.1"):
        tree.library(f"/opt/x/lib/{name}")
    there, back = tree.builder(), tree.builder()
    paths = ["/opt/x/lib/liby.so.1", "/opt/x/lib/libx.so.1", f"{MULTIARCH}/ld-linux-x86-64.so.2"]
    for path in paths:
        there.add(path, SEED)
    for path in reversed(paths):
        back.add(path, SEED)
    assert library_cache(there.build(), ["/opt/x/lib"]) == library_cache(
        back.build(), ["/opt/x/lib"]
    )


@pytest.mark.parametrize(
    "path", ["/lib/ld-musl-x86_64.so.1", "/lib/libc.so"], ids=["musl", "no loader"]
)
def test_no_cache_without_a_loader_of_glibc(path: str, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "root")
    tree.library(path)
    builder = tree.builder()
    builder.add(path, SEED)
    add_library_cache(builder)
    assert LD_SO_CACHE not in builder.build()


def test_a_cache_that_was_asked_for_is_kept(tree: Tree) -> None:
    tree.file(LD_SO_CACHE, b"my own")
    builder = tree.builder()
    builder.add(f"{MULTIARCH}/ld-linux-x86-64.so.2", SEED)
    builder.add(LD_SO_CACHE, SEED)
    add_library_cache(builder)
    assert builder.build().entries[LD_SO_CACHE].source == tree.host(LD_SO_CACHE)


def test_an_incomplete_image_is_told_of_first(tree: Tree) -> None:
    builder = tree.builder()
    builder.add(tree.library("/opt/x/lib/liby.so.1", "libgone.so.3"), SEED)
    with pytest.raises(MissingDependency, match=r"libgone\.so\.3"):
        add_library_cache(builder)


def test_an_image_of_this_machine(tmp_path: Path) -> None:
    root = Root(Path("/"))
    builder = ClosureBuilder(root, Libraries(root))
    for name in ("ldconfig", "lvm", "python3"):
        builder.add(str(require_tool(name).resolve()), SEED)
    ours = written(library_cache(builder.build(), read_ld_so_conf(root)), tmp_path)
    for path in ("/etc/ld.so.conf", *root.glob("/etc/ld.so.conf.d/*.conf")):
        builder.add(path, SEED)
    theirs = made_by_ldconfig(unpack(builder.build(), tmp_path / "unpacked"))
    # The loader's own directory (/lib64) need not be one that this machine's ldconfig knows.
    assert [line for line in ours if not line.startswith("ld-")] == [
        line for line in theirs if not line.startswith("ld-")
    ]
    assert len(ours) > 8


MACHINES = {
    "x86-64": (Elf(), 0x303, "libc6,x86-64"),
    "x32": (Elf(bits=32), 0x803, "libc6,x32"),
    "i386": (Elf(machine=I386, bits=32), 0x003, "libc6"),
    "aarch64": (Elf(machine=AARCH64), 0xA03, "libc6,AArch64"),
    "armhf": (Elf(machine=ARM, bits=32, flags=0x5000400), 0x903, "libc6,hard-float"),
    "armel": (Elf(machine=ARM, bits=32, flags=0x5000200), 0xB03, "libc6,soft-float"),
    "arm, unmarked": (Elf(machine=ARM, bits=32, flags=0x5000000), 0x003, "libc6"),
    "riscv64 lp64d": (Elf(machine=Machine.RISCV, flags=0x5), 0x1003, "libc6,double-float"),
    "riscv64 lp64": (Elf(machine=Machine.RISCV, flags=0x1), 0xF03, "libc6,soft-float"),
    "ppc64le": (Elf(machine=Machine.PPC64, flags=0x2), 0x503, "libc6,64bit"),
    "ppc64": (Elf(machine=Machine.PPC64, order=BIG), 0x503, "libc6,64bit"),
    "ppc": (Elf(machine=Machine.PPC, bits=32, order=BIG), 0x003, "libc6"),
    "s390x": (Elf(machine=S390, order=BIG), 0x403, "libc6,64bit"),
    "s390": (Elf(machine=S390, bits=32, order=BIG), 0x003, "libc6"),
    "sparc64": (Elf(machine=Machine.SPARCV9, order=BIG), 0x103, "libc6,64bit"),
    "ia64": (Elf(machine=Machine.IA64), 0x203, "libc6,IA-64"),
    # ldconfig before 2.37 has the number for it, not the words.
    "loongarch64": (
        Elf(machine=Machine.LOONGARCH, flags=0x43),
        0x1203,
        "libc6,(4608|double-float)",
    ),
    "mips o32": (Elf(machine=MIPS, bits=32, flags=0x70001007), 0x003, "libc6"),
    "mips n32": (Elf(machine=MIPS, bits=32, flags=0x80000027), 0x603, "libc6,N32"),
    "mips n64": (Elf(machine=MIPS, flags=0x80000007), 0x703, "libc6,64bit"),
    "mips r6": (Elf(machine=MIPS, bits=32, flags=0x90001407), 0xC03, "libc6,nan2008"),
    "mips64 r6": (Elf(machine=MIPS, flags=0xA0000407), 0xE03, "libc6,64bit,nan2008"),
}


@pytest.mark.parametrize(("elf", "flags", "words"), MACHINES.values(), ids=MACHINES)
def test_each_machine_has_the_flags_that_ldconfig_knows(
    elf: Elf, flags: int, words: str, tmp_path: Path
) -> None:
    found = read_elf(bytes(elf))
    assert found is not None
    assert abi_flags(found) == flags
    rows = [CachedLibrary("liby.so.1", "/lib/liby.so.1", flags)]
    said = written(encode_cache(rows, LITTLE), tmp_path)
    assert len(said) == 1
    assert re.fullmatch(rf"liby\.so\.1 \({words}\) => /lib/liby\.so\.1", said[0])


def test_an_abi_that_glibc_does_not_have_is_not_listed() -> None:
    single_float = read_elf(bytes(Elf(machine=Machine.RISCV, flags=0x2)))
    assert single_float is not None
    assert abi_flags(single_float) is None


def test_a_big_endian_cache_is_the_little_endian_one_with_every_number_turned() -> None:
    rows = [
        CachedLibrary("liby.so.1", "/lib/liby.so.1", 0x403),
        CachedLibrary("liby.so.1", "/lib/glibc-hwcaps/z13/liby.so.1", 0x403, "z13"),
    ]
    little, big = encode_cache(rows, LITTLE), encode_cache(rows, BIG)
    assert numbers(big, ">") == numbers(little, "<")
    assert (little[28], big[28]) == (2, 3)
    assert strings(big) == strings(little)


def numbers(cache: bytes, order: str) -> tuple[int, ...]:
    """Return all numbers of a cache of two rows: header, rows, extension with its one section."""
    (offset,) = struct.unpack_from(f"{order}I", cache, 32)
    parts = [("II", 20), ("I", 32), ("IIIIQIIIIQ", 48), ("7I", offset)]
    return tuple(n for form, at in parts for n in struct.unpack_from(order + form, cache, at))


def strings(cache: bytes) -> bytes:
    """Return the string table of a cache of two rows."""
    return cache[48 + 2 * 24 :].partition(b"\0\0")[0]


PROOF_C = "int proof(void); int main(void) { return proof() - 42; }"
LIBRARY_C = "int proof(void) { return 42; }"


@pytest.fixture
def proof(tmp_path: Path) -> ClosureBuilder:
    """An image with a program whose library only ld.so.conf leads to, of a tree with no cache."""
    gcc = str(require_tool("gcc"))
    root = tmp_path / "root"
    for folder in ("opt/x/lib", "bin", "etc/ld.so.conf.d"):
        (root / folder).mkdir(parents=True)
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    (root / "etc/ld.so.conf.d/x.conf").write_text("/opt/x/lib\n")
    source, lib = tmp_path / "proof.c", root / "opt/x/lib/libproof.so.1"
    source.write_text(LIBRARY_C)
    shared = ["-shared", "-fPIC", "-Wl,-soname,libproof.so.1"]
    subprocess.run([gcc, *shared, "-o", lib, source], check=True)
    source.write_text(PROOF_C)
    subprocess.run([gcc, "-o", root / "bin/proof", source, lib], check=True)
    for needed in Libraries(Root(Path("/"))).of("/bin/true").found or ():
        place = root / needed.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(needed.path, place)
        place.chmod(0o755)
    tree = Root(root)
    builder = ClosureBuilder(tree, Libraries(tree))
    builder.add("/bin/proof", SEED)
    return builder


def run_in(top: Path) -> subprocess.CompletedProcess[str]:
    """Run the program in an unpacked image."""
    chroot = [str(require_tool("chroot", package="coreutils")), str(top), "/bin/proof"]
    if os.geteuid():
        chroot = [str(require_tool("unshare", package="util-linux")), "-r", *chroot]
    done = subprocess.run(chroot, capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare:"):
        lacking(f"no user namespaces here: {done.stderr}")
    return done


def test_the_loader_finds_a_library_through_the_cache(
    proof: ClosureBuilder, tmp_path: Path
) -> None:
    add_library_cache(proof)
    done = run_in(unpack(proof.build(), tmp_path / "unpacked"))
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_cache_it_does_not(proof: ClosureBuilder, tmp_path: Path) -> None:
    done = run_in(unpack(proof.build(), tmp_path / "unpacked"))
    assert done.returncode == 127
    assert "libproof.so.1: cannot open shared object file" in done.stderr
