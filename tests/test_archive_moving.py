"""Files that move while they are saved: the set says so, and holds all else as it was.

A tree is changed at two points that no clock decides: when the walk is over and nothing is read
yet (small trees are one slice), and when a slice was made and what went wrong in it was not yet
looked at again. What happens during the reading itself is left to chance, in a second process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archive.entry import Entry
from archive.issues import IssueKind
from archive.reader import BackupSet
from archive.selection import Selection
from archive.walk import Found, Walk
from archive.writer import Progressed, Written
from tests.support.backup import restore, save
from tests.support.snapshot import Facts, differences, snapshot
from tests.support.verified import verified_entries

pytestmark = pytest.mark.slow

PART = 16 << 20
Act = Callable[[Path], object]


class Moving(Walk):
    """A walk at whose end something is done to the tree."""

    def __init__(self, tree: Path, act: Act) -> None:
        super().__init__(Selection(), (), root=os.fsencode(tree.resolve()))
        self._tree = tree
        self._act = act

    def __iter__(self) -> Iterator[Found]:
        yield from super().__iter__()
        self._act(self._tree)


class Later:
    """Does one thing each time that a slice was made."""

    def __init__(self, tree: Path, *acts: Act) -> None:
        self._tree = tree
        self._acts = list(acts)

    def update(self, progressed: Progressed) -> None:
        """Do the next thing."""
        if self._acts:
            self._acts.pop(0)(self._tree)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten files, some of which will move; ``steady`` ones are before, between and after them."""
    root = tmp_path / "tree"
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "folder" / "inner" / "deep").write_text("deep")
    (root / "folder" / "target").write_text("target")
    (root / "folder" / "steady").write_text("steady")
    (root / "a-steady").write_text("steady")
    (root / "linked-1").write_text("linked")
    (root / "linked-2").hardlink_to(root / "linked-1")
    (root / "linked-3").hardlink_to(root / "linked-1")
    (root / "mover").write_text("as it was")
    (root / "z-steady").write_text("steady")
    return root


def saved_while(tree: Path, act: Act, *later: Act, parent: Path | None = None) -> Written:
    return save(
        tree,
        tree.parent / "set",
        walk=Moving(tree, act),
        progress=Later(tree, *later),
        parent=parent,
    )


def restored(written: Written, tree: Path) -> dict[bytes, Facts]:
    """Restore a set, of which nothing may be lost, and whose every digest must be right."""
    verified_entries(written.path)
    target = tree.parent / "out"
    done = restore(written.path, target)
    assert done.lost == ()
    assert done.warnings == ()
    return snapshot(target)


def moved(found: dict[bytes, Facts], tree: Path, *but: bytes) -> list[str]:
    """Return what is not in the set as it is in the tree now, ``but`` for some paths."""
    now = snapshot(tree)
    return differences(
        {path: facts for path, facts in now.items() if not path.startswith(but or (b"//",))},
        {path: facts for path, facts in found.items() if not path.startswith(but or (b"//",))},
    )


def issues(written: Written) -> list[tuple[bytes, IssueKind]]:
    return [(issue.path, issue.kind) for issue in written.issues]


def entry(written: Written, path: bytes) -> Entry:
    with BackupSet.open(written.path) as backup:
        found = backup.catalog.find(path)
        assert found is not None
        return found


def replace_by(make: Callable[[Path], object], name: str = "mover") -> Act:
    """Return what puts something else in the place of a file."""

    def act(tree: Path) -> None:
        (tree / name).unlink()
        make(tree / name)

    return act


def replaced_whole(tree: Path) -> None:
    """As editors and package managers do it."""
    (tree / ".new").write_text("another file")
    (tree / ".new").rename(tree / "mover")


def sparse(path: Path, size: int = PART + 5) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"data", size - 4)


WHAT_IT_BECOMES = {
    "grown": lambda tree: (tree / "mover").write_text("longer than it was"),
    "shrunk": lambda tree: (tree / "mover").write_text("short"),
    "emptied": lambda tree: (tree / "mover").write_text(""),
    "replaced": replaced_whole,
    "larger-than-a-part": lambda tree: (tree / "mover").write_bytes(b"large" * 4_000_000),
    "sparse": replace_by(sparse),
    "symlink": replace_by(lambda path: path.symlink_to("a-steady")),
    "fifo": replace_by(lambda path: os.mkfifo(path)),
    "linked": replace_by(lambda path: path.hardlink_to(path.parent / "a-steady")),
}


@pytest.mark.parametrize("act", WHAT_IT_BECOMES.values(), ids=WHAT_IT_BECOMES)
def test_what_a_file_became_before_it_was_read_is_saved(tree: Path, act: Act) -> None:
    written = saved_while(tree, act)
    assert issues(written) == []
    found = restored(written, tree)
    # A new link was not there when the walk came by the other name: the two are two files then.
    assert [line for line in moved(found, tree, b".") if "names of" not in line] == []


@pytest.mark.parametrize("act", WHAT_IT_BECOMES.values(), ids=WHAT_IT_BECOMES)
def test_what_moved_is_right_in_the_next_differential(tree: Path, act: Act) -> None:
    first = saved_while(tree, act)
    second = save(tree, tree.parent / "set", parent=first.path)
    assert moved(restored(second, tree), tree) == []


def test_a_file_that_vanished_is_reported(tree: Path) -> None:
    written = saved_while(tree, lambda tree: (tree / "mover").unlink())
    assert issues(written) == [(b"mover", IssueKind.VANISHED)]
    assert moved(restored(written, tree), tree, b".") == []


def test_a_large_file_that_vanished_is_reported_once(tree: Path) -> None:
    (tree / "mover").write_bytes(bytes(3 * PART + 1))
    written = saved_while(tree, lambda tree: (tree / "mover").unlink())
    assert issues(written) == [(b"mover", IssueKind.VANISHED)]
    assert moved(restored(written, tree), tree, b".") == []


def test_a_folder_in_the_place_of_a_file_is_reported_as_not_saved_within(tree: Path) -> None:
    written = saved_while(tree, replace_by(lambda path: (path / "below").mkdir(parents=True)))
    assert issues(written) == [(b"mover", IssueKind.CHANGED)]
    assert moved(restored(written, tree), tree, b".", b"mover/") == []


def test_a_file_that_is_something_else_each_time_is_saved_as_the_last(tree: Path) -> None:
    """It is a link when it is read, and a large file when it is looked at again."""
    link = replace_by(lambda path: path.symlink_to("nowhere"))
    written = saved_while(tree, link, replace_by(sparse))
    assert moved(restored(written, tree), tree, b".") == []


def unlink(*numbers: int) -> Act:
    def act(tree: Path) -> None:
        for number in numbers:
            (tree / f"linked-{number}").unlink()

    return act


@pytest.mark.parametrize("later", [(), (2,)], ids=["one", "two"])
def test_links_whose_first_names_vanish_keep_their_bytes(tree: Path, later: tuple[int]) -> None:
    written = saved_while(tree, unlink(1), unlink(*later))
    assert issues(written)[0] == (b"linked-1", IssueKind.VANISHED)
    assert len(issues(written)) == 1 + len(later)
    assert moved(restored(written, tree), tree, b".") == []


def test_the_last_of_many_links_keeps_the_bytes(tree: Path) -> None:
    """More of them vanished, one after the other, than a file is given attempts."""
    for number in range(4, 10):
        (tree / f"linked-{number}").hardlink_to(tree / "linked-1")
    written = saved_while(tree, unlink(1), unlink(*range(2, 9)))
    found = restored(written, tree)
    assert moved(found, tree, b".") == []
    assert b"linked-9" in found


def replaced_link(tree: Path) -> None:
    (tree / ".new").write_text("of its own")
    (tree / ".new").rename(tree / "linked-1")


def test_a_link_that_was_replaced_is_none_any_more(tree: Path) -> None:
    """The others keep the bytes that they have, and do not get its."""
    written = saved_while(tree, replaced_link)
    found = restored(written, tree)
    assert moved(found, tree, b".") == []
    assert found[b"linked-3"].names == (b"linked-2", b"linked-3")


def test_links_that_are_replaced_one_after_the_other(tree: Path) -> None:
    def second(tree: Path) -> None:
        (tree / ".new").write_text("of its own, too")
        (tree / ".new").rename(tree / "linked-2")

    written = saved_while(tree, replaced_link, second)
    assert moved(restored(written, tree), tree, b".") == []


@pytest.mark.parametrize("name", ["fifo-1", "fifo-2"])
def test_links_of_a_fifo_one_of_which_becomes_a_file(tree: Path, name: str) -> None:
    os.mkfifo(tree / "fifo-1")
    (tree / "fifo-2").hardlink_to(tree / "fifo-1")
    written = saved_while(tree, replace_by(lambda path: path.write_text("a file"), name))
    found = restored(written, tree)
    assert moved(found, tree, b".", b"fifo") == []
    # The first name is looked at when it is read; the second was when the walk came by.
    assert found[b"fifo-1"].content != "" or name == "fifo-2"
    assert b"fifo-2" in found


# Folders


def swap_for_link(name: str, secret: Path) -> Act:
    def act(tree: Path) -> None:
        (tree / name).rename(tree.parent / "aside")
        (tree / name).symlink_to(secret)

    return act


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A place with the names of the tree's folder, and what nobody may get to see."""
    (tmp_path / "secret" / "inner").mkdir(parents=True)
    (tmp_path / "secret" / "inner" / "deep").write_text("SECRET")
    (tmp_path / "secret" / "inner").chmod(0o701)
    (tmp_path / "secret" / "target").write_text("SECRET")
    (tmp_path / "secret" / "steady").symlink_to("SECRET")
    os.mkfifo(tmp_path / "secret" / "fifo", 0o611)
    return tmp_path / "secret"


def assert_tells_nothing(written: Written) -> None:
    """No entry is of what lies in the secret place: its modes are seen nowhere else."""
    for found in verified_entries(written.path):
        assert found.mode & 0o777 not in (0o701, 0o611), found.path
        assert found.target != b"SECRET"
    for path in (written.path / "slices").iterdir():
        raw = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
        assert b"SECRET" not in raw


def test_a_folder_swapped_for_a_link_is_not_read_through(tree: Path, secret: Path) -> None:
    os.mkfifo(tree / "folder" / "fifo")
    written = saved_while(tree, swap_for_link("folder", secret))
    assert {path for path, _ in issues(written)} >= {b"folder", b"folder/target", b"folder/inner"}
    assert_tells_nothing(written)
    found = restored(written, tree)
    assert moved(found, tree, b".", b"folder") == []


def test_a_folder_swapped_when_a_file_is_looked_at_again(tree: Path, secret: Path) -> None:
    """The file became another one first, so that it is planned anew: through the link."""
    written = saved_while(
        tree,
        lambda tree: replace_by(lambda path: path.symlink_to("x"), "folder/target")(tree),
        swap_for_link("folder", secret),
    )
    assert (b"folder/target", IssueKind.VANISHED) in issues(written)
    assert_tells_nothing(written)


def test_the_secret_would_be_seen(tree: Path, secret: Path) -> None:
    """The twin: what lies there is found by these means, were it saved."""
    with pytest.raises(AssertionError):
        assert_tells_nothing(save(secret, tree.parent / "set"))


def test_what_was_found_in_a_folder_has_a_folder_to_be_in(tree: Path) -> None:
    """In a differential the rows of what lies in it are copied, however the folder fares."""
    full = save(tree, tree.parent / "set")
    (tree / "folder").chmod(0o751)

    def act(tree: Path) -> None:
        (tree / "folder").rename(tree.parent / "aside")
        (tree / "folder").write_text("no folder")

    written = saved_while(tree, act, parent=full.path)
    assert (b"folder", IssueKind.CHANGED) in issues(written)
    found = restored(written, tree)
    assert found[b"folder"].mode == 0o040751
    assert moved(found, tree, b".", b"folder") == []


def test_a_folder_that_vanished_is_reported_and_kept_empty(tree: Path) -> None:
    def act(tree: Path) -> None:
        (tree / "folder").rename(tree.parent / "aside")

    written = saved_while(tree, act)
    assert (b"folder", IssueKind.VANISHED) in issues(written)
    found = restored(written, tree)
    assert moved(found, tree, b".", b"folder") == []


@pytest.mark.parametrize("name", [b"file", b"fifo", b"below"])
@pytest.mark.parametrize("size", [10, PART + 5], ids=["small", "large"])
def test_what_lies_too_deep_for_the_kernel_may_be_replaced(
    tree: Path, request: pytest.FixtureRequest, name: bytes, size: int
) -> None:
    request.addfinalizer(
        lambda: subprocess.run(["rm", "-rf", tree, tree.parent / "out"], check=True)
    )
    at = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(b"d" * 250, dir_fd=at)
        above, at = at, os.open(b"d" * 250, os.O_RDONLY, dir_fd=at)
        os.close(above)
    os.mkdir(b"below", dir_fd=at)
    os.mkfifo(b"fifo", dir_fd=at)
    _write_in(at, b"file", b"as it was")

    def replace(tree: Path) -> None:
        os.rename(name, b"away", src_dir_fd=at, dst_dir_fd=at)
        _write_in(at, name, b"new" * size)

    def replace_in_kind(tree: Path) -> None:
        os.rename(name, b"away", src_dir_fd=at, dst_dir_fd=at)
        if name == b"file":
            _write_in(at, name, b"new")
        elif name == b"fifo":
            os.mkfifo(name, dir_fd=at)
        else:
            os.mkdir(name, dir_fd=at)

    try:
        written = saved_while(tree, replace if size > 10 else replace_in_kind)
        os.unlink(b"away", dir_fd=at) if name != b"below" else os.rmdir(b"away", dir_fd=at)
    finally:
        os.close(at)
    found = restored(written, tree)
    if size > 10 and name == b"below":
        assert [kind for _, kind in issues(written)] == [IssueKind.CHANGED]
    else:
        assert issues(written) == []
        deep = b"/".join([b"d" * 250] * 20)
        assert moved(found, tree, deep) == []
        assert found[deep + b"/" + name] == snapshot(tree)[deep + b"/" + name]


def _write_in(folder: int, name: bytes, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(name, flags, 0o644, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


# While it is read

DISTURBER = """
import os, sys, time
path, what = sys.argv[1:]
print("ready", flush=True)
number = 0
while True:
    number += 1
    if what == "rewrite":
        with open(path, "r+b") as file:
            file.write(b"%07d" % number * 1000)
    elif what == "grow":
        with open(path, "ab") as file:
            file.write(b"%07d" % number * 1000)
        if number % 200 == 0:
            os.truncate(path, 0)
    elif what == "replace":
        with open(path + ".new", "wb") as file:
            file.write(b"%07d" % number * (number % 20_000))
        os.rename(path + ".new", path)
    else:
        if number % 3 == 0:
            os.symlink("/etc/hostname", path + ".new")
        elif number % 3 == 1:
            os.mkfifo(path + ".new")
        else:
            open(path + ".new", "wb").write(b"file" * 1000)
        os.rename(path + ".new", path)
"""


@pytest.fixture
def disturbed(tree: Path, what: str, size: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that disturbs a file of a size."""
    (tree / "mover").write_bytes(os.urandom(size))
    argv = [sys.executable, "-c", DISTURBER, tree / "mover", what]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(7000, id="small"),
        pytest.param(PART - 5, id="part"),
        pytest.param(2 * PART + 5, id="large"),
    ],
)
@pytest.mark.parametrize("what", ["rewrite", "grow", "replace", "swap"])
def test_a_file_that_never_rests_spoils_nothing(
    tree: Path, disturbed: subprocess.Popen[bytes]
) -> None:
    """Whatever is kept of it is consistent in itself; if it is in doubt, that is said."""
    written = save(tree, tree.parent / "set")
    disturbed.kill()
    disturbed.wait()
    found = restored(written, tree)
    assert {path for path, _ in issues(written)} <= {b"mover", b"mover.new"}
    if b"mover" not in found:
        assert b"mover" in {path for path, _ in issues(written)}
    assert moved(found, tree, b".", b"mover") == []


def test_a_large_file_that_changed_between_its_parts_is_read_again(tree: Path) -> None:
    """Its parts lie in two slices; after the first one it changes."""
    (tree / "mover").write_bytes(os.urandom(3 * PART))

    def change(tree: Path) -> None:
        with (tree / "mover").open("r+b") as file:
            file.seek(2 * PART + 5)
            file.write(b"changed")

    written = save(tree, tree.parent / "set", jobs=1, progress=Later(tree, change))
    assert issues(written) == []
    assert moved(restored(written, tree), tree) == []


def test_a_large_file_that_changes_each_time_is_kept_and_reported(tree: Path) -> None:
    (tree / "mover").write_bytes(os.urandom(3 * PART))

    def change(tree: Path) -> None:
        with (tree / "mover").open("r+b") as file:
            file.write(os.urandom(5))

    written = save(tree, tree.parent / "set", jobs=1, progress=Later(tree, *[change] * 50))
    assert issues(written) == [(b"mover", IssueKind.CHANGED)]
    found = restored(written, tree)
    assert found[b"mover"].size == 3 * PART
    assert moved(found, tree, b"mover") == []


@pytest.mark.parametrize("size", [PART // 2, 4 * PART], ids=["shrunk", "grown"])
def test_a_large_file_of_another_size_is_read_again(tree: Path, size: int) -> None:
    (tree / "mover").write_bytes(os.urandom(3 * PART))
    act: Act = lambda tree: os.truncate(tree / "mover", size)  # noqa: E731
    written = save(tree, tree.parent / "set", jobs=1, progress=Later(tree, act))
    assert issues(written) == []
    assert moved(restored(written, tree), tree) == []
