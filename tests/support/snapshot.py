"""Looks at a tree and says all of it that matters: what restored trees are compared by.

Shares nothing with the archive's own code: it goes by directory descriptors, reads every byte
with holes as zeros, and knows hard links by their groups of paths.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """One path as it is."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    rdev: int
    content: str
    target: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    names: tuple[bytes, ...]
    """Of a file with several names: all of them in the tree."""


def snapshot(root: Path) -> dict[bytes, Facts]:
    """Return the facts of every path below ``root``, and of itself as ``b"."``."""
    found: dict[bytes, Facts] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found[b"."] = _facts(os.fstat(descriptor), b"/proc/self/fd/%d" % descriptor, follow=True)
        _walk(descriptor, b"", found, groups)
    finally:
        os.close(descriptor)
    for names in groups.values():
        for name in names:
            values = {**vars(found[name]), "names": tuple(sorted(names))}
            found[name] = Facts(**values)
    return found


def differences(one: dict[bytes, Facts], other: dict[bytes, Facts]) -> list[str]:
    """Return what differs between two trees, in words; nothing if they are the same."""
    found = [f"missing: {path!r}" for path in sorted(one.keys() - other.keys())]
    found += [f"extra: {path!r}" for path in sorted(other.keys() - one.keys())]
    for path in sorted(one.keys() & other.keys()):
        before, after = vars(one[path]), vars(other[path])
        found += [
            f"{key} of {path!r}: {before[key]!r} became {after[key]!r}"[:400]
            for key in before
            if before[key] != after[key]
        ]
    return found


def allocated_bytes(path: Path) -> int:
    """Return how much room a file takes, holes not counted."""
    return path.stat().st_blocks * 512


def flags(path: Path) -> str:
    """Return the letters that lsattr(1) shows of a path, without the ones of the filesystem."""
    done = subprocess.run(["lsattr", "-d", path], capture_output=True, text=True, check=True)
    return "".join(sorted(set(done.stdout.split()[0]) - set("-eI")))


def _walk(
    parent: int,
    prefix: bytes,
    found: dict[bytes, Facts],
    groups: dict[tuple[int, int], list[bytes]],
) -> None:
    for name in sorted(os.fsencode(name) for name in os.listdir(parent)):
        path = prefix + name
        reached = b"/proc/self/fd/%d/%s" % (parent, name)
        state = os.lstat(reached)
        found[path] = _facts(state, reached, follow=False)
        if stat.S_ISDIR(state.st_mode):
            below = os.open(reached, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _walk(below, path + b"/", found, groups)
            finally:
                os.close(below)
        elif state.st_nlink > 1:
            groups.setdefault((state.st_dev, state.st_ino), []).append(path)


def _facts(state: os.stat_result, path: bytes, *, follow: bool) -> Facts:
    is_file = stat.S_ISREG(state.st_mode)
    names = os.listxattr(path, follow_symlinks=follow)
    return Facts(
        mode=state.st_mode,
        uid=state.st_uid,
        gid=state.st_gid,
        mtime_ns=state.st_mtime_ns,
        size=state.st_size if is_file else 0,
        rdev=state.st_rdev,
        content=_digest(path, state.st_size) if is_file else "",
        target=os.readlink(path) if stat.S_ISLNK(state.st_mode) else b"",
        xattrs=tuple(
            (name, os.getxattr(path, name, follow_symlinks=follow)) for name in sorted(names)
        ),
        names=(),
    )


def _digest(path: bytes, size: int) -> str:
    """Return a digest of the bytes; of a long run of zeros only its length is taken in."""
    whole = hashlib.blake2b()
    with open(path, "rb") as stream:
        if size <= 1 << 26:
            whole.update(stream.read())
        else:
            for run in _nonzero(stream.fileno(), size):
                whole.update(repr(run).encode())
    return f"{whole.hexdigest()[:32]}+{size}"


def _nonzero(descriptor: int, size: int) -> list[tuple[int, str]]:
    """Return the digests of the 64 KiB blocks that are not all zeros, holes passed over."""
    found = []
    block = 1 << 16
    place = 0
    while place < size:
        try:
            place = os.lseek(descriptor, place, os.SEEK_DATA) // block * block
        except OSError:
            break
        data = os.pread(descriptor, block, place)
        if data.strip(b"\0"):
            found.append((place, hashlib.blake2b(data).hexdigest()))
        place += block
    return found
