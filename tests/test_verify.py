"""What verify says of sets, sound and damaged: exactly what a restore would lose."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.codec import Codec, Packing
from archive.errors import ParentMissing
from archive.reader import BackupSet
from archive.verify import Verified, bytes_to_verify, verify
from restore.extract import extract
from tests.support.backup import save
from tests.support.sets import SetBuilder, words

pytestmark = pytest.mark.slow

PACKINGS = [
    pytest.param(Packing(Codec.ZSTD, 1), id="zstd"),
    pytest.param(Packing(Codec.LZO, 1), id="lzo"),
    pytest.param(Packing(Codec.NONE), id="none"),
    pytest.param(Packing(Codec.GZIP, 1, per_file=True), id="gzip per file"),
]


def grow(tree: Path) -> None:
    """Make a tree that takes several frames."""
    dice = random.Random(5)  # noqa: S311 no secret
    tree.mkdir()
    for number in range(20):
        (tree / f"random-{number:02}").write_bytes(dice.randbytes(dice.randrange(1, 300_000)))
        (tree / f"text-{number:02}").write_bytes(b"%d all work\n" % number * dice.randrange(9000))
    with (tree / "holes").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(3 << 20)
        file.write(dice.randbytes(1_000_000))
    (tree / "stretches").write_bytes(b"the same again\n" * 1_200_000)
    (tree / "empty").touch()
    (tree / "folder").mkdir()
    os.link(tree / "random-01", tree / "folder/link of random-01")
    os.link(tree / "holes", tree / "folder/link of holes")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("verify") / "tree"
    grow(top)
    return top


@pytest.fixture(scope="module")
def saved(tree: Path) -> Callable[[Packing], Path]:
    """Return what gives a set of the tree, each made once."""
    made: dict[Packing, Path] = {}

    def get(packing: Packing) -> Path:
        if packing not in made:
            made[packing] = save(tree, tree.parent / f"set-{len(made)}", packing=packing).path
        return made[packing]

    return get


def verified(folder: Path, *, chain: bool = False, jobs: int = 2) -> Verified:
    with BackupSet.open(folder) as backup:
        return verify(backup, chain=chain, jobs=jobs)


def lost_by_restore(folder: Path, target: Path) -> set[bytes]:
    with BackupSet.open(folder) as backup:
        return {lost.path for lost in extract(backup, target, jobs=2).lost}


def lost(found: Verified) -> set[bytes]:
    return {one.path for one in found.lost}


def slices(folder: Path) -> list[Path]:
    return sorted((folder / "slices").iterdir())


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_sound_set(tree: Path, saved: Callable[[Packing], Path], packing: Packing) -> None:
    found = verified(saved(packing))
    assert (found.is_sound, found.faults, found.lost) == (True, (), ())
    files = [path for path in tree.rglob("*") if path.is_file() and path.stat().st_size]
    assert (found.files, found.slices) == (len(files), len(slices(saved(packing))))
    one_name = {path.stat().st_ino: path for path in files}.values()
    whole = sum(path.stat().st_size for path in one_name) - (8 << 20) + 1_000_000
    # A run of data of a sparse file may be longer, by the filesystem's blocks.
    assert 0 <= found.bytes - whole < 8192


def test_progress_adds_up(saved: Callable[[Packing], Path]) -> None:
    told: list[tuple[int, int]] = []
    with BackupSet.open(saved(Packing(Codec.ZSTD, 1))) as backup:
        found = verify(backup, jobs=2, progress=lambda files, size: told.append((files, size)))
        assert sum(size for _, size in told) == found.bytes <= bytes_to_verify(backup)


def flip(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def take_out(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    del data[start : start + dice.randrange(1, 5000)]


def put_in(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    data[start:start] = dice.randbytes(dice.randrange(1, 5000))


def blank(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    end = min(len(data), start + 4096)
    data[start:end] = bytes(end - start)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("harm", [flip, cut, take_out, put_in, blank])
@pytest.mark.parametrize("packing", PACKINGS)
def test_damage_loses_what_a_restore_loses(
    saved: Callable[[Packing], Path],
    tmp_path: Path,
    packing: Packing,
    harm: Callable[[bytearray, random.Random], None],
    seed: int,
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(saved(packing), folder)
    dice = random.Random(f"{harm.__name__} {seed}")  # noqa: S311
    harmed = dice.choice(slices(folder))
    data = bytearray(harmed.read_bytes())
    harm(data, dice)
    harmed.write_bytes(data)
    found = verified(folder)
    assert [fault.path for fault in found.faults] == [harmed]
    assert lost(found) == lost_by_restore(folder, tmp_path / "out")


@pytest.mark.parametrize(
    "packing",
    [*PACKINGS[2:], pytest.param(Packing(Codec.LZO, 1, per_file=True), id="lzo per file")],
)
def test_what_lost_its_place_is_found_by_its_name(
    saved: Callable[[Packing], Path], tmp_path: Path, tree: Path, packing: Packing
) -> None:
    """Of each slice only what lies behind the first entries moves, by another distance each."""
    folder = tmp_path / "set"
    shutil.copytree(saved(packing), folder)
    for number, one in enumerate(slices(folder), start=1):
        data = one.read_bytes()
        for name in (b"stretches/%020d" % (1 << 24), b"text-03"):
            at = data.find(name)
            at = data.rfind(b"0707", 0, at) if at > 0 else 0
            data = data[:at] + bytes(1000 * number + len(name)) + data[at:]
        one.write_bytes(data)
    assert lost(verified(folder)) == set()
    with BackupSet.open(folder) as backup:
        assert extract(backup, tmp_path / "out", jobs=2).lost == ()
    name = "stretches"
    assert (tmp_path / "out" / name).read_bytes() == (tree / name).read_bytes()


def test_damage_names_all_names_of_a_file(
    saved: Callable[[Packing], Path], tmp_path: Path, tree: Path
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(saved(Packing(Codec.NONE)), folder)
    whole = (tree / "random-01").read_bytes()
    for one in slices(folder):
        one.write_bytes(one.read_bytes().replace(whole, bytes([whole[0] ^ 1]) + whole[1:]))
    found = verified(folder)
    assert lost(found) == {b"random-01", b"folder/link of random-01"}
    assert {one.words for one in found.lost if "it holds something else" in one.words}


def test_a_missing_slice(tmp_path: Path) -> None:
    builder = SetBuilder(tmp_path / "set")
    builder.row(b"", 0o040755)
    builder.files({b"first": words(100)})
    builder.next_slice()
    builder.files({b"second": words(100), b"third": words(200)})
    folder, _ = builder.write()
    gone = slices(folder)[1]
    gone.unlink()
    found = verified(folder)
    assert [(fault.path, fault.is_missing) for fault in found.faults] == [(gone, True)]
    assert lost(found) == lost_by_restore(folder, tmp_path / "out") == {b"second", b"third"}


@pytest.mark.parametrize("name", ["catalog.sqlite.zst", "catalog-copy.sqlite.zst"])
def test_either_copy_of_the_catalog(
    saved: Callable[[Packing], Path], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(saved(Packing(Codec.ZSTD, 1)), folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    found = verified(folder)
    assert [(one.path.name, one.words) for one in found.faults] == [(name, "has a wrong digest")]
    assert found.lost == ()


def test_a_missing_copy_of_the_catalog(saved: Callable[[Packing], Path], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(saved(Packing(Codec.ZSTD, 1)), folder)
    (folder / "catalog-copy.sqlite.zst").unlink()
    assert [fault.is_missing for fault in verified(folder).faults] == [True]


def test_damage_in_the_end_of_a_slice_loses_nothing(
    saved: Callable[[Packing], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(saved(Packing(Codec.NONE)), folder)
    harmed = slices(folder)[0]
    data = bytearray(harmed.read_bytes())
    data[-1] ^= 1
    harmed.write_bytes(data)
    found = verified(folder)
    assert ([fault.words for fault in found.faults], found.lost) == (["has a wrong digest"], ())


# Chains


@pytest.fixture
def chain(tree: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a full set and a differential of a tree of which one file was changed."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in ("random-01", "random-02", "text-03"):
        shutil.copy2(tree / name, copy / name)
        os.utime(copy / name, (1, 1))
    full = save(copy, tmp_path / "set").path
    (copy / "random-02").write_bytes(b"something new")
    return full, save(copy, tmp_path / "set", parent=full).path


def test_a_sound_chain(chain: tuple[Path, Path]) -> None:
    assert verified(chain[1], chain=True).is_sound
    assert verified(chain[1]).is_sound


def test_the_parents_damage_is_found_by_the_chain_alone(
    chain: tuple[Path, Path], tmp_path: Path
) -> None:
    (harmed,) = slices(chain[0])
    harmed.write_bytes(harmed.read_bytes()[:100])
    own = verified(chain[1])
    assert own.is_sound
    whole = verified(chain[1], chain=True)
    assert [fault.path for fault in whole.faults] == [harmed]
    assert lost(whole) == lost_by_restore(chain[1], tmp_path / "out")
    assert b"random-02" not in lost(whole) != set()


def test_a_parent_whose_catalog_is_lost_is_told(chain: tuple[Path, Path]) -> None:
    for name in ("catalog.sqlite.zst", "catalog-copy.sqlite.zst"):
        (chain[0] / name).write_bytes(b"")
    found = verified(chain[1], chain=True)
    assert len(found.faults) == 3
    assert found.lost == ()


def test_a_missing_parent_is_an_error(chain: tuple[Path, Path], tmp_path: Path) -> None:
    chain[0].rename(tmp_path / "elsewhere")
    with pytest.raises(ParentMissing):
        verified(chain[1], chain=True)


# Catalogs that contradict themselves


def test_files_without_a_place_are_lost(tmp_path: Path) -> None:
    builder = SetBuilder(tmp_path / "set")
    builder.files({b"sound": words(100)})
    builder.row(b"", 0o040755)
    builder.row(b"nowhere", 0o100644, size=5, digest=bytes(32))
    builder.row(b"no frame", 0o100644, size=5, digest=bytes(32), frame=77, start=0)
    builder.row(b"no parts", 0o100644, size=5, digest=bytes(32), content=12)
    folder, _ = builder.write()
    found = verified(folder)
    assert lost(found) == {b"nowhere", b"no frame", b"no parts"}
    assert found.faults == ()


def test_an_impossible_frame_loses_its_files(tmp_path: Path) -> None:
    builder = SetBuilder(tmp_path / "set")
    builder.files({b"file": words(100)})
    builder.frames[0] = (*builder.frames[0][:4], 1 << 50, 1 << 50, 5)
    folder, _ = builder.write()
    assert lost(verified(folder)) == {b"file"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"path": b"c"}, set()),
        ({"path": b"c", "digest": bytes(32)}, {b"c"}),
        ({"path": b"c", "uid": 77}, {b"c"}),
        ({"path": b"../../c", "link": None}, {b"../../c"}),
    ],
    ids=["alike", "other bytes", "another owner", "a path that leads out"],
)
def test_names_that_a_restore_does_not_take_are_lost(
    tmp_path: Path, change: dict[str, object], named: set[bytes]
) -> None:
    builder = SetBuilder(tmp_path / "set")
    builder.row(b"", 0o040755)
    digest = hashlib.sha256(b"data").digest()
    builder.row(
        b"a", 0o100644, size=4, digest=digest, frame=builder.frame(b"data"), start=0, link=7
    )
    builder.rows.append({**builder.rows[-1], "path": b"b"})
    builder.rows.append({**builder.rows[-1], **change})
    folder, _ = builder.write()
    assert lost(verified(folder)) == named == lost_by_restore(folder, tmp_path / "out")
