"""What the command line's words select."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archive.errors import CannotRead, WrongUsage
from archive.selection import parse_excludes, parse_file_list, parse_includes, swap_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make files with awkward names."""
    for name in ("two words", "it's", "one", "two", "[set]", "star*", ".hidden"):
        (tmp_path / name).touch()
    return tmp_path


def includes(folder: Path, *values: str) -> list[str]:
    """Return what is included, relative to the folder."""
    found = parse_includes(values, cwd=os.fsencode(folder))
    return [os.path.relpath(os.fsdecode(path), folder) for path in found]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("one two", ["one", "two"]),
        ("two words", ["two words"]),
        ("'two words' one", ["two words", "one"]),
        (r"two\ words one", ["two words", "one"]),
        ("it's", ["it's"]),
        ("./one//", ["one"]),
        ("star*", ["star*"]),
        ("o* t*", ["one", "two", "two words"]),
        ("*q", []),
        ("[set]", ["[set]"]),
        ("missing", ["missing"]),
        (".h*", [".hidden"]),
    ],
)
def test_includes(folder: Path, value: str, found: list[str]) -> None:
    if not found:
        with pytest.raises(CannotRead, match="Nothing matches"):
            includes(folder, value)
    else:
        assert includes(folder, value) == found


def test_includes_one_by_one(folder: Path) -> None:
    assert includes(folder, "one", "two words", "one") == ["one", "two words"]


@pytest.mark.parametrize("value", ["'open", "", "  "])
def test_refused(folder: Path, value: str) -> None:
    with pytest.raises(WrongUsage):
        includes(folder, value)


def test_dots_are_resolved() -> None:
    assert parse_includes(["/a/../b/./c//"], cwd=b"/") == (b"/b/c",)


def test_two_leading_slashes_are_one() -> None:
    assert parse_includes(["//etc"], cwd=b"/") == (b"/etc",)


def test_excludes_are_patterns() -> None:
    assert parse_excludes(["/var/x/* *.o", "cache"], cwd=b"/") == (b"/var/x/*", b"*.o", b"cache")


def test_an_excluded_path_that_exists_is_no_pattern(folder: Path) -> None:
    found = parse_excludes([f"{folder}/[set]"], cwd=b"/")
    assert found == (os.fsencode(folder) + rb"/\[set]",)


def test_an_excluded_name_is_one_at_any_depth(folder: Path) -> None:
    assert parse_excludes(["one"], cwd=os.fsencode(folder)) == (b"one",)


def test_an_excluded_relative_path_is_made_absolute(folder: Path) -> None:
    assert parse_excludes(["./x*"], cwd=b"/there") == (b"/there/x*",)


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"/a\n/b c\n\nd\n", (b"/a", b"/b c", b"/w/d")),
        (b"/a\r\n/b", (b"/a", b"/b")),
        (b"/new\nline\0/b\0", (b"/new\nline", b"/b")),
        (b"/a\n/a\n/a/\n", (b"/a",)),
        (b"/\xff\n", (b"/\xff",)),
        (b"", ()),
    ],
    ids=["lines", "dos", "nul", "twice", "no-utf8", "empty"],
)
def test_file_lists(data: bytes, paths: tuple[bytes, ...]) -> None:
    assert parse_file_list(data, cwd=b"/w") == paths


def test_swap_files_are_named() -> None:
    swaps = (
        b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        b"/dev/dm-1                               partition\t999420\t\t0\t\t-2\n"
        b"/swap\\040file                            file\t\t1048572\t\t0\t\t-3\n"
    )
    assert swap_files(swaps) == (b"/swap file",)


def test_no_swap_is_fine() -> None:
    assert swap_files(b"Filename\tType\n") == ()
