"""Where the data of files lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archive.sparse import data_runs

MIB = 1 << 20


def runs(path: Path, *, longest: int, size: int | None = None) -> list[tuple[int, int]]:
    """Return a file's runs."""
    fd = os.open(path, os.O_RDONLY)
    try:
        whole = os.fstat(fd).st_size if size is None else size
        return list(data_runs(fd, whole, longest=longest))
    finally:
        os.close(fd)


def sparse(path: Path, size: int, *places: int) -> Path:
    """Make a file with 4 KiB of data at some places."""
    with path.open("wb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            file.write(b"x" * 4096)
    return path


def test_an_empty_file_has_none(tmp_path: Path) -> None:
    assert runs(sparse(tmp_path / "f", 0), longest=MIB) == []


def test_a_file_of_one_hole_has_none(tmp_path: Path) -> None:
    assert runs(sparse(tmp_path / "f", 10 << 30), longest=MIB) == []


def test_data_is_found_between_holes(tmp_path: Path) -> None:
    path = sparse(tmp_path / "f", 10 << 30, 0, 5 * MIB, 10 << 30)
    found = runs(path, longest=16 * MIB)
    assert found == [(0, 4096), (5 * MIB, 4096), (10 << 30, 4096)]


def test_no_run_crosses_a_multiple_of_the_longest(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (5 * 4096))
    assert runs(path, longest=2 * 4096) == [(0, 8192), (8192, 8192), (16384, 4096)]


def test_a_run_that_begins_between_multiples_is_cut_at_the_next(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.seek(3 * 4096)
        file.write(b"x" * (3 * 4096))
    assert runs(path, longest=4 * 4096) == [(3 * 4096, 4096), (4 * 4096, 2 * 4096)]


def test_what_lies_behind_the_size_asked_for_is_left(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10000)
    assert runs(path, longest=MIB, size=5000) == [(0, 5000)]


def test_a_file_that_shrank_ends_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 4096)
    assert runs(path, longest=MIB, size=10000) == [(0, 4096)]


def test_what_knows_no_holes_is_all_data() -> None:
    assert runs(Path("/proc/cmdline"), longest=4, size=6) == [(0, 4), (4, 2)]


@pytest.mark.parametrize("longest", [4096, 65536, MIB])
def test_the_runs_hold_every_byte_that_is_not_zero(tmp_path: Path, longest: int) -> None:
    path = sparse(tmp_path / "f", 3 * MIB + 17, 0, 70000, 200001, 3 * MIB)
    content = path.read_bytes()
    rebuilt = bytearray(len(content))
    for offset, size in runs(path, longest=longest):
        assert offset // longest == (offset + size - 1) // longest
        rebuilt[offset : offset + size] = content[offset : offset + size]
    assert rebuilt == content
