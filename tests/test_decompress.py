"""Compressed modules and firmware are read whole, or refused with a reason."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from initramfs.decompress import Compression, decompress, decompressed
from initramfs.errors import InputError
from tests.support.modules import COMPRESSORS

CONTENT = b"\x7fELF" + bytes(range(256)) * 300
SUFFIXES = [pytest.param(suffix, id=suffix or "plain") for suffix in COMPRESSORS]
COMPRESSED = [pytest.param(suffix, id=suffix) for suffix in COMPRESSORS if suffix]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_gives_back_what_was_compressed(suffix: str) -> None:
    assert decompress(COMPRESSORS[suffix](CONTENT), origin="x") == CONTENT


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_reads_all_frames(suffix: str) -> None:
    compress = COMPRESSORS[suffix]

    assert decompress(compress(CONTENT) + compress(b"more"), origin="x") == CONTENT + b"more"


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_tells_the_format_by_content_not_by_name(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / "m.ko"
    file.write_bytes(COMPRESSORS[suffix](CONTENT))

    assert Compression.of(file.read_bytes()) is not Compression.PLAIN
    assert decompressed(file) == CONTENT


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_refuses_a_truncated_file(suffix: str) -> None:
    cut = COMPRESSORS[suffix](CONTENT)[:-9]

    with pytest.raises(InputError, match=r"^/m\.ko: damaged"):
        decompress(cut, origin="/m.ko")


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_refuses_a_damaged_file(suffix: str) -> None:
    bad = bytearray(COMPRESSORS[suffix](CONTENT))
    for at in range(10, 40):
        bad[at] ^= 0xFF

    with pytest.raises(InputError, match="damaged"):
        decompress(bytes(bad), origin="/m.ko")


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read .*absent.ko: No such file"):
        decompressed(tmp_path / "absent.ko")


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_refuses_what_unpacks_to_more_than_the_limit(suffix: str) -> None:
    bomb = COMPRESSORS[suffix](bytes(3 << 20))

    with pytest.raises(InputError, match=r"^/m\.ko: unpacks to more than 1048576 bytes"):
        decompress(bomb, origin="/m.ko", limit_bytes=1 << 20)


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_counts_all_frames_against_the_limit(suffix: str) -> None:
    frames = COMPRESSORS[suffix](bytes(1 << 10)) * 5

    with pytest.raises(InputError, match="unpacks to more"):
        decompress(frames, origin="/m.ko", limit_bytes=4 << 10)


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_takes_as_much_as_the_limit(suffix: str) -> None:
    content = bytes(5 << 20)

    assert decompress(COMPRESSORS[suffix](content), origin="x", limit_bytes=5 << 20) == content


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_does_not_unpack_beyond_the_limit_and_a_step(suffix: str) -> None:
    bomb = COMPRESSORS[suffix](bytes(160 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="unpacks to more"):
            decompress(bomb, origin="/m.ko", limit_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_zeros_behind_the_last_frame_are_padding(suffix: str) -> None:
    assert decompress(COMPRESSORS[suffix](CONTENT) + bytes(8), origin="x") == CONTENT
