"""The walk: what is found, in which order, and what is said of the rest."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.attributes import create_subvolume
from archive.coverage import Verdict
from archive.entry import tree_key
from archive.errors import CannotRead
from archive.issues import IssueKind
from archive.mounts import Mount, parse_mountinfo, read_mounts
from archive.patterns import Patterns
from archive.selection import Selection
from archive.walk import Walk
from tests.support.btrfs import mounted_btrfs
from tests.support.rights import run_bound


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make an empty directory to be the root."""
    root = tmp_path / "root"
    root.mkdir()
    return root


def fill(root: Path, *names: str) -> None:
    """Make files, and directories (which end with a slash)."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def walk_of(root: Path, *mounts: Mount, **selection: object) -> Walk:
    """Return a walk over a tree; without mounts, of one filesystem."""
    return Walk(Selection(**selection), mounts, root=os.fsencode(root))  # type: ignore[arg-type]


def paths(walk: Walk) -> list[str]:
    """Return what a walk finds."""
    return [os.fsdecode(found.path) for found in walk]


def mount(tree: Path, point: str, kind: str = "ext4", **more: object) -> Mount:
    """Return a mount at a point of a tree, of a directory of its device (so say we)."""
    path = tree / point
    held: dict[str, object] = {
        "number": len(point) + 100,
        "parent": 1,
        "device": path.stat().st_dev,
        "root": b"/" + os.fsencode(point),
        "point": os.fsencode(path),
        "source": b"/dev/none",
    }
    return Mount(kind=kind, **(held | more))  # type: ignore[arg-type]


def top(root: Path) -> Mount:
    """Return the mount of a tree's root."""
    return mount(root, "", number=1, parent=0, root=b"/top")


# Order and names


def test_an_empty_tree_is_its_root(tree: Path) -> None:
    assert paths(walk_of(tree)) == [""]


def test_directories_come_before_what_is_in_them_and_names_bytewise(tree: Path) -> None:
    fill(tree, "a/x", "a!", "a\x01b", "ab", "a/ä", "a/z")
    assert paths(walk_of(tree)) == ["", "a", "a/x", "a/z", "a/ä", "a\x01b", "a!", "ab"]


def test_names_are_any_bytes(tree: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b"\xed\xa0\x80", "é".encode(), b"x" * 255, b" ", b"\\"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).touch()
    found = [one.path for one in walk_of(tree)][1:]
    assert found == sorted(names, key=tree_key)


def test_every_type_is_found(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tree, "file", "folder/")
    (tree / "link").symlink_to("/nowhere")
    os.mkfifo(tree / "fifo")
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    found = {os.fsdecode(one.path): stat.S_IFMT(one.stat.st_mode) for one in walk_of(tree)}
    del found[""]
    assert found == {
        "fifo": stat.S_IFIFO,
        "file": stat.S_IFREG,
        "folder": stat.S_IFDIR,
        "link": stat.S_IFLNK,
        "socket": stat.S_IFSOCK,
    }


def test_states_are_those_of_lstat(tree: Path) -> None:
    fill(tree, "a/b")
    assert {one.path: one.stat for one in walk_of(tree)} == {
        name: (tree / os.fsdecode(name)).lstat() for name in (b"", b"a", b"a/b")
    }


def test_a_large_directory_is_found_in_parts(tree: Path) -> None:
    fill(tree, *(f"big/{number:05}" for number in range(2100)), "big/01000-sub/x")
    found = paths(walk_of(tree))
    assert len(found) == 2104
    assert found == sorted(found)


def test_find_finds_the_same(tmp_path: Path) -> None:
    source = Path(os.__file__).parent
    done = subprocess.run(["find", source, "-printf", r"%P\0"], check=True, capture_output=True)
    found = [one.path for one in walk_of(source)]
    assert found == sorted(done.stdout.split(b"\0")[:-1], key=tree_key)


def deep(tree: Path, levels: int, name: str) -> None:
    """Make nested directories, below what one path can name."""
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        following = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = following
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def remove_deep(tree: Path, name: str) -> None:
    """Remove what ``deep`` made: from above, for what goes down to the end is slow or fails."""
    while (tree / name / name).exists():
        (tree / name / name).rename(tree / "next")
        (tree / name).rmdir()
        (tree / "next").rename(tree / name)
    shutil.rmtree(tree / name)


@pytest.mark.parametrize(("levels", "length"), [(100, 200), (1100, 3)], ids=["long", "many"])
def test_trees_deeper_than_a_path_can_name(tree: Path, levels: int, length: int) -> None:
    deep(tree, levels, "d" * length)
    walk = walk_of(tree)
    try:
        found = list(walk)
        assert len(found) == levels + 2
        assert found[-1].path == b"d" * length + (b"/" + b"d" * length) * (levels - 1) + b"/leaf"
        assert walk.issues == []
    finally:
        remove_deep(tree, "d" * length)


# What is asked for


def test_ancestors_of_what_is_asked_for_come_alone(tree: Path) -> None:
    fill(tree, "etc/ssh/key", "etc/passwd", "home/ann/x", "usr/x")
    found = paths(walk_of(tree, include=(b"/etc/ssh", b"/home/ann/x")))
    assert found == ["", "etc", "etc/ssh", "etc/ssh/key", "home", "home/ann", "home/ann/x"]


def test_what_is_asked_for_twice_comes_once(tree: Path) -> None:
    fill(tree, "etc/ssh/key", "etc/passwd")
    found = paths(walk_of(tree, include=(b"/etc/ssh", b"/etc", b"/etc/passwd")))
    assert found == ["", "etc", "etc/passwd", "etc/ssh", "etc/ssh/key"]


def test_links_on_the_way_are_followed_and_kept(tree: Path) -> None:
    fill(tree, "usr/bin/tool", "usr/bin/other")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "abs").symlink_to("/bin/../bin")
    found = paths(walk_of(tree, include=(b"/abs/tool",)))
    assert found == ["", "abs", "bin", "usr", "usr/bin", "usr/bin/tool"]


def test_a_link_asked_for_is_a_link(tree: Path) -> None:
    fill(tree, "usr/bin/tool")
    (tree / "bin").symlink_to("usr/bin")
    assert paths(walk_of(tree, include=(b"/bin",))) == ["", "bin"]


def test_a_link_never_leads_out(tree: Path) -> None:
    fill(tree, "x")
    (tree / "out").symlink_to("../../../..")
    assert paths(walk_of(tree, include=(b"/out/x",))) == ["", "out", "x"]


def test_a_loop_of_links_is_an_error(tree: Path) -> None:
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    with pytest.raises(CannotRead, match="symbolic links"):
        walk_of(tree, include=(b"/a/x",))


def test_a_path_that_is_missing_is_an_error(tree: Path) -> None:
    with pytest.raises(CannotRead, match="/missing is to be saved"):
        walk_of(tree, include=(b"/missing",))


def test_a_listed_path_that_is_missing_is_an_issue(tree: Path) -> None:
    fill(tree, "here")
    walk = walk_of(tree, include=(), listed=(b"/gone", b"/here"))
    assert paths(walk) == ["", "here"]
    assert [(issue.path, issue.kind) for issue in walk.issues] == [(b"gone", IssueKind.VANISHED)]


# What is left out


def test_patterns_leave_out(tree: Path) -> None:
    fill(tree, "tmp/x", "a/x.o", "a/x.c", "b/skip/x", "b/y")
    patterns = Patterns((b"/tmp/*", b"*.o", b"skip"))
    found = paths(walk_of(tree, exclude=patterns))
    assert found == ["", "a", "a/x.c", "b", "b/y", "tmp"]


def test_a_pattern_is_stronger_than_a_path(tree: Path) -> None:
    fill(tree, "a/b/c")
    patterns = Patterns((b"/a/b",))
    assert paths(walk_of(tree, include=(b"/a/b/c",), exclude=patterns)) == ["", "a"]


def test_own_output_is_always_out(tree: Path) -> None:
    fill(tree, "backup/set/x", "backup/y", "swapfile")
    found = paths(walk_of(tree, always_out=(b"/backup/set", b"/swapfile")))
    assert found == ["", "backup", "backup/y"]


def test_own_output_is_out_behind_a_link(tree: Path) -> None:
    fill(tree, "disk/set/x", "disk/y")
    (tree / "backup").symlink_to("/disk")
    found = paths(walk_of(tree, always_out=(b"/backup/set",)))
    assert found == ["", "backup", "disk", "disk/y"]


SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"


def test_of_caches_the_tag_is_kept(tree: Path) -> None:
    fill(tree, "cache/x", "cache/sub/y", "other/x")
    (tree / "cache/CACHEDIR.TAG").write_bytes(SIGNATURE)
    found = paths(walk_of(tree, exclude_caches=True))
    assert found == ["", "cache", "cache/CACHEDIR.TAG", "other", "other/x"]
    assert "cache/x" in paths(walk_of(tree))


@pytest.mark.parametrize("content", [b"", SIGNATURE[1:]], ids=["empty", "wrong"])
def test_a_wrong_tag_is_none(tree: Path, content: bytes) -> None:
    fill(tree, "cache/x")
    (tree / "cache/CACHEDIR.TAG").write_bytes(content)
    assert "cache/x" in paths(walk_of(tree, exclude_caches=True))


NAMES = st.sampled_from([b"a", b"a!", b"b", b"\xff"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


def above(path: bytes) -> set[bytes]:
    """Return a path and all above it, but not the root."""
    parts = path.split(b"/")
    return {b"/".join(parts[: count + 1]) for count in range(len(parts))}


@settings(max_examples=60, deadline=None)
@given(
    files=st.sets(PATHS, max_size=12),
    include=st.sets(PATHS, max_size=3),
    exclude=st.sets(PATHS, max_size=3),
    out=st.sets(PATHS, max_size=2),
)
def test_any_selection_of_any_tree(
    files: set[bytes], include: set[bytes], exclude: set[bytes], out: set[bytes]
) -> None:
    held = {path for file in files for path in above(file)}
    leaves = {path for path in held if not any(other.startswith(path + b"/") for other in held)}
    starts = include & held
    wanted = {
        path
        for path in held
        if any(path in above(start) or start in above(path) for start in starts)
        and not above(path) & (exclude | out)
    }
    with tempfile.TemporaryDirectory() as name:
        root = os.fsencode(name)
        for leaf in sorted(leaves):
            Path(os.fsdecode(root + b"/" + leaf)).parent.mkdir(parents=True, exist_ok=True)
            Path(os.fsdecode(root + b"/" + leaf)).touch()
        selection = Selection(
            include=tuple(b"/" + start for start in starts),
            exclude=Patterns(tuple(b"/" + path for path in exclude)),
            always_out=tuple(b"/" + path for path in out),
        )
        walk = Walk(selection, (), root=root)
        found = [one.path for one in walk]
    assert found == [b"", *sorted(wanted, key=tree_key)]
    assert walk.issues == []


# Mounts


def test_a_pseudo_filesystem_is_an_empty_directory(tree: Path) -> None:
    fill(tree, "proc/1/x", "x")
    walk = walk_of(tree, top(tree), mount(tree, "proc", "proc"))
    assert paths(walk) == ["", "proc", "x"]
    assert [covered.verdict for covered in walk.coverage] == [Verdict.TAKEN, Verdict.PSEUDO]


def test_a_filesystem_mounted_in_memory_s_tree_is_taken(tree: Path) -> None:
    fill(tree, "run/media/stick/x", "run/media/other", "run/lock")
    walk = walk_of(
        tree,
        top(tree),
        mount(tree, "run", "tmpfs", number=2),
        mount(tree, "run/media/stick", "vfat", parent=2),
    )
    assert paths(walk) == ["", "run", "run/media", "run/media/stick", "run/media/stick/x"]
    assert walk.lost == ()


def test_what_is_asked_for_in_memory_is_taken(tree: Path) -> None:
    fill(tree, "run/mine/x", "run/lock", "y")
    walk = walk_of(tree, top(tree), mount(tree, "run", "tmpfs"), include=(b"/", b"/run/mine"))
    assert paths(walk) == ["", "run", "run/mine", "run/mine/x", "y"]


def test_a_pseudo_filesystem_asked_for_is_an_issue(tree: Path) -> None:
    fill(tree, "proc/cpuinfo", "x")
    mounts = (top(tree), mount(tree, "proc", "proc"))
    walk = walk_of(tree, *mounts, include=(b"/", b"/proc/cpuinfo"))
    assert paths(walk) == ["", "proc", "x"]
    assert [issue.kind for issue in walk.issues] == [IssueKind.LEFT_OUT]


def test_a_file_that_is_a_mount(tree: Path) -> None:
    fill(tree, "etc/hosts", "etc/ns", "etc/x")
    hosts = mount(tree, "etc/hosts", "xfs", device=5)
    walk = walk_of(tree, top(tree), hosts, mount(tree, "etc/ns", "nsfs"))
    found = {one.path: one.device for one in walk}
    assert sorted(found) == [b"", b"etc", b"etc/hosts", b"etc/x"]
    assert walk.devices[found[b"etc/hosts"]] == "0:5"


@pytest.mark.parametrize(
    ("kind", "root", "taken"),
    [("tmpfs", b"/hosts", True), ("ext4", b"/top/x", True), ("nsfs", b"net:[4]", False)],
    ids=["in-memory", "same", "pseudo"],
)
def test_a_single_file_bound_over_another_is_taken(
    tree: Path, kind: str, root: bytes, *, taken: bool
) -> None:
    fill(tree, "etc/hosts", "x")
    walk = walk_of(tree, top(tree), mount(tree, "etc/hosts", kind, root=root))
    assert ("etc/hosts" in paths(walk)) == taken
    assert walk.coverage[1].verdict.taken == taken


def test_a_bind_mount_is_not_taken_twice(tree: Path) -> None:
    fill(tree, "srv/data/x", "www/x")
    source = os.fsencode(tree / "srv/data")
    bound = mount(tree, "www", root=source)
    root = mount(tree, "", number=1, parent=0, root=os.fsencode(tree))
    walk = walk_of(tree, root, bound)
    assert paths(walk) == ["", "srv", "srv/data", "srv/data/x", "www"]
    assert walk.coverage[1].verdict is Verdict.SAME


def test_subvolumes_seen_twice_are_taken_once(tree: Path) -> None:
    fill(tree, "home/x", "pool/@home/x", "pool/@old/y")
    walk = walk_of(
        tree,
        top(tree),
        mount(tree, "home", "btrfs", device=7, root=b"/@home"),
        mount(tree, "pool", "btrfs", device=7, root=b"/"),
    )
    assert paths(walk) == ["", "home", "home/x", "pool", "pool/@home", "pool/@old", "pool/@old/y"]


def test_a_local_filesystem_that_cannot_be_read_is_an_error(tree: Path) -> None:
    fill(tree, "home/")
    home = mount(tree, "home")
    (tree / "home").rmdir()
    with pytest.raises(CannotRead, match="Cannot read the ext4 filesystem on"):
        walk_of(tree, top(tree), home)


def test_nobody_needs_to_read_what_is_excluded(tree: Path) -> None:
    fill(tree, "home/")
    home = mount(tree, "home")
    (tree / "home").rmdir()
    walk = walk_of(tree, top(tree), home, exclude=Patterns((b"/home",)))
    assert paths(walk) == [""]
    assert walk.lost == ()


def test_a_user_s_filesystem_that_cannot_be_read_is_told(tree: Path) -> None:
    fill(tree, "view/")
    view = mount(tree, "view", "fuse.app")
    (tree / "view").rmdir()
    walk = walk_of(tree, top(tree), view)
    assert paths(walk) == [""]
    assert walk.coverage[1].verdict is Verdict.ERROR
    assert walk.lost == ()


def test_a_filesystem_that_vanishes_is_lost(tree: Path) -> None:
    fill(tree, "home/x")
    walk = walk_of(tree, top(tree), mount(tree, "home"))
    shutil.rmtree(tree / "home")
    assert paths(walk) == [""]
    assert [covered.mount.point for covered in walk.lost] == [os.fsencode(tree / "home")]


def test_a_filesystem_that_was_unmounted_is_lost(tree: Path) -> None:
    fill(tree, "home/below", "x")
    walk = walk_of(tree, top(tree), mount(tree, "home", device=5))
    assert paths(walk) == ["", "home", "x"]
    assert [covered.words for covered in walk.lost] == [
        "cannot be read: it was unmounted while the backup ran"
    ]


def test_a_filesystem_in_a_cache_folder_is_left_out(tree: Path) -> None:
    fill(tree, "cache/disk/x")
    (tree / "cache/CACHEDIR.TAG").write_bytes(SIGNATURE)
    walk = walk_of(tree, top(tree), mount(tree, "cache/disk"), exclude_caches=True)
    assert paths(walk) == ["", "cache", "cache/CACHEDIR.TAG"]
    assert walk.coverage[1].verdict is Verdict.EXCLUDED


def test_subvolumes_are_walked_and_told_apart(tmp_path: Path) -> None:
    with mounted_btrfs(tmp_path) as point:
        fd = os.open(point, os.O_RDONLY)
        create_subvolume(fd, b"@")
        os.close(fd)
        fd = os.open(point / "@", os.O_RDONLY)
        create_subvolume(fd, b"var")
        os.close(fd)
        fill(point, "@/var/x", "@/y", "bound/", "z")
        subprocess.run(["mount", "--bind", point / "@", point / "bound"], check=True)
        walk = Walk(Selection(), read_mounts(), root=os.fsencode(point))
        found = {os.fsdecode(one.path): walk.devices[one.device] for one in walk}
        bound = next(one for one in walk.coverage if one.mount.point.endswith(b"/bound"))
    filesystem = found[""].removesuffix(":/")
    assert found == {
        "": filesystem + ":/",
        "@": filesystem + ":/@",
        "@/var": filesystem + ":/@/var",
        "@/var/x": filesystem + ":/@/var",
        "@/y": filesystem + ":/@",
        "bound": filesystem + ":/@",
        "z": filesystem + ":/",
    }
    assert (bound.verdict, bound.words) == (Verdict.SAME, f"the same as {point}/@")


def test_this_machine_s_mounts_can_be_walked() -> None:
    walk = Walk(Selection(include=(b"/proc/self", b"/dev/null")), read_mounts())
    assert "dev/null" in paths(walk)
    assert [issue.kind for issue in walk.issues] == [IssueKind.LEFT_OUT]


# What changes meanwhile


def test_what_vanishes_is_told(tree: Path) -> None:
    fill(tree, "a/x", "b/y")
    walk = walk_of(tree)
    found = []
    for one in walk:
        found.append(one.path)
        if one.path == b"b":
            shutil.rmtree(tree / "b")
    assert found == [b"", b"a", b"a/x", b"b"]
    assert [(issue.path, issue.kind) for issue in walk.issues] == [(b"b", IssueKind.VANISHED)]


def swap_for_link(tree: Path) -> None:
    """Put a link to elsewhere in the place of a directory."""
    (tree / "a").rename(tree / "moved")
    (tree / "a").symlink_to("/etc")


def swap_for_directory(tree: Path) -> None:
    """Put another directory in the place of one."""
    (tree / "a").rename(tree / "moved")
    fill(tree, "a/foreign")


@pytest.mark.parametrize("swap", [swap_for_link, swap_for_directory])
def test_a_directory_that_is_swapped_is_not_entered(
    tree: Path, swap: Callable[[Path], None]
) -> None:
    fill(tree, "a/b/x")
    walk = walk_of(tree)
    found = []
    for one in walk:
        found.append(one.path)
        if one.path == b"a":
            swap(tree)
    assert found == [b"", b"a"]
    assert [(issue.path, issue.kind) for issue in walk.issues] == [(b"a", IssueKind.CHANGED)]


def test_a_directory_whose_parent_is_swapped_is_not_entered(tree: Path) -> None:
    fill(tree, "a/b/x")
    fill(tree.parent, "elsewhere/b/foreign")
    walk = walk_of(tree)
    found = []
    for one in walk:
        found.append(one.path)
        if one.path == b"a/b":
            (tree / "a").rename(tree / "moved")
            (tree / "a").symlink_to(tree.parent / "elsewhere")
    assert found == [b"", b"a", b"a/b"]
    assert [(issue.path, issue.kind) for issue in walk.issues] == [(b"a/b", IssueKind.CHANGED)]


def test_a_filesystem_that_nobody_listed_is_told_and_not_entered(tree: Path) -> None:
    proc = Path("/proc/self/mountinfo").read_bytes()
    mounts = tuple(one for one in parse_mountinfo(proc) if one.point == b"/")
    walk = Walk(Selection(include=(b"/proc",)), mounts)
    assert paths(walk) == ["", "proc"]
    assert [issue.kind for issue in walk.issues] == [IssueKind.MOUNTED]


# Rights


BOUND = """
import os, sys
from archive.selection import Selection
from archive.walk import Walk
walk = Walk(Selection(), (), root=os.fsencode(sys.argv[1]))
print(*(found.path.decode() for found in walk))
print(*(f"{issue.path.decode()}:{issue.kind}" for issue in walk.issues))
"""


def test_a_directory_without_rights_is_told(tree: Path) -> None:
    fill(tree, "a/x", "b/y")
    (tree / "a").chmod(0)
    try:
        assert run_bound(BOUND, tree) == " a b b/y\na:denied\n"
    finally:
        (tree / "a").chmod(0o700)


def test_a_directory_that_lists_and_does_not_open_is_told(tree: Path) -> None:
    fill(tree, "a/x", "a/y")
    (tree / "a").chmod(0o400)
    try:
        assert run_bound(BOUND, tree) == " a\na/x:denied a/y:denied\n"
    finally:
        (tree / "a").chmod(0o700)


def test_access_times_stay(tree: Path) -> None:
    fill(tree, "a/x")
    os.utime(tree / "a", (1, 2))
    paths(walk_of(tree))
    assert (tree / "a").stat().st_atime == 1


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Allow few open files."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_a_deep_tree_needs_few_descriptors(tree: Path) -> None:
    deep(tree, 200, "d")
    assert len(paths(walk_of(tree))) == 202
