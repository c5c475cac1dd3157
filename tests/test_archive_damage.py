"""Whatever befalls a set's files: what is named as lost is lost, all else comes back as it was.

The judge is a walker that shares nothing with the archive, and a search for the bytes themselves.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.codec import Codec, Packing
from archive.errors import SetDamaged
from archive.reader import BackupSet
from archive.verify import Verified, verify
from restore.compare import compare
from restore.difference import Kind
from restore.extract import extract
from tests.support.damage import Sample, harm_file, harm_slices, left, samples
from tests.support.snapshot import differences, snapshot

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("MINDI_EXAMPLES", "15"))
PACKINGS = {
    f"{codec.name.lower()}{'-per-file' if per_file else ''}": Packing(codec, 1, per_file)
    for codec in Codec
    for per_file in (False, True)
}
QUICK = ("zstd", "none", "gzip-per-file")
CATALOGS = ("catalog.sqlite.zst", "catalog-copy.sqlite.zst")
MANIFESTS = ("manifest.json", "manifest-copy.json")

Samples = Callable[[str], tuple[Sample, Sample]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Return what gives a full set and a differential of a packing, each made once."""

    @functools.cache
    def make(name: str) -> tuple[Sample, Sample]:
        return samples(tmp_path_factory.mktemp(name), PACKINGS[name])

    return make


def changed(sample: Sample, folder: Path) -> set[Path]:
    """Return the files of a set and its parents that are not what they were, or gone."""
    files = [path for name in sample.members for path in (sample.folder / name).rglob("*")]
    below = {path.relative_to(sample.folder) for path in files if path.is_file()}
    return {path for path in below if _bytes(folder / path) != (sample.folder / path).read_bytes()}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def check(sample: Sample, folder: Path, target: Path) -> None:
    """Restore a damaged set: all is found, or named."""
    hit = changed(sample, folder)
    try:
        with BackupSet.open(folder / sample.name) as backup:
            found = verify(backup, chain=True, jobs=1)
            done = extract(backup, target, jobs=1)
            same = {one for one in compare(backup, target, jobs=1).differences}
    except SetDamaged:
        assert is_beyond_help(sample, hit)
        assert not target.exists()
        return
    lost = {one.path for one in done.lost}
    assert {one.path for one in found.lost} == lost
    assert lost.isdisjoint(left(sample, folder))
    assert {(one.path, one.kind) for one in same} == {(path, Kind.MISSING) for path in lost}
    assert done.warnings == ()
    expected = {path: facts for path, facts in sample.facts.items() if path not in lost}
    assert differences(expected, snapshot(target)) == []
    check_faults(sample, folder, found, hit)


def check_faults(sample: Sample, folder: Path, found: Verified, hit: set[Path]) -> None:
    """What is told to be damaged is what was: of parents, as far as this set needs it."""
    told = {fault.path.relative_to(folder) for fault in found.faults}
    # Without either catalog nobody knows a slice's digest: only of what is needed in it.
    blind = [name for name in sample.members[1:] if {Path(name) / one for one in CATALOGS} <= hit]
    needed = {need.slice for need in sample.needs if need.slice.parts[0] not in blind}
    own = {path for path in hit if path.parts[0] == sample.name}
    parents = {Path(name) for name in sample.members[1:]}
    kept_twice = {path for path in hit if path.name in CATALOGS + MANIFESTS}
    assert own | (hit & needed) | kept_twice <= told <= hit | parents


def is_beyond_help(sample: Sample, hit: set[Path]) -> bool:
    """Say whether a set may be refused: its catalog is lost twice, or a manifest is."""
    twice = [{Path(sample.name) / name for name in CATALOGS}]
    twice += [{Path(member) / name for name in MANIFESTS} for member in sample.members]
    return any(both <= hit for both in twice)


def run(sample: Sample, room: Path, seed: int, harm: Callable[[Path, random.Random], None]) -> None:
    shutil.rmtree(room, ignore_errors=True)
    folder = sample.copy(room)
    harm(folder, random.Random(seed))  # noqa: S311 no secret
    check(sample, folder, room / "out")


def one_harm(folder: Path, dice: random.Random) -> None:
    print(harm_slices(folder, dice))  # noqa: T201 shown with a failure


def some_harms(folder: Path, dice: random.Random) -> None:
    for _ in range(dice.randrange(2, 6)):
        one_harm(folder, dice)


def harm_anything(folder: Path, dice: random.Random) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    small = [path for path in files if path.parent.name != "slices"]
    for _ in range(dice.randrange(1, 4)):
        print(harm_file(dice.choice((dice.choice(files), dice.choice(small))), dice))  # noqa: T201


HARMS = {"one": one_harm, "some": some_harms, "anything": harm_anything}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", QUICK)
def test_damage_is_named_and_costs_no_more(
    made: Samples, tmp_path: Path, name: str, harm: str
) -> None:
    run(made(name)[1], tmp_path / "room", len(harm), HARMS[harm])


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", PACKINGS)
def test_much_damage_is_named_and_costs_no_more(
    made: Samples, tmp_path: Path, name: str, harm: str
) -> None:
    for seed in range(EXAMPLES):
        print(f"seed {seed}")  # noqa: T201 shown with a failure
        run(made(name)[seed % 2], tmp_path / "room", seed, HARMS[harm])


@pytest.mark.parametrize("name", QUICK)
def test_a_set_without_damage_is_whole(made: Samples, tmp_path: Path, name: str) -> None:
    """The control: nothing is lost of either set, and all bytes are found."""
    for sample in made(name):
        run(sample, tmp_path / "room", 0, lambda folder, dice: None)
        assert left(sample, sample.folder) == set(sample.facts)
        assert len({need.slice for need in sample.needs}) > 2
