"""What is saved comes back as it was: judged by a walker that shares nothing with the archive."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archive.codec import Codec, Packing
from tests.support import torture
from tests.support.backup import restore, save
from tests.support.btrfs import mounted_btrfs
from tests.support.snapshot import allocated_bytes, differences, flags, snapshot
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

PACKINGS = [
    pytest.param(
        Packing(codec, 1, per_file),
        id=f"{codec.name.lower()}{'-per-file' if per_file else ''}",
    )
    for codec, per_file in itertools.product(Codec, (False, True))
]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder that goes with all that is in it, too deep or immutable for others."""
    yield tmp_path
    sweep(tmp_path)


def sweep(folder: Path) -> None:
    subprocess.run(["chattr", "-R", "-f", "-ia", folder], check=False, capture_output=True)
    for path in folder.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("torture")
    (root / "tree").mkdir()
    torture.build(root / "tree")
    yield root / "tree"
    sweep(root)


def assert_restored(tree: Path, saved: Path, target: Path) -> None:
    done = restore(saved, target)
    assert done.lost == ()
    assert done.warnings == ()
    assert differences(snapshot(tree), snapshot(target)) == []


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_tree_of_all_that_is_hard_comes_back(tree: Path, room: Path, packing: Packing) -> None:
    saved = save(tree, room / "set", packing=packing)
    assert saved.issues == ()
    assert_restored(tree, saved.path, room / "out")


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_differential_of_such_a_tree_comes_back(tree: Path, room: Path, packing: Packing) -> None:
    full = save(tree, room / "set", packing=packing)
    with torture.changed(tree):
        saved = save(tree, room / "set", packing=packing, parent=full.path)
        assert saved.issues == ()
        assert 0 < saved.manifest.totals.stored_bytes < full.manifest.totals.stored_bytes
        assert_restored(tree, saved.path, room / "out")


def test_holes_are_neither_stored_nor_filled(tree: Path, room: Path) -> None:
    saved = save(tree, room / "set")
    assert saved.manifest.slices.raw_size < 200 << 20
    restore(saved.path, room / "out")
    for name in ("huge", "all hole", "data at the end", "hole at the end"):
        before = allocated_bytes(tree / "sparse" / name)
        assert allocated_bytes(room / "out" / "sparse" / name) <= before + 65536


def test_a_full_disk_image_of_over_8_gib_comes_back(room: Path) -> None:
    """The size of an old header ends at 8 GiB; here there are data on either side."""
    (room / "tree").mkdir()
    with (room / "tree" / "image").open("wb") as image:
        for offset in range(0, 9 << 30, 1 << 29):
            os.pwrite(image.fileno(), offset.to_bytes(8) * 4096, offset + (1 << 20))
    saved = save(room / "tree", room / "set")
    assert_restored(room / "tree", saved.path, room / "out")


def test_a_dense_file_of_over_8_gib_comes_back(room: Path) -> None:
    (room / "tree").mkdir()
    block = os.urandom(1 << 16) * 16
    with (room / "tree" / "dense").open("wb") as file:
        for number in range((8 << 10) + 1):
            file.write(number.to_bytes(8) + block[8:])
    saved = save(room / "tree", room / "set")
    restore(saved.path, room / "out")
    compared = subprocess.run(["cmp", room / "tree" / "dense", room / "out" / "dense"], check=False)
    assert compared.returncode == 0


def test_paths_longer_than_any_header_come_back(room: Path) -> None:
    (room / "tree").mkdir()
    torture.build_deep(os.fsencode(room / "tree" / "deep"), levels=400)
    saved = save(room / "tree", room / "set")
    assert saved.issues == ()
    assert_restored(room / "tree", saved.path, room / "out")


@pytest.mark.parametrize("letter", ["i", "a", "A", "d", "S"])
def test_flags_come_back(room: Path, letter: str) -> None:
    require_tool("chattr")
    (room / "tree" / "folder").mkdir(parents=True)
    for path in (room / "tree" / "file", room / "tree" / "folder"):
        if path.name == "file":
            path.write_text("flagged")
        subprocess.run(["chattr", f"+{letter}", path], check=True)
    saved = save(room / "tree", room / "set")
    assert_restored(room / "tree", saved.path, room / "out")
    for name in ("file", "folder"):
        assert flags(room / "out" / name) == flags(room / "tree" / name) == letter


def test_an_attribute_of_64_kib_comes_back(room: Path) -> None:
    """Ext4 holds no such value, tmpfs of trusted ones does."""
    (room / "memory").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", room / "memory"], check=True)
    try:
        (room / "memory" / "tree").mkdir()
        (room / "memory" / "tree" / "file").write_text("x")
        os.setxattr(room / "memory" / "tree" / "file", "trusted.large", b"v" * 65536)
        saved = save(room / "memory" / "tree", room / "set")
        assert_restored(room / "memory" / "tree", saved.path, room / "memory" / "out")
    finally:
        subprocess.run(["umount", room / "memory"], check=True)


def test_slices_are_the_same_whatever_the_number_of_workers(tree: Path, room: Path) -> None:
    one = save(tree, room / "one", jobs=1).path / "slices"
    three = save(tree, room / "three", jobs=3).path / "slices"
    names = sorted(path.name for path in one.iterdir())
    assert len(names) > 3
    assert names == sorted(path.name for path in three.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (three / name).read_bytes()


def test_files_and_folders_keep_the_time_of_their_last_reading(tree: Path, room: Path) -> None:
    """Only of symbolic links the kernel takes note that they were read."""
    paths = [path for path in sorted((tree / "names").rglob("*")) if not path.is_symlink()]
    for path in paths:
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
    save(tree, room / "set")
    assert [path for path in paths if path.stat().st_atime_ns != 1] == []


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("file", lambda path: path.write_bytes(b"other")),
        ("file", lambda path: path.unlink()),
        ("file", lambda path: path.chmod(0o600)),
        ("file", lambda path: os.utime(path, ns=(0, 1))),
        ("file", lambda path: os.setxattr(path, "user.more", b"")),
        ("link", lambda path: (path.unlink(), path.write_text("linked"))),
    ],
    ids=["content", "missing", "mode", "time", "xattr", "link"],
)
def test_the_walker_sees_what_is_not_as_it_was(
    room: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    """The twin of all of the above: a difference is found."""
    (room / "tree").mkdir()
    (room / "tree" / "file").write_text("here!")
    (room / "tree" / "first").write_text("linked")
    (room / "tree" / "link").hardlink_to(room / "tree" / "first")
    saved = save(room / "tree", room / "set")
    assert_restored(room / "tree", saved.path, room / "out")
    spoil(room / "out" / name)
    assert differences(snapshot(room / "tree"), snapshot(room / "out")) != []


def test_btrfs_subvolumes_come_back_as_such(room: Path) -> None:
    btrfs = require_tool("btrfs")
    with mounted_btrfs(room) as point:
        (point / "tree").mkdir()
        for name in ("one", "one/inner"):
            path = point / "tree" / name
            subprocess.run([btrfs, "-q", "subvolume", "create", path], check=True)
            (path / "file").write_text(name)
        (point / "tree" / "folder").mkdir()
        saved = save(point / "tree", room / "set")
        assert_restored(point / "tree", saved.path, point / "out")
        listed = subprocess.run(
            [btrfs, "subvolume", "list", point], check=True, capture_output=True, text=True
        )
        names = {line.split()[-1] for line in listed.stdout.splitlines()}
        assert names >= {"tree/one", "tree/one/inner", "out/one", "out/one/inner"}
        assert "out/folder" not in names
