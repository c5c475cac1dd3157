"""The manifest on its medium: either of two files is enough, and what is wrong is told."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from archive.errors import SetDamaged
from archive.manifest import Kind
from archive.manifestfile import (
    MANIFEST,
    MANIFEST_COPY,
    has_manifest,
    manifest_faults,
    read_manifest,
)
from archive.setfolder import chain, finish, new_partial
from tests.support.sets import NOW, manifest

TOLD = manifest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return finish(new_partial(tmp_path, Kind.FULL, NOW), TOLD)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x04
    path.write_bytes(data)


def test_both_are_sound(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert (folder / MANIFEST).read_bytes() == (folder / MANIFEST_COPY).read_bytes()
    assert read_manifest(folder) == TOLD
    assert manifest_faults(folder) == ()
    assert caplog.text == ""


@pytest.mark.parametrize("spoil", [flip, Path.unlink], ids=["flipped", "gone"])
@pytest.mark.parametrize("name", [MANIFEST, MANIFEST_COPY])
def test_one_is_enough(
    folder: Path, name: str, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(spoil)
    spoil(folder / name)
    with caplog.at_level(logging.WARNING):
        assert read_manifest(folder) == TOLD
    assert ("using the copy" in caplog.text) == (name == MANIFEST)
    assert len(chain(folder.parent)) == 1
    (fault,) = manifest_faults(folder)
    assert fault.path == folder / name
    assert fault.is_missing == (spoil is Path.unlink)


@pytest.mark.parametrize("spoil", [flip, Path.unlink], ids=["flipped", "gone"])
def test_without_both_there_is_nothing(folder: Path, spoil: object) -> None:
    assert callable(spoil)
    for name in (MANIFEST, MANIFEST_COPY):
        spoil(folder / name)
    with pytest.raises(SetDamaged, match=str(folder / MANIFEST)):
        read_manifest(folder)
    assert len(manifest_faults(folder)) == 2
    assert has_manifest(folder) == (spoil is flip)
    assert len(chain(folder.parent)) == (spoil is flip)


def test_the_copy_of_another_set_is_told(folder: Path) -> None:
    (folder / MANIFEST_COPY).write_bytes(manifest().to_json())
    (fault,) = manifest_faults(folder)
    assert fault.path == folder / MANIFEST_COPY


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetDamaged, match="No such file") as caught:
        read_manifest(tmp_path)
    assert "no backup set" in str(caught.value.hint)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    for name in (MANIFEST, MANIFEST_COPY):
        os.mkfifo(tmp_path / name)
    with pytest.raises(SetDamaged, match="no regular file"):
        read_manifest(tmp_path)
