"""The cache folder is found where users expect it, and trusted only if it is their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from initramfs.errors import InputError
from mindi.cachefolder import cache_folder, check_cache, own_cache


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"MINDI_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/mindi"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/c"}, "/c/.cache/mindi"),
    ],
    ids=["ours", "xdg", "home"],
)
def test_the_folder_is_named_by_the_environment(environ: dict[str, str], folder: str) -> None:
    assert cache_folder(environ) == Path(folder)


def test_a_new_cache_is_for_its_owner_alone(tmp_path: Path) -> None:
    own_cache(tmp_path / "above/cache")
    assert (tmp_path / "above/cache").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_may_read_is_good(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o755)
    assert own_cache(tmp_path / "cache") == tmp_path / "cache"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777], ids=oct)
def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(InputError, match="other users may write"):
        own_cache(tmp_path)


def test_a_cache_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path
    if os.geteuid() == 0:
        os.chown(folder, 65534, -1)
    else:
        folder = Path("/usr")
    with pytest.raises(InputError, match="belongs to user"):
        check_cache(folder)


def test_a_cache_that_cannot_be_made_stops_nobody_who_needs_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert own_cache(tmp_path / "file/cache") == tmp_path / "file/cache"
