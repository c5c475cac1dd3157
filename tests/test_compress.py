"""initramfs/compress.py against gzip, xz, zstd and lzop, and against damage."""

from __future__ import annotations

import io
import random
import subprocess
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from initramfs.codec import Codec
from initramfs.compress import (
    compress_frame,
    decompress,
    default_level,
    detect,
    kernel_supports,
)
from initramfs.errors import InputError
from tests.support.tools import require_tool

TOOLS = {
    Codec.GZIP: ("gzip", "gzip"),
    Codec.XZ: ("xz", "xz-utils"),
    Codec.ZSTD: ("zstd", "zstd"),
    Codec.LZO: ("lzop", "lzop"),
}
# lzop reads files in a row, but warns of them, and has no way not to.
FINE = {Codec.LZO: (0, 2)}
codecs = pytest.mark.parametrize("codec", list(TOOLS))
# Compressible and not, over several blocks of each codec.
DATA = random.Random(7).randbytes(300_000) + b"mindi " * 100_000  # noqa: S311


def tool(codec: Codec, *options: str, data: bytes) -> bytes:
    name, package = TOOLS[codec]
    argv = [str(require_tool(name, package=package)), *options]
    done = subprocess.run(argv, input=data, check=False, capture_output=True)
    assert done.returncode in FINE.get(codec, (0,)), done.stderr
    return done.stdout


def undone(data: bytes) -> bytes:
    return b"".join(decompress(io.BytesIO(data)))


@codecs
@pytest.mark.parametrize("level", [0, 1, 3, 7])
def test_the_tool_reads_two_frames_as_one_file(codec: Codec, level: int) -> None:
    data = compress_frame(DATA, codec, level) + compress_frame(b"the second", codec, level)
    assert tool(codec, "-dc", data=data) == DATA + b"the second"


@codecs
def test_the_tool_finds_no_fault(codec: Codec) -> None:
    tool(codec, "-t", data=compress_frame(DATA, codec, default_level(codec)))


@codecs
def test_reads_what_the_tool_writes(codec: Codec) -> None:
    assert undone(tool(codec, "-c", data=DATA)) == DATA


@codecs
def test_an_empty_frame_is_a_frame(codec: Codec) -> None:
    assert tool(codec, "-dc", data=compress_frame(b"", codec, 3)) == b""


def test_frames_of_all_codecs_follow_each_other() -> None:
    frames = [compress_frame(codec.encode(), codec, 3) for codec in TOOLS]
    assert undone(b"".join(frames)) == "".join(TOOLS).encode()


@codecs
def test_the_same_data_give_the_same_frame(codec: Codec) -> None:
    assert compress_frame(DATA, codec, 3) == compress_frame(DATA, codec, 3)


@codecs
def test_a_frame_is_known_by_its_first_bytes(codec: Codec) -> None:
    assert detect(compress_frame(b"x", codec, 3)[:6]) is codec


def test_an_archive_is_no_frame() -> None:
    assert detect(b"070701") is None


def test_xz_has_the_check_that_the_kernel_knows() -> None:
    crc32 = 1
    assert compress_frame(b"x", Codec.XZ, 6)[7] == crc32


@codecs
def test_a_truncated_frame_is_an_error(codec: Codec) -> None:
    data = compress_frame(DATA, codec, 1)
    for cut in (1, 4, len(data) // 2, len(data) - 10):
        with pytest.raises(InputError, match="byte"):
            undone(data[:-cut])


@codecs
def test_a_damaged_frame_is_named_by_its_place(codec: Codec) -> None:
    first = compress_frame(b"whole", codec, 3)
    second = bytearray(compress_frame(DATA, codec, 3))
    second[len(second) // 3] ^= 0x40
    with pytest.raises(InputError, match=f"{codec} frame at byte {len(first)} is damaged"):
        undone(first + second)


def test_what_is_no_frame_is_named_by_its_place() -> None:
    first = compress_frame(b"whole", Codec.ZSTD, 3)
    with pytest.raises(InputError, match=f"at byte {len(first)}: not a frame"):
        undone(first + b"BZh9")


@codecs
def test_a_bomb_comes_in_small_pieces(codec: Codec) -> None:
    bomb = compress_frame(bytes(64 << 20), codec, 1)
    assert max(map(len, decompress(io.BytesIO(bomb)))) <= 1 << 20


def test_a_zstd_window_of_gigabytes_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = frame.compress(b"x") + frame.flush()
    with pytest.raises(InputError, match="damaged"):
        undone(data)


def test_an_lzop_block_larger_than_the_kernel_takes_is_refused() -> None:
    data = bytearray(compress_frame(b"x" * 1000, Codec.LZO, 1))
    place = data.index((1000).to_bytes(4, "big"))
    data[place : place + 4] = (1 << 30).to_bytes(4, "big")
    with pytest.raises(InputError, match="a block of"):
        undone(bytes(data))


@pytest.mark.parametrize("level", [-1, 10])
def test_other_levels_are_refused(level: int) -> None:
    with pytest.raises(ValueError, match="no level"):
        compress_frame(b"", Codec.ZSTD, level)


@pytest.mark.parametrize("codec", list(Codec))
def test_every_codec_has_a_default_level(codec: Codec) -> None:
    assert default_level(codec) in range(10)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(TOOLS)), st.binary(max_size=3000), st.integers(0, 9))
def test_any_data_come_back(codec: Codec, data: bytes, level: int) -> None:
    assert undone(compress_frame(data, codec, level)) == data


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(TOOLS)), st.data())
def test_a_changed_frame_is_a_frame_or_an_input_error(codec: Codec, data: st.DataObject) -> None:
    frame = bytearray(compress_frame(b"some content " * 20 + bytes(300), codec, 1))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        undone(bytes(frame))
    except InputError as error:
        assert "byte" in error.message


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(TOOLS)), st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_input_error(codec: Codec, data: bytes) -> None:
    magic = compress_frame(b"", codec, 1)[:6]
    try:
        undone(magic + data)
    except InputError as error:
        assert "byte" in error.message


DEBIAN = """\
CONFIG_BLK_DEV_INITRD=y
CONFIG_RD_GZIP=y
CONFIG_RD_BZIP2=y
# CONFIG_RD_XZ is not set
CONFIG_RD_ZSTD=y
"""


def test_the_kernels_configuration_tells_its_codecs() -> None:
    assert kernel_supports(DEBIAN) == {Codec.NONE, Codec.GZIP, Codec.ZSTD}


def test_a_kernel_without_initrd_has_no_codec() -> None:
    assert kernel_supports("# CONFIG_BLK_DEV_INITRD is not set\nCONFIG_RD_GZIP=y\n") == set()


def test_gzip_has_no_date() -> None:
    assert compress_frame(b"x", Codec.GZIP, 6)[4:8] == bytes(4)
    assert zlib.decompress(compress_frame(b"x", Codec.GZIP, 6), 31) == b"x"
