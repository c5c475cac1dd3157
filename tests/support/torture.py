"""Builds a tree of all that is hard to save: names, depths, sizes, attributes, times, links."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.tools import require_tool

NAMES = (
    b"new\nline",
    b"tab\tand space ",
    b"-rf",
    b"--",
    b"*?[a]{b}$(id)`id`;&|<>'\"\\",
    b"\xff\xfe invalid \x80",
    "ümläut-日本語-🐧".encode(),
    b"\x01\x1b[31m\x7f",
    b".hidden",
    b"...",
    b"file.z",
    b"file.z.z",
    b"TRAILER!!!",
    b"n" * 255,
    "é".encode() * 127,
)


def write(path: bytes, data: bytes = b"", mode: int = 0o644) -> None:
    """Make a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.chmod(path, mode)


def build(root: Path, *, seed: int = 1, sparse_bytes: int = 10 << 30) -> None:
    """Make the tree in an empty directory; root's rights are needed for all of it."""
    base = os.fsencode(root)
    chance = random.Random(seed)  # noqa: S311 no secret
    _names(base + b"/names")
    build_deep(base + b"/deep", levels=100)
    _kinds(base + b"/kinds")
    _links(base + b"/links", chance)
    _sparse(base + b"/sparse", sparse_bytes, chance)
    _attributes(base + b"/attributes")
    _owners(base + b"/owners")
    os.mkdir(base + b"/empty")
    os.mkdir(base + b"/many")
    for number in range(300):
        data = chance.randbytes(chance.choice((0, 1, 511, 4096, 70_000)))
        write(b"%s/many/%d" % (base, number), data)
    os.mkdir(base + b"/large")
    write(base + b"/large/random", chance.randbytes(20 << 20))
    write(base + b"/large/text", b"all work and no play\n" * 1_700_000)
    write(base + b"/large/exactly a part", chance.randbytes(1 << 20) * 16)
    _times(base)


@contextlib.contextmanager
def changed(root: Path) -> Iterator[None]:
    """Change something of every kind in a tree that was built; undo nothing but the links."""
    base = os.fsencode(root)
    many = base + b"/many"
    for number in range(0, 300, 7):
        os.unlink(b"%s/%d" % (many, number))
        write(b"%s/%d" % (many, number), b"new %d" % number)
    for number in range(1, 300, 7):
        os.chmod(b"%s/%d" % (many, number), 0o600)
    for number in range(2, 300, 7):
        os.rename(b"%s/%d" % (many, number), b"%s/renamed %d" % (many, number))
    with open(base + b"/large/random", "r+b") as file:
        file.seek(17 << 20)
        file.write(b"changed in the second part")
    with open(base + b"/sparse/huge", "r+b") as file:
        file.seek(3 << 30)
        file.write(b"data in a hole")
    os.setxattr(base + b"/attributes/many", b"user.attribute-1", b"another value")
    os.link(base + b"/links/h-far-2", base + b"/links/a-far-0")
    try:
        yield
    finally:
        os.unlink(base + b"/links/a-far-0")
        for number in range(2, 300, 7):
            os.rename(b"%s/renamed %d" % (many, number), b"%s/%d" % (many, number))


def _names(base: bytes) -> None:
    os.mkdir(base)
    for name in NAMES:
        write(base + b"/" + name, b"content of " + name)
    os.mkdir(base + b"/dir")
    for name in NAMES:
        os.mkdir(base + b"/dir/" + name)
        write(base + b"/dir/" + name + b"/x", name)
    for name in NAMES:
        os.symlink(b"../" + name, base + b"/dir/link to " + name[:200])
    write(base + b"/file", b"a file beside file.z")


def build_deep(base: bytes, *, levels: int) -> None:
    """Make so many levels, each name nearly as long as it may be: far beyond PATH_MAX."""
    os.mkdir(base)
    name = b"d" * 250
    at = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    for level in range(levels):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
        file = os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=at)
        os.write(file, b"level %d" % level)
        os.close(file)
    os.symlink(b"nowhere", b"link", dir_fd=at)
    os.close(at)


def _kinds(base: bytes) -> None:
    os.mkdir(base)
    os.mkfifo(base + b"/fifo", 0o600)
    os.symlink(b"/absolute", base + b"/symlink")
    os.symlink(b"x" * 4000, base + b"/long symlink")
    os.symlink(b"\xff\n", base + b"/odd symlink")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(base + b"/socket")
    os.mknod(base + b"/character", 0o020640, os.makedev(1, 3))
    os.mknod(base + b"/block", 0o060660, os.makedev(259, 1_000_000))
    os.mknod(base + b"/whiteout", 0o020000, os.makedev(0, 0))


def _links(base: bytes, chance: random.Random) -> None:
    os.mkdir(base)
    os.mkdir(base + b"/b")
    write(base + b"/a", b"linked")
    os.link(base + b"/a", base + b"/b/a")
    os.link(base + b"/a", base + b"/z")
    write(base + b"/empty", b"")
    os.link(base + b"/empty", base + b"/b/empty")
    # A slice holds 32 MiB: what lies between puts the names of this one into two of them.
    write(base + b"/far-1", chance.randbytes(70_000))
    write(base + b"/g-between", chance.randbytes(40 << 20))
    os.link(base + b"/far-1", base + b"/h-far-2")
    write(base + b"/large-1", chance.randbytes(18 << 20))
    os.link(base + b"/large-1", base + b"/large-2")
    os.mkfifo(base + b"/fifo-1")
    os.link(base + b"/fifo-1", base + b"/fifo-2")
    os.symlink(b"a", base + b"/symlink-1")
    os.link(base + b"/symlink-1", base + b"/symlink-2", follow_symlinks=False)


def _sparse(base: bytes, size: int, chance: random.Random) -> None:
    os.mkdir(base)
    _holes(base + b"/huge", size, [(size // 16 * n + n * 4096, 1 << 16) for n in range(16)], chance)
    _holes(base + b"/small", 1 << 20, [(0, 4096), (500_000, 100)], chance)
    _holes(base + b"/all hole", 5 << 20, [], chance)
    _holes(base + b"/data at the end", 40 << 20, [((40 << 20) - 10, 10)], chance)
    _holes(base + b"/hole at the end", 40 << 20, [(0, 17 << 20)], chance)


def _holes(path: bytes, size: int, runs: list[tuple[int, int]], chance: random.Random) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.ftruncate(descriptor, size)
    for offset, length in runs:
        os.pwrite(descriptor, chance.randbytes(length), offset)
    os.close(descriptor)


def _attributes(base: bytes) -> None:
    os.mkdir(base)
    write(base + b"/many", b"x")
    for number in range(20):
        os.setxattr(base + b"/many", b"user.attribute-%d" % number, b"v" * number)
    write(base + b"/empty value", b"x")
    os.setxattr(base + b"/empty value", b"user.empty", b"")
    write(base + b"/binary", b"")
    os.setxattr(base + b"/binary", b"user.\xff\n", bytes(range(256)))
    write(base + b"/trusted", b"t")
    os.setxattr(base + b"/trusted", b"trusted.secret", b"s")
    os.mkdir(base + b"/directory")
    os.setxattr(base + b"/directory", b"user.of-a-directory", b"d")
    os.symlink(b"binary", base + b"/symlink")
    os.setxattr(base + b"/symlink", b"trusted.of-a-link", b"l", follow_symlinks=False)
    write(base + b"/capable", b"#!/bin/sh\n", 0o755)
    # cap_net_raw=ep, revision 2 (linux/capability.h)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(base + b"/capable", b"security.capability", capability)
    write(base + b"/acl", b"acl")
    setfacl = require_tool("setfacl")
    subprocess.run(
        [setfacl, "-m", "u:1234:rwx,g:4321:r--,m::rw-", os.fsdecode(base + b"/acl")], check=True
    )
    subprocess.run([setfacl, "-d", "-m", "u:77:r-x", os.fsdecode(base + b"/directory")], check=True)


def _owners(base: bytes) -> None:
    os.mkdir(base)
    for number, owner in enumerate((1, 65_535, 65_536, 262_144, 2**31 + 5, 2**32 - 2)):
        write(b"%s/%d" % (base, number), b"owned")
        os.chown(b"%s/%d" % (base, number), owner, owner - 1)
    for mode in (0o0, 0o4755, 0o2755, 0o1777, 0o7777, 0o444):
        write(b"%s/mode-%o" % (base, mode), b"m")
        os.chmod(b"%s/mode-%o" % (base, mode), mode)
    os.mkdir(base + b"/closed", 0o000)
    os.mkdir(base + b"/set-group", 0o2770)
    os.chmod(base + b"/set-group", 0o3770)


def _times(base: bytes) -> None:
    os.mkdir(base + b"/times")
    second = 1_000_000_000
    times = {
        b"before 1970": -1_234_567_890 * second + 1,
        b"at 1970": 0,
        b"a nanosecond": 1_700_000_000 * second + 1,
        b"the last nanosecond": 1_700_000_000 * second + 999_999_999,
        b"after 2038": (2**31 + 10) * second + 5,
        b"after 2106": (2**32 + 10) * second + 5,
        b"the last of ext4": 15_032_385_535 * second,
    }
    for name, time_ns in times.items():
        write(base + b"/times/" + name, b"t")
        os.utime(base + b"/times/" + name, ns=(time_ns, time_ns))
    os.symlink(b"x", base + b"/times/link")
    os.utime(base + b"/times/link", ns=(5, 12 * second + 7), follow_symlinks=False)
    for name in (b"/names/dir", b"/deep", b"/empty", b"/times", b""):
        os.utime(base + name, ns=(7, 1_234_567_890 * second + 123_456_789))
