"""Sets come out as they went in, what is damaged or hostile is named, nothing else is touched."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import signal
import stat
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from archive.attributes import pack_xattr, read_flags, write_flags
from archive.entry import Entry
from archive.errors import CannotWrite
from archive.reader import BackupSet
from archive.workers import WorkerLost
from restore.extract import Extracted, extract
from restore.nodes import Attribute
from tests.support.sets import SetBuilder, words
from tests.support.tools import lacking, require_tool

DIRECTORY = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777
OURS = {"uid": os.geteuid(), "gid": os.getegid()}


@pytest.fixture
def made(tmp_path: Path) -> SetBuilder:
    builder = SetBuilder(tmp_path / "set")
    builder.row(b"", DIRECTORY, **OURS)
    return builder


def add(made: SetBuilder, path: bytes, content: bytes = b"data", **more: object) -> None:
    """Add a file in a frame of its own."""
    made.row(path, FILE, size=len(content), digest=hashlib.sha256(content).digest(), **OURS)
    made.rows[-1] |= {"frame": made.frame(b"head" + content), "start": 4, **more}


def add_kind(made: SetBuilder, path: bytes, mode: int) -> None:
    """Add a path of a type."""
    if mode == FILE:
        add(made, path)
    else:
        made.row(path, mode, target=b"x" if mode == LINK else None, **OURS)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(
    made: SetBuilder,
    target: Path,
    *,
    wanted: Callable[[Entry], bool] | None = None,
    jobs: int = 2,
) -> Extracted:
    folder, _ = made.write()
    with BackupSet.open(folder, scratch=made.folder) as backup:
        return extract(backup, target, wanted=wanted, jobs=jobs)


def lost(done: Extracted) -> dict[bytes, str]:
    return {path: said for path, said in done.lost}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_files_and_folders(made: SetBuilder, tmp_path: Path, jobs: int) -> None:
    made.row(b"a", stat.S_IFDIR | 0o1755, mtime_s=-5, mtime_ns=7, **OURS)
    made.row(b"a/empty", FILE, **OURS)
    for number in range(50):
        add(made, b"a/%d" % number, words(number * 100, number), mode=stat.S_IFREG | 0o640)
    done = run(made, tmp_path / "out", jobs=jobs)
    folder = tmp_path / "out/a"
    assert done.is_complete
    assert (done.files, done.folders) == (51, 2)
    assert all((folder / f"{n}").read_bytes() == words(n * 100, n) for n in range(50))
    assert folder.stat().st_mode == stat.S_IFDIR | 0o1755
    assert folder.stat().st_mtime_ns == -5 * 10**9 + 7
    assert (folder / "7").stat().st_mtime_ns == 1_700_000_000_000_000_005
    assert (folder / "7").stat().st_mode == stat.S_IFREG | 0o640


def test_modes_do_not_depend_on_the_umask(made: SetBuilder, tmp_path: Path) -> None:
    made.row(b"a", stat.S_IFDIR | 0o777, **OURS)
    add(made, b"a/b", mode=stat.S_IFREG | 0o666)
    made.row(b"a/fifo", stat.S_IFIFO | 0o666, **OURS)
    before = os.umask(0o077)
    try:
        run(made, tmp_path / "out")
    finally:
        assert os.umask(before) == 0o077
    modes = [stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in ("a", "a/b")]
    assert modes == [0o777, 0o666]
    assert stat.S_IMODE((tmp_path / "out/a/fifo").stat().st_mode) == 0o666


def test_a_large_file_keeps_its_holes(made: SetBuilder, tmp_path: Path) -> None:
    made.parted(b"big", {0: b"begin", 8 << 20: words(4 << 20)}, 10 << 30)
    made.rows[-1] |= OURS
    assert run(made, tmp_path / "out").is_complete
    big = tmp_path / "out/big"
    assert big.stat().st_size == 10 << 30
    assert big.stat().st_blocks * 512 < 5 << 20
    with big.open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(8 << 20)
        assert file.read(4 << 20) == words(4 << 20)


def test_links(made: SetBuilder, tmp_path: Path) -> None:
    add(made, b"a", link=1)
    made.rows.append({**made.rows[-1], "path": b"b"})
    made.row(b"c", LINK, target=b"../else\xff", **OURS)
    assert run(made, tmp_path / "out").is_complete
    out = tmp_path / "out"
    assert (out / "a").samefile(out / "b")
    assert os.fsencode((out / "c").readlink()) == b"../else\xff"
    assert (out / "c").lstat().st_mtime_ns == 1_700_000_000_000_000_005


def test_extended_attributes(made: SetBuilder, tmp_path: Path) -> None:
    packed = pack_xattr(b"user.a", b"1") + pack_xattr(b"user.b", bytes(range(256)))
    add(made, b"a", xattrs=packed)
    made.row(b"d", DIRECTORY, xattrs=packed, **OURS)
    done = run(made, tmp_path / "out")
    if done.warnings:
        lacking("a filesystem with user attributes below the folder for temporary files")
    for name in ("a", "d"):
        assert os.getxattr(tmp_path / "out" / name, "user.b") == bytes(range(256))


def test_damaged_attributes_are_a_warning(made: SetBuilder, tmp_path: Path) -> None:
    add(made, b"a", xattrs=b"\0\x09cut")
    add(made, b"b", xattrs=b"\0\x09cut")
    done = run(made, tmp_path / "out")
    (warned,) = done.warnings
    assert (warned.attribute, warned.paths) == (Attribute.XATTRS, 2)
    assert (tmp_path / "out/a").read_bytes() == b"data"


def test_only_what_is_wanted(made: SetBuilder, tmp_path: Path) -> None:
    made.row(b"a", stat.S_IFDIR | 0o751, **OURS)
    add(made, b"a/no")
    add(made, b"a/yes")
    made.row(b"b", DIRECTORY, **OURS)
    made.files({b"b/no": b"1", b"b/yes": b"2"})
    done = run(made, tmp_path / "out", wanted=lambda entry: entry.path.endswith(b"/yes"))
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in _all(tmp_path / "out"))
    assert found == ["a", "a/yes", "b", "b/yes"]
    assert done.files == 2
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o751


def test_folders_above_that_are_there_stay_as_they_are(made: SetBuilder, tmp_path: Path) -> None:
    made.row(b"a", stat.S_IFDIR | 0o751, **OURS)
    add(made, b"a/yes")
    (tmp_path / "out/a").mkdir(parents=True, mode=0o705)
    run(made, tmp_path / "out", wanted=lambda entry: entry.path.endswith(b"/yes"))
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o705


def test_a_second_time_over_the_first(made: SetBuilder, tmp_path: Path) -> None:
    made.row(b"a", stat.S_IFDIR | 0o555, **OURS)
    add(made, b"a/b", link=1)
    made.rows.append({**made.rows[-1], "path": b"a/c"})
    made.row(b"a/l", LINK, target=b"x", **OURS)
    made.parted(b"a/p", {0: b"one", 4096: b"two"}, 8192)
    made.rows[-1] |= OURS
    folder, _ = made.write()
    with BackupSet.open(folder, scratch=made.folder) as backup:
        first = extract(backup, tmp_path / "out", jobs=2)
        again = extract(backup, tmp_path / "out", jobs=2)
    assert (first.files, first.bytes) == (again.files, again.bytes)
    assert first.is_complete
    assert again.is_complete
    assert names(tmp_path / "out/a") == ["b", "c", "l", "p"]


def _all(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def test_what_is_made_where_acls_are_handed_down(made: SetBuilder, tmp_path: Path) -> None:
    setfacl = require_tool("setfacl", package="acl")
    (tmp_path / "out").mkdir()
    subprocess.run([setfacl, "-m", "d:u:65534:rwx", tmp_path / "out"], check=True)
    made.row(b"d", DIRECTORY, **OURS)
    add(made, b"d/f")
    add(made, b"f")
    made.row(b"fifo", stat.S_IFIFO | 0o600, **OURS)
    made.parted(b"p", {4096: b"x"}, 8192)
    made.rows[-1] |= OURS
    assert run(made, tmp_path / "out").is_complete
    for path in _all(tmp_path / "out"):
        assert not [name for name in os.listxattr(path) if "acl" in name]
    assert stat.S_IMODE((tmp_path / "out/fifo").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "out/f").stat().st_mode) == 0o644


def test_an_immutable_file_with_two_names(made: SetBuilder, tmp_path: Path) -> None:
    add(made, b"a", link=1, flags=0x10)
    made.rows.append({**made.rows[-1], "path": b"b"})
    done = run(made, tmp_path / "out")
    assert not done.lost
    descriptor = os.open(tmp_path / "out/a", os.O_RDONLY)
    try:
        if done.warnings:
            lacking("immutable files take root and a filesystem that has them")
        assert read_flags(descriptor) & 0x10
        assert (tmp_path / "out/a").samefile(tmp_path / "out/b")
    finally:
        with suppress(OSError):
            write_flags(descriptor, 0)
        os.close(descriptor)


# Damage


def test_a_lost_frame_costs_its_files_alone(made: SetBuilder, tmp_path: Path) -> None:
    made.files({b"a": words(3000, 1), b"b": words(3000, 2)})
    made.files({b"c": words(3000, 3)})
    for row in made.rows:
        row |= OURS
    made.slices[0][made.frames[0][4] // 2] ^= 0x55
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {b"a", b"b"}
    assert names(tmp_path / "out") == ["c"]
    assert (tmp_path / "out/c").read_bytes() == words(3000, 3)


def test_a_missing_slice(made: SetBuilder, tmp_path: Path) -> None:
    add(made, b"a")
    made.next_slice()
    add(made, b"b")
    folder, _ = made.write()
    next((folder / "slices").glob("0000002*")).unlink()
    with BackupSet.open(folder, scratch=made.folder) as backup:
        done = extract(backup, tmp_path / "out", jobs=2)
    assert "No such file" in lost(done)[b"b"]
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": bytes(32)},
        {"digest": None},
        {"start": 5},
        {"start": -1},
        {"start": 1 << 62},
        {"start": None},
        {"size": 1 << 62},
        {"size": 3},
        {"frame": 99},
        {"frame": None},
        {"frame": -1},
    ],
    ids=repr,
)
def test_bytes_that_are_not_those_of_the_file(
    made: SetBuilder, tmp_path: Path, wrong: dict[str, object]
) -> None:
    add(made, b"a", **wrong)
    add(made, b"b")
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {b"a"}
    assert names(tmp_path / "out") == ["b"]


def test_a_lost_part_costs_the_file_and_its_names(made: SetBuilder, tmp_path: Path) -> None:
    made.parted(b"big", {0: words(4000), 8192: words(4000, 2)}, 12192)
    made.rows[-1]["link"] = 1
    made.rows.append({**made.rows[-1], "path": b"big2"})
    made.slices[0][made.frames[1][3] + 500] ^= 0x55
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {b"big", b"big2"}
    assert "link" in lost(done)[b"big2"]
    assert names(tmp_path / "out") == []


def test_a_file_of_eight_exbibytes(made: SetBuilder, tmp_path: Path) -> None:
    made.parted(b"big", {0: b"x"}, (1 << 63) - 1)
    done = run(made, tmp_path / "out")
    # Some filesystems do hold it; then it is one hole.
    if done.lost:
        assert names(tmp_path / "out") == []
    else:
        assert (tmp_path / "out/big").stat().st_blocks < 100


@pytest.mark.parametrize(
    ("runs", "size"),
    [({0: b"x" * 10}, 9), ({0: b"x" * 10, 5: b"y"}, 20), ({-4: b"xxxx"}, 9), ({0: b"x"}, -1)],
    ids=["beyond", "overlap", "before", "negative"],
)
def test_parts_that_lie_outside_of_their_file(
    made: SetBuilder, tmp_path: Path, runs: dict[int, bytes], size: int
) -> None:
    if min(runs) < 0:
        made.parts.append((1, -4, 4, bytes(32), 1, 0))
        made.row(b"big", FILE, size=9, digest=bytes(32), content=1)
    else:
        made.parted(b"big", runs, size)
    assert set(lost(run(made, tmp_path / "out"))) == {b"big"}
    assert names(tmp_path / "out") == []


# Hostile catalogs


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("mine")
    return folder


def untouched(outside: Path) -> bool:
    return names(outside) == ["file"] and (outside / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "path",
    [
        *(b"../outside/file", b"..", b"a/../../outside/file", b"a/..", b"./b", b".", b"a//b"),
        *(b"/outside", b"a/", b"/", b"nowhere/b", b"nul\0name"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("mode", [FILE, DIRECTORY, LINK], ids=["file", "folder", "link"])
def test_a_path_that_no_writer_makes(
    made: SetBuilder, tmp_path: Path, outside: Path, path: bytes, mode: int
) -> None:
    made.row(b"a", DIRECTORY, **OURS)
    add_kind(made, path, mode)
    add(made, b"z")
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {path}
    assert names(tmp_path / "out") == ["a", "z"]
    assert names(tmp_path / "out/a") == []
    assert untouched(outside)


def test_below_a_symbolic_link_of_the_catalog(
    made: SetBuilder, tmp_path: Path, outside: Path
) -> None:
    made.row(b"a", LINK, target=os.fsencode(outside), **OURS)
    add(made, b"a/file")
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {b"a/file"}
    assert untouched(outside)


def test_a_path_that_is_both_link_and_folder(
    made: SetBuilder, tmp_path: Path, outside: Path
) -> None:
    made.row(b"a", LINK, target=os.fsencode(outside), **OURS)
    made.row(b"a", DIRECTORY, **OURS)
    add(made, b"a/file", b"theirs")
    run(made, tmp_path / "out")
    assert untouched(outside)


def test_a_link_in_the_target_is_not_followed(
    made: SetBuilder, tmp_path: Path, outside: Path
) -> None:
    made.row(b"a", DIRECTORY, **OURS)
    made.row(b"a/b", DIRECTORY, **OURS)
    add(made, b"a/b/file", b"theirs")
    add(made, b"c")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(outside)
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {b"a", b"a/b", b"a/b/file"}
    assert set(lost(done).values()) == {"a symbolic link is in the way at 'a'"}
    assert (tmp_path / "out/c").exists()
    assert untouched(outside)


def test_a_file_link_in_the_target_is_replaced(
    made: SetBuilder, tmp_path: Path, outside: Path
) -> None:
    add(made, b"a", b"theirs")
    made.parted(b"b", {0: b"theirs"}, 6)
    made.rows[-1] |= OURS
    (tmp_path / "out").mkdir()
    for name in ("a", "b"):
        (tmp_path / "out" / name).symlink_to(outside / "file")
    assert run(made, tmp_path / "out").is_complete
    assert (tmp_path / "out/a").read_text() == (tmp_path / "out/b").read_text() == "theirs"
    assert untouched(outside)


@pytest.mark.parametrize("mode", [FILE, LINK, stat.S_IFIFO | 0o644], ids=["file", "link", "fifo"])
def test_a_folder_in_the_target_is_not_replaced(
    made: SetBuilder, tmp_path: Path, mode: int
) -> None:
    add_kind(made, b"a", mode)
    (tmp_path / "out/a").mkdir(parents=True)
    assert lost(run(made, tmp_path / "out")) == {b"a": "a directory is in the way"}
    assert names(tmp_path / "out") == ["a"]


def test_a_path_twice(made: SetBuilder, tmp_path: Path) -> None:
    add(made, b"a", b"first")
    add(made, b"a", b"second")
    assert set(lost(run(made, tmp_path / "out"))) == {b"a"}
    assert (tmp_path / "out/a").read_text() == "first"


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "text"},
        {"mode": b"x"},
        {"mode": "x"},
        {"uid": b"x"},
        {"uid": -1},
        {"gid": 1 << 40},
        {"mtime_ns": 10**9},
        {"mtime_s": "x"},
        {"flags": b"x"},
        {"flags": -1},
        {"link": "x"},
        {"xattrs": 7},
        {"target": "x"},
        {"content": "x"},
        {"size": 0.5},
        {"rdev": "x"},
        {"digest": "x"},
        {"mode": 0o644},
        {"mode": 0xFFFF_FFFF_FFFF},
    ],
    ids=repr,
)
def test_fields_that_no_writer_makes(
    made: SetBuilder, tmp_path: Path, wrong: dict[str, object]
) -> None:
    add(made, b"a")
    add(made, b"z")
    text = wrong.pop("path", None)
    made.rows[1] |= wrong
    folder_rows = made.rows
    if text is not None:
        folder_rows[1]["path"] = _Text(b"a")
    done = run(made, tmp_path / "out")
    assert len(done.lost) == 1
    assert names(tmp_path / "out") == ["z"]


class _Text(bytes):
    """Sorts as bytes, is stored as a text."""

    def __conform__(self, _: object) -> str:
        return self.decode()


def test_a_device_is_never_opened(made: SetBuilder, tmp_path: Path) -> None:
    made.row(b"null", stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3), **OURS)
    done = run(made, tmp_path / "out")
    if os.geteuid():
        assert lost(done) == {b"null": "only root can make devices"}
    elif not done.lost:
        assert (tmp_path / "out/null").stat().st_rdev == os.makedev(1, 3)


def test_what_has_two_names_and_no_flags_is_not_opened_for_them(
    made: SetBuilder, tmp_path: Path
) -> None:
    """A FIFO stands for a device: opened for its flags, it would say that it has none."""
    made.row(b"a", stat.S_IFIFO | 0o600, link=1, flags=0x40, **OURS)
    made.row(b"b", stat.S_IFIFO | 0o600, link=1, flags=0x40, **OURS)
    made.row(b"c", LINK, target=b"x", link=2, flags=0x40, **OURS)
    made.row(b"d", LINK, target=b"x", link=2, flags=0x40, **OURS)
    assert run(made, tmp_path / "out").is_complete
    assert (tmp_path / "out/a").samefile(tmp_path / "out/b")


def test_a_worker_that_is_killed_is_noticed(made: SetBuilder, tmp_path: Path) -> None:
    for number in range(200):
        add(made, b"%d" % number)
    folder, _ = made.write()

    def kill(*_: int) -> None:
        for process in multiprocessing.active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)

    with (
        BackupSet.open(folder, scratch=made.folder) as backup,
        pytest.raises(WorkerLost, match="signal 9"),
    ):
        extract(backup, tmp_path / "out", jobs=2, progress=kill)
    assert not multiprocessing.active_children()


def test_progress_adds_up(made: SetBuilder, tmp_path: Path) -> None:
    for number in range(20):
        add(made, b"%d" % number, words(100))
    told: list[tuple[int, int]] = []
    folder, _ = made.write()
    with BackupSet.open(folder, scratch=made.folder) as backup:
        extract(backup, tmp_path / "out", progress=lambda files, size: told.append((files, size)))
    assert (sum(files for files, _ in told), sum(size for _, size in told)) == (20, 2000)


def test_a_target_that_cannot_be_made(made: SetBuilder, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(CannotWrite, match="out"):
        run(made, tmp_path / "out")


# What is not finished


@pytest.mark.parametrize("ending", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_no_unfinished_file(
    made: SetBuilder, tmp_path: Path, ending: type[BaseException]
) -> None:
    made.parted(b"big", {0: words(4000), 8192: words(4000, 2)}, 12192)
    made.parted(b"old", {0: words(4000), 8192: words(4000, 2)}, 12192)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("before")
    seen: list[list[str]] = []

    def stop(*_: int) -> None:
        seen.append(names(tmp_path / "out"))
        raise ending

    folder, _ = made.write()
    with BackupSet.open(folder, scratch=made.folder) as backup, pytest.raises(ending):
        extract(backup, tmp_path / "out", jobs=1, progress=stop)
    # Begun they were, but not under their names.
    assert "big" not in seen[0]
    assert len(seen[0]) > 1
    assert names(tmp_path / "out") == ["old"]
    assert (tmp_path / "out/old").read_text() == "before"


def test_what_a_killed_run_left_goes(made: SetBuilder, tmp_path: Path) -> None:
    made.row(b"a", DIRECTORY, **OURS)
    add(made, b"a/b")
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = f"-{16 * '0'}-0"
    (tmp_path / "out/a").mkdir(parents=True)
    for folder in (tmp_path / "out", tmp_path / "out/a"):
        (folder / f".mindi-{gone.pid}{left}").touch()
        (folder / f".mindi-{os.getpid()}{left}").touch()
        (folder / ".mindi-notes").touch()
    assert run(made, tmp_path / "out").is_complete
    kept = [f".mindi-{os.getpid()}{left}", ".mindi-notes"]
    assert names(tmp_path / "out") == [*kept, "a"]
    assert names(tmp_path / "out/a") == [*kept, "b"]


@pytest.mark.parametrize("kind", ["whole", "in parts"])
def test_a_file_gets_its_name_when_its_bytes_are_there(
    made: SetBuilder, tmp_path: Path, kind: str
) -> None:
    """The kernel tells what is made in the target under which names."""
    if kind == "whole":
        add(made, b"a", words(100_000))
    else:
        made.parted(b"a", {0: words(4000), 8192: words(4000, 2)}, 12192)
        made.rows[-1] |= OURS
    out = tmp_path / "out"
    out.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    created, moved_to = 0x100, 0x80
    watch = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(watch, os.fsencode(out), created | moved_to) > 0
        assert run(made, out).is_complete
        events = os.read(watch, 65536)
    finally:
        os.close(watch)
    seen = []
    while events:
        _, mask, _, length = struct.unpack_from("iIII", events)
        seen.append((mask, events[16 : 16 + length].rstrip(b"\0")))
        events = events[16 + length :]
    assert [name for mask, name in seen if mask == moved_to] == [b"a"]
    assert [name[:7] for mask, name in seen if mask == created] == [b".mindi-"]


# The target itself


@pytest.mark.parametrize("dress", [False, True])
def test_a_target_that_is_there_keeps_its_mode(
    made: SetBuilder, tmp_path: Path, *, dress: bool
) -> None:
    add(made, b"a")
    folder, _ = made.write()
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o700)
    with BackupSet.open(folder, scratch=made.folder) as backup:
        done = extract(backup, tmp_path / "out", jobs=1, dress_target=dress)
    assert done.is_complete
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == (0o755 if dress else 0o700)


def test_a_target_that_is_made_is_as_the_saved_root(made: SetBuilder, tmp_path: Path) -> None:
    made.rows[0]["mode"] = stat.S_IFDIR | 0o711
    run(made, tmp_path / "new/out")
    assert stat.S_IMODE((tmp_path / "new/out").stat().st_mode) == 0o711


@pytest.mark.parametrize(
    "other",
    [
        {"digest": bytes(32)},
        {"size": 3},
        {"uid": 77},
        {"mode": stat.S_IFREG | 0o4755},
        {"mode": stat.S_IFIFO | 0o644, "frame": None, "start": None, "digest": None, "size": 0},
        {"xattrs": pack_xattr(b"user.a", b"1")},
    ],
    ids=repr,
)
def test_names_of_one_file_that_are_not_alike(
    made: SetBuilder, tmp_path: Path, other: dict[str, object]
) -> None:
    add(made, b"a", b"this", link=77)
    made.rows.append({**made.rows[-1], "path": b"b"})
    made.rows.append({**made.rows[-1], "path": b"c", **other})
    done = run(made, tmp_path / "out")
    assert set(lost(done)) == {b"c"}
    assert "two names of one file differ in " in lost(done)[b"c"]
    assert names(tmp_path / "out") == ["a", "b"]
