"""lzop files: header, blocks, checksums, against lzop itself."""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.lzop import BLOCK_SIZE, END, MAGIC, LzopDamaged, blocks, header, unpack
from tests.support.tools import require_tool

TEXT = b"".join(b"line %d of a text that shrinks\n" % number for number in range(20_000))
NOISE = random.Random(1).randbytes(BLOCK_SIZE + 1000)  # noqa: S311


def lzop(data: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run lzop on its standard input."""
    return subprocess.run(
        [require_tool("lzop"), *options], input=data, capture_output=True, check=False
    )


def lengths(run: bytes) -> list[tuple[int, int]]:
    """Return what each block of a run says of its length: of the data, and as stored."""
    found = []
    place = 0
    while place < len(run):
        raw, stored = struct.unpack_from(">II", run, place)
        found.append((raw, stored))
        place += 12 + stored
    return found


def with_flags(flags: int) -> bytes:
    """Return a header that has other flags, and a right checksum."""
    fields = bytearray(header(1)[len(MAGIC) : -4])
    fields[8:12] = flags.to_bytes(4)
    return MAGIC + bytes(fields) + zlib.adler32(fields).to_bytes(4)


@pytest.mark.parametrize("level", range(1, 10))
def test_lzop_finds_no_fault_with_a_file_of_ours(level: int) -> None:
    whole = header(level) + blocks(TEXT, level) + blocks(NOISE, level) + END
    assert lzop(whole, "-t").returncode == 0
    assert lzop(whole, "-dc").stdout == TEXT + NOISE


def test_lzop_finds_a_flipped_byte() -> None:
    whole = bytearray(header(3) + blocks(TEXT, 3) + END)
    whole[2000] ^= 1
    assert lzop(bytes(whole), "-t").returncode != 0


@pytest.mark.parametrize(("level", "method"), [(1, "LZO1X-1"), (6, "LZO1X-1"), (9, "LZO1X-999/9")])
def test_lzop_reads_the_method_and_the_size(level: int, method: str, tmp_path: Path) -> None:
    made = tmp_path / "made.lzo"
    made.write_bytes(header(level) + blocks(TEXT, level) + END)
    argv = [require_tool("lzop"), "--list", made]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = listed.splitlines()[1].split()
    assert (found[0], found[2]) == (method, str(len(TEXT)))


def test_blocks_hold_256_kib_at_most() -> None:
    run = blocks(TEXT, 1)
    assert [raw for raw, _ in lengths(run)] == [BLOCK_SIZE, BLOCK_SIZE, len(TEXT) - 2 * BLOCK_SIZE]
    assert all(stored < raw for raw, stored in lengths(run))


def test_what_does_not_shrink_is_stored() -> None:
    assert lengths(blocks(NOISE, 9)) == [(BLOCK_SIZE, BLOCK_SIZE), (1000, 1000)]
    assert unpack(blocks(NOISE, 9), len(NOISE)) == NOISE


def test_no_data_are_no_block() -> None:
    assert blocks(b"", 1) == b""
    assert unpack(b"", 0) == b""


@pytest.mark.parametrize("options", [["-1"], ["-3"], ["-9"]], ids=["1", "3", "9"])
def test_files_of_lzop_are_read(options: list[str]) -> None:
    assert unpack(lzop(TEXT + NOISE, "-c", *options).stdout, len(TEXT + NOISE)) == TEXT + NOISE


def test_a_file_of_lzop_with_a_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "name of a file").write_bytes(TEXT)
    subprocess.run([require_tool("lzop"), "name of a file"], cwd=tmp_path, check=True)
    assert unpack((tmp_path / "name of a file.lzo").read_bytes(), len(TEXT)) == TEXT


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(0x03000000, id="no-checksum"),
        pytest.param(0x03000003, id="checksum-of-stored"),
        pytest.param(0x03000100, id="crc32"),
        pytest.param(0x03000801, id="filter"),
        pytest.param(0x03000401, id="multipart"),
    ],
)
def test_other_layouts_are_refused(flags: int) -> None:
    with pytest.raises(LzopDamaged, match="flags"):
        unpack(with_flags(flags) + blocks(TEXT, 1) + END, len(TEXT))


def test_a_header_with_a_wrong_checksum_is_damaged() -> None:
    front = bytearray(header(1))
    front[-1] ^= 1
    with pytest.raises(LzopDamaged, match="wrong checksum"):
        unpack(bytes(front) + blocks(TEXT, 1) + END, len(TEXT))


def test_a_file_without_its_end_is_damaged() -> None:
    with pytest.raises(LzopDamaged, match="end"):
        unpack(header(1) + blocks(TEXT, 1), len(TEXT))


def test_a_header_that_is_cut_off_is_damaged() -> None:
    front = header(1)
    for end in range(len(MAGIC), len(front)):
        with pytest.raises(LzopDamaged):
            unpack(front[:end], 0)
        with pytest.raises(LzopDamaged):
            unpack(front[:end] + END, 0)


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        pytest.param(0, 0, id="zeros"),
        pytest.param(0, 5, id="nothing-in-something"),
        pytest.param(5, 0, id="something-in-nothing"),
        pytest.param(5, 6, id="grown"),
        pytest.param(BLOCK_SIZE + 1, 5, id="too-large"),
        pytest.param(0xFFFFFFFF, 0xFFFFFFFF, id="huge"),
        pytest.param(100, 5, id="more-than-there-should-be"),
        pytest.param(10, 10, id="behind-the-end"),
    ],
)
def test_impossible_lengths_are_damage(raw: int, stored: int) -> None:
    block = struct.pack(">III", raw, stored, 1) + b"12345"
    with pytest.raises(LzopDamaged, match="impossible lengths"):
        unpack(block, 20)


def test_a_wrong_checksum_is_damage() -> None:
    block = bytearray(blocks(b"stored", 1))
    block[-1] ^= 1
    with pytest.raises(LzopDamaged, match="checksum"):
        unpack(bytes(block), 6)


def test_a_block_too_few_is_damage() -> None:
    with pytest.raises(LzopDamaged, match="bytes less"):
        unpack(blocks(TEXT[:BLOCK_SIZE], 1), len(TEXT))


@given(st.binary(max_size=3000), st.integers(1, 9), st.booleans())
def test_any_data_come_back(data: bytes, level: int, whole: bool) -> None:
    run = blocks(data, level)
    assert unpack(header(level) + run + END if whole else run, len(data)) == data


@given(st.binary(max_size=300), st.integers(0, 1 << 20), st.booleans())
def test_any_bytes_behind_a_header_are_read_or_damaged(data: bytes, size: int, front: bool) -> None:
    try:
        assert len(unpack(header(1) + data + END if front else data, size)) == size
    except LzopDamaged as error:
        assert str(error)
