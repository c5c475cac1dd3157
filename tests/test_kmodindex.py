"""Index files of an image are those that depmod would write there."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from initramfs.closure import Because
from initramfs.kmod import ModuleTree, Wanted, resolve_modules
from initramfs.kmodindex import index_files, write_trie
from initramfs.rootfs import Root
from tests.support.modules import VERSION, Ko, module, write_tree
from tests.support.tools import lacking, require_tool

KOS = (
    Ko("kernel/a-top.ko", depends=("b", "c"), aliases=("fs-a", "pci:v0001d*", "char-major-10-7")),
    Ko("kernel/b.ko", depends=("d",), aliases=("crypto-x", "devname:b", "char-major-10-9")),
    Ko("kernel/c.ko", softdeps=("pre: e post: f",), aliases=("usb:v1[0-9]-x*", "crypto-x")),
    Ko("kernel/d.ko", exports=("d_do", "d_done")),
    Ko("kernel/e.ko", aliases=("block-major-7-*",)),
    Ko("kernel/f.ko", exports=("f_do",)),
    Ko("kernel/not-taken.ko"),
)
BUILTIN = ("kernel/fs/ext4/ext4.ko", "kernel/lib/crc-x.ko")
BUILTIN_INFO = ("ext4.alias=fs-ext4", "ext4.alias=ext-*", "ext4.license=GPL", "crc_x.alias=crc")
TAKEN = ("a_top", "b", "c", "d", "e", "f")


def _tree(root: Path) -> ModuleTree:
    write_tree(root, KOS, builtin=BUILTIN, builtin_info=BUILTIN_INFO)
    return ModuleTree(Root(root), VERSION)


def _index(tree: ModuleTree) -> dict[str, bytes]:
    chosen = resolve_modules(tree, [Wanted("a-top", Because("test"))])
    return dict(index_files(tree, chosen))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image tree with our index files."""
    folder = tmp_path / "image/lib/modules" / VERSION
    for ko in KOS[:-1]:
        file = folder / ko.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(module(ko))
    for name, content in _index(_tree(tmp_path / "root")).items():
        (folder / name).write_bytes(content)
    return tmp_path / "image"


def _modprobe(image: Path, *words: str) -> list[str]:
    modprobe = require_tool("modprobe", package="kmod")
    (image / "etc").mkdir(exist_ok=True)
    argv = [str(modprobe), "-d", str(image), "-C", f"{image}/etc", "-S", VERSION, *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout.replace(f"{image}/lib/modules/{VERSION}/", "").split("\n")[:-1]


def test_depmod_writes_the_same(image: Path, tmp_path: Path) -> None:
    depmod = require_tool("depmod", package="kmod")
    ours = image / "lib/modules" / VERSION
    written = {file.name: file.read_bytes() for file in ours.glob("modules.*")}

    subprocess.run([depmod, "-b", image, VERSION], check=True)

    theirs = {file.name: file.read_bytes() for file in ours.glob("modules.*")}
    assert sorted(written) == sorted(theirs)
    for name in sorted(theirs.keys() - {"modules.dep", "modules.dep.bin"}):
        assert _sorted(written[name], name) == _sorted(theirs[name], name), name


def _sorted(content: bytes, name: str) -> object:
    return content if name.endswith(".bin") else sorted(content.splitlines())


def test_modprobe_inserts_dependencies_and_softdeps_in_order(image: Path) -> None:
    lines = _modprobe(image, "--show-depends", "a_top")

    names = [line.split("/")[-1].strip() for line in lines]
    assert sorted(names) == ["a-top.ko", "b.ko", "c.ko", "d.ko", "e.ko", "f.ko"]
    for first, then in (("d.ko", "b.ko"), ("e.ko", "c.ko"), ("c.ko", "a-top.ko")):
        assert names.index(first) < names.index(then)


@pytest.mark.parametrize(
    ("alias", "names"),
    [
        ("fs-a", ["a_top"]),
        ("pci:v0001d5", ["a_top"]),
        ("usb:v15-xyz", ["c"]),
        ("crypto-x", ["b", "c"]),
        ("symbol:d_done", ["d"]),
        ("fs-ext4", ["ext4"]),
    ],
)
def test_modprobe_resolves_aliases(alias: str, names: list[str], image: Path) -> None:
    assert sorted(_modprobe(image, "-R", alias)) == names


def test_modprobe_knows_what_is_built_in(image: Path) -> None:
    assert _modprobe(image, "--show-depends", "crc-x") == ["builtin crc_x"]


def test_modprobe_knows_nothing_of_what_was_not_taken(image: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        _modprobe(image, "--show-depends", "not_taken")


def _busybox_modprobe(image: Path, *words: str) -> list[str]:
    """Ask BusyBox's modprobe, which reads the modules of the running kernel's version and of /."""
    busybox = require_tool("busybox", package="busybox-static")
    shutil.copy(busybox, image / "busybox")
    modules = image / "lib/modules"
    if not (modules / platform.release()).exists():
        (modules / platform.release()).symlink_to(VERSION)
    argv = ["chroot", str(image), "/busybox", "modprobe", *words]
    if os.geteuid() != 0:
        argv = ["unshare", "--user", "--map-root-user", *argv]
        if subprocess.run([*argv[:3], "true"], capture_output=True, check=False).returncode:
            lacking("an ordinary user may not chroot here")
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return [line.strip() for line in done.stdout.splitlines()]


def test_busybox_inserts_dependencies_first(image: Path) -> None:
    lines = _busybox_modprobe(image, "-D", "a_top")

    names = [line.split("/")[-1] for line in lines]
    assert names[-1] == "a-top.ko"
    assert sorted(names) == ["a-top.ko", "b.ko", "c.ko", "d.ko"]
    assert names.index("d.ko") < names.index("b.ko")


def test_busybox_resolves_aliases(image: Path) -> None:
    lines = _busybox_modprobe(image, "-D", "pci:v0001d5")

    assert lines[-1].endswith("kernel/a-top.ko")


def test_dependencies_name_what_is_inserted_first_last(tmp_path: Path) -> None:
    lines = _index(_tree(tmp_path))["modules.dep"].decode().splitlines()

    line = next(line for line in lines if line.startswith("kernel/a-top.ko:"))
    words = line.split()[1:]
    assert sorted(words) == ["kernel/b.ko", "kernel/c.ko", "kernel/d.ko"]
    assert words.index("kernel/b.ko") < words.index("kernel/d.ko")


def test_only_what_is_in_the_image_is_named(tmp_path: Path) -> None:
    files = _index(_tree(tmp_path))

    assert [name for name, content in files.items() if b"not_taken" in content] == []
    assert [name for name, content in files.items() if b"not-taken" in content] == []


def test_device_nodes_are_named(tmp_path: Path) -> None:
    lines = _index(_tree(tmp_path))["modules.devname"].decode().splitlines()

    assert lines[1:] == ["b b c10:9"]


def test_weak_dependencies_have_a_file_only_where_there_are_some(tmp_path: Path) -> None:
    assert "modules.weakdep" not in _index(_tree(tmp_path / "none"))

    root = tmp_path / "some"
    write_tree(root, [Ko("kernel/a-top.ko", weakdeps=("b",)), Ko("kernel/b.ko")])
    files = _index(ModuleTree(Root(root), VERSION))
    assert files["modules.weakdep"].splitlines()[1:] == [b"weakdep a_top b"]


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([], id="empty"),
        pytest.param(["a"], id="one"),
        pytest.param(["", "a"], id="empty key"),
        pytest.param(["ab", "abc", "abd", "abdx", "b"], id="nested"),
        pytest.param(["symbol:a", "symbol:b"], id="all alike"),
    ],
)
def test_a_trie_gives_back_its_keys(keys: list[str]) -> None:
    content = write_trie((key, f"v{key}", rank) for rank, key in enumerate(keys))

    assert dict(_walk(content)) == {key: [(rank, f"v{key}")] for rank, key in enumerate(keys)}


def test_values_of_a_key_are_sorted_by_priority() -> None:
    content = write_trie([("k", "late", 9), ("k", "first", 1), ("k", "second", 1)])

    assert dict(_walk(content)) == {"k": [(1, "first"), (1, "second"), (9, "late")]}


def test_keys_that_are_not_ascii_have_no_place() -> None:
    assert dict(_walk(write_trie([("ä", "x", 0), ("a", "y", 0)]))) == {"a": [(0, "y")]}


def _walk(content: bytes) -> Iterable[tuple[str, list[tuple[int, str]]]]:
    """Read a trie, as told in libkmod-index.c: yield key and values of each node that has some."""
    magic, version, root = struct.unpack_from(">III", content)
    assert (magic, version) == (0xB007F457, 0x00020001)
    pending = [(root, "")]
    while pending:
        offset, key = pending.pop()
        flags, at = offset >> 28, offset & 0x0FFFFFFF
        if flags & 8:
            end = content.index(b"\0", at)
            key += content[at:end].decode()
            at = end + 1
        if flags & 2:
            first, last = content[at], content[at + 1]
            children = struct.unpack_from(f">{last - first + 1}I", content, at + 2)
            at += 2 + 4 * len(children)
            pending += [(c, key + chr(first + n)) for n, c in enumerate(children) if c]
        if flags & 4:
            (count,) = struct.unpack_from(">I", content, at)
            at += 4
            values = []
            for _ in range(count):
                (priority,) = struct.unpack_from(">I", content, at)
                end = content.index(b"\0", at + 4)
                values.append((priority, content[at + 4 : end].decode()))
                at = end + 1
            yield key, values
