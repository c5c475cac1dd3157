"""Sets of an enemy's making: the commands end soon, with words, and write nothing but the target.

Each runs in a process with little memory; what is around the target is looked at before and after.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from archive.codec import Codec
from restore import cli
from tests.support.hostile import Ended, Hostile, clear, confined, hostiles, make
from tests.support.snapshot import Facts, snapshot

pytestmark = pytest.mark.slow

COVERED = {"mount_point": "/", "filesystem": "", "source": "", "taken": True, "why": ""}
EXAMPLES = int(os.environ.get("MINDI_EXAMPLES", "200"))
MEMORY_BYTES = 400 << 20
SECONDS = 60
"""Far more than it takes: some hundredths, on an idle machine."""
CODES = {0, 1, 2, 4, 5}
"""Of docs/commands.md, without that for a bug and that for a worker that was killed."""
ROOM = Path(os.environ.get("TMPDIR", "/tmp")) / f"mindi-fuzz-{os.getpid()}"
OUTSIDE = os.fsencode(ROOM / "outside")
_BROKEN = re.compile(r"Traceback|a bug in|before its time|was killed|MemoryError")

# To make a failing set smaller would take minutes.
hurried = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


@pytest.fixture(scope="module", autouse=True)
def _room() -> object:
    clear(ROOM)
    yield
    clear(ROOM)
    ROOM.rmdir()


def surroundings() -> dict[bytes, Facts]:
    """Return all that is around the target."""
    passed_over = (b".", b"said", b"scratch")
    return {
        path: facts
        for path, facts in snapshot(ROOM).items()
        if path not in passed_over and path.partition(b"/")[0] != b"out"
    }


def commands(folder: Path) -> list[list[str]]:
    target, scratch = str(ROOM / "out"), str(ROOM / "scratch")
    common = ["--from", str(folder), "--scratch", scratch, "--jobs", "1"]
    return [
        [*common, "--list", "--json"],
        [*common, "--find", "a"],
        [*common, "--verify"],
        [*common, "--select", "a", "*b", "zz/1", "--to", target],
        [*common, "--all", "--to", target],
        [*common, "--compare", "--to", target],
        [*common, "--verify", "--json", "-q"],
    ]


def endure(folder: Path) -> Ended:
    """Run all commands on a set; return what became of them. Nothing around may change."""
    before = surroundings()
    work = [functools.partial(cli.main, argv) for argv in commands(folder)]
    ended = confined(work, ROOM / "said", memory_bytes=MEMORY_BYTES, seconds=SECONDS)
    assert _BROKEN.search(ended.said) is None, ended.said
    assert len(ended.codes) == len(work), (ended.seconds, ended.said[-2000:])
    assert set(ended.codes) <= CODES, ended.said
    assert surroundings() == before
    return ended


def prepare() -> None:
    clear(ROOM)
    for name in ("outside/below", "out", "scratch"):
        (ROOM / name).mkdir(parents=True)
    (ROOM / "outside/file").write_text("mine")


def check(wanted: Hostile) -> None:
    prepare()
    endure(make(ROOM, wanted))


@settings(hurried, max_examples=4)
@given(hostiles(OUTSIDE))
def test_a_hostile_set_is_endured(wanted: Hostile) -> None:
    check(wanted)


@settings(hurried, max_examples=EXAMPLES)
@given(hostiles(OUTSIDE))
def test_many_hostile_sets_are_endured(wanted: Hostile) -> None:
    check(wanted)


# What was found so, or thought of: each must end, and with words


NOTHING = Hostile(Codec.ZSTD, False, [], [], [], [], [], [])


def plainly(**given: object) -> Hostile:
    return NOTHING._replace(**given)  # type: ignore[arg-type]


HOSTILE = {
    "nothing": NOTHING,
    "a-catalog-of-exbibytes": plainly(fields=[("catalog.size", (1 << 63) - 1)]),
    "a-catalog-of-gibibytes": plainly(fields=[("catalog.size", 1 << 33)]),
    "frames-of-no-set": plainly(statements=["UPDATE frame SET member = 1"]),
    "half-a-letter": plainly(fields=[("coverage", [COVERED | {"mount_point": "\ud800"}])]),
    "half-a-letter-asked-for": plainly(fields=[("selection.include", ["/\ud800"])]),
    "a-pattern-of-stars": plainly(fields=[("selection.exclude", ["*?" * 15 + "\x01"])]),
    "patterns-of-stars": plainly(fields=[("selection.exclude", ["/**a*" * 15 + "\x01"])]),
    "a-pattern-of-sets": plainly(fields=[("selection.exclude", ["[\x01-\u03e0]" * 200_000])]),
    "very-many-patterns": plainly(fields=[("selection.exclude", [f"{n}*" for n in range(60_000)])]),
    "a-path-of-a-million-names": plainly(fields=[("selection.include", ["/" + "a/" * 10**6])]),
    "there-and-back": plainly(fields=[("selection.include", ["/" + "a/b/../" * 10**5])]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_once_was_not_endured(name: str) -> None:
    prepare()
    folder = make(ROOM, HOSTILE[name])
    (ROOM / "out" / ("a" * 200)).touch()
    codes = endure(folder).codes
    if name == "nothing":  # the control: what matches nothing, and what is extra, alone are told
        assert codes == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "place", ["slices/0000001.afio.zst", "catalog.sqlite.zst", "manifest.json"]
)
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "loop", "device"])
def test_a_set_of_other_things_than_files(place: str, kind: str) -> None:
    """A FIFO is never waited for, a device never read."""
    prepare()
    folder = make(ROOM, NOTHING)
    one = folder / place
    one.unlink()
    match kind:
        case "fifo":
            os.mkfifo(one)
        case "folder":
            one.mkdir()
        case "link":
            one.symlink_to(ROOM / "outside/file")
        case "loop":
            one.symlink_to(one)
        case "device":
            one.symlink_to("/dev/zero")
    assert 4 in endure(folder).codes
