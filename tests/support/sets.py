"""Writes small backup sets by hand: catalog, slices and manifest as archive/FORMAT.md has them.

Independent of the writer. What fills the frames is not afio here: a reader finds the bytes by
the catalog alone.
"""

from __future__ import annotations

import hashlib
import random
import stat
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import zstandard

from archive.catalog import Catalog
from archive.catalogfile import store_catalog
from archive.codec import Codec
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
from archive.setfolder import finish, new_partial, slice_path

NOW = datetime(2026, 11, 22, 23, 14, 49, tzinfo=UTC)
SUFFIX = {Codec.NONE: ".afio", Codec.ZSTD: ".afio.zst"}


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
        per_file=False,
        selection=Selected(("/",), ("*.o", "/caf\udce9"), False, True, False),
        slices=Slices(1, 2, 3),
        totals=Totals(1, 2, 3, 4, 5, 6),
        coverage=(Covered("/", "ext4", "/dev/sda1", True, ""),),
        issues=(IssueCount("vanished", 2),),
        catalog=catalog or CatalogFile(10, "0" * 64, 20),
    )


@dataclass
class SetBuilder:
    """Gathers files, then writes a set. Frames are numbered in the order they are added."""

    folder: Path
    """Of the prefix."""
    codec: Codec = Codec.ZSTD
    parent: Manifest | None = None
    members: tuple[str, ...] = ()
    """The ids of the parent, its parent, ..."""
    rows: list[dict[str, object]] = field(default_factory=list)
    frames: list[tuple[int, ...]] = field(default_factory=list)
    parts: list[tuple[object, ...]] = field(default_factory=list)
    slices: list[bytearray] = field(default_factory=lambda: [bytearray()])

    def next_slice(self) -> None:
        """Begin another slice."""
        self.slices.append(bytearray())

    def frame(self, raw: bytes) -> int:
        """Add a frame; return its number."""
        packed = raw
        if self.codec is Codec.ZSTD:
            packed = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(raw)
        number = len(self.frames) + 1
        place = (0, len(self.slices), len(self.slices[-1]), len(packed), len(raw), self.codec)
        self.frames.append((number, *place))
        self.slices[-1] += packed
        return number

    def files(self, contents: dict[bytes, bytes]) -> int:
        """Add a frame with all of these files; return its number."""
        raw = bytearray()
        starts = {}
        for path, content in contents.items():
            raw += b"header of " + path
            starts[path] = len(raw)
            raw += content
        number = self.frame(bytes(raw))
        for path, content in contents.items():
            self.row(
                path,
                stat.S_IFREG | 0o644,
                size=len(content),
                digest=hashlib.sha256(content).digest(),
                frame=number,
                start=starts[path],
            )
        return number

    def parted(self, path: bytes, runs: dict[int, bytes], size: int) -> None:
        """Add a file in parts, one frame each: ``runs`` gives data by offset, the rest is hole."""
        content = len(self.parts) + 1
        held = []
        for offset, data in runs.items():
            digest = hashlib.sha256(data).digest()
            held.append((offset, len(data), digest))
            self.parts.append((content, offset, len(data), digest, self.frame(data), 0))
        digest = digest_of_parts(held)
        self.row(path, stat.S_IFREG | 0o644, size=size, digest=digest, content=content)

    def row(self, path: bytes, mode: int, **more: object) -> None:
        """Add an entry, with fields of Entry as they are to be."""
        self.rows.append({"path": path, "mode": mode, **more})

    def catalog(self, path: Path, set_id: str) -> Path:
        """Write the catalog; return its path."""
        rows = sorted(self.rows, key=lambda row: tree_key(bytes(row["path"])))  # type: ignore[call-overload]
        with Catalog.create(path) as catalog:
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
        return path

    def write(self) -> tuple[Path, Manifest]:
        """Write the set; return its folder and its manifest."""
        kind = Kind.DIFFERENTIAL if self.parent else Kind.FULL
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = new_partial(self.folder, kind, NOW)
        for number, data in enumerate(self.slices, 1):
            slice_path(partial.path, number, SUFFIX[self.codec]).write_bytes(data)
        set_id = str(uuid.uuid4())
        database = self.catalog(self.folder / ".scratch.sqlite", set_id)
        told = manifest(
            kind=kind,
            parent_id=self.parent.set_id if self.parent else None,
            set_id=set_id,
            codec=self.codec,
            name=str(partial.name),
            catalog=store_catalog(database, partial.path),
        )
        database.unlink()
        return finish(partial, told), told


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
