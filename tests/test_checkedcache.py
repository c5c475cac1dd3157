"""What is kept comes back as it was, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from initramfs.checkedcache import HEAD_BYTES, CheckedCache

LIMIT = 1 << 20


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    CheckedCache(tmp_path / "made", limit_bytes=LIMIT).store("key", b"data")
    assert CheckedCache(tmp_path / "made", limit_bytes=LIMIT).load("key") == b"data"


def test_what_was_not_kept_is_not_there(tmp_path: Path) -> None:
    assert CheckedCache(tmp_path / "none", limit_bytes=LIMIT).load("key") is None


def test_data_begins_behind_the_head(tmp_path: Path) -> None:
    CheckedCache(tmp_path, limit_bytes=LIMIT).store("key", b"data")
    assert (tmp_path / "key").read_bytes()[HEAD_BYTES:] == b"data"


@pytest.mark.parametrize("place", range(HEAD_BYTES + 4))
def test_no_byte_of_an_entry_can_change_unseen(place: int, tmp_path: Path) -> None:
    cache = CheckedCache(tmp_path, limit_bytes=LIMIT)
    cache.store("key", b"data")
    data = bytearray((tmp_path / "key").read_bytes())
    data[place] ^= 1
    (tmp_path / "key").write_bytes(data)
    assert cache.load("key") is None


@pytest.mark.parametrize("size", [0, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 3])
def test_an_entry_cut_short_is_none(size: int, tmp_path: Path) -> None:
    cache = CheckedCache(tmp_path, limit_bytes=LIMIT)
    cache.store("key", b"data")
    os.truncate(tmp_path / "key", size)
    assert cache.load("key") is None


def test_an_entry_of_another_key_is_none(tmp_path: Path) -> None:
    cache = CheckedCache(tmp_path, limit_bytes=LIMIT)
    cache.store("key", b"data")
    (tmp_path / "key").rename(tmp_path / "other")
    assert cache.load("other") is None


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    assert CheckedCache(tmp_path, limit_bytes=LIMIT).load("key") is None


def test_what_cannot_be_used_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").touch()
    cache = CheckedCache(tmp_path / "cache/file", limit_bytes=LIMIT)
    for key in ("one", "two"):
        assert cache.load(key) is None
        cache.store(key, b"data")
        cache.evict()
    assert caplog.messages == [f"cannot use the cache in {tmp_path / 'cache'}: Not a directory"]


def test_damage_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = CheckedCache(tmp_path / "made", limit_bytes=LIMIT)
    for key in ("one", "two"):
        cache.store(key, b"data")
        (tmp_path / "made" / key).write_bytes(b"damaged")
        assert cache.load(key) is None
    assert caplog.messages == [f"what is in the cache in {tmp_path} is damaged"]


def test_what_was_of_use_longest_ago_is_dropped(tmp_path: Path) -> None:
    cache = CheckedCache(tmp_path, limit_bytes=3000)
    for key in ("a", "b", "c"):
        cache.store(key, bytes(1000))
        os.utime(tmp_path / key, (ord(key), ord(key)))
    cache.load("a")
    cache.evict()
    assert [key for key in "abc" if cache.load(key)] == ["a", "c"]


def test_a_link_to_nowhere_does_not_end_tidying(tmp_path: Path) -> None:
    cache = CheckedCache(tmp_path, limit_bytes=100)
    cache.store("key", bytes(1000))
    (tmp_path / "lost").symlink_to("nowhere")
    cache.evict()
    assert cache.load("key") is None
