"""Small archives of afio, and the programs that read and write them."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from archive.afio import TRAILER, Member, header, members
from tests.support.tools import require_tool

FILE = 0o100644
MTIME = 1_700_000_000


def entry(
    name: bytes,
    data: bytes = b"",
    *,
    mode: int = FILE,
    inode: int = 0,
    nlink: int = 1,
    rdev: int = 0,
    mtime_s: int = MTIME,
) -> bytes:
    """Return a whole entry that belongs to whoever runs the tests."""
    front = header(
        name,
        mode,
        os.getuid(),
        os.getgid(),
        mtime_s,
        size=len(data),
        inode=inode,
        nlink=nlink,
        rdev=rdev,
    )
    return front + data


def archive_of(*entries: bytes) -> bytes:
    """Return a whole archive."""
    return b"".join(entries) + TRAILER


def read_all(archive: bytes) -> list[tuple[Member, bytes]]:
    """Return what an archive holds, with the data."""
    return [(member, data.read()) for member, data in members(io.BytesIO(archive))]


def written_by_afio(folder: Path, names: Iterable[str], *options: str) -> bytes:
    """Return the archive that afio makes of these names of a folder."""
    listed = b"".join(name.encode() + b"\0" for name in names)
    argv = [require_tool("afio"), "-o", "-0", *options, "-"]
    return subprocess.run(argv, input=listed, cwd=folder, check=True, capture_output=True).stdout


def unpacked_by_afio(archive: bytes, folder: Path, *options: str) -> None:
    """Let afio install an archive into a folder."""
    argv = [require_tool("afio"), "-i", *options, "-"]
    subprocess.run(argv, input=archive, cwd=folder, check=True, capture_output=True)


def unpacked_by_cpio(archive: bytes, folder: Path) -> None:
    """Let GNU cpio install an archive into a folder."""
    argv = [require_tool("cpio"), "-idm", "--quiet"]
    subprocess.run(argv, input=archive, cwd=folder, check=True, capture_output=True)
