"""A differential, with the sets it rests on, gives back the tree as it was: whatever was done."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.codec import Codec, Packing
from archive.manifest import Slices
from archive.setfolder import chain
from tests.support import mutations
from tests.support.backup import ZSTD, restore, save
from tests.support.mutations import BUILDING, Change, changes
from tests.support.snapshot import differences, snapshot
from tests.support.tools import lacking, require_tool

pytestmark = pytest.mark.slow

SETTLING_S = 2.1
"""What was changed longer ago than this is known by its ctime; else it is read again."""
EXAMPLES = int(os.environ.get("MINDI_EXAMPLES", "200"))
PACKINGS = (ZSTD, Packing(Codec.GZIP, 1, per_file=True), Packing(Codec.NONE))

unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def assert_comes_back(tree: Path, saved: Path, target: Path) -> None:
    done = restore(saved, target, jobs=1)
    assert done.lost == ()
    assert done.warnings == ()
    assert differences(snapshot(tree), snapshot(target)) == []


def check_chain(
    built: list[Change],
    rounds: list[list[Change]],
    *,
    settled: bool,
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    """Save a tree, change it, save what is new, again and again: each set gives it back."""
    with tempfile.TemporaryDirectory() as room:
        tree, folder = Path(room, "tree"), Path(room, "set")
        tree.mkdir()
        mutations.apply(os.fsencode(tree), built)
        if settled:
            time.sleep(SETTLING_S)
        full = save(tree, folder, jobs=1, packing=packing).path
        parent = full
        for number, made in enumerate(rounds):
            mutations.apply(os.fsencode(tree), made)
            if settled and number:
                time.sleep(SETTLING_S)
            against = full if on_full else parent
            saved = save(
                tree, folder, jobs=1, packing=packing, parent=against, by_content=by_content
            )
            assert saved.issues == ()
            parent = saved.path
            assert_comes_back(tree, parent, Path(room, f"out-{number}"))


any_rounds = st.lists(changes(least=3, most=25), min_size=1, max_size=3)
any_tree = changes(BUILDING, least=20, most=80)


@settings(unhurried, max_examples=3)
@given(any_tree, any_rounds, st.booleans(), st.booleans(), st.sampled_from(PACKINGS))
def test_a_tree_changed_at_once_comes_back(
    built: list[Change],
    rounds: list[list[Change]],
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    """All happens within the ticks of a clock: before the full set, behind it, between the two."""
    check_chain(
        built, rounds, settled=False, on_full=on_full, by_content=by_content, packing=packing
    )


@settings(unhurried, max_examples=EXAMPLES)
@given(any_tree, any_rounds, st.booleans(), st.booleans(), st.sampled_from(PACKINGS))
def test_many_trees_changed_at_once_come_back(
    built: list[Change],
    rounds: list[list[Change]],
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    check_chain(
        built, rounds, settled=False, on_full=on_full, by_content=by_content, packing=packing
    )


@settings(unhurried, max_examples=max(EXAMPLES // 8, 1))
@given(any_tree, any_rounds, st.booleans(), st.booleans(), st.sampled_from(PACKINGS))
def test_trees_that_had_rested_come_back(
    built: list[Change],
    rounds: list[list[Change]],
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    """What is old enough is known by its ctime alone, and not read."""
    check_chain(
        built, rounds, settled=True, on_full=on_full, by_content=by_content, packing=packing
    )


def test_files_of_nothing_but_holes_are_told_apart(tmp_path: Path) -> None:
    """They have no data that would tell; numbers of their own all the same."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).touch()
        os.truncate(tree / name, 1 << 20)
    time.sleep(SETTLING_S)
    full = save(tree, tmp_path / "set").path
    with (tree / "b").open("r+b") as file:
        file.write(b"data")
    saved = save(tree, tmp_path / "set", parent=full).path
    assert_comes_back(tree, saved, tmp_path / "out")


# Exactness: what is new is stored, and nothing else


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that is changed no more, with the full set ``set`` beside it."""
    room = tmp_path_factory.mktemp("rested")
    tree = room / "tree"
    (tree / "folder").mkdir(parents=True)
    for number in range(30):
        (tree / "folder" / f"{number}").write_bytes(b"%d" % number * number * 100)
    (tree / "large").write_bytes(os.urandom(18 << 20))
    (tree / "link").hardlink_to(tree / "folder" / "7")
    (tree / "symlink").symlink_to("link")
    with (tree / "sparse").open("wb") as file:
        file.truncate(5 << 20)
        os.pwrite(file.fileno(), b"data", 3 << 20)
    time.sleep(SETTLING_S)
    save(tree, room / "set")
    return tree


@pytest.fixture
def tree(rested: Path, tmp_path: Path) -> Path:
    """The same with a full set, to be changed; its inodes are others."""
    subprocess.run(["cp", "-a", rested, tmp_path / "tree"], check=True)
    return tmp_path / "tree"


@pytest.mark.parametrize("by_content", [False, True], ids=["by-ctime", "by-content"])
def test_what_is_as_it_was_is_not_stored_again(
    rested: Path, tmp_path: Path, by_content: bool
) -> None:
    full = newest(rested.parent / "set")
    saved = save(rested, tmp_path, parent=full, by_content=by_content)
    assert saved.manifest.totals.stored_files == 0
    assert saved.manifest.totals.stored_bytes == 0
    if not by_content:
        assert saved.manifest.slices == Slices(0, 0, 0)
        assert list((saved.path / "slices").iterdir()) == []
    shutil.copytree(full, tmp_path / full.name)
    assert_comes_back(rested, saved.path, tmp_path / "out")


def newest(folder: Path) -> Path:
    return folder / str(chain(folder)[-1])


@pytest.mark.parametrize("packing", PACKINGS[:2], ids=["zstd", "per-file"])
def test_new_modes_store_no_content(tree: Path, tmp_path: Path, packing: Packing) -> None:
    full = save(tree, tmp_path / "set", packing=packing).path
    subprocess.run(["chmod", "-R", "u+rwx,g=", tree], check=True)
    subprocess.run(["chown", "-R", "12:34", tree], check=True)
    saved = save(tree, tmp_path / "set", packing=packing, parent=full)
    assert saved.manifest.totals.stored_bytes == 0
    assert saved.manifest.slices.raw_size < 10_000
    assert_comes_back(tree, saved.path, tmp_path / "out")


def test_only_what_is_new_is_stored(tree: Path, tmp_path: Path) -> None:
    full = save(tree, tmp_path / "set").path
    (tree / "folder" / "5").write_text("new content")
    with (tree / "large").open("r+b") as file:
        file.seek(17 << 20)
        file.write(b"in the second part")
    saved = save(tree, tmp_path / "set", parent=full)
    assert saved.manifest.totals.stored_files == 2
    assert saved.manifest.totals.stored_bytes == len("new content") + (2 << 20)
    assert_comes_back(tree, saved.path, tmp_path / "out")


def test_a_changed_link_is_stored_once(tree: Path, tmp_path: Path) -> None:
    full = save(tree, tmp_path / "set").path
    (tree / "link").write_text("by one of its names")
    saved = save(tree, tmp_path / "set", parent=full)
    assert saved.manifest.totals.stored_bytes == len("by one of its names")
    assert_comes_back(tree, saved.path, tmp_path / "out")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device with a filesystem of two files; what is written to it passes that by."""
    if os.geteuid() != 0:
        lacking("only root may mount")
    (tmp_path / "content").mkdir()
    for name in ("same", "spoiled"):
        (tmp_path / "content" / name).write_bytes(b"before." * 10_000)
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 8 << 20)
    argv = [require_tool("mke2fs", package="e2fsprogs"), "-q", "-F", "-t", "ext4"]
    subprocess.run([*argv, "-d", tmp_path / "content", image], check=True)
    argv = [require_tool("losetup", package="util-linux"), "--find", "--show", image]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"no loop device: {done.stderr}")
    yield Path(done.stdout.strip())
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@contextmanager
def mounted(device: Path, point: Path) -> Iterator[Path]:
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", "noatime", device, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("by_content", [False, True], ids=["by-ctime", "by-content"])
def test_a_change_that_no_clock_tells_of(device: Path, tmp_path: Path, by_content: bool) -> None:
    """As a failing disk or another system leaves it: --checksum notices, and only that does."""
    time.sleep(SETTLING_S)
    with mounted(device, tmp_path / "mounted") as tree:
        before = (tree / "spoiled").stat()
        full = save(tree, tmp_path / "set").path
    asked = subprocess.run(
        ["debugfs", "-R", "blocks /spoiled", device], check=True, capture_output=True, text=True
    )
    block = int(asked.stdout.split()[0])
    with device.open("r+b") as disk:
        size = 1024 if _at(disk, block * 1024) == b"before." else 4096
        assert _at(disk, block * size) == b"before."
        disk.seek(block * size)
        disk.write(b"behind!")
    with mounted(device, tmp_path / "mounted") as tree:
        after = (tree / "spoiled").stat()
        assert (before.st_ctime_ns, before.st_mtime_ns) == (after.st_ctime_ns, after.st_mtime_ns)
        assert (tree / "spoiled").read_bytes().startswith(b"behind!")
        saved = save(tree, tmp_path / "set", parent=full, by_content=by_content)
        assert saved.manifest.totals.stored_files == (1 if by_content else 0)
        restore(saved.path, tmp_path / "out")
        noticed = differences(snapshot(tree), snapshot(tmp_path / "out")) == []
        assert noticed is by_content


def _at(disk: BinaryIO, offset: int) -> bytes:
    disk.seek(offset)
    return disk.read(7)
