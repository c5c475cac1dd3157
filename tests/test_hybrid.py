"""The partition tables of an image, against sgdisk and sfdisk, and bit by bit where it matters."""

from __future__ import annotations

import io
import struct
import subprocess
import uuid
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.errors import InputError, OutputError
from mindi.hybrid import (
    CYLINDER_BYTES,
    GPT_BACKUP_BYTES,
    MIN_PADDING_BYTES,
    SYSTEM_AREA_BYTES,
    Hybrid,
    backup_gpt,
    check_hybrid,
    make_hybrid,
    padded_size,
    system_area,
)
from tests.support.tools import require_tool

CONTENT_BYTES = 9 * 1024 * 1024 + 2048
ESP = (100 * 2048, 3_000_320)
HYBRID = Hybrid(
    size_bytes=padded_size(CONTENT_BYTES),
    mbr_code=b"\x90" * 432,
    isolinux_block=1234,
    esp=ESP,
    disk=uuid.UUID("11111111-2222-5333-8444-555555555555"),
    partition=uuid.UUID("66666666-7777-5888-8999-aaaaaaaaaaaa"),
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of zeros that has been made a disk."""
    path = tmp_path / "image"
    with path.open("wb+") as stream:
        stream.truncate(CONTENT_BYTES)
        make_hybrid(stream, HYBRID, content_bytes=CONTENT_BYTES)
    return path


def entries(mbr: bytes) -> list[tuple[int, int, int, int]]:
    """Return status, type, first sector and sectors of the four partitions of an MBR."""
    found = []
    for offset in range(446, 510, 16):
        status, kind, first, count = struct.unpack("<B3xB3xII", mbr[offset : offset + 16])
        found.append((status, kind, first, count))
    return found


def test_sgdisk_finds_no_problem(image: Path) -> None:
    sgdisk = require_tool("sgdisk", package="gdisk")
    done = subprocess.run([sgdisk, "-v", image], capture_output=True, text=True, check=False)
    assert "No problems found" in done.stdout
    assert done.returncode == 0


def test_sgdisk_finds_a_problem_where_there_is_one(image: Path) -> None:
    sgdisk = require_tool("sgdisk", package="gdisk")
    with image.open("rb+") as stream:
        stream.seek(1024 + 40)
        stream.write(b"\xff")
    done = subprocess.run([sgdisk, "-v", image], capture_output=True, text=True, check=False)
    assert "No problems found" not in done.stdout


def test_sgdisk_reads_the_system_partition(image: Path) -> None:
    sgdisk = require_tool("sgdisk", package="gdisk")
    said = subprocess.run([sgdisk, "-i", "1", image], capture_output=True, text=True, check=True)
    assert "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" in said.stdout
    assert "First sector: 400 " in said.stdout
    assert f"Last sector: {400 + 5860 - 1} " in said.stdout
    assert str(HYBRID.partition).upper() in said.stdout


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_sfdisk_finds_no_error_by_either_table(image: Path, label: str) -> None:
    sfdisk = require_tool("sfdisk", package="fdisk")
    said = subprocess.run(
        [sfdisk, "--verify", "--label", label, image], capture_output=True, text=True, check=True
    )
    assert "No errors detected" in said.stdout


def test_the_code_finds_isolinux() -> None:
    area = system_area(HYBRID)
    assert area[:432] == HYBRID.mbr_code
    assert struct.unpack_from("<Q", area, 432) == (1234 * 4,)
    assert area[510:512] == b"\x55\xaa"


def test_an_entry_is_active_and_none_overlaps() -> None:
    found = [entry for entry in entries(system_area(HYBRID)) if entry[3]]
    assert [kind for _, kind, _, _ in found] == [0, 0xEE, 0xEF]
    assert [status for status, _, _, _ in found] == [0x80, 0, 0]
    ends = [first + count for _, _, first, count in found]
    assert all(end <= first for end, (_, _, first, _) in zip(ends, found[1:], strict=False))


def test_both_headers_have_right_checksums_and_name_each_other(image: Path) -> None:
    data = image.read_bytes()
    last = len(data) // 512 - 1
    for own, other in ((1, last), (last, 1)):
        header = bytearray(data[own * 512 : own * 512 + 92])
        stored = struct.unpack_from("<I", header, 16)[0]
        struct.pack_into("<I", header, 16, 0)
        assert stored == zlib.crc32(header)
        assert struct.unpack_from("<QQ", header, 24) == (own, other)
        table_at, count, size, checksum = struct.unpack_from("<QIII", header, 72)
        assert checksum == zlib.crc32(data[table_at * 512 : table_at * 512 + count * size])


def test_an_image_without_uefi_has_an_mbr_alone() -> None:
    plain = replace(HYBRID, esp=None)
    assert [kind for _, kind, _, count in entries(system_area(plain)) if count] == [0]
    assert system_area(plain)[512:].count(0) == SYSTEM_AREA_BYTES - 512
    assert backup_gpt(plain) == b""


def test_an_image_without_bios_has_no_code() -> None:
    area = system_area(replace(HYBRID, mbr_code=None, isolinux_block=None))
    assert area[:440].count(0) == 440


def test_code_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match="440 bytes"):
        system_area(replace(HYBRID, mbr_code=bytes(440)))


@pytest.mark.parametrize("size_bytes", [0, 1, CONTENT_BYTES, 4 * CYLINDER_BYTES, 5 << 30])
def test_padding_is_large_enough_and_whole_cylinders(size_bytes: int) -> None:
    padded = padded_size(size_bytes)
    assert padded % CYLINDER_BYTES == 0
    assert MIN_PADDING_BYTES <= padded - size_bytes < MIN_PADDING_BYTES + CYLINDER_BYTES


def test_content_is_left_as_it_is() -> None:
    content = bytes(SYSTEM_AREA_BYTES) + b"\xa5" * (CONTENT_BYTES - SYSTEM_AREA_BYTES)
    image = io.BytesIO(content)
    make_hybrid(image, HYBRID, content_bytes=CONTENT_BYTES)
    assert image.getvalue()[SYSTEM_AREA_BYTES:CONTENT_BYTES] == content[SYSTEM_AREA_BYTES:]


def test_a_backup_table_over_content_is_refused() -> None:
    short = replace(HYBRID, size_bytes=CONTENT_BYTES + GPT_BACKUP_BYTES - 512)
    with pytest.raises(OutputError, match="no room"):
        make_hybrid(io.BytesIO(), short, content_bytes=CONTENT_BYTES)


def test_a_sound_image_is_found_sound(image: Path) -> None:
    with image.open("rb") as stream:
        check_hybrid(stream, HYBRID)


@pytest.mark.parametrize("offset", [0, 432, 450, 520, 1024, -1, -512, -600])
def test_a_flipped_bit_in_a_table_is_found(image: Path, offset: int) -> None:
    data = bytearray(image.read_bytes())
    data[offset] ^= 1
    with pytest.raises(OutputError, match="read back different"):
        check_hybrid(io.BytesIO(data), HYBRID)


def test_a_gigantic_image_still_has_a_protective_entry() -> None:
    large = replace(HYBRID, size_bytes=padded_size(3 << 40))
    assert [kind for _, kind, _, count in entries(system_area(large)) if count] == [0, 0xEE, 0xEF]
