"""Writes small backup sets by hand, as archive/FORMAT.md has them, without the writer."""

from __future__ import annotations

import hashlib
import random
import stat
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from archive.afio import TRAILER, header
from archive.catalog import Catalog
from archive.catalogfile import store_catalog
from archive.codec import Codec, FrameCompressor, Packing
from archive.entry import Entry, digest_of_parts, tree_key
from archive.manifest import (
    CatalogFile,
    Covered,
    IssueCount,
    Kind,
    Manifest,
    Selected,
    Slices,
    Totals,
)
from archive.manifestfile import MANIFEST, MANIFEST_COPY
from archive.setfolder import finish, new_partial, slice_path

FILE = stat.S_IFREG | 0o644
NOW = datetime(2026, 11, 22, 23, 14, 49, tzinfo=UTC)


def words(size: int, seed: int = 0) -> bytes:
    """Return bytes that shrink somewhat, the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311
    return bytes(dice.choices(range(97, 123), k=size))


def manifest(
    *,
    kind: Kind = Kind.FULL,
    parent_id: str | None = None,
    set_id: str | None = None,
    codec: Codec = Codec.ZSTD,
    per_file: bool = False,
    name: str = "20261122T231449Z-full",
    catalog: CatalogFile | None = None,
) -> Manifest:
    """Return a manifest of which the rest is plausible."""
    return Manifest(
        set_id=set_id or str(uuid.uuid4()),
        parent_id=parent_id,
        name=name,
        kind=kind,
        created="2026-11-22T23:14:49Z",
        host="box",
        tool_version="0.1.0",
        codec=codec,
        level=3,
        per_file=per_file,
        selection=Selected(("/",), ("*.o", "/caf\udce9"), False, True, False),
        slices=Slices(1, 2, 3),
        totals=Totals(1, 2, 3, 4, 5, 6),
        coverage=(Covered("/", "ext4", "/dev/sda1", True, ""),),
        issues=(IssueCount("vanished", 2),),
        catalog=catalog or CatalogFile(10, "0" * 64, 20),
    )


def write_manifest(folder: Path, data: bytes) -> None:
    """Put both files of a manifest into a set's folder."""
    for name in (MANIFEST, MANIFEST_COPY):
        (folder / name).write_bytes(data)


@dataclass
class SetBuilder:
    """Gathers files, then writes a set. Frames are numbered in the order they are added."""

    folder: Path
    """Of the prefix."""
    codec: Codec = Codec.ZSTD
    per_file: bool = False
    parent: Manifest | None = None
    members: tuple[str, ...] = ()
    """The ids of the parent, its parent, ..."""
    rows: list[dict[str, object]] = field(default_factory=list)
    frames: list[tuple[int, ...]] = field(default_factory=list)
    parts: list[tuple[object, ...]] = field(default_factory=list)
    slices: list[bytearray] = field(default_factory=list)
    first_frame: int = 1

    def __post_init__(self) -> None:
        self._compressor = FrameCompressor(self.codec, 3)
        self.next_slice()

    def next_slice(self) -> None:
        """Begin another slice."""
        self._end_slice()
        self.slices.append(bytearray())
        if not self.per_file:
            self.slices[-1] += self._compressor.prologue

    def _end_slice(self) -> None:
        if self.slices and not self.per_file:
            self.slices[-1] += self._compressor.compress(TRAILER) + self._compressor.epilogue

    def frame(self, raw: bytes) -> int:
        """Add a frame; return its number."""
        packed = self._compressor.compress(raw)
        return self._enter(len(self.slices[-1]), packed, len(raw), self.codec)

    def _enter(self, start: int, packed: bytes, raw_size: int, codec: Codec) -> int:
        number = self.first_frame + len(self.frames)
        self.frames.append((number, 0, len(self.slices), start, len(packed), raw_size, codec))
        self.slices[-1] += packed
        return number

    def _apart(self, name: bytes, data: bytes) -> int:
        """Add an entry of --per-file, of which the data are a frame; return its number."""
        packed = self._compressor.compress(data)
        around = (self._compressor.prologue, self._compressor.epilogue)
        size = len(packed) + sum(map(len, around))
        if size >= len(data):
            self.slices[-1] += _header(name, len(data), rdev=1)
            return self._enter(len(self.slices[-1]), data, len(data), Codec.NONE)
        self.slices[-1] += _header(name + b".z", size) + around[0]
        number = self._enter(len(self.slices[-1]), packed, len(data), self.codec)
        self.slices[-1] += around[1]
        return number

    def files(self, contents: dict[bytes, bytes]) -> None:
        """Add files: one frame with all of them, or with --per-file one frame each."""
        raw = bytearray()
        places = {}
        for path, content in contents.items():
            if self.per_file:
                places[path] = (self._apart(path, content), 0)
            else:
                raw += _header(path, len(content))
                places[path] = (self.first_frame + len(self.frames), len(raw))
                raw += content
        if raw:
            self.frame(bytes(raw))
        for path, content in contents.items():
            digest = hashlib.sha256(content).digest()
            frame, start = places[path]
            self.row(path, FILE, size=len(content), digest=digest, frame=frame, start=start)

    def parted(self, path: bytes, runs: dict[int, bytes], size: int) -> None:
        """Add a file in parts, one frame each: ``runs`` gives data by offset, the rest is hole."""
        content = len(self.parts) + 1
        held = []
        for offset, data in runs.items():
            digest = hashlib.sha256(data).digest()
            held.append((offset, len(data), digest))
            name = b".mindi/parts/%b/%020d" % (path, offset)
            if self.per_file:
                place = (self._apart(name, data), 0)
            else:
                head = _header(name, len(data))
                place = (self.frame(head + data), len(head))
            self.parts.append((content, offset, len(data), digest, *place))
        self.row(path, FILE, size=size, digest=digest_of_parts(held), content=content)

    def row(self, path: bytes, mode: int, **more: object) -> None:
        """Add an entry, with fields of Entry as they are to be."""
        self.rows.append({"path": path, "mode": mode, **more})

    def catalog(self, path: Path, set_id: str) -> Path:
        """Write the catalog; return its path."""
        rows = sorted(self.rows, key=lambda row: tree_key(bytes(row["path"])))  # type: ignore[call-overload]
        with Catalog.create(path) as catalog:
            catalog.connection.execute("PRAGMA synchronous = OFF")
            catalog.connection.execute("BEGIN")
            catalog.put_entries(_entry(number, row) for number, row in enumerate(rows, 1))
            catalog.put_frames(self.frames)
            catalog.put_parts(self.parts)
            put = catalog.connection.executemany
            put("INSERT INTO member VALUES (?, ?)", enumerate((set_id, *self.members)))
            put("INSERT INTO device VALUES (?, ?)", [(1, "uuid:1234")])
            put(
                "INSERT INTO slice VALUES (?, ?, ?, ?)",
                [
                    (number, len(data), hashlib.sha256(data).digest(), len(data))
                    for number, data in enumerate(self.slices, 1)
                ],
            )
            catalog.connection.execute("COMMIT")
        return path

    def write(self) -> tuple[Path, Manifest]:
        """Write the set; return its folder and its manifest."""
        kind = Kind.DIFFERENTIAL if self.parent else Kind.FULL
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = new_partial(self.folder, kind, NOW)
        self._end_slice()
        suffix = Packing(self.codec, 3, self.per_file).suffix
        for number, data in enumerate(self.slices, 1):
            path = slice_path(partial.path, number, suffix)
            path.write_bytes(data)
            path.chmod(0o600)
        set_id = str(uuid.uuid4())
        database = self.catalog(self.folder / ".scratch.sqlite", set_id)
        told = manifest(
            kind=kind,
            parent_id=self.parent.set_id if self.parent else None,
            set_id=set_id,
            codec=self.codec,
            per_file=self.per_file,
            name=str(partial.name),
            catalog=store_catalog(database, partial.path),
        )
        database.unlink()
        return finish(partial, told), told


def _header(name: bytes, size: int, *, rdev: int = 0) -> bytes:
    return header(name, FILE, 0, 0, 1_700_000_000, size=size, rdev=rdev)


def _entry(number: int, row: dict[str, object]) -> tuple[object, ...]:
    defaults: dict[str, object] = {
        "id": number,
        "uid": 0,
        "gid": 0,
        "mtime_s": 1_700_000_000,
        "mtime_ns": 5,
        "ctime_ns": 1_700_000_000_000_000_005,
        "size": 0,
        "inode": number,
        "device": 1,
        "nlink": 1,
        "rdev": 0,
        "target": None,
        "link": None,
        "xattrs": None,
        "flags": 0,
        "digest": None,
        "frame": None,
        "start": None,
        "content": None,
    }
    held = {**defaults, **row}
    return tuple(held[name] for name in Entry._fields)
