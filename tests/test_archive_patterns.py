"""Patterns for what is left out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from archive.errors import WrongUsage
from archive.patterns import Patterns, has_wildcards, literal


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (b"/tmp", b"tmp"),
        (b"/tmp", b"tmp/deep/below"),
        (b"/tmp/", b"tmp"),
        (b"//tmp", b"tmp"),
        (b"/a/b*", b"a/bcd"),
        (b"/a/b*", b"a/bcd/below"),
        (b"/a/*/c", b"a/b/c"),
        (b"/a/**/c", b"a/c"),
        (b"/a/**/c", b"a/x/y/c"),
        (b"/a/**", b"a/x/y"),
        (b"/a**z", b"ab/cz"),
        (b"*.o", b"src/x.o"),
        (b"*.o", b"x.o/below"),
        (b"cache", b"home/ann/cache"),
        (b"ann/cache", b"home/ann/cache/x"),
        (b"ann/cache", b"ann/cache"),
        (b"?", b"dir/x"),
        (b"caf?", "café".encode()),
        (b"caf?", b"caf\xe9"),
        (b"caf??", "café!".encode()),
        (b"[a-c]x", b"bx"),
        (b"[!a-c]x", b"dx"),
        (b"[^a-c]x", b"dx"),
        (b"[]]", b"]"),
        (b"[!]]", b"x"),
        (b"[a-]", b"-"),
        ("[äö]".encode(), "ö".encode()),
        ("[!äö]".encode(), "ü".encode()),
        (b"[", b"["),
        (b"[a", b"[a"),
        (rb"\*", b"*"),
        (rb"a\\b", rb"a\b"),
        (b"a\\", b"a\\"),
        (b"a.b", b"a.b"),
        (b"new\nline*", b"new\nline\n"),
        (b"\xff*", b"\xff\xfe"),
        (b"*", b".hidden"),
    ],
)
def test_matched(pattern: bytes, path: bytes) -> None:
    assert Patterns((pattern,)).match(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (b"/tmp", b"tmpx"),
        (b"/tmp", b"var/tmp"),
        (b"/tmp/*", b"tmp"),
        (b"/a/b*", b"a/x/b"),
        (b"/a/*/c", b"a/b/x/c"),
        (b"/a/**", b"a"),
        (b"*.o", b"x.oo"),
        (b"nn/cache", b"home/ann/cache"),
        (b"?", b"xy"),
        (b"caf?", "café!".encode()),
        (b"a?b", b"a/b"),
        (b"[a-c]x", b"dx"),
        (b"[!a]b", b"ab"),
        (b"a[!x]b", b"a/b"),
        ("[äö]".encode(), "ü".encode()),
        (rb"\*", b"x"),
        (b"a.b", b"axb"),
        (b"a", b""),
    ],
)
def test_not_matched(pattern: bytes, path: bytes) -> None:
    assert not Patterns((pattern,)).match(path)


def test_several() -> None:
    patterns = Patterns((b"/tmp/*", b"*.o", b"/var/cache"))
    paths = [b"tmp", b"tmp/x", b"x.o", b"var", b"var/cache"]
    assert [patterns.match(path) for path in paths] == [False, True, True, False, True]


def test_none_matches_nothing() -> None:
    assert not Patterns().match(b"tmp")


@pytest.mark.parametrize("pattern", [b"", b"/", b"//", b"a\0b", b"[a-\xf0\x9f\x98\x80]"])
def test_refused(pattern: bytes) -> None:
    with pytest.raises(WrongUsage):
        Patterns((pattern,))


@pytest.mark.parametrize("name", [b"a*b", b"[x]", b"why?", b"back\\slash", b"plain"])
def test_a_literal_name_matches_itself_alone(name: bytes) -> None:
    assert Patterns((literal(name),)).match(name)
    assert not Patterns((literal(name),)).match(name + b"x")
    assert has_wildcards(name) == (name not in (b"plain", b"back\\slash"))


@pytest.mark.parametrize(
    "glob", ["*", "?", "a*", "*b", "[ab]*", "[!ab]*", "?b*", "a[]b]*", r"\**", "[a-b]?"]
)
def test_find_matches_the_same_names(glob: str, tmp_path: Path) -> None:
    names = ["a", "b", "ab", "a]", "*", "*x", "ba", "éb", "x b", "[", "-"]
    for name in names:
        (tmp_path / name).touch()
    argv = ["find", ".", "-mindepth", "1", "-name", glob, "-printf", r"%f\0"]
    done = subprocess.run(
        argv, cwd=tmp_path, check=True, capture_output=True, env={"LC_ALL": "C.UTF-8"}
    )
    patterns = Patterns((glob.encode(),))
    ours = [name for name in names if patterns.match(name.encode())]
    assert sorted(done.stdout.decode().split("\0")[:-1]) == sorted(ours)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("*?" * 20 + "x", "a" * 200), ("/**a*" * 20 + "x", "a/" * 500 + "a" * 200)],
    ids=["within a name", "over directories"],
)
def test_many_stars_take_no_time(pattern: str, path: str) -> None:
    """A test of its end: with each way tried, it would take years."""
    assert not Patterns((pattern.encode(),)).match(path.encode())


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        *(("/a*b*c", "axbxbxc"), ("/**a*b", "a/xab"), ("/**a*b**c*d", "a/ab/acd/cxd")),
        *(("/**/a/*b", "x/a/y/a/xb"), ("a/**/b/*", "x/a/b/b/c"), ("*a*?b", "aaxb")),
        *(("/**a*b**a*c", "ab/a/abac"), ("/*/**/*x", "a/x"), ("/**a**b*", "x/ax/bb")),
    ],
)
def test_stars_find_what_there_is_to_be_found(pattern: str, path: str) -> None:
    assert Patterns((pattern.encode(),)).match(path.encode())


@pytest.mark.parametrize("number", [1, 100_000])
def test_patterns_beyond_measure_are_refused(number: int) -> None:
    texts = (b"[\x01-\xcf\xa0]" * (100_000 // number + 10),) * number
    with pytest.raises(WrongUsage, match="too long"):
        Patterns(texts)
