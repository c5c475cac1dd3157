"""A differential, with the sets it rests on, gives back the tree as it was: whatever was done."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.codec import Codec, Packing
from tests.support import mutations
from tests.support.backup import ZSTD, restore, save
from tests.support.mutations import BUILDING, Change, changes
from tests.support.snapshot import differences, snapshot

SETTLING_S = 2.1
"""What was changed longer ago than this is known by its ctime; else it is read again."""
EXAMPLES = int(os.environ.get("MINDI_EXAMPLES", "200"))
PACKINGS = (ZSTD, Packing(Codec.GZIP, 1, per_file=True), Packing(Codec.NONE))

unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def assert_comes_back(tree: Path, saved: Path, target: Path) -> None:
    done = restore(saved, target, jobs=1)
    assert done.lost == ()
    assert done.warnings == ()
    assert differences(snapshot(tree), snapshot(target)) == []


def check_chain(
    built: list[Change],
    rounds: list[list[Change]],
    *,
    settled: bool,
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    """Save a tree, change it, save what is new, again and again: each set gives it back."""
    with tempfile.TemporaryDirectory() as room:
        tree, folder = Path(room, "tree"), Path(room, "set")
        tree.mkdir()
        mutations.apply(os.fsencode(tree), built)
        if settled:
            time.sleep(SETTLING_S)
        full = save(tree, folder, jobs=1, packing=packing).path
        parent = full
        for number, made in enumerate(rounds):
            mutations.apply(os.fsencode(tree), made)
            if settled and number:
                time.sleep(SETTLING_S)
            against = full if on_full else parent
            saved = save(
                tree, folder, jobs=1, packing=packing, parent=against, by_content=by_content
            )
            assert saved.issues == ()
            parent = saved.path
            assert_comes_back(tree, parent, Path(room, f"out-{number}"))


any_rounds = st.lists(changes(least=3, most=25), min_size=1, max_size=3)
any_tree = changes(BUILDING, least=20, most=80)


@settings(unhurried, max_examples=12)
@given(any_tree, any_rounds, st.booleans(), st.booleans(), st.sampled_from(PACKINGS))
def test_a_tree_changed_at_once_comes_back(
    built: list[Change],
    rounds: list[list[Change]],
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    """All happens within the ticks of a clock: before the full set, behind it, between the two."""
    check_chain(
        built, rounds, settled=False, on_full=on_full, by_content=by_content, packing=packing
    )


@pytest.mark.slow
@settings(unhurried, max_examples=EXAMPLES)
@given(any_tree, any_rounds, st.booleans(), st.booleans(), st.sampled_from(PACKINGS))
def test_many_trees_changed_at_once_come_back(
    built: list[Change],
    rounds: list[list[Change]],
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    check_chain(
        built, rounds, settled=False, on_full=on_full, by_content=by_content, packing=packing
    )


@pytest.mark.slow
@settings(unhurried, max_examples=max(EXAMPLES // 4, 1))
@given(any_tree, any_rounds, st.booleans(), st.booleans(), st.sampled_from(PACKINGS))
def test_trees_that_had_rested_come_back(
    built: list[Change],
    rounds: list[list[Change]],
    on_full: bool,
    by_content: bool,
    packing: Packing,
) -> None:
    """What is old enough is known by its ctime alone, and not read."""
    check_chain(
        built, rounds, settled=True, on_full=on_full, by_content=by_content, packing=packing
    )


def test_files_of_nothing_but_holes_are_told_apart(tmp_path: Path) -> None:
    """They have no data that would tell; numbers of their own all the same."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).touch()
        os.truncate(tree / name, 1 << 20)
    time.sleep(SETTLING_S)
    full = save(tree, tmp_path / "set").path
    with (tree / "b").open("r+b") as file:
        file.write(b"data")
    saved = save(tree, tmp_path / "set", parent=full).path
    assert_comes_back(tree, saved, tmp_path / "out")
