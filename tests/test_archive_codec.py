"""Frames: every codec at every level, checked against the codec's own program; damage; bombs."""

from __future__ import annotations

import argparse
import bz2
import contextlib
import functools
import gzip
import lzma
import random
import subprocess
import sys
import typing
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from archive.codec import (
    FRAME_LIMIT,
    Codec,
    FrameCompressor,
    FrameDamaged,
    Packing,
    decompress,
)
from tests.support.tools import require_tool

COMPRESSED = [codec for codec in Codec if codec is not Codec.NONE]
LEVELS = range(10)
PROGRAMS = {
    Codec.NONE: "cat",
    Codec.GZIP: "gzip",
    Codec.BZIP2: "bzip2",
    Codec.LZO: "lzop",
    Codec.XZ: "xz",
    Codec.ZSTD: "zstd",
}

TEXT = b"".join(b"line %d of a text that shrinks\n" % number for number in range(12_000))
NOISE = random.Random(1).randbytes(300_000)  # noqa: S311
SAMPLES = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"x", id="a-byte"),
    pytest.param(TEXT, id="text"),
    pytest.param(NOISE, id="noise"),
    pytest.param(bytes(1_000_000), id="zeros"),
    pytest.param(TEXT[:5000] + NOISE + TEXT, id="mixed"),
]
every_codec = pytest.mark.parametrize("codec", list(Codec), ids=lambda codec: codec.name)
every_compression = pytest.mark.parametrize("codec", COMPRESSED, ids=lambda codec: codec.name)
every_level = pytest.mark.parametrize("level", LEVELS)


def file_of(compressor: FrameCompressor, *pieces: bytes) -> bytes:
    """Return a file of one frame for each piece."""
    frames = b"".join(compressor.compress(piece) for piece in pieces)
    return compressor.prologue + frames + compressor.epilogue


def through(argv: list[str], data: bytes) -> bytes:
    """Return what a program makes of its standard input."""
    program = require_tool(argv[0], package="xz-utils" if argv[0] == "xz" else None)
    return subprocess.run([program, *argv[1:]], input=data, check=True, capture_output=True).stdout


@every_codec
@pytest.mark.parametrize("data", SAMPLES)
def test_a_frame_gives_back_what_was_packed(codec: Codec, data: bytes) -> None:
    assert decompress(codec, FrameCompressor(codec).compress(data), len(data)) == data


@every_codec
@every_level
def test_every_level_packs_frames_that_its_program_reads(codec: Codec, level: int) -> None:
    pieces = (TEXT[:40_000], NOISE[:20_000], b"", TEXT[:1], TEXT[-9_000:])
    compressor = FrameCompressor(codec, level)
    frames = file_of(compressor, *pieces)
    argv = [PROGRAMS[codec]] if codec is Codec.NONE else [PROGRAMS[codec], "-dc"]
    assert through(argv, frames) == b"".join(pieces)
    for piece in pieces:
        assert decompress(codec, compressor.compress(piece), len(piece)) == piece


@every_codec
def test_the_same_data_always_give_the_same_frame(codec: Codec) -> None:
    used = FrameCompressor(codec)
    used.compress(NOISE)
    assert used.compress(TEXT) == FrameCompressor(codec).compress(TEXT)


@every_codec
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_all_kinds_of_memory_are_taken(codec: Codec, kind: type) -> None:
    frame = FrameCompressor(codec).compress(kind(TEXT))
    assert type(frame) is bytes
    assert decompress(codec, memoryview(frame), len(TEXT)) == TEXT
    assert type(decompress(codec, frame, len(TEXT))) is bytes


@every_compression
def test_the_highest_level_is_no_larger_than_the_lowest(codec: Codec) -> None:
    data = Path(argparse.__file__).read_bytes() + Path(typing.__file__).read_bytes()
    large, small = (len(FrameCompressor(codec, level).compress(data)) for level in (0, 9))
    assert small <= large < len(data)


@pytest.mark.parametrize(
    ("codec", "argv"),
    [
        pytest.param(Codec.GZIP, ["gzip", "-c"], id="gzip"),
        pytest.param(Codec.GZIP, ["gzip", "-9c"], id="gzip-9"),
        pytest.param(Codec.BZIP2, ["bzip2", "-c"], id="bzip2"),
        pytest.param(Codec.LZO, ["lzop", "-c"], id="lzop"),
        pytest.param(Codec.LZO, ["lzop", "-1c"], id="lzop-1"),
        pytest.param(Codec.LZO, ["lzop", "-9c"], id="lzop-9"),
        pytest.param(Codec.XZ, ["xz", "-c"], id="xz"),
        pytest.param(Codec.XZ, ["xz", "-0c", "--block-size=100000"], id="xz-blocks"),
        pytest.param(Codec.ZSTD, ["zstd", "-c", f"--stream-size={len(TEXT)}"], id="zstd"),
    ],
)
def test_frames_of_the_program_itself_are_read(codec: Codec, argv: list[str]) -> None:
    assert decompress(codec, through(argv, TEXT), len(TEXT)) == TEXT


@every_codec
@pytest.mark.parametrize("wrong", [-1, 1, 100_000])
def test_a_frame_of_another_size_is_damaged(codec: Codec, wrong: int) -> None:
    frame = FrameCompressor(codec).compress(TEXT)
    with pytest.raises(FrameDamaged):
        decompress(codec, frame, len(TEXT) + wrong)


@every_codec
def test_a_frame_that_should_be_empty_and_is_not_is_damaged(codec: Codec) -> None:
    with pytest.raises(FrameDamaged):
        decompress(codec, FrameCompressor(codec).compress(TEXT), 0)


@every_compression
@pytest.mark.parametrize("size", [-1, FRAME_LIMIT + 1, 1 << 40, 1 << 70])
def test_impossible_sizes_are_refused_before_any_work(codec: Codec, size: int) -> None:
    with pytest.raises(FrameDamaged):
        decompress(codec, FrameCompressor(codec).compress(TEXT), size)


@every_codec
@pytest.mark.parametrize("more", [b"\0", b"x" * 100], ids=["a-zero", "letters"])
def test_what_follows_a_frame_is_damage(codec: Codec, more: bytes) -> None:
    frame = FrameCompressor(codec).compress(TEXT)
    with pytest.raises(FrameDamaged):
        decompress(codec, frame + more, len(TEXT))


@every_codec
def test_a_frame_that_is_cut_off_is_damaged(codec: Codec) -> None:
    data = TEXT[:2000]
    frame = FrameCompressor(codec).compress(data)
    for end in range(len(frame)):
        with pytest.raises(FrameDamaged):
            decompress(codec, frame[:end], len(data))


@every_compression
def test_a_flipped_bit_is_found_or_harmless(codec: Codec) -> None:
    """Some bits mean nothing (gzip's time, the padding of bzip2): then the data are right."""
    data = TEXT[:3000]
    frame = FrameCompressor(codec).compress(data)
    found = 0
    for place in range(len(frame)):
        damaged = bytearray(frame)
        damaged[place] ^= 1 << place % 8
        try:
            assert decompress(codec, bytes(damaged), len(data)) == data
        except FrameDamaged:
            found += 1
    assert found > 0.9 * len(frame)


@given(st.sampled_from(COMPRESSED), st.binary(max_size=400), st.integers(-1, 1 << 20))
def test_any_bytes_are_a_frame_or_damaged(codec: Codec, data: bytes, raw_size: int) -> None:
    with contextlib.suppress(FrameDamaged):
        assert len(decompress(codec, data, raw_size)) == raw_size


@given(st.sampled_from(COMPRESSED), st.data())
def test_any_change_of_a_frame_is_found_or_harmless(codec: Codec, draws: st.DataObject) -> None:
    data = TEXT[:3000]
    frame = bytearray(FrameCompressor(codec).compress(data))
    for _ in range(draws.draw(st.integers(1, 4))):
        start = draws.draw(st.integers(0, len(frame)))
        end = draws.draw(st.integers(start, min(start + 8, len(frame))))
        frame[start:end] = draws.draw(st.binary(max_size=8))
    with contextlib.suppress(FrameDamaged):
        assert decompress(codec, bytes(frame), len(data)) == data


def limited(code: str, data: bytes, *, address_space: int) -> str:
    """Run code in a process that gets so much memory for it; return what it prints."""
    front = f"""
import resource, sys
from archive.codec import *
data = sys.stdin.buffer.read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {address_space},) * 2)
"""
    argv = [sys.executable, "-c", front + code]
    run = subprocess.run(argv, input=data, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode().strip()


def verdict(codec: Codec, frame: bytes, raw_size: int, *, address_space: int) -> str:
    """Return "damaged" or "read": how a frame is taken with so much memory."""
    code = f"""
try:
    decompress(Codec({int(codec)}), data, {raw_size})
except FrameDamaged:
    print("damaged")
else:
    print("read")
"""
    return limited(code, frame, address_space=address_space)


BOMB_SIZE = 64 << 20


@functools.cache
def bomb(codec: Codec) -> bytes:
    """Return a small frame of many zeros."""
    zeros = bytes(BOMB_SIZE)
    match codec:
        case Codec.GZIP:
            return gzip.compress(zeros, 1, mtime=0)
        case Codec.BZIP2:
            return bz2.compress(zeros, 1)
        case Codec.XZ:
            return lzma.compress(zeros, preset=0)
        case _:
            return FrameCompressor(codec, 1).compress(zeros)


@every_compression
@pytest.mark.parametrize("raw_size", [0, 10, 1 << 20])
def test_a_bomb_takes_no_more_memory_than_it_should(codec: Codec, raw_size: int) -> None:
    assert verdict(codec, bomb(codec), raw_size, address_space=BOMB_SIZE // 2) == "damaged"


def test_a_bomb_would_not_fit_into_that_memory() -> None:
    with pytest.raises(AssertionError, match="MemoryError"):
        verdict(Codec.ZSTD, bomb(Codec.ZSTD), BOMB_SIZE, address_space=BOMB_SIZE // 2)


def test_a_zstd_frame_that_lies_about_its_size_is_damaged() -> None:
    frame = bytearray(bomb(Codec.ZSTD))
    assert zstandard.frame_content_size(bytes(frame)) == BOMB_SIZE
    place = frame.index(BOMB_SIZE.to_bytes(4, "little"))
    frame[place : place + 4] = (10).to_bytes(4, "little")
    assert verdict(Codec.ZSTD, bytes(frame), 10, address_space=BOMB_SIZE // 2) == "damaged"


def test_a_zstd_frame_that_does_not_say_its_size_is_damaged() -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False)
    frame = packer.compress(TEXT)
    with pytest.raises(FrameDamaged):
        decompress(Codec.ZSTD, frame, len(TEXT))


def test_a_zstd_frame_without_a_checksum_is_damaged() -> None:
    """One flipped bit in its header, and the checksum is not looked at."""
    frame = zstandard.ZstdCompressor(write_checksum=False).compress(TEXT)
    with pytest.raises(FrameDamaged):
        decompress(Codec.ZSTD, frame, len(TEXT))


def test_an_xz_frame_that_wants_a_huge_dictionary_is_damaged() -> None:
    frame = bytearray(FrameCompressor(Codec.XZ).compress(TEXT))
    header = slice(12, 12 + (frame[12] + 1) * 4)
    assert frame[header][2:4] == b"\x21\x01"
    frame[16] = 36  # 1 GiB
    checked = bytes(frame[header][:-4])
    frame[header.stop - 4 : header.stop] = zlib.crc32(checked).to_bytes(4, "little")
    assert verdict(Codec.XZ, bytes(frame), len(TEXT), address_space=100 << 20) == "damaged"


@pytest.mark.slow
@every_compression
def test_the_highest_level_stays_within_200_mib(codec: Codec) -> None:
    """VmHWM and not ru_maxrss, which a program inherits from the one that started it."""
    code = f"""
FrameCompressor(Codec({int(codec)}), 9).compress(data * 70)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""
    assert int(limited(code, NOISE[:120_000], address_space=1 << 30)) < 200 * 1024


WITHOUT_LIBDEFLATE = """
import sys
sys.modules["deflate"] = None
from archive.codec import *
data = sys.stdin.buffer.read()
frame = FrameCompressor(Codec.GZIP, int(sys.argv[1])).compress(data)
assert decompress(Codec.GZIP, frame, len(data)) == data
lzo = FrameCompressor(Codec.LZO).compress(data)
assert decompress(Codec.LZO, lzo, len(data)) == data
for wrong in (frame[:-1], frame + b"x", frame[:-8] + bytes(8)):
    try:
        decompress(Codec.GZIP, wrong, len(data))
    except FrameDamaged:
        continue
    sys.exit("damage was not found")
sys.stdout.buffer.write(frame)
"""


@every_level
def test_without_libdeflate_zlib_does_the_same(level: int) -> None:
    argv = [sys.executable, "-c", WITHOUT_LIBDEFLATE, str(level)]
    frame = subprocess.run(argv, input=TEXT, check=True, capture_output=True).stdout
    assert decompress(Codec.GZIP, frame, len(TEXT)) == TEXT
    assert through(["gzip", "-dc"], frame) == TEXT


@every_codec
def test_codecs_are_found_by_their_names(codec: Codec) -> None:
    assert Codec.named(codec.name.lower()) is codec


def test_an_unknown_codec_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="none, gzip, bzip2, lzo, xz, zstd"):
        Codec.named("rar")


@pytest.mark.parametrize(
    ("packing", "suffix"),
    [
        pytest.param(Packing(Codec.ZSTD), ".afio.zst", id="zstd"),
        pytest.param(Packing(Codec.LZO), ".afio.lzo", id="lzo"),
        pytest.param(Packing(Codec.NONE), ".afio", id="none"),
        pytest.param(Packing(Codec.ZSTD, per_file=True), ".afio", id="per-file"),
    ],
)
def test_slices_are_named_by_what_they_are(packing: Packing, suffix: str) -> None:
    assert packing.suffix == suffix


@pytest.mark.parametrize("level", [-1, 10])
def test_levels_beyond_9_are_refused(level: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 9"):
        Packing(Codec.ZSTD, level)
    with pytest.raises(ValueError, match="from 0 to 9"):
        FrameCompressor(Codec.ZSTD, level)
