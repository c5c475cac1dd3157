"""Nothing outside of a SafeTree's root is reached, whatever the paths and whatever lies there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.attributes import read_flags, write_flags
from restore.safetree import Refused, SafeTree, TargetFull, check_name, reason
from tests.support.tools import lacking, require_tool

IMMUTABLE = 0x10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


@pytest.fixture
def tree(root: Path) -> Iterator[SafeTree]:
    with SafeTree(root) as opened:
        yield opened


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(tree: SafeTree, path: bytes, data: bytes = b"new") -> None:
    """Write a file beside its place and rename it there."""
    folder, name = tree.place(path)
    temporary = tree.beside()
    descriptor = tree.create(folder, temporary, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)
    tree.rename_over(folder, temporary, name)


@pytest.mark.parametrize(
    "path",
    [b"", b"..", b".", b"a/..", b"../a", b"a/../b", b"/etc/passwd", b"/a", b"a//b", b"./a", b"a/"],
    ids=repr,
)
def test_a_path_that_leads_out_or_is_none_is_refused(
    tree: SafeTree, root: Path, path: bytes
) -> None:
    (root / "a").mkdir()
    with pytest.raises(Refused):
        tree.place(path)


@pytest.mark.parametrize("path", [b"a/..", b"..", b"/", b"/a", b"a//b", b"a/."], ids=repr)
def test_no_folder_leads_out(tree: SafeTree, root: Path, path: bytes) -> None:
    (root / "a/b").mkdir(parents=True)
    with pytest.raises(Refused):
        tree.folder(path)


def test_a_folder_that_is_there_is_given(tree: SafeTree, root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    assert os.fstat(tree.folder(b"a/b")).st_ino == (root / "a/b").stat().st_ino


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0"], ids=repr)
def test_a_name_that_is_none(name: bytes) -> None:
    with pytest.raises(Refused):
        check_name(name)


@pytest.mark.parametrize("path", [b"link/file", b"link/sub/file"], ids=["end", "middle"])
def test_a_symbolic_link_is_not_followed(tree: SafeTree, root: Path, path: bytes) -> None:
    outside = root.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    with pytest.raises(Refused, match="a symbolic link is in the way at 'link'"):
        tree.place(path)


def test_a_link_that_stays_inside_is_not_followed_either(tree: SafeTree, root: Path) -> None:
    (root / "there").mkdir()
    (root / "link").symlink_to("there")
    with pytest.raises(Refused):
        tree.place(b"link/file")


def test_paths_longer_than_the_kernel_takes(tree: SafeTree) -> None:
    path = b""
    for _ in range(40):
        path = path + b"/" + b"d" * 200 if path else b"d" * 200
        assert tree.make_folder(path)
    put(tree, path + b"/file")
    folder, name = tree.place(path + b"/file")
    assert len(path) > 4096
    assert os.stat(name, dir_fd=folder).st_size == 3


def test_more_folders_than_are_kept_open(tree: SafeTree, root: Path) -> None:
    for _ in range(2):
        for number in range(200):
            tree.make_folder(b"%d" % number)
            put(tree, b"%d/file" % number, b"%d" % number)
    assert all((root / f"{number}/file").read_text() == str(number) for number in range(200))


def test_descriptors_are_given_back(root: Path) -> None:
    before = len(names(Path("/proc/self/fd")))
    with SafeTree(root) as tree:
        for number in range(100):
            tree.make_folder(b"%d" % number)
            tree.folder(b"%d" % number)
    assert len(names(Path("/proc/self/fd"))) == before


def test_a_new_folder_is_closed_to_others(tree: SafeTree, root: Path) -> None:
    assert tree.make_folder(b"a")
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700


def test_a_folder_that_is_there_is_kept(tree: SafeTree, root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/file").touch()
    assert not tree.make_folder(b"a")
    assert (root / "a/file").exists()


@pytest.mark.parametrize("kind", ["a file", "a symbolic link", "a FIFO"])
def test_what_is_no_folder_is_in_the_way(tree: SafeTree, root: Path, kind: str) -> None:
    if kind == "a file":
        (root / "a").touch()
    elif kind == "a FIFO":
        os.mkfifo(root / "a")
    else:
        (root / "a").symlink_to("..")
    with pytest.raises(Refused, match=f"{kind} is in the way at 'a'"):
        tree.make_folder(b"a")


def test_a_file_is_replaced_and_its_other_names_keep_the_old_one(
    tree: SafeTree, root: Path
) -> None:
    (root / "a").write_text("old")
    (root.parent / "other").hardlink_to(root / "a")
    put(tree, b"a")
    assert ((root / "a").read_text(), (root.parent / "other").read_text()) == ("new", "old")


def test_a_symbolic_link_is_replaced_not_written_through(tree: SafeTree, root: Path) -> None:
    (root.parent / "outside").write_text("old")
    (root / "a").symlink_to("../outside")
    put(tree, b"a")
    assert not (root / "a").is_symlink()
    assert (root.parent / "outside").read_text() == "old"


def test_a_folder_is_never_replaced(tree: SafeTree, root: Path) -> None:
    (root / "a").mkdir()
    with pytest.raises(Refused, match="a directory is in the way"):
        put(tree, b"a")
    assert names(root) == ["a"]


def test_a_second_name_of_the_same_file_leaves_nothing_beside(tree: SafeTree, root: Path) -> None:
    (root / "a").touch()
    (root / "b").hardlink_to(root / "a")
    tree.rename_over(tree.folder(b""), b"b", b"a")
    assert names(root) == ["a"]


def test_what_is_immutable_is_replaced(tree: SafeTree, root: Path) -> None:
    (root / "a").write_text("old")
    descriptor = os.open(root / "a", os.O_RDONLY)
    try:
        write_flags(descriptor, IMMUTABLE)
    except OSError:
        os.close(descriptor)
        lacking("immutable files take root and a filesystem that has them")
    try:
        put(tree, b"a")
    finally:
        write_flags(descriptor, 0)
        os.close(descriptor)
    assert (root / "a").read_text() == "new"


def test_what_is_made_in_an_immutable_folder(tree: SafeTree, root: Path) -> None:
    (root / "a").mkdir()
    descriptor = os.open(root / "a", os.O_RDONLY)
    try:
        write_flags(descriptor, IMMUTABLE)
    except OSError:
        os.close(descriptor)
        lacking("immutable files take root and a filesystem that has them")
    try:
        tree.make_folder(b"a")
        assert tree.make_folder(b"a/b")
        assert not read_flags(descriptor) & IMMUTABLE
    finally:
        write_flags(descriptor, 0)
        os.close(descriptor)


def test_a_plain_folder(tree: SafeTree) -> None:
    tree.make_folder(b"a")
    assert tree.is_plain(b"a")


def test_a_folder_that_hands_its_group_down_is_not_plain(tree: SafeTree, root: Path) -> None:
    tree.make_folder(b"a")
    (root / "a").chmod(0o2700)
    assert not tree.is_plain(b"a")


def test_a_default_acl_is_seen_and_taken_from_what_is_made(tree: SafeTree, root: Path) -> None:
    tree.make_folder(b"a")
    subprocess.run(
        [require_tool("setfacl", package="acl"), "-m", "d:u:65534:rwx", root / "a"], check=True
    )
    tree.make_folder(b"a/b")
    assert not tree.is_plain(b"a")
    assert not tree.is_plain(b"a/b")
    tree.make_plain(b"a/b")
    assert tree.is_plain(b"a/b")
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_target_ends_it(root: Path, number: int) -> None:
    with pytest.raises(TargetFull) as caught:
        reason(OSError(number, os.strerror(number)), root)
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_another_error_is_one_of_one_path(root: Path) -> None:
    assert reason(OSError(errno.EFBIG, "File too large"), root) == "File too large"
