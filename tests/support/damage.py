"""Real sets of a small tree, cut into many small pieces, and what befalls the media they lie on.

Which bytes of a set a file needs is read from the tables of an undamaged catalog; what is left
of them after a damage is found by looking for them in the slice, byte for byte.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from archive import pack, planning, slicing
from archive.codec import Codec, Packing
from archive.entry import Entry
from archive.reader import BackupSet
from tests.support.backup import save
from tests.support.snapshot import Facts, snapshot

FRAME_BYTES = 48 << 10
PART_BYTES = 192 << 10
SLICE_BYTES = 700 << 10
NOTABLE = 16
"""Bytes by which a place is known; fewer may be anywhere."""


class Need(NamedTuple):
    """Bytes of a slice without which a path is lost."""

    path: bytes
    slice: Path
    """Below the prefix's folder."""
    head: int
    """Where the header of the entry begins; with compression, ``low``."""
    low: int
    high: int
    is_plain: bool
    """Known by its header, or by its place, alone: it has no mark of its own."""


@dataclass(frozen=True)
class Sample:
    """A set, with what it depends on and what was saved in it."""

    folder: Path
    """Of the prefix."""
    name: str
    """Of the set's folder."""
    members: tuple[str, ...]
    """The folders of the set and its parents."""
    facts: dict[bytes, Facts]
    needs: tuple[Need, ...]

    def copy(self, folder: Path) -> Path:
        """Make the same again below ``folder``, files linked; return the prefix's folder."""
        target = folder / "prefix"
        shutil.copytree(self.folder, target, copy_function=os.link)
        return target


@contextmanager
def small_pieces() -> Iterator[None]:
    """Have sets written with many small frames, parts and slices: any size is a valid one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "FRAME_BYTES", FRAME_BYTES)
        patch.setattr(slicing, "SLICE_BYTES", SLICE_BYTES)
        for module in (pack, planning):
            patch.setattr(module, "PART_BYTES", PART_BYTES)
        yield


def samples(room: Path, packing: Packing) -> tuple[Sample, Sample]:
    """Save a tree, change it, and save it against that; return both sets."""
    tree, folder = room / "tree", room / "prefix"
    grow(tree)
    with small_pieces():
        before = snapshot(tree)
        full = save(tree, folder, packing=packing)
        assert full.issues == ()
        change(tree)
        differential = save(tree, folder, packing=packing, parent=full.path)
        assert differential.issues == ()
    found = (
        _sample(full.path, (full.path.name,), before),
        _sample(differential.path, (differential.path.name, full.path.name), snapshot(tree)),
    )
    shutil.rmtree(tree)
    return found


def grow(tree: Path) -> None:
    """Make the tree: small files and files in parts, sparse ones, links, some all the same."""
    dice = random.Random(7)  # noqa: S311 no secret
    for name in ("few", "many", "many/below", "parts", "none"):
        (tree / name).mkdir(parents=True)
    for number in range(60):
        size = dice.choice((0, 1, 60, 900, 5000, 20_000))
        data = dice.randbytes(size) if number % 3 else text(size, number)
        (tree / "many" / f"{number:02}").write_bytes(data)
        if number % 10 == 0:
            (tree / "many/below" / f"{number}.z").write_bytes(data)
    for number in range(12):
        size = dice.randrange(PART_BYTES)
        data = dice.randbytes(size) if number % 2 else text(size, 3 * number)
        (tree / "few" / f"{number:02}").write_bytes(data)
    (tree / "parts/random").write_bytes(dice.randbytes(3 * PART_BYTES + 12_345))
    (tree / "parts/text").write_bytes(text(4 * PART_BYTES + 77, 5))
    (tree / "parts/zeros").write_bytes(bytes(2 * PART_BYTES + 1))
    with (tree / "parts/holes").open("wb") as file:
        for place in (0, 300_000, 1_000_000):
            os.pwrite(file.fileno(), dice.randbytes(30_000), place)
        file.truncate(3 << 20)
    (tree / "parts/all hole").touch()
    os.truncate(tree / "parts/all hole", 1 << 20)
    (tree / "symlink").symlink_to("many/01")
    os.mkfifo(tree / "fifo")
    for source, name in (("many/05", "a link"), ("parts/random", "few/link"), ("fifo", "z")):
        os.link(tree / source, tree / name)


def change(tree: Path) -> None:
    """Change, add, rename and remove files, the large ones in some parts only."""
    dice = random.Random(8)  # noqa: S311 no secret
    for number in range(0, 60, 4):
        (tree / "many" / f"{number:02}").write_bytes(dice.randbytes(number * 50))
    for name in ("02", "03"):
        (tree / "few" / name).write_bytes(text(50_000, int(name)))
    with (tree / "parts/random").open("r+b") as file:
        file.seek(PART_BYTES + 5)
        file.write(b"changed")
    with (tree / "parts/text").open("ab") as file:
        file.write(dice.randbytes(PART_BYTES))
    (tree / "many/01").rename(tree / "renamed")
    (tree / "many/07").unlink()
    (tree / "new").write_bytes(dice.randbytes(100_000))
    os.link(tree / "many/02", tree / "many/another")


def text(size: int, seed: int) -> bytes:
    """Return bytes that shrink, and never to less than their frames' marks."""
    dice = random.Random(seed)  # noqa: S311 no secret
    words = [dice.randbytes(3).hex().encode() for _ in range(200)]
    return b" ".join(dice.choices(words, k=size // 6))[:size].ljust(size, b".")


def _sample(folder: Path, members: tuple[str, ...], facts: dict[bytes, Facts]) -> Sample:
    with BackupSet.open(folder) as backup:
        needs = tuple(_needs(backup))
    return Sample(folder.parent, folder.name, members, facts, needs)


def _needs(backup: BackupSet) -> Iterator[Need]:
    data: dict[Path, bytes] = {}
    for entry in list(backup.catalog.entries()):
        for name, number, start, size in _pieces(backup, entry):
            frame = backup.catalog.frame(number)
            assert frame is not None
            member = backup.members[frame.member]
            place = member.folder / "slices" / f"{frame.slice:07}{member.suffix}"
            low, high = frame.start, frame.start + frame.size
            if frame.codec == Codec.NONE:
                low, high = frame.start + start, frame.start + start + size
            is_plain = member.suffix == Codec.NONE.suffix
            head = low
            if is_plain:
                whole = data.setdefault(place, place.read_bytes())
                head = whole.rindex(b"0707", 0, whole.rindex(name, 0, low))
                assert low - head < 200 + len(name)
            below = place.relative_to(backup.folder.parent)
            yield Need(entry.path, below, head, low, high, is_plain)


def _pieces(backup: BackupSet, entry: Entry) -> Iterator[tuple[bytes, int, int, int]]:
    """Give where the bytes of an entry lie: the name there, frame, start, size."""
    if entry.frame is not None and entry.start is not None:
        yield b"", entry.frame, entry.start, entry.size
    elif entry.content is not None:
        for part in backup.catalog.parts(entry.content):
            yield b"%020d" % part.offset, part.frame, part.start, part.size


# Damages: each changes the bytes of a file

Dice = random.Random


def flip(data: bytearray, dice: Dice) -> None:
    """Flip one bit."""
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def flip_some(data: bytearray, dice: Dice) -> None:
    """Flip bits here and there."""
    for _ in range(dice.randrange(2, 12)):
        flip(data, dice)


def _run(data: bytearray, dice: Dice) -> tuple[int, int]:
    start = dice.randrange(len(data) + 1)
    return start, min(len(data), start + dice.choice((1, 100, 4096, 50_000, 300_000)))


def zero(data: bytearray, dice: Dice) -> None:
    """Make a run zeros."""
    start, end = _run(data, dice)
    data[start:end] = bytes(end - start)


def spoil(data: bytearray, dice: Dice) -> None:
    """Write something else over a run."""
    start, end = _run(data, dice)
    data[start:end] = dice.randbytes(end - start)


def cut(data: bytearray, dice: Dice) -> None:
    """Cut the tail off."""
    del data[dice.randrange(len(data) + 1) :]


def take_out(data: bytearray, dice: Dice) -> None:
    """Remove a run."""
    start, end = _run(data, dice)
    del data[start:end]


def behead(data: bytearray, dice: Dice) -> None:
    """Remove what is in front."""
    del data[: _run(data, dice)[1] // dice.choice((1, 10))]


def put_in(data: bytearray, dice: Dice) -> None:
    """Insert something."""
    start, end = _run(data, dice)
    data[start:start] = dice.randbytes(end - start)


def repeat(data: bytearray, dice: Dice) -> None:
    """Have a run twice."""
    start, end = _run(data, dice)
    data[end:end] = data[start:end]


def exchange(data: bytearray, dice: Dice) -> None:
    """Exchange two runs, of different lengths maybe."""
    one, two, three, four = sorted(dice.randrange(len(data) + 1) for _ in range(4))
    data[one:four] = data[three:four] + data[two:three] + data[one:two]


HARMS: tuple[Callable[[bytearray, Dice], None], ...] = (
    *(flip, flip_some, zero, spoil, cut, take_out, behead, put_in, repeat, exchange),
)


def harm_slices(folder: Path, dice: Dice) -> str:
    """Harm one slice below a prefix's folder, or two; say how, for whoever reads a failure."""
    slices = sorted(folder.glob("*/slices/*"))
    kind = dice.randrange(10)
    if kind == 0 and slices:
        victim = dice.choice(slices)
        victim.unlink()
        return f"{victim.name} removed"
    if kind == 1 and len(slices) > 1:
        one, other = dice.sample(slices, 2)
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
        return f"{one} and {other} exchanged"
    return harm_file(dice.choice(slices), dice)


def harm_file(path: Path, dice: Dice) -> str:
    """Harm one file; it may be a link of one that stays as it is."""
    data = bytearray(path.read_bytes())
    harm = dice.choice(HARMS)
    harm(data, dice)
    path.unlink()
    path.write_bytes(data)
    return f"{harm.__name__} {path.relative_to(path.parents[2])}"


def left(sample: Sample, folder: Path) -> set[bytes]:
    """Return the paths of which all bytes are still somewhere in their slices.

    What has no mark of its own counts only where it was, behind its own header, or before the
    one of another entry.
    """
    before: dict[Path, bytes] = {}
    after: dict[Path, bytes] = {}
    gone = set()
    for need in sample.needs:
        if need.slice not in before:
            before[need.slice] = (sample.folder / need.slice).read_bytes()
            path = folder / need.slice
            after[need.slice] = path.read_bytes() if path.exists() else b""
        if not _is_left(need, before[need.slice], after[need.slice]):
            gone.add(need.path)
    return set(sample.facts) - gone


def _is_left(need: Need, before: bytes, after: bytes) -> bool:
    wanted = before[need.low : need.high]
    if after[need.low : need.high] == wanted:
        return True
    if before[need.head : need.high] in after:
        return True
    return need.is_plain and len(wanted) >= NOTABLE and wanted + b"0707" in after
