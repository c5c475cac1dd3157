"""Writes a tree as an initrd: early archive, then independent compressed frames.

Each frame holds whole cpio entries, and the last of them the trailer, so that the kernel,
and ``zstd -dc | cpio -t`` and its like, read them as one archive. Where one frame ends and
the next begins depends on the names and sizes of what is around the cut and on nothing
else: frames are made side by side, in any number of threads, with the same result, and a
frame of which nothing changed is taken from the cache.

A kernel that meets a damaged frame, or the end of a file that was cut, unpacks no more, keeps
what it has got until then, and starts /init if that is among it (init/initramfs.c). So what
must be there in any case goes into the first frame, and what tells that all is there into the
last.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from initramfs.checkedcache import CheckedCache
from initramfs.closure import Entry, FileClosure, Kind
from initramfs.codec import Codec
from initramfs.compress import compressor
from initramfs.cpio import Written, archived_bytes, dated_s, link_group, write_cpio
from initramfs.errors import ConflictError, OutputError

# Raised when frames of the same input come out, or are kept, in another way than before.
_FRAME_FORMAT = 2
# Frames this large lose next to nothing to one long stream, and are many enough to share out.
_FRAME_MIN_BYTES = 2 << 20
_FRAME_MEAN_BYTES = 5 << 20
_FRAME_MAX_BYTES = 12 << 20
# The first frame stays small, for its damage is the one that nothing can be said of.
_LEAD_FILE_MAX_BYTES = 64 << 10
_FEED_BYTES = 1 << 19
# The coarsest clock by which a kernel dates a change (a tick of CONFIG_HZ=100), doubled.
_CLOCK_TICK_NS = 20_000_000
_CACHE_BYTES = 1 << 30
# What goes before a frame in the cache: the size of what it holds.
_KEPT = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Packed:
    """What an initrd came to: sizes, number of entries and frames, SHA-256 of the whole file."""

    size_bytes: int
    unpacked_bytes: int
    entries: int
    frames: int
    frames_from_cache: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Frame:
    """Entries that go into one compressed frame, numbered from ``first_inode``."""

    entries: tuple[Entry, ...]
    first_inode: int
    trailer: bool = False


@dataclass(frozen=True, slots=True)
class _Made:
    """A compressed frame, the size of what it holds, and where it comes from."""

    data: bytes
    unpacked_bytes: int
    from_cache: bool = False


def write_initrd(
    closure: FileClosure,
    out: BinaryIO,
    *,
    codec: Codec,
    level: int,
    timestamp_s: int,
    first: Collection[str] = (),
    last: Collection[str] = (),
    early: bytes | None = None,
    cache: Path | None = None,
    jobs: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Write ``closure`` to ``out`` as the codec, ``level``, ``timestamp_s`` and what follows say.

    The bytes depend on ``closure``, on these and ``early``, and on nothing else.

    ``level`` is 0 to 9; ``first`` and ``last`` are paths of files, see ``plan_frames``; ``early``
    is an uncompressed archive that goes before all; ``cache`` a folder for finished frames,
    ``jobs`` the number of threads (0: one per processor). ``progress`` is told the bytes read and
    the bytes to read. At most ``jobs`` + 2 frames are in memory.

    Nothing is dated later than ``timestamp_s``; what is made and not copied is as old as the
    newest source, so that building again later changes no frame.
    Raises InputError for a source that cannot be read, OutputError if ``out`` cannot be written.
    """
    frames = plan_frames(closure, first=first, last=last)
    made_s = _made_s(closure, timestamp_s)
    total = sum(entry.size_bytes for entry in closure)
    workers = jobs or len(os.sched_getaffinity(0))
    shelf = None if cache is None else CheckedCache(cache / "frames", limit_bytes=_CACHE_BYTES)
    maker = _Maker(codec=codec, level=level, made_s=made_s, cache=shelf)
    sink = _Sink(out)
    sink.write(early or b"")
    unpacked, hits, done = len(early or b""), 0, 0
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="frame") as pool,
        closing(_in_order(pool, maker.make, frames, ahead=workers + 1)) as finished,
    ):
        for frame, made in finished:
            sink.write(made.data)
            unpacked += made.unpacked_bytes
            hits += made.from_cache
            done += sum(entry.size_bytes for entry in frame.entries)
            progress(done, total)
    if shelf is not None and hits < len(frames):
        shelf.evict()
    return Packed(
        size_bytes=sink.size_bytes,
        unpacked_bytes=unpacked,
        entries=len(closure),
        frames=len(frames),
        frames_from_cache=hits,
        sha256=sink.digest.hexdigest(),
    )


def plan_frames(
    closure: FileClosure, *, first: Collection[str] = (), last: Collection[str] = ()
) -> tuple[Frame, ...]:
    """Cut a tree into frames.

    The first has what is no file, the files ``first``, and all small files made for this image.
    The second has the large files made for it, its record among them: these change most. The
    last has the files ``last`` and the trailer.
    """
    linked = {link_group(closure.entries[path]) for path in first} - {None}
    lead: list[Entry] = []
    made: list[Entry] = []
    files: list[Entry] = []
    end: list[Entry] = []
    for entry in closure:
        if entry.path in last:
            end.append(entry)
        elif entry.kind is not Kind.FILE or entry.path in first or link_group(entry) in linked:
            lead.append(entry)
        elif entry.content is None or _is_bulk(entry.path):
            files.append(entry)
        else:
            (lead if entry.size_bytes <= _LEAD_FILE_MAX_BYTES else made).append(entry)
    frames: list[Frame] = []
    taken: list[range] = []
    for entries in filter(None, [lead, made, *_cut(files)]):
        inodes = _inodes(entries, taken)
        taken.append(inodes)
        frames.append(Frame(tuple(entries), inodes.start))
    inodes = _inodes(end, taken) if end else range(1, 2)
    return (*frames, Frame(tuple(end), inodes.start, trailer=True))


def _is_bulk(path: str) -> bool:
    """Tell whether ``path`` is where thousands of files are, be they made or copied."""
    return path.removeprefix("/usr").startswith("/lib")


def _cut(files: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield runs of files; the hard links of one file stay together, at the first of them."""
    linked: dict[tuple[int, int, int], list[Entry]] = {}
    units: list[list[Entry]] = []
    for entry in files:
        group = link_group(entry)
        unit = linked.setdefault(group, []) if group is not None else []
        if not unit:
            units.append(unit)
        unit.append(entry)
    run: list[Entry] = []
    size = 0
    for unit in units:
        weight = archived_bytes(unit[0])
        if size >= _FRAME_MIN_BYTES and (
            size + weight > _FRAME_MAX_BYTES or _is_cut(unit[0].path, weight)
        ):
            yield run
            run, size = [], 0
        run += unit
        size += weight
    yield run


def _is_cut(path: str, weight: int) -> bool:
    """Tell whether a frame begins here: by chance, but always the same, in proportion to size."""
    chance = zlib.crc32(os.fsencode(path)) / (1 << 32)
    return chance < weight / (_FRAME_MEAN_BYTES - _FRAME_MIN_BYTES)


def _inodes(entries: Sequence[Entry], taken: Iterable[range]) -> range:
    """Choose inode numbers that no other frame has and that a change elsewhere does not move.

    The kernel and cpio remember the numbers of hard links from frame to frame.
    """
    start = zlib.crc32(os.fsencode(entries[0].path)) % ((1 << 32) - (1 << 24)) + 1
    for other in sorted(taken, key=lambda numbers: numbers.start):
        if start < other.stop and other.start < start + len(entries):
            start = other.stop
    if start + len(entries) > 1 << 32:
        raise ConflictError(f"{len(entries)} entries are too many for one frame of an initrd")
    return range(start, start + len(entries))


def _made_s(closure: FileClosure, timestamp_s: int) -> int:
    dates = [entry.identity.mtime_ns // 10**9 for entry in closure if entry.identity is not None]
    return max(0, min(timestamp_s, max(dates, default=timestamp_s)))


def _in_order(
    pool: ThreadPoolExecutor,
    make: Callable[[Frame], _Made],
    frames: Sequence[Frame],
    *,
    ahead: int,
) -> Generator[tuple[Frame, _Made], None, None]:
    """Yield each frame as it was made, in order, with at most ``ahead`` in the making."""
    waiting: deque[tuple[Frame, Future[_Made]]] = deque()
    left = iter(frames)
    try:
        while True:
            while len(waiting) < ahead and (frame := next(left, None)) is not None:
                waiting.append((frame, pool.submit(make, frame)))
            if not waiting:
                return
            frame, future = waiting.popleft()
            yield frame, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes frames, or takes them from the cache; used by many threads."""

    codec: Codec
    level: int
    made_s: int
    cache: CheckedCache | None

    def make(self, frame: Frame) -> _Made:
        if self.cache is None or self.codec is Codec.NONE:
            return self._compress(frame)
        key = self._key(frame)
        kept = self.cache.load(key)
        if kept is not None:
            (unpacked_bytes,) = _KEPT.unpack_from(kept)
            return _Made(kept[_KEPT.size :], unpacked_bytes, from_cache=True)
        before_ns = time.time_ns() - _CLOCK_TICK_NS
        made = self._compress(frame)
        dates = [entry.identity.ctime_ns for entry in frame.entries if entry.identity is not None]
        # What changed within this tick may change again and look the same.
        if max(dates, default=0) < before_ns:
            self.cache.store(key, _KEPT.pack(made.unpacked_bytes) + made.data)
        return made

    def _compress(self, frame: Frame) -> _Made:
        feed = _Feed(self.codec, self.level)
        written: Written = write_cpio(
            frame.entries,
            feed,
            timestamp_s=self.made_s,
            trailer=frame.trailer,
            first_inode=frame.first_inode,
        )
        return _Made(feed.finish(), written.size_bytes)

    def _key(self, frame: Frame) -> str:
        parts: list[object] = [
            _FRAME_FORMAT,
            self.codec,
            self.level,
            _library_version(self.codec),
            frame.first_inode,
            frame.trailer,
        ]
        for entry in frame.entries:
            content = entry.content
            made = None if content is None else hashlib.sha256(content).digest()
            known = entry.identity
            state = known and (
                known.device,
                known.inode,
                known.size_bytes,
                known.mtime_ns,
                known.ctime_ns,
            )
            dated = dated_s(entry, self.made_s)
            parts.append((entry.path, entry.mode, entry.target, entry.device, dated, made, state))
        text = repr(parts).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()


class _Feed:
    """Collects small writes for a compressor, which works best, and unlocked, on large ones."""

    def __init__(self, codec: Codec, level: int) -> None:
        self._frame = compressor(codec, level)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._done: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _FEED_BYTES:
            self._pass_on()

    def finish(self) -> bytes:
        self._pass_on()
        self._done.append(self._frame.flush())
        return b"".join(self._done)

    def _pass_on(self) -> None:
        self._done.append(self._frame.compress(b"".join(self._pending)))
        self._pending.clear()
        self._pending_bytes = 0


class _Sink:
    """The output file: counted, digested, its errors ours."""

    def __init__(self, out: BinaryIO) -> None:
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self._out = out

    def write(self, data: bytes) -> None:
        try:
            self._out.write(data)
        except OSError as error:
            raise OutputError(
                f"cannot write the initrd: {error.strerror}",
                hint="see whether the disk is full",
            ) from error
        self.size_bytes += len(data)
        self.digest.update(data)


def _library_version(codec: Codec) -> str:
    """Return what decides, besides the level, what a codec makes of the same bytes."""
    if codec is Codec.ZSTD:
        import zstandard

        return ".".join(map(str, zstandard.ZSTD_VERSION))
    return zlib.ZLIB_RUNTIME_VERSION if codec is Codec.GZIP else ""
