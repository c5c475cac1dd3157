"""Makes one whole catalog file of two damaged copies, where they are not damaged in one place.

The digest of the whole is known, that of no block. So where the copies differ each is tried, in
all combinations, as long as these are few: a medium mostly loses some sectors of either.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from archive.manifest import CatalogFile
from archive.regular import open_regular

MAX_RUNS = 12
MAX_HASHED = 8 << 30
"""Bytes to hash before it is given up: some ten seconds."""
_BLOCK = 4096


def merge(first: Path, second: Path, stored: CatalogFile, target: Path) -> bool:
    """Write to ``target`` what both copies together hold; tell whether that is the catalog.

    A copy may be cut off, or unreadable in places. Raises OSError.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open_regular(path)) for path in (first, second)]
        if stored.size > max(os.fstat(file.fileno()).st_size for file in files):
            return False  # a manifest may tell of any size: there is nothing to go through
        runs = _runs(files, stored.size)
        if runs is None:
            return False
        for choice in range(1 << len(runs)):
            digest = hashlib.sha256()
            for block in _blocks(files, stored.size, runs, choice):
                digest.update(block)
            if digest.hexdigest() == stored.sha256:
                with target.open("wb") as out:
                    out.writelines(_blocks(files, stored.size, runs, choice))
                return True
    return False


def _runs(files: list[BinaryIO], size: int) -> list[tuple[int, int]] | None:
    """Return from where to where the copies differ; None: in too many places to try.

    Blocks side by side are one run only where they are too many to try each.
    """
    single: list[tuple[int, int]] = []
    joined: list[tuple[int, int]] = []
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        if _block(files[0], start, end - start) == _block(files[1], start, end - start):
            continue
        if len(single) <= MAX_RUNS:
            single.append((start, end))
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
        if len(joined) > MAX_RUNS:
            return None
    fitting = [runs for runs in (single, joined) if _is_worth_trying(runs, size)]
    return fitting[0] if fitting else None


def _is_worth_trying(runs: list[tuple[int, int]], size: int) -> bool:
    return len(runs) <= MAX_RUNS and size << len(runs) <= MAX_HASHED


def _blocks(
    files: list[BinaryIO], size: int, runs: list[tuple[int, int]], choice: int
) -> Iterator[bytes]:
    """Give the file that a choice means: bit n says from which copy run n comes."""
    at = 0
    for number, (start, end) in enumerate(runs):
        yield from _pieces(files[0], at, start)
        yield from _pieces(files[choice >> number & 1], start, end)
        at = end
    yield from _pieces(files[0], at, size)


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _BLOCK):
        yield _block(file, at, min(_BLOCK, end - at))


def _block(file: BinaryIO, start: int, length: int) -> bytes:
    """Return a block; zeros for what is cut off or cannot be read."""
    try:
        data = os.pread(file.fileno(), length, start)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        data = b""
    return data.ljust(length, b"\0")
