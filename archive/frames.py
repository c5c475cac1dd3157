"""Reads frames: of a set's own slices and of its parents', wherever they lie.

A reader holds no catalog and can be sent to a worker process. What it gives has the size that
the catalog states; whether it is what was saved the digests of files and parts tell.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from archive.afio import COMPRESSED_SUFFIX
from archive.codec import FRAME_LIMIT, Codec, FrameDamaged, decompress
from archive.damage import Anchor, SliceFile, candidates
from archive.entry import Frame
from archive.errors import SetDamaged
from archive.regular import open_descriptor
from archive.setfolder import slice_path

CACHE_BYTES = 32 << 20
"""Unpacked frames that a reader keeps; files of a frame are mostly read one after the other."""
OPEN_SLICES = 8
MAX_LOST = 10_000
"""Lost frames that are remembered, so as not to look for them for each of their files."""

_log = logging.getLogger(__name__)


class FrameLost(SetDamaged):
    """A frame, and with it the files whose bytes it holds, cannot be had.

    ``frame`` is its number in the catalog.
    """

    def __init__(self, message: str, frame: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.frame = frame

    def __reduce__(self) -> tuple[object, ...]:
        # Workers send it; the constructor of Exception would be given the message alone.
        return (_frame_lost, (self.message, self.frame, self.hint))


def _frame_lost(message: str, frame: int, hint: str | None) -> FrameLost:
    return FrameLost(message, frame, hint=hint)


@dataclass(frozen=True, slots=True)
class Member:
    """A set whose slices are read: where it lies, and how its slices' names end."""

    set_id: str
    folder: Path
    suffix: str


class FrameReader:
    """Gives what frames hold. Not for use by several threads; pickles as its members."""

    def __init__(self, members: tuple[Member, ...], *, cache_bytes: int = CACHE_BYTES) -> None:
        self.members = members
        self.cache_bytes = cache_bytes
        self._cache: OrderedDict[Frame, bytes] = OrderedDict()
        self._cached = 0
        self._slices: OrderedDict[tuple[int, int], SliceFile] = OrderedDict()
        self._lost: dict[Frame, tuple[int, FrameLost]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return (_frame_reader, (self.members, self.cache_bytes))

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the slices and of what is kept of them."""
        for file in self._slices.values():
            os.close(file.descriptor)
        self._slices.clear()
        self._cache.clear()
        self._cached = 0
        self._lost.clear()

    def read(self, frame: Frame) -> bytes:
        """Return the ``raw_size`` bytes that a frame holds.

        One that is not in its place is looked for. Raises FrameLost.
        """
        held = self._cache.get(frame)
        if held is not None:
            self._cache.move_to_end(frame)
            return held
        _check(frame)
        self._refuse_lost(frame)
        try:
            at, raw = next(self._attempts(frame, None))
        except FrameLost as error:
            self._note_lost(frame, error)
            raise
        if frame.codec != Codec.NONE:
            self._moved(frame, at)
        self._keep(frame, raw)
        return raw

    def read_part(self, frame: Frame, start: int, size: int) -> bytes:
        """Return ``size`` bytes at ``start`` of what a frame holds. Raises FrameLost.

        Of a frame without compression no more is read than that.
        """
        if start < 0 or size < 0 or start + size > frame.raw_size:
            raise FrameLost(
                f"the catalog is wrong: frame {frame.number} holds {frame.raw_size} bytes, not "
                f"{size} at {start}",
                frame.number,
            )
        if frame.codec == Codec.NONE and frame not in self._cache:
            part = Frame(*frame[:3], frame.start + start, size, size, Codec.NONE)
            _check(part)
            return next(self._attempts(part, None))[1]
        return self.read(frame)[start : start + size]

    def is_named(self, frame: Frame) -> bool:
        """Say whether the name of an entry finds its data in a frame that was moved.

        It does where a frame is the data of one entry, and where nothing is compressed.
        """
        return frame.codec == Codec.NONE or self._member(frame).suffix == Codec.NONE.suffix

    def fetch(
        self, frame: Frame, start: int, size: int, *, digest: bytes, name: bytes | None
    ) -> bytes:
        """Return a part as ``read_part`` does, checked by its SHA-256; look for it if need be.

        ``name`` is what archive.headers calls the file's entry, or the part's; None where it is
        not known, or needless (``is_named``). Raises FrameLost.
        """
        is_named = name is not None and self.is_named(frame)
        try:
            data = self.read_part(frame, start, size)
        except FrameLost:
            if not is_named:
                raise
        else:
            if hashlib.sha256(data).digest() == digest:
                return data
        if is_named and name is not None and frame.codec != Codec.NONE:
            name += COMPRESSED_SUFFIX
        return self._rescue(frame, start, size, digest=digest, name=name if is_named else None)

    def _rescue(
        self, frame: Frame, start: int, size: int, *, digest: bytes, name: bytes | None
    ) -> bytes:
        """Return a part that has this SHA-256, from wherever it may have moved.

        ``name`` is the whole one of its entry in the slice. Raises FrameLost.
        """
        part, inner, anchor = frame, start, None
        if frame.codec == Codec.NONE:
            part = Frame(*frame[:3], frame.start + start, size, size, Codec.NONE)
            inner, anchor = 0, Anchor(name, 0) if name else None
        elif name:
            anchor = Anchor(name, 0)
        _check(part)
        if anchor is None:
            self._refuse_lost(part)
        for at, raw in self._attempts(part, anchor):
            found = raw[inner : inner + size]
            if len(found) == size and hashlib.sha256(found).digest() == digest:
                self._moved(part, at)
                return found
        raise AssertionError("attempts end with FrameLost")

    def _attempts(self, frame: Frame, anchor: Anchor | None) -> Iterator[tuple[int, bytes]]:
        """Give what may be what the frame holds, and where it was, the likeliest first.

        Ends with FrameLost.
        """
        file = self._slice(frame)
        try:
            words = f"the slice ends at {file.size}"
            if frame.start + frame.size <= file.size:
                try:
                    yield frame.start, _unpacked(file, frame, frame.start)
                    words = "it holds something else"
                except FrameDamaged as error:
                    words = str(error)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    words = "the medium cannot be read there"
            for at in candidates(file, frame, anchor=anchor):
                try:
                    raw = _unpacked(file, frame, at)
                except FrameDamaged:
                    continue
                yield at, raw
        except OSError as error:
            words = error.strerror or str(error)
        raise FrameLost(f"{self._place(frame)}: {words}", frame.number)

    def _note_lost(self, frame: Frame, error: FrameLost) -> None:
        """Remember that a frame is lost, for all the files that it held, until one has moved."""
        if len(self._lost) >= MAX_LOST:
            self._lost.clear()
        file = self._slices.get((frame.member, frame.slice))
        self._lost[frame] = (file.shift if file else 0, error)

    def _refuse_lost(self, frame: Frame) -> None:
        shift, error = self._lost.get(frame, (0, None))
        if error is not None:
            file = self._slices.get((frame.member, frame.slice))
            if file is None or file.shift == shift:
                raise FrameLost(error.message, error.frame, hint=error.hint)

    def _moved(self, frame: Frame, at: int) -> None:
        file = self._slice(frame)
        if at != frame.start and file.shift != at - frame.start:
            file.shift = at - frame.start
            _log.warning("%s: found %+d bytes from there", self._place(frame), file.shift)

    def _slice(self, frame: Frame) -> SliceFile:
        key = (frame.member, frame.slice)
        file = self._slices.get(key)
        if file is not None:
            self._slices.move_to_end(key)
            return file
        path = self._path(frame)
        try:
            descriptor = open_descriptor(path)
        except OSError as error:
            raise FrameLost(
                f"{path} cannot be read: {error.strerror}",
                frame.number,
                hint="bring the missing slices into the set's folder",
            ) from error
        while len(self._slices) >= OPEN_SLICES:
            os.close(self._slices.popitem(last=False)[1].descriptor)
        file = self._slices[key] = SliceFile(descriptor)
        return file

    def _path(self, frame: Frame) -> Path:
        member = self._member(frame)
        return slice_path(member.folder, frame.slice, member.suffix)

    def _member(self, frame: Frame) -> Member:
        if not 0 <= frame.member < len(self.members):
            raise FrameLost(
                f"the catalog is wrong: frame {frame.number} is of set {frame.member}, there are "
                f"{len(self.members)}",
                frame.number,
            )
        return self.members[frame.member]

    def _place(self, frame: Frame) -> str:
        return f"{self._path(frame)}, bytes {frame.start} to {frame.start + frame.size}"

    def _keep(self, frame: Frame, raw: bytes) -> None:
        self._cached += len(raw)
        self._cache[frame] = raw
        while self._cached > self.cache_bytes and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])


def _frame_reader(members: tuple[Member, ...], cache_bytes: int) -> FrameReader:
    return FrameReader(members, cache_bytes=cache_bytes)


def _check(frame: Frame) -> None:
    """Refuse what no writer makes, before any memory is taken for it."""
    if not (
        frame.start >= 0
        and 0 <= frame.size <= 2 * FRAME_LIMIT
        and 0 <= frame.raw_size <= FRAME_LIMIT
        and frame.slice >= 1
        and frame.codec in Codec.__members__.values()
        and (frame.codec != Codec.NONE or frame.size == frame.raw_size)
    ):
        raise FrameLost(f"the catalog is wrong: frame {frame.number} is impossible", frame.number)


def _unpacked(file: SliceFile, frame: Frame, at: int) -> bytes:
    data = file.read(at, frame.size)
    if len(data) != frame.size:
        raise FrameDamaged("the slice ends before it")
    return decompress(Codec(frame.codec), data, frame.raw_size)
