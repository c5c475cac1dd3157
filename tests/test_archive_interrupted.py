"""However a run ends: the sets of before are whole, no half one looks so, resume completes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archive.errors import CannotWrite
from archive.reader import BackupSet
from archive.selection import Selection
from archive.setfolder import chain, find_partial
from archive.walk import Found, Walk
from archive.workers import WorkerLost
from archive.writer import Progressed, Written
from tests.support import mutations
from tests.support.backup import restore, save
from tests.support.mutations import Change, Kind
from tests.support.snapshot import differences, snapshot
from tests.support.verified import verified_entries

pytestmark = pytest.mark.slow

Act = Callable[[], object]
SECONDS = 60
"""How long a process may take to be gone, however busy the machine is."""


class Interrupting:
    """Does something when so many slices were made, one of which is not yet in the catalog."""

    def __init__(self, slices: int, act: Act) -> None:
        self._left = slices
        self._act = act

    def update(self, progressed: Progressed) -> None:
        """Count one slice more."""
        self._left -= 1
        if self._left == 0:
            self._act()


class PowerLost(Exception):
    """The run ends here."""


def lose_power() -> None:
    raise PowerLost


def make_tree(tree: Path) -> None:
    """Four slices' worth: small files, links across slices, a large and a sparse file."""
    for number in range(6):
        folder = tree / f"folder-{number}"
        folder.mkdir(parents=True)
        (folder / "large").write_bytes(b"%d" % number * (10 << 20))
        for small in range(20):
            (folder / f"small-{small}").write_text(f"{number} {small}" * small)
        (folder / "linked").hardlink_to(tree / "folder-0" / "small-5")
    (tree / "folder-2" / "larger").write_bytes(b"in parts" * (3 << 20))
    (tree / "folder-2" / "linked-larger").hardlink_to(tree / "folder-2" / "larger")
    (tree / "folder-3" / "linked-larger").hardlink_to(tree / "folder-2" / "larger")
    with (tree / "folder-4" / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        os.pwrite(file.fileno(), b"data", 30 << 20)
    os.mkfifo(tree / "folder-5" / "fifo")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("model") / "tree"
    make_tree(tree)
    return tree


@pytest.fixture
def tree(model: Path, tmp_path: Path) -> Path:
    """A tree that may be changed."""
    subprocess.run(["cp", "-a", model, tmp_path / "tree"], check=True)
    return tmp_path / "tree"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a prefix that holds a full set and a differential already."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "file").write_text("of old")
    first = save(old, tmp_path / "set")
    (old / "file").write_text("newer")
    save(old, tmp_path / "set", parent=first.path)
    return tmp_path / "set"


def interrupted(tree: Path, folder: Path, *, slices: int = 3, parent: Path | None = None) -> None:
    """Leave an unfinished set of ``slices`` less one."""
    with pytest.raises(PowerLost):
        save(tree, folder, progress=Interrupting(slices, lose_power), parent=parent)


def assert_comes_back(tree: Path, written: Written, target: Path) -> None:
    assert written.issues == ()
    verified_entries(written.path)
    done = restore(written.path, target)
    assert done.lost == ()
    assert done.warnings == ()
    assert differences(snapshot(tree), snapshot(target)) == []
    subprocess.run(["rm", "-rf", target], check=True)


def whole_slices(folder: Path) -> dict[str, int]:
    """Return the slices of the unfinished set and their inodes."""
    partial = find_partial(folder)
    assert partial is not None
    return {path.name: path.stat().st_ino for path in (partial.path / "slices").iterdir()}


# Going on


def test_nothing_of_an_unfinished_set_looks_whole(model: Path, folder: Path) -> None:
    before, sets = snapshot(folder), chain(folder)
    interrupted(model, folder)
    assert chain(folder) == sets
    after = {path: facts for path, facts in snapshot(folder).items() if b".partial-" not in path}
    assert differences({**before, b".": after[b"."]}, after) == []
    with BackupSet.open(folder) as newest:
        assert newest.folder.name == str(sets[-1])


def test_resume_keeps_the_slices_that_are_whole(model: Path, folder: Path) -> None:
    interrupted(model, folder)
    kept = whole_slices(folder)
    written = save(model, folder, resume=True)
    there = {path.name: path.stat().st_ino for path in (written.path / "slices").iterdir()}
    same = [name for name in kept if there.get(name) == kept[name]]
    assert len(same) == 2
    assert find_partial(folder) is None
    assert_comes_back(model, written, folder.parent / "out")


CHANGES = [
    Change(kind, 7 * number, 11 * number, 1 + 13 * number)
    for number, kind in enumerate(kind for kind in Kind for _ in range(3))
]


def test_resume_after_the_tree_changed(tree: Path, folder: Path) -> None:
    interrupted(tree, folder)
    mutations.apply(os.fsencode(tree), CHANGES)
    assert_comes_back(tree, save(tree, folder, resume=True), folder.parent / "out")


def test_resume_after_what_was_saved_is_gone(tree: Path, folder: Path) -> None:
    interrupted(tree, folder)
    for number in range(4):
        shutil.rmtree(tree / f"folder-{number}")
    assert_comes_back(tree, save(tree, folder, resume=True), folder.parent / "out")


def test_a_differential_is_resumed(tree: Path, folder: Path) -> None:
    full = save(tree, folder).path
    mutations.apply(os.fsencode(tree), CHANGES)
    for number in range(6):
        (tree / f"large-{number}").write_bytes(b"%d" % (number + 5) * (10 << 20))
    interrupted(tree, folder, parent=full, slices=2)
    (tree / "meanwhile").write_text("new")
    assert_comes_back(tree, save(tree, folder, parent=full, resume=True), folder.parent / "out")


def test_a_resumed_set_is_a_parent(tree: Path, folder: Path) -> None:
    interrupted(tree, folder)
    full = save(tree, folder, resume=True).path
    mutations.apply(os.fsencode(tree), CHANGES)
    assert_comes_back(tree, save(tree, folder, parent=full), folder.parent / "out")


def test_resume_is_interrupted_and_resumed(tree: Path, folder: Path) -> None:
    interrupted(tree, folder, slices=2)
    for turn in range(3):
        (tree / "folder-0" / f"between-{turn}").write_text("new")
        (tree / "folder-1" / "small-3").write_text(f"other {turn}")
        with pytest.raises(PowerLost):
            save(tree, folder, resume=True, progress=Interrupting(2, lose_power))
    assert_comes_back(tree, save(tree, folder, resume=True), folder.parent / "out")


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


SPOILERS: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize(
    ("number", "spoil"),
    [pytest.param(n, act, id=f"{n}-{name}") for n in (1, 2) for name, act in SPOILERS.items()],
)
def test_a_slice_of_the_rest_that_is_damaged_is_made_again(
    model: Path, folder: Path, number: int, spoil: Callable[[Path], object]
) -> None:
    interrupted(model, folder)
    partial = find_partial(folder)
    assert partial is not None
    spoil(partial.path / "slices" / f"{number:07d}.afio.zst")
    assert_comes_back(model, save(model, folder, resume=True), folder.parent / "out")


def blank(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(bytes(8192))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(SPOILERS["cut"], id="cut"),
        pytest.param(SPOILERS["empty"], id="empty"),
        pytest.param(SPOILERS["missing"], id="missing"),
        pytest.param(blank, id="blank"),
    ],
)
def test_a_catalog_of_the_rest_that_is_damaged_is_done_without(
    model: Path, folder: Path, spoil: Callable[[Path], object]
) -> None:
    interrupted(model, folder)
    partial = find_partial(folder)
    assert partial is not None
    spoil(partial.path / "catalog-1.sqlite")
    assert_comes_back(model, save(model, folder, resume=True), folder.parent / "out")


def test_a_rest_without_catalogs_is_begun_anew(model: Path, folder: Path) -> None:
    """As power leaves it when it goes after the catalog was packed."""
    interrupted(model, folder)
    partial = find_partial(folder)
    assert partial is not None
    for path in partial.path.glob("catalog-*"):
        path.unlink()
    (partial.path / "catalog.sqlite.zst").write_bytes(b"half")
    assert_comes_back(model, save(model, folder, resume=True), folder.parent / "out")


# The processes


def children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(word) for word in text.split()]


def test_a_worker_that_is_killed_ends_the_run(model: Path, folder: Path) -> None:
    sets = chain(folder)
    before = set(children())

    class Killing(Walk):
        def __iter__(self) -> Iterator[Found]:
            os.kill((set(children()) - before).pop(), signal.SIGKILL)
            yield from super().__iter__()

    with pytest.raises(WorkerLost, match="worker process was killed"):
        save(model, folder, walk=Killing(Selection(), (), root=os.fsencode(model)))
    assert set(children()) <= before
    assert chain(folder) == sets
    assert_comes_back(model, save(model, folder, resume=True), folder.parent / "out")


CHILD = """
import signal, sys
from pathlib import Path
from tests.support.backup import Silent, save

class Pausing:
    def update(self, progressed):
        print("a slice", flush=True)
        signal.pause()

# Who runs the tests may have had them ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
print("ready", flush=True)
tree, folder, parent, resume, pause = sys.argv[1:]
save(
    Path(tree),
    Path(folder),
    parent=Path(parent) if parent else None,
    resume=bool(resume),
    progress=Pausing() if pause else Silent(),
)
"""


def start(
    tree: Path,
    folder: Path,
    *,
    parent: Path | None = None,
    resume: bool = False,
    pause: bool = False,
) -> subprocess.Popen[bytes]:
    """Begin to save in a process group of its own; ``pause`` when the first slice is made."""
    words = [tree, folder, parent or "", "y" if resume else "", "y" if pause else ""]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def assert_all_gone(group: int) -> None:
    """Nothing is left of a process group: workers end with the main process."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("a worker outlived the run")


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ],
)
def test_workers_end_with_the_run(model: Path, folder: Path, number: signal.Signals) -> None:
    sets = chain(folder)
    with start(model, folder, pause=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"a slice\n"
        process.send_signal(number)
        process.wait()
        assert_all_gone(process.pid)
    assert process.returncode == -number
    assert chain(folder) == sets
    assert_comes_back(model, save(model, folder, resume=True), folder.parent / "out")


def run_of(tree: Path, folder: Path) -> float:
    """Return how long a whole run takes, in seconds."""
    with start(tree, folder) as process:
        begun = time.monotonic()
        process.wait()
    assert process.returncode == 0
    return time.monotonic() - begun


def kill_at_random(tree: Path, folder: Path, chance: random.Random, kills: int) -> None:
    """Kill runs at random moments, resume some, change the tree between: none is ever half."""
    seconds = run_of(tree, folder)
    sets = chain(folder)
    full = folder / str(sets[-1])
    before = snapshot(full)
    for turn in range(kills):
        parent = full if chance.random() < 0.5 else None
        partial = find_partial(folder)
        resume = partial is not None and chance.random() < 0.7
        if resume and partial is not None:
            parent = full if partial.name.kind.value == "differential" else None
        with start(tree, folder, parent=parent, resume=resume) as process:
            time.sleep(chance.random() * seconds * 1.1)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert_all_gone(process.pid)
        for name in chain(folder)[len(sets) :]:
            verified_entries(folder / str(name))
        assert differences(before, snapshot(full)) == []
        if turn % 3 == 2:
            mutations.apply(os.fsencode(tree), chance.choices(CHANGES, k=3))
            (tree / f"turn-{turn}").write_bytes(b"turn" * (8 << 20))
        partial = find_partial(folder)
        if partial is not None and chance.random() < 0.4:
            parent = full if partial.name.kind.value == "differential" else None
            written = save(tree, folder, parent=parent, resume=True)
            assert_comes_back(tree, written, folder.parent / "out")


@pytest.mark.parametrize("seed", range(4))
def test_runs_killed_at_any_moment_leave_no_half_set(tree: Path, folder: Path, seed: int) -> None:
    kill_at_random(tree, folder, random.Random(seed), 25)  # noqa: S311 no secret


# The medium


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A medium with little room."""
    medium = tmp_path / "medium"
    medium.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", medium], check=True)
    yield medium
    subprocess.run(["umount", medium], check=True)


def test_a_full_medium_is_told_and_room_lets_it_go_on(model: Path, small: Path) -> None:
    noise = small.parent / "noise"
    noise.mkdir()
    for number in range(5):
        (noise / f"{number}").write_bytes(os.urandom(8 << 20))
    (noise / "link").hardlink_to(noise / "0")
    old = small.parent / "old"
    old.mkdir()
    (old / "file").write_text("of old")
    first = save(old, small / "set")
    before = snapshot(first.path)
    for _ in range(2):
        with pytest.raises(CannotWrite, match=r"slices/\d+|No space left|full"):
            save(noise, small / "set", resume=True)
    assert len(chain(small / "set")) == 1
    assert differences(before, snapshot(first.path)) == []
    subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
    assert_comes_back(noise, save(noise, small / "set", resume=True), small.parent / "out")


@pytest.mark.parametrize("room", range(100, 1500, 100))
def test_a_medium_that_is_full_at_any_point(small: Path, room: int) -> None:
    """What comes last are small files, catalog and manifest: each may be what does not fit."""
    tree = small.parent / "tree"
    tree.mkdir()
    for number in range(3000):
        (tree / f"{number:04d} with a name of some length that the catalog takes").touch()
    subprocess.run(["mount", "-o", f"remount,size={room}k", small], check=True)
    try:
        written = save(tree, small / "set")
    except CannotWrite:
        assert chain(small / "set") == ()
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        written = save(tree, small / "set", resume=True)
    assert_comes_back(tree, written, small.parent / "out")


@pytest.mark.parametrize("what", ["prefix", "slices", "partial"])
def test_an_output_folder_that_vanished_is_told(model: Path, folder: Path, what: str) -> None:
    before = snapshot(folder)

    def vanish() -> None:
        partial = find_partial(folder)
        assert partial is not None
        path = {"slices": partial.path / "slices", "partial": partial.path, "prefix": folder}[what]
        path.rename(folder.parent / "gone")

    with pytest.raises(CannotWrite):
        save(model, folder, progress=Interrupting(1, vanish))
    if what == "prefix":
        assert not folder.exists()
        (folder.parent / "gone").rename(folder)
    after = snapshot(folder)
    for path, facts in before.items():
        assert path == b"." or after[path] == facts
    assert_comes_back(model, save(model, folder, resume=True), folder.parent / "out")
