"""The file of one slice while it is made: frames are filled in memory, compressed, written."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache

from archive.codec import Codec, FrameCompressor, Packing
from archive.errors import CannotWrite
from archive.slicing import FRAME_BYTES, PART_BYTES

GROWTH_ROOM = 1 << 20
"""Memory beside a frame and a part: for headers, and for files that grew since they were found."""


@lru_cache(maxsize=1)
def _compressor(codec: Codec, level: int) -> FrameCompressor:
    return FrameCompressor(codec, level)


@lru_cache(maxsize=1)
def _memory() -> bytearray:
    """Return the memory of this worker in which frames are filled: it is used again and again."""
    return bytearray(FRAME_BYTES + PART_BYTES + 2 * GROWTH_ROOM)


class SliceFile:
    """A slice that is being written.

    ``view`` is the memory of the frame that is being filled, ``used`` how far: who adds an entry
    puts it there and moves ``used``. The file is made when the first frame is written.
    """

    def __init__(self, path: bytes, packing: Packing, *, first_frame: int) -> None:
        self.view = memoryview(_memory())
        self.used = 0
        self.frame = first_frame
        self.frames: list[tuple[int, int, int, int, int]] = []
        """Of each: number, start and size in the slice, size of what it holds, codec."""
        self.size = 0
        self.raw_size = 0
        self.sha256 = hashlib.sha256()
        self._path = path
        self._per_file = packing.per_file and packing.codec is not Codec.NONE
        self._codec = packing.codec
        self._compressor = _compressor(packing.codec, packing.level)
        self._file = -1

    def put(self, data: bytes | memoryview) -> None:
        """Add bytes to the frame; ends it before, where they would not fit."""
        if self.used + len(data) > len(self.view):
            self.end_frame()
        end = self.used + len(data)
        self.view[self.used : end] = data
        self.used = end

    def end_frame(self) -> None:
        """Write what the frame holds, if anything, compressed; begin the next one."""
        if not self.used:
            return
        raw = self.view[: self.used]
        self.raw_size += self.used
        if self._per_file:
            self._write(raw)
        elif self._codec is Codec.NONE:
            start = self._write(raw)
            self._enter(start, self.used, self.used, Codec.NONE)
        else:
            if self._file < 0 and self._compressor.prologue:
                self._write(self._compressor.prologue)
            packed = self._compressor.compress(raw)
            start = self._write(packed)
            self._enter(start, len(packed), self.used, self._codec)
        self.used = 0

    def compressed_apart(self, data: memoryview) -> tuple[bytes, int, int]:
        """Return ``data`` as a file of its own, and where in it the frame begins and ends."""
        before, after = self._compressor.prologue, self._compressor.epilogue
        packed = self._compressor.compress(data)
        return before + packed + after, len(before), len(before) + len(packed)

    def enter_apart(self, start: int, size: int, raw_size: int, *, compressed: bool) -> int:
        """Enter data that lie at ``start`` of what the memory holds; return the frame's number."""
        self._enter(self.size + start, size, raw_size, self._codec if compressed else Codec.NONE)
        return self.frame - 1

    def finish(self, trailer: bytes) -> None:
        """End the slice, if it holds anything, and see it to the medium."""
        if not self.size and not self.used:
            return
        self.put(trailer)
        self.end_frame()
        if not self._per_file and self._compressor.epilogue:
            self._write(self._compressor.epilogue)
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._cannot_write(error) from error
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file; what is not finished stays behind and is no slice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _enter(self, start: int, size: int, raw_size: int, codec: Codec) -> None:
        self.frames.append((self.frame, start, size, raw_size, int(codec)))
        self.frame += 1

    def _write(self, data: bytes | memoryview) -> int:
        """Append to the file; return where."""
        start = self.size
        try:
            if self._file < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(self._path, flags, 0o600)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise self._cannot_write(error) from error
        self.sha256.update(data)
        self.size += len(data)
        return start

    def _cannot_write(self, error: OSError) -> CannotWrite:
        return CannotWrite(f"cannot write {os.fsdecode(self._path)}: {error.strerror}")
