"""What compare says of live trees: nothing of equal ones, and each difference by its kind."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archive.attributes import read_flags, write_flags
from archive.errors import CannotRead
from archive.manifest import Covered, Selected
from archive.patterns import Patterns
from archive.reader import BackupSet
from archive.selection import Selection
from restore.compare import Compared, compare
from restore.difference import Difference, Kind
from tests.support import torture
from tests.support.backup import restore, save
from tests.support.rights import run_bound
from tests.support.sets import write_manifest
from tests.support.tools import require_tool

MIB = 1 << 20


def grow(tree: Path) -> None:
    """Make a small tree with one of each kind."""
    dice = random.Random(3)  # noqa: S311 no secret
    tree.mkdir()
    (tree / "file").write_bytes(b"some bytes")
    (tree / "other").write_bytes(b"more bytes")
    (tree / "empty").touch()
    (tree / "folder/below").mkdir(parents=True)
    (tree / "folder/below/deep").write_bytes(dice.randbytes(100_000))
    (tree / "symlink").symlink_to("file")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tree / "socket"))
    for name in ("link-1", "link-2", "link-3"):
        if name == "link-1":
            (tree / name).write_bytes(b"one file")
        else:
            os.link(tree / "link-1", tree / name)
    (tree / "large").write_bytes(dice.randbytes(17 * MIB))
    with (tree / "holes").open("wb") as file:
        file.truncate(20 * MIB)
        file.seek(9 * MIB)
        file.write(dice.randbytes(5000))
    os.setxattr(tree / "other", b"user.name", b"value")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a tree and a set of it."""
    top = tmp_path_factory.mktemp("compare")
    grow(top / "tree")
    return top / "tree", save(top / "tree", top / "set").path


@pytest.fixture
def tree(original: tuple[Path, Path], tmp_path: Path) -> Path:
    """Return a copy of the tree, to be changed."""
    subprocess.run(["cp", "-a", "--reflink=auto", original[0], tmp_path / "tree"], check=True)
    return tmp_path / "tree"


def compared(folder: Path, root: Path, *, jobs: int = 2, out: tuple[Path, ...] = ()) -> Compared:
    with BackupSet.open(folder) as backup:
        return compare(backup, root, jobs=jobs, out=out)


def kinds(found: Compared) -> set[tuple[str, str]]:
    """Return paths and kinds of differences, times of directories aside."""
    return {
        (os.fsdecode(one.path), one.kind.value)
        for one in found.differences
        if (one.kind, one.path) not in {(Kind.TIMES, b""), (Kind.TIMES, b"folder/below")}
    }


def test_the_tree_itself_does_not_differ(original: tuple[Path, Path]) -> None:
    found = compared(original[1], original[0])
    assert (found.differences, found.is_same, found.counts) == ((), True, {})
    assert found.paths == 1 + sum(1 for _ in original[0].rglob("*"))
    assert found.bytes > 17 * MIB


def test_a_copy_does_not_differ(original: tuple[Path, Path], tree: Path) -> None:
    assert compared(original[1], tree).differences == ()


def keep_time(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make a change to a file leave its time as it was."""

    def changed(tree: Path) -> None:
        before = {path: path.lstat() for path in tree.rglob("*")}
        change(tree)
        for path, state in before.items():
            if os.path.lexists(path) and not path.is_dir():
                times = (state.st_atime_ns, state.st_mtime_ns)
                os.utime(path, ns=times, follow_symlinks=False)

    return changed


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def relink(tree: Path) -> None:
    """Make a hard link a file of its own, with the same content."""
    data = (tree / "link-3").read_bytes()
    replace_by(tree / "link-3", lambda path: path.write_bytes(data))


def unite(tree: Path) -> None:
    """Make two files of the same attributes one, which they were not."""
    (tree / "empty").unlink()
    os.link(tree / "file", tree / "empty")


def flag(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        write_flags(descriptor, read_flags(descriptor) | 0x40)  # chattr +d
    finally:
        os.close(descriptor)


CHANGES: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "content": (lambda tree: put(tree / "file", 3, b"X"), {("file", "content")}),
    "shorter": (lambda tree: os.truncate(tree / "file", 3), {("file", "content")}),
    "longer": (lambda tree: put(tree / "file", 10, b"X"), {("file", "content")}),
    "not empty": (lambda tree: put(tree / "empty", 0, b"X"), {("empty", "content")}),
    "first byte of a part": (lambda tree: put(tree / "large", 0, b"\1\2"), {("large", "content")}),
    "last byte of all": (
        lambda tree: put(tree / "large", 17 * MIB - 2, b"\1\2"),
        {("large", "content")},
    ),
    "in a hole": (lambda tree: put(tree / "holes", MIB, b"X"), {("holes", "content")}),
    "in the last hole": (
        lambda tree: put(tree / "holes", 20 * MIB - 1, b"X"),
        {("holes", "content")},
    ),
    "data between holes": (
        lambda tree: put(tree / "holes", 9 * MIB, b"\0"),
        {("holes", "content")},
    ),
    "mode": (lambda tree: (tree / "file").chmod(0o4711), {("file", "mode")}),
    "mode of a directory": (lambda tree: (tree / "folder").chmod(0o500), {("folder", "mode")}),
    "mode of a fifo": (lambda tree: (tree / "fifo").chmod(0o777), {("fifo", "mode")}),
    "owner": (lambda tree: os.chown(tree / "file", 5, -1), {("file", "owner")}),
    "group": (lambda tree: os.chown(tree / "file", -1, 5), {("file", "owner")}),
    "owner of a symbolic link": (
        lambda tree: os.chown(tree / "symlink", 5, 6, follow_symlinks=False),
        {("symlink", "owner")},
    ),
    "target": (
        lambda tree: replace_by(tree / "symlink", lambda path: path.symlink_to("other")),
        {("symlink", "target")},
    ),
    "another xattr": (
        lambda tree: os.setxattr(tree / "other", b"user.name", b"other"),
        {("other", "xattr")},
    ),
    "no xattr": (lambda tree: os.removexattr(tree / "other", b"user.name"), {("other", "xattr")}),
    "an xattr of a directory": (
        lambda tree: os.setxattr(tree / "folder", b"user.name", b""),
        {("folder", "xattr")},
    ),
    "flags": (lambda tree: flag(tree / "file"), {("file", "flags")}),
    "flags of a directory": (lambda tree: flag(tree / "folder"), {("folder", "flags")}),
    "type": (
        lambda tree: replace_by(tree / "file", lambda path: path.symlink_to("other")),
        {("file", "type")},
    ),
    "a directory for a fifo": (
        lambda tree: replace_by(tree / "fifo", lambda path: path.mkdir()),
        {("fifo", "type")},
    ),
    "a fifo for a file": (lambda tree: replace_by(tree / "file", os.mkfifo), {("file", "type")}),
    "missing": (lambda tree: (tree / "file").unlink(), {("file", "missing")}),
    "a missing directory": (
        lambda tree: shutil.rmtree(tree / "folder/below"),
        {("folder/below", "missing"), ("folder/below/deep", "missing"), ("folder", "times")},
    ),
    "extra": (lambda tree: (tree / "new").touch(), {("new", "extra")}),
    "an extra directory": (
        lambda tree: (tree / "folder/below/new/one").mkdir(parents=True),
        {("folder/below/new", "extra"), ("folder/below/new/one", "extra")},
    ),
    "a link less": (relink, {(f"link-{number}", "links") for number in (1, 2, 3)}),
    "a link more": (
        unite,
        {("empty", "content"), ("empty", "links"), ("file", "links"), ("file", "times")},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_difference_is_named(original: tuple[Path, Path], tree: Path, name: str) -> None:
    change, expected = CHANGES[name]
    keep_time(change)(tree)
    assert kinds(compared(original[1], tree)) == expected


@pytest.mark.parametrize("name", ["file", "symlink", "fifo", "folder"])
def test_a_nanosecond_is_a_difference(original: tuple[Path, Path], tree: Path, name: str) -> None:
    time_ns = (tree / name).lstat().st_mtime_ns
    os.utime(tree / name, ns=(time_ns, time_ns ^ 1), follow_symlinks=False)
    assert kinds(compared(original[1], tree)) == {(name, "times")}


def test_the_root_is_compared_too(original: tuple[Path, Path], tree: Path) -> None:
    tree.chmod(0o711)
    assert [(one.path, one.kind) for one in compared(original[1], tree).differences] == [
        (b"", Kind.MODE)
    ]


def test_words_say_what_is_where(original: tuple[Path, Path], tree: Path) -> None:
    (tree / "file").chmod(0o600)
    words = [one.words for one in compared(original[1], tree).differences]
    assert words == ["0644 in the set, 0600 here"]


def test_a_symbolic_link_in_place_of_a_directory_is_not_followed(
    original: tuple[Path, Path], tree: Path
) -> None:
    (tree / "folder/below").rename(tree / "elsewhere")
    (tree / "folder/below").symlink_to("../elsewhere")
    found = kinds(compared(original[1], tree))
    assert found >= {("folder/below", "type"), ("folder/below/deep", "missing")}
    assert found >= {("elsewhere", "extra"), ("elsewhere/deep", "extra")}


def test_devices_differ_by_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.mknod(tmp_path / "tree/null", 0o020666, os.makedev(1, 3))
    saved = save(tmp_path / "tree", tmp_path / "set").path
    assert compared(saved, tmp_path / "tree").is_same
    time_ns = (tmp_path / "tree/null").stat().st_mtime_ns
    (tmp_path / "tree/null").unlink()
    os.mknod(tmp_path / "tree/null", 0o020666, os.makedev(1, 5))
    os.utime(tmp_path / "tree/null", ns=(time_ns, time_ns))
    assert kinds(compared(saved, tmp_path / "tree")) == {("null", "device")}


def test_hard_links_between_directories_that_are_as_they_were(
    original: tuple[Path, Path], tree: Path
) -> None:
    # A name outside of the set's paths makes no difference to those in it.
    os.link(tree / "file", tree.parent / "outside")
    assert compared(original[1], tree).is_same


def test_jobs_make_no_difference(original: tuple[Path, Path], tree: Path) -> None:
    (tree / "file").write_bytes(b"new")
    (tree / "new").touch()
    one, four = (compared(original[1], tree, jobs=jobs) for jobs in (1, 4))
    assert one == four


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    grow(tree)
    saved = save(tree, tmp_path / "set").path
    (tree / "file").chmod(0o000)
    for path in (tmp_path / "set", saved, *saved.rglob("*")):
        path.chmod(0o755)
    program = """
import sys, pathlib
from tests.test_compare import compared, kinds
found = kinds(compared(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).parents[1] / "tree"))
print(sorted(found))
"""
    assert "('file', 'mode'), ('file', 'unreadable')" in run_bound(program, saved)


def test_a_root_that_is_no_directory_is_refused(original: tuple[Path, Path]) -> None:
    with pytest.raises(CannotRead, match="is no directory"):
        compared(original[1], original[0] / "file")


def test_reading_leaves_no_trace(original: tuple[Path, Path], tree: Path) -> None:
    # Of symbolic links alone the kernel cannot be asked to leave the time as it is.
    paths = [tree, *(path for path in tree.rglob("*") if not path.is_symlink())]
    for path in paths:
        os.utime(path, ns=(5, path.lstat().st_mtime_ns))
    compared(original[1], tree)
    assert {path.lstat().st_atime_ns for path in paths} == {5}


# Extras


def saved_as(
    tree: Path,
    folder: Path,
    *,
    selection: Selection,
    stored: Selected,
    coverage: tuple[Covered, ...] = (),
) -> Path:
    """Save a tree; return the folder of the set, of which the manifest says what it should."""
    written = save(tree, folder, selection=selection)
    manifest = replace(written.manifest, selection=stored, coverage=coverage)
    write_manifest(written.path, manifest.to_json())
    return written.path


def saved_with(
    tree: Path,
    folder: Path,
    *,
    selection: Selection,
    stored: Selected,
    coverage: tuple[Covered, ...] = (),
) -> Callable[[], list[str]]:
    """Save a tree; return what gives the paths that are extra in it."""
    saved = saved_as(tree, folder, selection=selection, stored=stored, coverage=coverage)

    def extra() -> list[str]:
        found = compared(saved, tree).differences
        return [os.fsdecode(one.path) for one in found if one.kind is Kind.EXTRA]

    return extra


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def selected(
    *include: str, exclude: tuple[str, ...] = (), caches: bool = False, listed: bool = False
) -> Selected:
    return Selected(include, exclude, False, False, caches, listed=listed)


def test_what_was_left_out_is_not_extra(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    touch(tree / "a/file", tree / "a/file.bak", tree / "b/file")
    extra = saved_with(
        tree,
        tmp_path / "set",
        selection=Selection(exclude=Patterns((b"*.bak", b"/b/*"))),
        stored=selected("/", exclude=("*.bak", "/b/*")),
    )
    touch(tree / "a/new.bak", tree / "b/new", tree / "a/new/new.bak", tree / "a/new/new")
    assert extra() == ["a/new", "a/new/new"]


def test_what_was_not_asked_for_is_not_extra(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    touch(tree / "a/b/file", tree / "a/other", tree / "c/file")
    (tree / "link").symlink_to("c")
    extra = saved_with(
        tree,
        tmp_path / "set",
        selection=Selection(include=(b"/a/b", b"/link/file")),
        stored=selected("/a/b", "/link/file"),
    )
    touch(tree / "a/new", tree / "new", tree / "a/b/new")
    assert extra() == ["a/b/new"]


def test_links_on_the_way_to_what_was_asked_for(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    touch(tree / "usr/lib/x/file")
    (tree / "lib").symlink_to("usr/lib")
    extra = saved_with(
        tree,
        tmp_path / "set",
        selection=Selection(include=(b"/lib/x",)),
        stored=selected("/lib/x"),
    )
    touch(tree / "usr/lib/x/new", tree / "usr/lib/new")
    assert extra() == ["usr/lib/x/new"]


def test_filesystems_that_were_not_taken_hold_nothing_extra(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("proc", "run/part", "whole"):
        (tree / name).mkdir(parents=True)
    extra = saved_with(
        tree,
        tmp_path / "set",
        selection=Selection(),
        stored=selected("/", "/run/part"),
        coverage=(
            Covered("/", "ext4", "/dev/sda1", True, "taken, but for what is taken elsewhere: /x"),
            Covered("/proc", "proc", "proc", False, "made up by the kernel, holds no files"),
            Covered("/run", "tmpfs", "tmpfs", True, "taken only where it was asked for"),
            Covered("/whole", "ext4", "/dev/sda2", True, "taken"),
        ),
    )
    touch(*(tree / name / "new" for name in ("proc", "run", "run/part", "whole")))
    assert extra() == ["run/part/new", "whole/new"]


def test_caches_hold_nothing_extra(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "cache").mkdir(parents=True)
    (tree / "cache/CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55")
    touch(tree / "cache/file")
    extra = saved_with(
        tree,
        tmp_path / "set",
        selection=Selection(exclude_caches=True),
        stored=selected("/", caches=True),
    )
    touch(tree / "new")
    assert extra() == ["new"]


def test_sets_and_swap_files_are_no_differences(tmp_path: Path) -> None:
    """Nor are the times of the folders that hold them."""
    tree = tmp_path / "tree"
    touch(tree / "file", tree / "swaps/other")
    (tree / "backups").mkdir()
    own = (b"/backups/one", b"/backups/two")
    saved = save(tree, tree / "backups/one", selection=Selection(always_out=own)).path
    save(tree, tree / "backups/two", selection=Selection(always_out=own))
    touch(tree / "swaps/file")
    kinds = {(b"swaps", Kind.TIMES), (b"swaps/file", Kind.EXTRA)}
    assert {one[:2] for one in compared(saved, tree).differences} == kinds
    assert compared(saved, tree, out=(tree / "swaps/file",)).differences == ()


def test_what_a_set_says_is_always_out_is_no_difference(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    touch(tree / "tmp/file", tree / "var/log/file")
    saved = saved_as(
        tree,
        tmp_path / "set",
        selection=Selection(always_out=(b"/tmp/scratch", b"/var/log/ours")),
        stored=replace(selected("/"), always_out=("/tmp/scratch", "/var/log/ours")),
    )
    touch(tree / "tmp/scratch/x", tree / "var/log/ours", tree / "tmp/scratch-2")
    found = compared(saved, tree).differences
    assert [one[:2] for one in found] == [(b"tmp/scratch-2", Kind.EXTRA)]


def test_times_of_what_only_leads_there_are_no_differences(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    touch(tree / "a/b/c/file", tree / "a/listed/file", tree / "mounted/x")
    saved = saved_as(
        tree,
        tmp_path / "set",
        selection=Selection(include=(b"/a/b",), listed=(b"/a/listed/file", b"/mounted")),
        stored=selected("/a/b", listed=True),
        coverage=(Covered("/a/b/c", "tmpfs", "x", False, "lies in memory"),),
    )
    for path in ("", "a", "a/listed", "mounted", "a/b/c"):
        os.utime(tree / path, (1, 1))
    touch(tree / "a/new", tree / "a/listed/new")
    assert compared(saved, tree).differences == ()
    os.utime(tree / "a/b", (1, 1))
    os.utime(tree / "a/listed/file", (1, 1))
    (tree / "a").chmod(0o700)
    assert {one[:2] for one in compared(saved, tree).differences} == {
        (b"a", Kind.MODE),
        (b"a/b", Kind.TIMES),
        (b"a/listed/file", Kind.TIMES),
    }


def test_what_is_mounted_is_not_entered(tmp_path: Path) -> None:
    unshare = require_tool("unshare")
    tree = tmp_path / "tree"
    touch(tree / "file")
    (tree / "empty").mkdir()
    saved = save(tree, tmp_path / "set").path
    (tree / "new").mkdir()
    program = f"""
set -e
mount -t tmpfs none {tree}/empty
mount -t tmpfs none {tree}/new
touch {tree}/empty/inside {tree}/new/inside
exec "$0" -c 'import sys, pathlib
from tests.test_compare import compared
for one in compared(*map(pathlib.Path, sys.argv[1:])).differences:
    print(one.path.decode(), one.kind.value, one.words)' {saved} {tree}
"""
    argv = [unshare, "--mount", "--propagation", "private", "sh", "-c", program, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    extra = [line for line in done.stdout.splitlines() if " extra " in line]
    assert extra == ["new extra something is mounted there"]


# All that is hard


@pytest.mark.slow
def test_a_torture_tree_and_its_restored_copy(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    torture.build(tree, sparse_bytes=1 << 30)
    saved = save(tree, tmp_path / "set").path
    assert compared(saved, tree).differences == ()
    restore(saved, tmp_path / "out")
    assert compared(saved, tmp_path / "out").differences == ()


def test_some_paths_alone(original: tuple[Path, Path], tree: Path) -> None:
    (tree / "file").write_bytes(b"new")
    (tree / "folder/below/deep").write_bytes(b"new")
    (tree / "folder/below/new").touch()
    (tree / "new").touch()
    with BackupSet.open(original[1]) as backup:
        found = compare(backup, tree, wanted=lambda entry: entry.path.startswith(b"folder"))
    assert found.paths == 3
    assert kinds(found) == {
        ("folder/below/deep", "content"),
        ("folder/below/deep", "times"),
        ("folder/below/new", "extra"),
    }


def test_a_difference_is_told_once(original: tuple[Path, Path], tree: Path) -> None:
    put(tree / "large", 0, bytes(17 * MIB))
    found = [one for one in compared(original[1], tree).differences if one.kind is Kind.CONTENT]
    assert found == [Difference(b"large", Kind.CONTENT)]
