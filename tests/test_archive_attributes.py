"""Extended attributes, flags, subvolumes."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.attributes import (
    SETTABLE_FLAGS,
    create_subvolume,
    is_subvolume,
    pack_xattr,
    read_flags,
    read_xattrs,
    unpack_xattrs,
    write_flags,
)
from archive.errors import SetDamaged
from tests.support.btrfs import mounted_btrfs
from tests.support.tools import require_tool

IMMUTABLE = 0x10
NO_DUMP = 0x40
NO_ACCESS_TIMES = 0x80


def attributes(path: Path) -> dict[bytes, bytes]:
    """Return what we read of a path."""
    return dict(unpack_xattrs(read_xattrs(os.fsencode(path)) or b""))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make a file on a filesystem that has attributes."""
    path = tmp_path / "file"
    path.touch()
    try:
        os.setxattr(path, "user.try", b"")
        os.removexattr(path, "user.try")
    except OSError:
        pytest.skip("no extended attributes here")
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Give a descriptor."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def need_root() -> None:
    """Skip where only root may."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


# Extended attributes


def test_none(file: Path) -> None:
    assert read_xattrs(os.fsencode(file)) is None


def test_all_are_read_in_order(file: Path) -> None:
    for name, value in (("user.z", b"1\0"), ("user.a", b""), ("user.ä", b"3")):
        os.setxattr(file, name, value)
    wanted = [(b"user.a", b""), (b"user.z", b"1\0"), ("user.ä".encode(), b"3")]
    assert list(attributes(file).items()) == wanted


def test_a_descriptor_says_the_same(file: Path) -> None:
    os.setxattr(file, "user.x", b"1")
    with opened(file) as fd:
        assert read_xattrs(fd) == read_xattrs(os.fsencode(file))


def test_a_link_is_not_followed_unless_asked(file: Path) -> None:
    os.setxattr(file, "user.x", b"1")
    link = file.with_name("link")
    link.symlink_to(file)
    assert read_xattrs(os.fsencode(link)) is None
    assert read_xattrs(os.fsencode(link), follow=True) == pack_xattr(b"user.x", b"1")


def test_a_large_value(file: Path) -> None:
    size = 65536
    while size:
        try:
            os.setxattr(file, "user.large", os.urandom(size))
            break
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.E2BIG):
                raise
            size //= 2
    assert attributes(file)[b"user.large"] == os.getxattr(file, "user.large")


def test_no_support_is_no_attributes() -> None:
    assert read_xattrs(b"/proc/self/status") is None


def test_a_vanished_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_xattrs(os.fsencode(tmp_path / "none"))


def test_an_acl_is_what_getfacl_says(file: Path) -> None:
    setfacl = require_tool("setfacl", package="acl")
    getfacl = require_tool("getfacl", package="acl")
    subprocess.run([setfacl, "-m", "u:4000000000:rwx,g:7:r,m::rx", file], check=True)
    copy = file.with_name("copy")
    copy.touch(0o600)
    for name, value in attributes(file).items():
        os.setxattr(copy, name, value)

    def shown(path: Path) -> bytes:
        argv = [getfacl, "--numeric", "--omit-header", "--absolute-names", path]
        return subprocess.run(argv, check=True, capture_output=True).stdout

    assert b"user:4000000000:rwx" in shown(copy)
    assert shown(copy) == shown(file)


def test_a_capability_is_read(file: Path) -> None:
    need_root()
    setcap = require_tool("setcap", package="libcap2-bin")
    subprocess.run([setcap, "cap_net_raw+ep", file], check=True)
    value = attributes(file)[b"security.capability"]
    assert value == os.getxattr(file, "security.capability")
    assert len(value) in (20, 24)


@pytest.mark.parametrize(
    "packed",
    [
        b"\0",
        b"\0\1\0\0\0\0",
        b"\0\0\0\0\0\0",
        b"\0\1\0\0\0\2ax",
        b"\xff\xff\xff\xff\xff\xffa",
        pack_xattr(b"a\0b", b""),
        pack_xattr(b"a", b"b") + b"\0\1",
    ],
    ids=["cut", "no-name", "empty-name", "cut-value", "huge", "nul", "rest"],
)
def test_damage_is_seen(packed: bytes) -> None:
    with pytest.raises(SetDamaged):
        unpack_xattrs(packed)


def test_nothing_packed_is_nothing() -> None:
    assert unpack_xattrs(b"") == ()


# Flags


def shown_flags(path: Path) -> set[str]:
    """Return the letters of lsattr(1)."""
    lsattr = require_tool("lsattr", package="e2fsprogs")
    done = subprocess.run([lsattr, "-d", path], check=True, capture_output=True, text=True)
    return set(done.stdout.split()[0]) - {"-"}


def flags_or_skip(fd: int, flags: int) -> None:
    """Set flags, or skip where there are none."""
    try:
        write_flags(fd, flags)
    except OSError as error:
        pytest.skip(f"no such flags here: {error}")


def test_flags_are_what_lsattr_says(file: Path) -> None:
    before = shown_flags(file)
    with opened(file) as fd:
        flags_or_skip(fd, NO_DUMP | NO_ACCESS_TIMES)
        assert read_flags(fd) == NO_DUMP | NO_ACCESS_TIMES
        assert shown_flags(file) == before | {"d", "A"}


def test_flags_are_cleared_and_the_filesystem_keeps_its_own(file: Path) -> None:
    before = shown_flags(file)
    with opened(file) as fd:
        flags_or_skip(fd, NO_DUMP)
        write_flags(fd, 0)
    assert shown_flags(file) == before


def test_immutable(file: Path) -> None:
    need_root()
    with opened(file) as fd:
        flags_or_skip(fd, IMMUTABLE | NO_DUMP)
        try:
            assert read_flags(fd) == IMMUTABLE | NO_DUMP
            with pytest.raises(PermissionError):
                file.unlink()
        finally:
            write_flags(fd, 0)


def test_of_several_flags_those_that_are_known_are_set(file: Path) -> None:
    undelete = 0x2
    unknown = 0x400
    with opened(file) as fd:
        flags_or_skip(fd, NO_DUMP)
        write_flags(fd, 0)
        with contextlib.suppress(OSError):
            write_flags(fd, NO_DUMP | undelete | unknown)
        assert read_flags(fd) & NO_DUMP


def test_flags_of_extents_are_not_ours(file: Path) -> None:
    with opened(file) as fd:
        assert not read_flags(fd) & ~SETTABLE_FLAGS
    assert not SETTABLE_FLAGS & 0x80000


def test_no_flags_where_there_are_none() -> None:
    with opened(Path("/proc/self/status")) as fd:
        assert read_flags(fd) == 0
        write_flags(fd, 0)
        with pytest.raises(OSError, match=r"."):
            write_flags(fd, NO_DUMP)


# Subvolumes


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """Mount a small btrfs."""
    with mounted_btrfs(tmp_path) as point:
        yield point


def test_a_subvolume_is_made_and_known(btrfs: Path) -> None:
    with opened(btrfs) as fd:
        create_subvolume(fd, b"new \xff")
    new = Path(os.fsdecode(os.fsencode(btrfs) + b"/new \xff"))
    (new / "directory").mkdir()
    with opened(new) as fd, opened(new / "directory") as inside:
        assert is_subvolume(fd)
        assert not is_subvolume(inside)


def test_flags_of_btrfs(btrfs: Path) -> None:
    (btrfs / "f").touch()
    no_cow = 0x800000
    with opened(btrfs / "f") as fd:
        write_flags(fd, no_cow)
        assert "C" in shown_flags(btrfs / "f")
        assert read_flags(fd) == no_cow


def test_no_subvolume_elsewhere(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        assert not is_subvolume(fd)
        with pytest.raises(OSError, match=r"."):
            create_subvolume(fd, b"new")
