"""What other programs make of our slices: all of a set comes back with nothing of ours."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archive.codec import Codec, Packing
from tests.support.backup import ZSTD, save
from tests.support.snapshot import Facts, allocated_bytes, differences, snapshot
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

FORMAT = Path(__file__).parent.parent / "archive" / "FORMAT.md"
PROGRAMS = {
    Codec.NONE: "cat",
    Codec.GZIP: "gzip",
    Codec.BZIP2: "bzip2",
    Codec.LZO: "lzop",
    Codec.XZ: "xz",
    Codec.ZSTD: "zstd",
}
NAMES = (b"a file", b"new\nline", b"\xff\xfe", b"-rf", b"$(id)`id`'\"\\*", b"file.z", b"line\n")
Unpack = Callable[[Path, Path, Codec], None]


def make_tree(tree: Path) -> None:
    base = os.fsencode(tree)
    for number, folder in enumerate(("folder", "folder/in \n it", "folder.d")):
        (tree / folder).mkdir(parents=True)
        for name in NAMES:
            (tree / folder / os.fsdecode(name)).write_bytes(name * (number * 1000))
    (tree / "folder" / "symlink").symlink_to("a file")
    os.link(base + b"/folder/a file", base + b"/folder/linked")
    os.link(base + b"/folder/a file", base + b"/folder.d/linked")
    os.mkfifo(base + b"/folder/fifo")
    os.mknod(base + b"/folder/device", 0o020640, os.makedev(1, 3))
    (tree / "folder" / "noise").write_bytes(os.urandom(10_000))
    (tree / "folder" / "noise.z").write_bytes(os.urandom(10_000))
    (tree / "folder" / "mode").touch(mode=0o751)
    (tree / "folder" / "owned").touch()
    os.chown(tree / "folder" / "owned", 12, 34)
    os.utime(tree / "folder" / "mode", ns=(5, 1_234_567_890_123_456_789))


def make_large(tree: Path) -> None:
    """What only the script puts together: parts, holes, links from slice to slice."""
    (tree / "large").mkdir()
    (tree / "large" / "text").write_bytes(b"in three parts\n" * ((40 << 20) // 15))
    os.chown(tree / "large" / "text", 77, 78)
    (tree / "large" / "text").chmod(0o640)
    os.utime(tree / "large" / "text", (5, 1_000_000_000))
    for name in NAMES:
        path = os.fsencode(tree) + b"/large/sparse " + name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o4711)
        os.ftruncate(descriptor, 3_000_001)
        os.pwrite(descriptor, b"data" * 3000, 1 << 20)
        os.close(descriptor)
    with (tree / "large" / "all hole").open("wb") as file:
        file.truncate(1 << 20)
    (tree / "large" / "text 2").hardlink_to(tree / "large" / "text")
    (tree / "zzz").mkdir()
    for name in NAMES:
        os.link(os.fsencode(tree) + b"/folder/" + name, os.fsencode(tree) + b"/zzz/" + name)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tools") / "tree"
    make_tree(tree)
    return tree


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tools") / "tree"
    make_tree(tree)
    make_large(tree)
    return tree


def slices(saved: Path) -> list[Path]:
    return sorted((saved / "slices").iterdir())


def uncompressed(path: Path, codec: Codec) -> bytes:
    if codec is Codec.NONE:
        return path.read_bytes()
    argv = [require_tool(PROGRAMS[codec]), "-dc"]
    with path.open("rb") as file:
        return subprocess.run(argv, stdin=file, check=True, capture_output=True).stdout


def by_cpio(saved: Path, target: Path, codec: Codec) -> None:
    for path in slices(saved):
        argv = [require_tool("cpio"), "-idmu", "--quiet"]
        subprocess.run(argv, input=uncompressed(path, codec), cwd=target, check=True)


def by_afio(saved: Path, target: Path, codec: Codec) -> None:
    for path in slices(saved):
        argv = [require_tool("afio"), "-i", "-"]
        subprocess.run(argv, input=uncompressed(path, codec), cwd=target, check=True)


def by_afio_per_file(saved: Path, target: Path, codec: Codec) -> None:
    program = require_tool(PROGRAMS[codec])
    for path in slices(saved):
        argv = [require_tool("afio"), "-i", "-Z", "-P", program, path]
        subprocess.run(argv, cwd=target, check=True)


def seen(root: Path) -> dict[bytes, Facts]:
    """Return what of a tree the old headers can say: whole seconds, and none of directories.

    A device or a FIFO is a file of its own under each of its names.
    """
    found = snapshot(root)
    return {
        path: replace(
            facts,
            mtime_ns=facts.mtime_ns // 1_000_000_000 if facts.mode & 0o170000 == 0o100000 else 0,
            xattrs=(),
        )
        for path, facts in found.items()
    }


WAYS = [
    *(pytest.param(Packing(codec, 1), by_cpio, id=f"cpio-{codec.name.lower()}") for codec in Codec),
    *(pytest.param(Packing(codec, 1), by_afio, id=f"afio-{codec.name.lower()}") for codec in Codec),
    *(
        pytest.param(Packing(codec, 1, True), by_afio_per_file, id=f"afio-Z-{codec.name.lower()}")
        for codec in Codec
        if codec is not Codec.NONE
    ),
]


@pytest.mark.parametrize(("packing", "unpack"), WAYS)
def test_slices_are_unpacked_by_others(
    small: Path, tmp_path: Path, packing: Packing, unpack: Unpack
) -> None:
    saved = save(small, tmp_path / "set", packing=packing).path
    (tmp_path / "out").mkdir()
    unpack(saved, tmp_path / "out", packing.codec)
    assert differences(seen(small), seen(tmp_path / "out")) == []


def test_every_slice_is_as_the_programs_wish(large: Path, tmp_path: Path) -> None:
    """They say so themselves: no warning is printed of any slice."""
    saved = save(large, tmp_path / "set").path
    assert len(slices(saved)) > 1
    for path in slices(saved):
        subprocess.run([require_tool("zstd"), "-tq", path], check=True)
        for argv in (["cpio", "-it", "--quiet"], ["afio", "-t", "-"]):
            raw = uncompressed(path, Codec.ZSTD)
            done = subprocess.run(argv, input=raw, capture_output=True, check=True)
            assert done.stderr == b""


# The script of archive/FORMAT.md


def script() -> str:
    found = re.search(r"```sh\n(#!/bin/sh\n.*?)```", FORMAT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run_script(folder: Path, *shell: str) -> bytes:
    """Run it as one who has copied it from the page; return what it complains of."""
    (folder.parent / "finish").write_text(script())
    argv = [*shell, str(folder.parent / "finish")]
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True).stderr


def test_the_script_pleases_shellcheck(tmp_path: Path) -> None:
    (tmp_path / "finish").write_text(script())
    argv = [require_tool("shellcheck"), "--exclude=SC2016", tmp_path / "finish"]
    subprocess.run(argv, check=True)


@pytest.mark.parametrize(
    ("packing", "unpack", "shell"),
    [
        (ZSTD, by_cpio, ("sh",)),
        (ZSTD, by_afio, ("busybox", "sh")),
        (Packing(Codec.GZIP, 1, per_file=True), by_afio_per_file, ("sh",)),
    ],
    ids=["cpio", "afio-busybox", "per-file"],
)
def test_a_whole_set_comes_back_with_nothing_of_ours(
    large: Path, tmp_path: Path, packing: Packing, unpack: Unpack, shell: tuple[str, ...]
) -> None:
    saved = save(large, tmp_path / "set", packing=packing).path
    out = tmp_path / "out"
    out.mkdir()
    unpack(saved, out, packing.codec)
    assert (out / ".mindi" / "parts").is_dir()
    assert (out / ".mindi" / "links").is_dir()
    assert run_script(out, *shell) == b""
    assert differences(seen(large), seen(out)) == []
    assert allocated_bytes(out / "large" / "all hole") == 0


def test_a_chain_comes_back_with_nothing_of_ours(large: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", large, tree], check=True)
    full = save(tree, tmp_path / "set").path
    with (tree / "large" / "text").open("r+b") as file:
        file.truncate(35 << 20)
        file.seek(16 << 20)
        file.write(b"changed")
    (tree / "folder" / "noise").write_text("changed")
    (tree / "folder" / "new").write_text("new")
    differential = save(tree, tmp_path / "set", parent=full).path
    out = tmp_path / "out"
    out.mkdir()
    for saved in (full, differential):
        by_cpio(saved, out, Codec.ZSTD)
        assert run_script(out, "sh") == b""
    assert differences(seen(tree), seen(out)) == []


def test_a_missing_slice_is_told_by_the_script(large: Path, tmp_path: Path) -> None:
    """The twin: what is not there is not said to be."""
    saved = save(large, tmp_path / "set").path
    slices(saved)[0].unlink()
    out = tmp_path / "out"
    out.mkdir()
    by_cpio(saved, out, Codec.ZSTD)
    assert b"which is not here" in run_script(out, "sh")
    assert differences(seen(large), seen(out)) != []
