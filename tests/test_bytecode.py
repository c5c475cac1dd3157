"""Bytecode without times: taken over, compiled, kept."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import struct
from pathlib import Path

import pytest

from initramfs.errors import InputError
from mindi.bytecode import Source, compile_sources


def made(*sources: Source, cache: Path | None = None, jobs: int = 1) -> dict[str, bytes]:
    return dict(compile_sources(sources, cache=cache, jobs=jobs))


def answer(pyc: bytes) -> object:
    names: dict[str, object] = {}
    exec(marshal.loads(pyc[16:]), names)  # noqa: S102, S302 our own code
    return names["answer"]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "module.py"
    path.write_text("answer = 42\n")
    return Source(path, "/usr/lib/python3.11/module.py")


def test_header_holds_no_time_and_asks_for_no_source(source: Source) -> None:
    header = made(source)[source.image_path][:16]
    assert header == importlib.util.MAGIC_NUMBER + struct.pack("<IQ", 1, 0)


def test_code_is_the_sources(source: Source) -> None:
    assert answer(made(source)[source.image_path]) == 42


def test_what_the_interpreter_compiled_is_taken(source: Source) -> None:
    other = source.path.with_name("other.py")
    other.write_text("answer = 43\n")
    place = Path(importlib.util.cache_from_source(source.path))
    os.utime(other, ns=(source.path.stat().st_mtime_ns,) * 2)
    py_compile.compile(str(other), cfile=str(place), doraise=True)
    assert answer(made(source)[source.image_path]) == 43


def test_what_was_compiled_of_an_older_source_is_not(source: Source) -> None:
    py_compile.compile(str(source.path), doraise=True)
    source.path.write_text("answer = 44\n")
    os.utime(source.path, (1, 1))
    assert answer(made(source)[source.image_path]) == 44


def test_an_empty_file_of_the_interpreter_is_not_taken(source: Source) -> None:
    place = Path(importlib.util.cache_from_source(source.path))
    place.parent.mkdir()
    place.touch()
    assert answer(made(source)[source.image_path]) == 42


def test_paths_of_the_build_host_stay_out(source: Source) -> None:
    assert str(source.path).encode() not in made(source)[source.image_path]


def test_it_is_the_same_whether_it_was_compiled_before_or_not(source: Source) -> None:
    # Where the interpreter had left its file between two builds, their bytes differed.
    source.path.write_text("def one():\n    return lambda: {'two', 3.0}\n\n\nanswer = one()\n")
    before = made(source)
    py_compile.compile(str(source.path), doraise=True)
    assert made(source) == before


@pytest.mark.slow
def test_several_processes_make_what_one_makes(tmp_path: Path) -> None:
    sources = []
    for number in range(6):
        path = tmp_path / f"big{number}.py"
        path.write_text(f"answer = {number}\n" + "x = [1, 2, 3]\n" * 20_000)
        sources.append(Source(path, f"/lib/big{number}.py"))
    assert made(*sources, jobs=2) == made(*sources, jobs=1)


def test_the_cache_gives_what_it_was_given(source: Source, tmp_path: Path) -> None:
    first = made(source, cache=tmp_path / "cache")
    assert made(source, cache=tmp_path / "cache") == first


def test_the_cache_knows_another_source(source: Source, tmp_path: Path) -> None:
    made(source, cache=tmp_path / "cache")
    source.path.write_text("answer = 45\n")
    assert answer(made(source, cache=tmp_path / "cache")[source.image_path]) == 45


def kept(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_a_cut_cache_is_not_believed(source: Source, tmp_path: Path) -> None:
    made(source, cache=tmp_path / "cache")
    os.truncate(kept(tmp_path / "cache"), kept(tmp_path / "cache").stat().st_size - 7)
    assert answer(made(source, cache=tmp_path / "cache")[source.image_path]) == 42


def test_a_flipped_byte_of_the_cache_is_not_believed(source: Source, tmp_path: Path) -> None:
    # It went into the image: the code was still code, with another answer.
    made(source, cache=tmp_path / "cache")
    place = kept(tmp_path / "cache")
    data = place.read_bytes()
    assert data.count(b"answer") == 1
    place.write_bytes(data.replace(b"answer", b"answes"))
    assert answer(made(source, cache=tmp_path / "cache")[source.image_path]) == 42


def test_a_cache_that_cannot_be_read_is_no_error(source: Source, tmp_path: Path) -> None:
    made(source, cache=tmp_path / "cache")
    place = kept(tmp_path / "cache")
    place.unlink()
    place.mkdir()
    assert answer(made(source, cache=tmp_path / "cache")[source.image_path]) == 42


def test_the_cache_of_bytecode_does_not_grow_for_ever(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mindi.bytecode._CACHE_BYTES", 600)
    for number in range(9):
        source.path.write_text(f"answer = {number}\n")
        made(source, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache/bytecode").iterdir())) < 4


def test_a_cache_that_cannot_be_written_is_no_error(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert made(source, cache=tmp_path / "file" / "cache")


def test_a_source_that_is_no_python_is_named(source: Source) -> None:
    source.path.write_text("this is no Python\n")
    with pytest.raises(InputError, match="cannot compile /usr/lib/python3.11/module.py"):
        made(source)


def test_a_source_that_is_no_python_is_named_by_another_process(tmp_path: Path) -> None:
    sources = []
    for number in range(6):
        path = tmp_path / f"big{number}.py"
        path.write_text("x = [1, 2, 3]\n" * 20_000 + ("no Python\n" if number == 5 else ""))
        sources.append(Source(path, f"/lib/big{number}.py"))
    with pytest.raises(InputError, match="cannot compile /lib/big5.py"):
        made(*sources, jobs=2)
