"""Finds the frames of a slice that lost bytes, or got some: what lies behind has moved.

A slice is searched once for the marks that its frames begin with; a frame is then looked for
where the last one was found, and at the marks nearest to that. A candidate is cheap to refuse by
what its codec says of its size. What is not compressed bears no mark: it is found by the name in
the header of its entry. Whether a candidate is the frame is for the caller to find, by its
checksum or by the digests of its files.
"""

from __future__ import annotations

import bisect
import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import zstandard

from archive import lzop
from archive.codec import Codec
from archive.entry import Frame

MARKS = {
    Codec.GZIP: b"\x1f\x8b\x08",
    Codec.BZIP2: b"1AY&SY",
    Codec.XZ: b"\xfd7zXZ\0",
    Codec.ZSTD: b"\x28\xb5\x2f\xfd",
}
"""What a frame begins with; of bzip2, whose first four bytes are few, what follows those."""
_BEFORE_MARK = {Codec.BZIP2: 4}
MAX_MARKS = 1 << 18
"""In one slice; a slice has at most some 20,000 frames."""
TRIES = 24
"""Candidates for one frame that are worth unpacking."""
TRIED_BYTES = 32 << 20
"""Without compression small ones are quickly tried: so many bytes of them."""
DOUBTFUL_TRIES = 2
LOOKED_AT = 4096
"""Marks around a frame's place that are looked at."""

_CHUNK = 1 << 20
_SECTOR = 4096
_ZSTD_HEADER = 18
_LZO_LENGTHS = struct.Struct(">II")
_LZO_BLOCK_HEAD = 12
_HEADER_MARK = b"0707"
_HEADER_SIZES = {b"070707": 76, b"070727": 116}
_LONGEST_NAME = 8192


class Anchor(NamedTuple):
    """An entry by which a frame is found: its name in the slice, and where its data begin,
    counted from the beginning of the frame."""

    name: bytes
    start: int


class SliceFile:
    """An open slice that is read, with what its medium does not give read as zeros."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.shift = 0
        """How far behind its place the last frame that had moved was found, in bytes."""
        self._marks: dict[bytes, list[int]] = {}
        self._entries: dict[int, int] = {}

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes at ``start``, fewer at the end of the slice. Raises OSError."""
        pieces = []
        while size > 0:
            data = os.pread(self.descriptor, size, start)
            if not data:
                break
            pieces.append(data)
            start += len(data)
            size -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def patient_read(self, start: int, size: int) -> bytes:
        """Return bytes as ``read`` does, but zeros for sectors that cannot be read."""
        try:
            return self.read(start, size)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        pieces = []
        end = min(start + size, self.size)
        while start < end:
            length = min(_SECTOR - start % _SECTOR, end - start)
            try:
                pieces.append(self.read(start, length).ljust(length, b"\0"))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                pieces.append(bytes(length))
            start += length
        return b"".join(pieces)

    def marks(self, mark: bytes) -> list[int]:
        """Return where ``mark`` lies, in order, at most MAX_MARKS times. Raises OSError."""
        found = self._marks.get(mark)
        if found is None:
            found = self._marks[mark] = list(self._search(mark))
        return found

    def data_of(self, name: bytes) -> int | None:
        """Return where the data of the entry ``name`` begin. Raises OSError."""
        if not self._entries:
            # By hash: the names of an enemy's slice might be of any length.
            self._entries = {hash(found): at for found, at in self._names()}
        return self._entries.get(hash(name))

    def _names(self) -> Iterator[tuple[bytes, int]]:
        for at in self.marks(_HEADER_MARK):
            head = self.patient_read(at, max(_HEADER_SIZES.values()) + 256)
            size = _HEADER_SIZES.get(head[:6])
            if size is None:
                continue
            if head.find(b"\0", size) < 0:
                head = self.patient_read(at, size + _LONGEST_NAME)
            end = head.find(b"\0", size)
            if end > size:
                yield head[size:end], at + end + 1

    def _search(self, mark: bytes) -> Iterator[int]:
        left = MAX_MARKS
        for start in range(0, self.size, _CHUNK):
            data = self.patient_read(start, _CHUNK + len(mark) - 1)
            at = data.find(mark)
            while at >= 0 and left:
                yield start + at
                left -= 1
                at = data.find(mark, at + 1)


def candidates(file: SliceFile, frame: Frame, *, anchor: Anchor | None = None) -> Iterator[int]:
    """Give offsets where a frame that is not in its place may begin, the likeliest first.

    Raises OSError.
    """
    given = {frame.start}
    tries = TRIES
    if frame.codec == Codec.NONE:
        tries = max(tries, TRIED_BYTES // max(frame.size, 1))
    doubtful = DOUBTFUL_TRIES
    for at in _places(file, frame, anchor):
        if at in given or at < 0 or at + frame.size > file.size:
            continue
        given.add(at)
        if not _is_possible(file, frame, at):
            continue
        if frame.codec == Codec.BZIP2 and not _ends_well(file, at + frame.size):
            # It says nothing of its size: most of these are other frames, and slow to unpack.
            doubtful -= 1
            if doubtful < 0:
                continue
        yield at
        tries -= 1
        if not tries:
            return


def _places(file: SliceFile, frame: Frame, anchor: Anchor | None) -> Iterator[int]:
    expected = frame.start + file.shift
    yield expected
    if anchor is not None:
        at = file.data_of(anchor.name)
        if at is not None:
            yield at - anchor.start
        if frame.codec == Codec.NONE:
            # Its own header may be lost; behind it another entry begins.
            for found in _nearest(file.marks(_HEADER_MARK), expected + frame.size):
                yield found - frame.size
    if frame.codec == Codec.LZO:
        mark, skip = min(frame.raw_size, lzop.BLOCK_SIZE).to_bytes(4), 0
    elif frame.codec in MARKS:
        mark, skip = MARKS[Codec(frame.codec)], _BEFORE_MARK.get(Codec(frame.codec), 0)
    else:
        return
    for found in _nearest(file.marks(mark), expected + skip):
        yield found - skip


def _nearest(places: list[int], wanted: int) -> Iterator[int]:
    """Give sorted numbers by their distance from ``wanted``, at most LOOKED_AT of them."""
    above = bisect.bisect_left(places, wanted)
    below = above - 1
    for _ in range(LOOKED_AT):
        has_above, has_below = above < len(places), below >= 0
        if has_above and (not has_below or places[above] - wanted <= wanted - places[below]):
            yield places[above]
            above += 1
        elif has_below:
            yield places[below]
            below -= 1
        else:
            return


def _is_possible(file: SliceFile, frame: Frame, at: int) -> bool:
    """Tell by a few bytes whether the frame may begin at ``at``."""
    match frame.codec:
        case Codec.ZSTD:
            return _zstd_size(file.patient_read(at, _ZSTD_HEADER)) == frame.raw_size
        case Codec.GZIP:
            told = file.patient_read(at + frame.size - 4, 4)
            return int.from_bytes(told, "little") == frame.raw_size & 0xFFFFFFFF
        case Codec.XZ:
            return file.patient_read(at + frame.size - 2, 2) == b"YZ"
        case Codec.BZIP2:
            return file.patient_read(at, 3) == b"BZh"
        case Codec.LZO:
            return _are_blocks(file, frame, at)
    return True


def _are_blocks(file: SliceFile, frame: Frame, at: int) -> bool:
    """Tell whether a chain of LZO blocks begins at ``at`` that is as long as the frame."""
    end, raw_left = at + frame.size, frame.raw_size
    while at < end and raw_left > 0:
        raw_size, size = _LZO_LENGTHS.unpack(file.patient_read(at, 8).ljust(8, b"\xff"))
        if not 0 < size <= raw_size <= min(lzop.BLOCK_SIZE, raw_left):
            return False
        raw_left -= raw_size
        at += _LZO_BLOCK_HEAD + size
    return at == end and not raw_left


def _ends_well(file: SliceFile, end: int) -> bool:
    """Tell whether at ``end`` another frame or entry begins, or nothing more."""
    return end == file.size or file.patient_read(end, 4)[:3] in {b"BZh", _HEADER_MARK[:3]}


def _zstd_size(header: bytes) -> int:
    try:
        return zstandard.frame_content_size(header)
    except zstandard.ZstdError:
        return -1
