"""Archives of afio: headers and entries, against afio and GNU cpio both ways; hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.afio import (
    MAX_NAME,
    NOT_COMPRESSED,
    TRAILER,
    AfioDamaged,
    Member,
    NotArchivable,
    header,
    members,
)
from archive.codec import Codec, FrameCompressor
from tests.support.afio import (
    FILE,
    MTIME,
    archive_of,
    entry,
    read_all,
    unpacked_by_afio,
    unpacked_by_cpio,
    written_by_afio,
)
from tests.support.tools import require_tool

TEXT = b"a text that shrinks\n" * 500
NOISE = random.Random(1).randbytes(5000)  # noqa: S311
OLD, EXTENDED, LARGE = b"070707", b"070717", b"070727"
DEVICE = 0o20600

PROGRAMS = {
    Codec.GZIP: "gzip",
    Codec.BZIP2: "bzip2",
    Codec.LZO: "lzop",
    Codec.XZ: "xz",
    Codec.ZSTD: "zstd",
}


def plain(name: bytes = b"name", **fields: Any) -> bytes:
    """Return the header of an empty file, but for the fields that a test is about."""
    numbers = {"mode": FILE, "uid": 0, "gid": 0, "mtime_s": MTIME, "size": 0} | fields
    mode, uid, gid, mtime_s = (numbers.pop(key) for key in ("mode", "uid", "gid", "mtime_s"))
    return header(name, mode, uid, gid, mtime_s, **numbers)


def first(archive: bytes) -> Member:
    """Return what the first header of an archive says."""
    return next(members(io.BytesIO(archive)))[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with one of each kind that an ordinary user can make."""
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_bytes(TEXT)
    (folder / "sub/noise").write_bytes(NOISE)
    (folder / "empty").write_bytes(b"")
    (folder / "link").symlink_to("sub/noise")
    (folder / "second").hardlink_to(folder / "file")
    os.mkfifo(folder / "fifo")
    (folder / "sub").chmod(0o750)
    for path in folder.rglob("*"):
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
    return folder


NAMES = ["sub", "sub/noise", "file", "second", "empty", "link", "fifo"]


def described(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is in a folder: kind, rights, time, content, and which are one file."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
        mtime = None if path.is_symlink() else int(status.st_mtime)
        found[str(path.relative_to(folder))] = (status.st_mode, mtime, content, links)
    return found


def archive_of_tree(folder: Path) -> bytes:
    """Return an archive of NAMES made by ours."""
    entries = []
    for name in NAMES:
        path = folder / name
        status = path.lstat()
        data = b""
        if path.is_symlink():
            data = os.fsencode(path.readlink())
        elif path.is_file() and name != "second":
            data = path.read_bytes()
        linked = path.is_file() and status.st_nlink > 1
        entries.append(
            entry(
                name.encode(),
                data,
                mode=status.st_mode,
                mtime_s=int(status.st_mtime),
                inode=7 if linked else 0,
                nlink=2 if linked else 1,
            )
        )
    return archive_of(*entries)


# What ours writes, others read


def test_afio_lists_an_archive_of_ours() -> None:
    archive = archive_of(entry(b"one", TEXT), entry(b"dir/new\nline", NOISE))
    argv = [require_tool("afio"), "-t", "-0", "-"]
    listed = subprocess.run(argv, input=archive, check=True, capture_output=True).stdout
    assert listed == b"one\0dir/new\nline\0"


@pytest.mark.parametrize("unpack", [unpacked_by_afio, unpacked_by_cpio], ids=["afio", "cpio"])
def test_a_tree_comes_back_through_others(unpack: Any, tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    unpack(archive_of_tree(tree), target)
    expected = described(tree)
    if unpack is unpacked_by_cpio:  # cpio -m does not set the time of a folder that it filled
        expected["sub"] = (expected["sub"][0], None, *expected["sub"][2:])
    found = described(target)
    if unpack is unpacked_by_cpio:
        found["sub"] = (found["sub"][0], None, *found["sub"][2:])
    assert found == expected


def test_afio_finds_no_difference_to_the_tree(tree: Path) -> None:
    argv = [require_tool("afio"), "-r", "-"]
    subprocess.run(argv, input=archive_of_tree(tree), cwd=tree, check=True, capture_output=True)


def test_afio_finds_a_difference_to_the_tree(tree: Path) -> None:
    archive = archive_of_tree(tree)
    (tree / "sub/noise").write_bytes(NOISE[::-1])
    argv = [require_tool("afio"), "-r", "-"]
    run = subprocess.run(argv, input=archive, cwd=tree, check=False, capture_output=True)
    assert b"different data" in run.stderr


def test_afio_reads_what_needs_a_large_header(tmp_path: Path) -> None:
    archive = archive_of(
        entry(b"old", b"data", mtime_s=-5),
        entry(b"one", TEXT, inode=1 << 60, nlink=2),
        entry(b"two", inode=1 << 60, nlink=2),
    )
    unpacked_by_afio(archive, tmp_path)
    assert (tmp_path / "old").stat().st_mtime == -5
    assert (tmp_path / "old").read_bytes() == b"data"
    assert (tmp_path / "two").samefile(tmp_path / "one")


def test_cpio_skips_what_needs_a_large_header(tmp_path: Path) -> None:
    unpacked_by_cpio(archive_of(entry(b"old", b"1", mtime_s=-5), entry(b"new", b"2")), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("unpack", [unpacked_by_afio, unpacked_by_cpio], ids=["afio", "cpio"])
def test_a_file_named_like_the_trailer_ends_nothing(unpack: Any, tmp_path: Path) -> None:
    unpack(archive_of(entry(b"TRAILER!!!", b"1"), entry(b"behind", b"2")), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["TRAILER!!!", "behind"]


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes need root")
@pytest.mark.parametrize(
    ("major", "minor"), [(1, 3), (0, 0), (8, 300), (300, 0)], ids=["null", "0-0", "minor", "major"]
)
def test_afio_makes_device_nodes_of_every_number(major: int, minor: int, tmp_path: Path) -> None:
    rdev = os.makedev(major, minor)
    unpacked_by_afio(archive_of(entry(b"node", mode=DEVICE, rdev=rdev)), tmp_path)
    assert (tmp_path / "node").stat().st_rdev == rdev


@pytest.mark.parametrize("codec", list(PROGRAMS), ids=lambda codec: codec.name)
def test_afio_reads_files_that_are_compressed_on_their_own(codec: Codec, tmp_path: Path) -> None:
    require_tool(PROGRAMS[codec])
    compressor = FrameCompressor(codec)
    packed = compressor.prologue + compressor.compress(TEXT) + compressor.epilogue
    archive = archive_of(
        entry(b"text.z", packed, inode=3, nlink=2),
        entry(b"second.z", inode=3, nlink=2),
        entry(b"kept.z", NOISE, rdev=NOT_COMPRESSED),
        entry(b"empty.z"),
    )
    unpacked_by_afio(archive, tmp_path, "-Z", "-P", PROGRAMS[codec])
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {"text": TEXT, "second.z": TEXT, "kept.z": NOISE, "empty.z": b""}


def test_afio_uncompresses_what_lacks_the_mark(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        unpacked_by_afio(archive_of(entry(b"kept.z", NOISE)), tmp_path, "-Z")


# What others write, ours reads


def numbers_of(path: Path) -> tuple[int, ...]:
    """Return what a header says of a path."""
    status = path.lstat()
    return (status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime))


@pytest.mark.parametrize("options", [(), ("-4",)], ids=["old", "extended"])
def test_archives_of_afio_are_read(options: tuple[str, ...], tree: Path) -> None:
    archive = written_by_afio(tree, NAMES, *options)
    assert archive.startswith(EXTENDED if options else OLD)
    found = read_all(archive)
    assert [member.name.decode() for member, _ in found] == NAMES
    for (member, data), name in zip(found, NAMES, strict=True):
        path = tree / name
        assert member[1:5] == numbers_of(path)
        expected = b""
        if path.is_symlink():
            expected = os.fsencode(path.readlink())
        elif path.is_file() and name != "second":
            expected = path.read_bytes()
        assert data == expected
        assert archive[member.data_start :][: member.size] == data
    by_name = {member.name: member for member, _ in found}
    assert by_name[b"second"].inode == by_name[b"file"].inode
    assert by_name[b"second"].nlink == 2


def test_archives_of_cpio_are_read(tree: Path) -> None:
    argv = [require_tool("cpio"), "-o", "-H", "odc", "--quiet"]
    listed = "\n".join(NAMES).encode()
    archive = subprocess.run(argv, input=listed, cwd=tree, check=True, capture_output=True).stdout
    found = read_all(archive)
    assert [member.name.decode() for member, _ in found] == NAMES
    assert [member[1:5] for member, _ in found] == [numbers_of(tree / name) for name in NAMES]


def test_large_headers_of_afio_are_read(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"1")
    os.utime(tmp_path / "old", (-77, -77))
    archive = written_by_afio(tmp_path, ["old"])
    assert archive.startswith(LARGE)
    ((member, data),) = read_all(archive)
    assert (member.name, member.mtime_s, member.size, data) == (b"old", -77, 1, b"1")
    assert member[1:5] == numbers_of(tmp_path / "old")


def test_compressed_files_of_afio_are_told_from_others(tmp_path: Path) -> None:
    files = {"text": TEXT, "noise": NOISE, "own.z": TEXT, "empty.z": b"", "first": TEXT}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "second").hardlink_to(tmp_path / "first")
    found = read_all(written_by_afio(tmp_path, [*files, "second"], "-Z"))
    names = [member.name for member, _ in found]
    assert names == [b"text.z", b"noise", b"own.z", b"empty.z", b"first", b"second"]
    assert [member.name for member, _ in found if member.is_compressed] == [b"text.z"]
    assert gzip.decompress(found[0][1]) == TEXT
    assert found[2][1] == TEXT


def test_control_files_of_afio_are_told_from_others(tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "file").write_bytes(b"1")
    found = read_all(written_by_afio(tmp_path, ["//--script label", "file"]))
    assert [member.is_control for member, _ in found] == [True, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes need root")
@pytest.mark.parametrize(
    ("major", "minor"), [(1, 3), (0, 0), (8, 300), (300, 0)], ids=["null", "0-0", "minor", "major"]
)
def test_device_nodes_of_afio_are_read(major: int, minor: int, tmp_path: Path) -> None:
    os.mknod(tmp_path / "node", DEVICE, os.makedev(major, minor))
    ((member, _),) = read_all(written_by_afio(tmp_path, ["node"]))
    assert (member.mode, member.rdev) == (DEVICE, os.makedev(major, minor))


# What ours writes, ours reads


@pytest.mark.parametrize(
    ("fields", "magic"),
    [
        pytest.param({"uid": 0o777777}, OLD, id="largest-old-uid"),
        pytest.param({"uid": 0o1000000}, LARGE, id="uid"),
        pytest.param({"uid": 0xFFFFFFFF}, LARGE, id="largest-uid"),
        pytest.param({"gid": 0xFFFFFFFF}, LARGE, id="largest-gid"),
        pytest.param({"mtime_s": 0}, OLD, id="1970"),
        pytest.param({"mtime_s": -1}, LARGE, id="1969"),
        pytest.param({"mtime_s": (1 << 33) - 1}, OLD, id="2242"),
        pytest.param({"mtime_s": 1 << 33}, LARGE, id="behind-2242"),
        pytest.param({"mtime_s": -(1 << 63)}, LARGE, id="first-time"),
        pytest.param({"mtime_s": (1 << 63) - 1}, LARGE, id="last-time"),
        pytest.param({"inode": 0o777777, "nlink": 2}, OLD, id="largest-old-inode"),
        pytest.param({"inode": (1 << 64) - 1, "nlink": 2}, LARGE, id="largest-inode"),
        pytest.param({"nlink": 1 << 31}, LARGE, id="links"),
        pytest.param({"mode": DEVICE, "rdev": os.makedev(8, 1)}, OLD, id="device"),
        pytest.param({"mode": DEVICE, "rdev": 0}, OLD, id="whiteout"),
        pytest.param({"mode": DEVICE, "rdev": os.makedev(4095, 1048575)}, LARGE, id="last-device"),
        pytest.param({"name": b"n" * (MAX_NAME - 1)}, OLD, id="longest-name"),
        pytest.param({"name": b"n" * (MAX_NAME - 1), "uid": 1 << 20}, LARGE, id="long-name-uid"),
        pytest.param({"name": b"\xff\n \x01"}, OLD, id="odd-name"),
    ],
)
def test_a_header_says_what_it_was_given(fields: dict[str, Any], magic: bytes) -> None:
    made = plain(**fields)
    assert made.startswith(magic)
    found = first(made + TRAILER)._asdict()
    assert {key: found[key] for key in fields} == fields
    assert found["data_start"] == len(made)


@pytest.mark.parametrize(
    ("size", "magic"),
    [
        pytest.param(0o77777777777, OLD, id="8-gib-less-1"),
        pytest.param(0o100000000000, LARGE, id="8-gib"),
        pytest.param((1 << 63) - 1, LARGE, id="largest"),
    ],
)
def test_a_header_says_the_size_of_its_data(size: int, magic: bytes) -> None:
    made = plain(size=size)
    assert made.startswith(magic)
    assert first(made).size == size


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"uid": 1 << 32}, id="uid"),
        pytest.param({"gid": -1}, id="negative-gid"),
        pytest.param({"inode": 1 << 64}, id="inode"),
        pytest.param({"inode": -1}, id="negative-inode"),
        pytest.param({"mtime_s": 1 << 63}, id="mtime"),
        pytest.param({"mtime_s": -(1 << 63) - 1}, id="early-mtime"),
        pytest.param({"size": 1 << 63}, id="size"),
        pytest.param({"size": -1}, id="negative-size"),
        pytest.param({"mode": 1 << 18}, id="mode"),
        pytest.param({"rdev": 1 << 32}, id="rdev"),
        pytest.param({"name": b"n" * MAX_NAME}, id="name"),
    ],
)
def test_what_no_header_holds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(NotArchivable):
        plain(**fields)


@given(
    st.binary(max_size=50).filter(lambda name: b"\0" not in name and name != b"TRAILER!!!"),
    st.integers(0, 0o177777).filter(lambda mode: stat.S_IFMT(mode) not in (0o20000, 0o60000)),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=50),
)
def test_any_entry_comes_back(  # noqa: PLR0913
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    mtime_s: int,
    inode: int,
    nlink: int,
    rdev: int,
    data: bytes,
) -> None:
    size = len(data)
    made = header(name, mode, uid, gid, mtime_s, size=size, inode=inode, nlink=nlink, rdev=rdev)
    ((member, found),) = read_all(made + data + TRAILER)
    expected = (name, mode, uid, gid, mtime_s, size, inode, 1, nlink, rdev, len(made))
    assert (member, found) == (Member(*expected), data)


def test_data_that_were_not_read_are_passed_over() -> None:
    archive = archive_of(entry(b"large", bytes(300_000)), entry(b"next", b"1"))
    names = []
    for member, data in members(io.BytesIO(archive)):
        names.append(member.name)
        data.read(5)
    assert names == [b"large", b"next"]


def test_a_reader_of_a_former_entry_gives_nothing() -> None:
    entries = members(io.BytesIO(archive_of(entry(b"one", TEXT), entry(b"two", NOISE))))
    _, before = next(entries)
    _, data = next(entries)
    assert before.read() == b""
    assert data.read() == NOISE


def test_data_are_read_in_pieces() -> None:
    (_, data) = next(members(io.BytesIO(archive_of(entry(b"one", TEXT)))))
    assert data.read(7) + data.read(0) + data.read(100) == TEXT[:107]
    assert data.left == len(TEXT) - 107
    assert data.read() == TEXT[107:]
    assert data.read(1) == b""


def test_what_follows_the_trailer_is_not_read() -> None:
    stream = io.BytesIO(archive_of() + b"something else")
    assert list(members(stream)) == []
    assert stream.read() == b"something else"


# What is no archive, or none any more


@pytest.mark.parametrize("mtime_s", [MTIME, -MTIME], ids=["old", "large"])
def test_an_archive_that_is_cut_off_is_damaged(mtime_s: int) -> None:
    begin = entry(b"whole", b"1")
    archive = begin + entry(b"name", b"data", mtime_s=mtime_s) + TRAILER
    for end in range(len(begin), len(archive)):
        with pytest.raises(AfioDamaged) as raised:
            read_all(archive[:end])
        assert raised.value.offset in (len(begin), len(archive) - len(TRAILER))
        assert f"byte {raised.value.offset}" in raised.value.message


NAME_SIZE_OLD = slice(59, 65)
SIZE_OLD = slice(65, 76)
NAME_SIZE_LARGE = slice(86, 90)
EXTRA_LARGE = slice(94, 98)
SIZE_LARGE = slice(99, 115)


def changed(made: bytes, place: slice, new: bytes) -> bytes:
    """Return an archive of one header with other bytes at a place."""
    assert len(new) == place.stop - place.start
    return made[: place.start] + new + made[place.stop :] + bytes(70_000) + TRAILER


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"070701" + bytes(200), id="newc"),
        pytest.param(b"\xc7\x71" + bytes(200), id="binary"),
        pytest.param(changed(plain(), SIZE_OLD, b"         10"), id="spaces"),
        pytest.param(changed(plain(), SIZE_OLD, b"-0000000001"), id="minus"),
        pytest.param(changed(plain(), SIZE_OLD, b"+0000000001"), id="plus"),
        pytest.param(changed(plain(), SIZE_OLD, b"0000_000001"), id="underscore"),
        pytest.param(changed(plain(), SIZE_OLD, b"0o000000001"), id="prefix"),
        pytest.param(changed(plain(), SIZE_OLD, b"00000000008"), id="not-octal"),
        pytest.param(changed(plain(), SIZE_OLD, b"77777777777"), id="8-gib-of-data"),
        pytest.param(changed(plain(), NAME_SIZE_OLD, b"000000"), id="no-name"),
        pytest.param(changed(plain(), NAME_SIZE_OLD, b"777777"), id="long-name"),
        pytest.param(changed(plain(), NAME_SIZE_OLD, b"000004"), id="name-without-its-end"),
        pytest.param(changed(plain(), NAME_SIZE_OLD, b"000006"), id="nul-in-a-name"),
        pytest.param(changed(plain(uid=1 << 20), NAME_SIZE_LARGE, b"0000"), id="no-name-large"),
        pytest.param(changed(plain(uid=1 << 20), SIZE_LARGE, b"F" * 16), id="size-large"),
        pytest.param(changed(plain(uid=1 << 20), slice(30, 31), b"n"), id="another-letter"),
    ],
)
def test_what_no_afio_writes_is_damage(archive: bytes) -> None:
    with pytest.raises(AfioDamaged) as raised:
        read_all(archive)
    assert raised.value.offset == 0


def test_what_a_large_header_has_behind_its_name_is_passed_over() -> None:
    made = plain(uid=1 << 20, size=3)
    archive = made[: EXTRA_LARGE.start] + b"0005" + made[EXTRA_LARGE.stop :] + b"extra" + b"abc"
    ((member, data),) = read_all(archive + TRAILER)
    assert (member.name, data) == (b"name", b"abc")
    assert member.data_start == len(made) + 5


class Watched(io.BytesIO):
    """A stream that remembers the most that was asked of it at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and remember how much was wanted."""
        assert size is not None
        assert size >= 0
        self.most = max(self.most, size)
        return super().read(size)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.sampled_from([OLD, EXTENDED, LARGE]), st.text("01234567", max_size=300)).map(
            lambda drawn: drawn[0] + drawn[1].encode()
        ),
    )
)
def test_any_bytes_are_an_archive_or_damaged(data: bytes) -> None:
    stream = Watched(data)
    with pytest.raises(AfioDamaged):
        for _ in members(stream):
            pass
    assert stream.most <= 1 << 16


@given(st.data())
def test_any_change_of_an_archive_is_read_or_damage(draws: st.DataObject) -> None:
    archive = bytearray(
        archive_of(
            entry(b"one", TEXT), entry(b"two", b"12", mtime_s=-1), entry(b"dir", mode=0o40755)
        )
    )
    for _ in range(draws.draw(st.integers(1, 4))):
        start = draws.draw(st.integers(0, len(archive)))
        end = draws.draw(st.integers(start, min(start + 8, len(archive))))
        archive[start:end] = draws.draw(st.binary(max_size=8))
    stream = Watched(archive)
    try:
        for member, _ in members(stream):
            assert len(member.name) < MAX_NAME
    except AfioDamaged as error:
        assert error.hint
    assert stream.most <= 1 << 16
