"""Frames: read where the catalog says, found where they moved, lost with words and no more."""

from __future__ import annotations

import logging
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from archive.codec import Codec
from archive.entry import Entry, Frame
from archive.errors import SetDamaged
from archive.frames import FrameLost, FrameReader, Member
from archive.reader import BackupSet, contents
from archive.setfolder import SLICES
from tests.support.sets import SetBuilder, words

PACKINGS = [(codec, False) for codec in Codec] + [(codec, True) for codec in Codec][1:]
NAMES = [f"{codec.name.lower()}{'-per-file' * per_file}" for codec, per_file in PACKINGS]
by_packing = pytest.mark.parametrize(("codec", "per_file"), PACKINGS, ids=NAMES)


@dataclass
class Sample:
    """A set of two slices with what its files hold."""

    folder: Path
    files: dict[bytes, bytes]

    @property
    def slices(self) -> list[Path]:
        return sorted((self.folder / SLICES).iterdir())

    def first_slice(self) -> bytearray:
        return bytearray(self.slices[0].read_bytes())


def sample(folder: Path, codec: Codec, *, per_file: bool = False, seed: int = 0) -> Sample:
    builder = SetBuilder(folder / "prefix", codec, per_file)
    files: dict[bytes, bytes] = {}
    for group in range(8):
        if group == 6:
            builder.next_slice()
        dice = random.Random(seed + group)  # noqa: S311
        run = {}
        for number in range(5):
            size = dice.choice([7, 300, 3000, 20_000])
            path = b"dir/%d-%d" % (group, number)
            # Some do not shrink, so that --per-file keeps them as they are.
            run[path] = dice.randbytes(size) if number == 2 else words(size, seed + group + number)
        builder.files(run)
        files |= run
    runs = {0: words(9000, 77), 65536: words(5000, 78)}
    builder.parted(b"large", runs, 100_000)
    files[b"large"] = runs[0].ljust(65536, b"\0") + runs[65536].ljust(100_000 - 65536, b"\0")
    return Sample(builder.write()[0], files)


def whole(entry: Entry, runs: list[tuple[int, bytes]]) -> bytes:
    data = bytearray(entry.size)
    for offset, run in runs:
        data[offset : offset + len(run)] = run
    return bytes(data)


def lost(made: Sample) -> set[bytes]:
    """Read every file of a set; return those that cannot be had. No other may be wrong."""
    gone = set()
    with BackupSet.open(made.folder) as backup, backup.frame_reader() as frames:
        for entry in list(backup.catalog.entries()):
            try:
                runs = list(contents(backup, entry, frames))
            except FrameLost:
                gone.add(entry.path)
            else:
                assert whole(entry, runs) == made.files[entry.path]
    return gone


def users(made: Sample, first: int, last: int, *, slice_number: int = 1) -> set[bytes]:
    """Return the files with bytes between two places of a slice, as the catalog has them.

    A frame of a codec that compresses is one with all that it holds.
    """
    found = set()
    with BackupSet.open(made.folder) as backup:
        for entry in list(backup.catalog.entries()):
            places: list[tuple[int | None, int | None, int]] = [
                (entry.frame, entry.start, entry.size)
            ]
            if entry.content is not None:
                parts = backup.catalog.parts(entry.content)
                places = [(part.frame, part.start, part.size) for part in parts]
            for number, start, size in places:
                frame = backup.catalog.frame(number or 0)
                assert frame is not None
                low, high = frame.start, frame.start + frame.size
                if frame.codec == Codec.NONE:
                    low, high = frame.start + (start or 0), frame.start + (start or 0) + size
                if frame.slice == slice_number and low <= last and first < high:
                    found.add(entry.path)
    return found


@by_packing
def test_every_file_is_read(tmp_path: Path, codec: Codec, per_file: bool) -> None:
    assert lost(sample(tmp_path, codec, per_file=per_file)) == set()


@by_packing
@pytest.mark.parametrize("seed", range(2))
def test_flipped_bytes_cost_their_frames(
    tmp_path: Path, codec: Codec, per_file: bool, seed: int
) -> None:
    made = sample(tmp_path, codec, per_file=per_file, seed=seed)
    dice = random.Random(seed)  # noqa: S311
    data = made.first_slice()
    hit = set()
    for at in dice.sample(range(len(data)), 3):
        data[at] ^= 1 << dice.randrange(8)
        hit |= users(made, at, at)
    made.slices[0].write_bytes(data)
    # Some bits mean nothing (the time in a gzip header), so not all must be lost.
    assert lost(made) <= hit


@pytest.mark.parametrize("codec", list(Codec), ids=NAMES[: len(Codec)])
def test_a_spoilt_frame_is_lost(tmp_path: Path, codec: Codec) -> None:
    """The control: damage is seen, and costs just the files that it must."""
    made = sample(tmp_path, codec)
    data = made.first_slice()
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    made.slices[0].write_bytes(data)
    found = lost(made)
    assert found
    assert found == users(made, middle, middle + 599)


@by_packing
@pytest.mark.parametrize("count", [1, 5000])
def test_missing_bytes_cost_their_frames(
    tmp_path: Path, codec: Codec, per_file: bool, count: int
) -> None:
    made = sample(tmp_path, codec, per_file=per_file, seed=count)
    data = made.first_slice()
    at = random.Random(count).randrange(len(data) // 4, len(data) // 2)  # noqa: S311
    hit = users(made, at, at + count - 1)
    del data[at : at + count]
    made.slices[0].write_bytes(data)
    assert lost(made) <= hit


@by_packing
def test_two_holes_cost_their_frames(tmp_path: Path, codec: Codec, per_file: bool) -> None:
    made = sample(tmp_path, codec, per_file=per_file, seed=9)
    data = made.first_slice()
    first, second = len(data) // 4, len(data) * 3 // 4
    hit = users(made, first, first + 99) | users(made, second, second + 9)
    del data[second : second + 10]
    del data[first : first + 100]
    made.slices[0].write_bytes(data)
    assert lost(made) <= hit


@pytest.mark.parametrize("codec", list(Codec)[1:], ids=[codec.name.lower() for codec in Codec][1:])
def test_small_frames_are_found_far_from_their_place(tmp_path: Path, codec: Codec) -> None:
    """Of bzip2 only the first marks nearby were tried: all of them were other frames."""
    builder = SetBuilder(tmp_path / "prefix", codec, True)
    files = {b"%03d" % number: words(900 + number, number) for number in range(300)}
    builder.files(files)
    made = Sample(builder.write()[0], files)
    data = made.first_slice()
    hit = users(made, 20_000, 69_999)
    del data[20_000:70_000]
    made.slices[0].write_bytes(data)
    assert lost(made) == hit


@by_packing
def test_bytes_too_many_cost_their_frame(tmp_path: Path, codec: Codec, per_file: bool) -> None:
    made = sample(tmp_path, codec, per_file=per_file, seed=5)
    data = made.first_slice()
    at = len(data) // 3
    hit = users(made, at - 1, at)
    data[at:at] = random.Random(1).randbytes(4097)  # noqa: S311
    made.slices[0].write_bytes(data)
    assert lost(made) <= hit


@by_packing
def test_a_cut_slice_costs_what_is_behind(tmp_path: Path, codec: Codec, per_file: bool) -> None:
    made = sample(tmp_path, codec, per_file=per_file)
    data = made.first_slice()
    at = len(data) // 2
    hit = users(made, at, len(data))
    made.slices[0].write_bytes(data[:at])
    assert lost(made) == hit


def test_a_missing_slice_costs_its_files(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    hit = users(made, 0, 1 << 40, slice_number=2)
    made.slices[1].unlink()
    assert lost(made) == hit


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_bytes(b""), Path.mkdir, os.mkfifo, lambda path: None],
    ids=["empty", "folder", "fifo", "missing"],
)
def test_what_is_no_slice_costs_its_files(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    made = sample(tmp_path, Codec.GZIP)
    hit = users(made, 0, 1 << 40)
    path = made.slices[0]
    path.unlink()
    spoil(path)
    assert lost(made) == hit


def reader_of(made: Sample) -> tuple[FrameReader, list[Frame]]:
    with BackupSet.open(made.folder) as backup:
        rows = backup.catalog.connection.execute("SELECT * FROM frame ORDER BY number")
        return backup.frame_reader(), [Frame(*row) for row in rows]


def test_a_lost_frame_is_named(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    frames, (first, second, *_) = reader_of(made)
    data = made.first_slice()
    data[second.start : second.start + 4] = b"gone"
    made.slices[0].write_bytes(data)
    frames.read(first)
    with pytest.raises(FrameLost, match=f"0000001.afio.zst, bytes {second.start} to") as caught:
        frames.read(second)
    assert caught.value.frame == second.number


def test_a_missing_slice_is_named_with_what_to_do(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    frames, (first, *_) = reader_of(made)
    made.slices[0].unlink()
    with pytest.raises(FrameLost, match="No such file") as caught:
        frames.read(first)
    assert "missing slices" in str(caught.value.hint)


def test_moved_bytes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    made.slices[0].write_bytes(b"four" + made.first_slice())
    with caplog.at_level(logging.WARNING):
        assert lost(made) == set()
    assert caplog.text.count("found +4 bytes from there") == 1


def test_an_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(FrameLost("words", 7, hint="do this")))  # noqa: S301
    assert (error.message, error.frame, error.hint) == ("words", 7, "do this")


def test_a_reader_travels_between_processes(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.XZ)
    frames, (first, *_) = reader_of(made)
    raw = frames.read(first)
    assert pickle.loads(pickle.dumps(frames)).read(first) == raw  # noqa: S301


def test_a_frame_is_unpacked_once_for_all_its_files(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    frames, (first, *_) = reader_of(made)
    assert frames.read(first) is frames.read(first)


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    _, (first, second, *_) = reader_of(made)
    with BackupSet.open(made.folder) as backup:
        frames = FrameReader(backup.members, cache_bytes=10)
    raw = frames.read(first)
    frames.read(second)
    assert frames.read(first) is not raw


IMPOSSIBLE = {
    "huge": {"raw_size": 1 << 60},
    "large": {"raw_size": (64 << 20) + 1},
    "stored-huge": {"size": 1 << 62},
    "negative": {"start": -1},
    "member": {"member": 1},
    "slice": {"slice": 1 << 60},
    "codec": {"codec": 99},
    "none-of-other-size": {"codec": 0},
    "of-another-codec": {"codec": 1},
    "smaller": {"raw_size": 1},
    "empty": {"size": 0},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_frame_is_refused(tmp_path: Path, name: str) -> None:
    frames, (first, *_) = reader_of(sample(tmp_path, Codec.ZSTD))
    with pytest.raises(FrameLost):
        frames.read(first._replace(**IMPOSSIBLE[name]))


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
@pytest.mark.parametrize(("start", "size"), [(-1, 5), (0, 1 << 50), (1 << 50, 1), (5, -3)])
def test_a_part_outside_of_its_frame_is_refused(
    tmp_path: Path, codec: Codec, start: int, size: int
) -> None:
    frames, (first, *_) = reader_of(sample(tmp_path, codec))
    with pytest.raises(FrameLost):
        frames.read_part(first, start, size)


def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    made = sample(tmp_path, Codec.ZSTD)
    frames, (first, *_) = reader_of(made)
    builder = SetBuilder(tmp_path)
    builder.frame(bytes(32 << 20))
    packed = bytes(builder.slices[0])
    made.slices[0].write_bytes(packed)
    with pytest.raises(FrameLost, match="another size"):
        frames.read(first._replace(start=0, size=len(packed), raw_size=10))


def test_many_false_marks_take_no_time(tmp_path: Path) -> None:
    (tmp_path / SLICES).mkdir()
    # Each is a frame of zstd that says it holds five bytes, and does not.
    (tmp_path / SLICES / "0000001.afio.zst").write_bytes(b"\x28\xb5\x2f\xfd\x20\x05" * 500_000)
    frames = FrameReader((Member("id", tmp_path, ".afio.zst"),))
    for start in range(1, 2000, 7):
        with pytest.raises(FrameLost):
            frames.read(Frame(start, 0, 1, start, 20, 5, Codec.ZSTD))


def test_lost_is_damaged() -> None:
    assert issubclass(FrameLost, SetDamaged)
