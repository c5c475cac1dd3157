"""Compressed modules and firmware are read whole, or refused with a reason."""

from __future__ import annotations

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
