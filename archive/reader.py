"""Opens a backup set with its chain: manifest, catalog, and the bytes of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from archive.catalog import Catalog
from archive.catalogfile import load_catalog
from archive.codec import Packing
from archive.entry import Entry, digest_of_parts
from archive.errors import ParentMissing, SetDamaged
from archive.frames import FrameReader, Member
from archive.headers import entry_name, part_name
from archive.manifest import Manifest
from archive.manifestfile import has_manifest, read_manifest
from archive.scratch import scratch_folder
from archive.setfolder import chain

MAX_MEMBERS = 100_000
"""A chain longer than this is none."""
_SCRATCH = "mindi-set-"
_ROOM = (
    "a catalog is to be unpacked there: make room, or name another folder (--scratch, --tmp-dir)"
)


class BackupSet:
    """An open set. Use as a context manager: what was unpacked of it goes at the end."""

    def __init__(self, folder: Path, manifest: Manifest, catalog: Catalog, room: ExitStack) -> None:
        self.folder = folder
        self.manifest = manifest
        self.catalog = catalog
        self._room = room
        self._members: tuple[Member, ...] | None = None

    @classmethod
    def open(cls, path: Path, *, scratch: Path | None = None) -> BackupSet:
        """Open the set of a folder, or the newest set of a prefix's folder.

        Its catalog is unpacked below ``scratch``, by default below $TMPDIR or /var/tmp,
        and removed by ``close``. Parents are not looked for before ``members``
        is asked for. Raises SetDamaged, CannotWrite.
        """
        folder = set_folder(path)
        manifest = read_manifest(folder)
        with ExitStack() as room:
            own = room.enter_context(scratch_folder(scratch, prefix=_SCRATCH, hint=_ROOM))
            catalog = Catalog.open_read(load_catalog(folder, manifest, own))
            return cls(folder, manifest, catalog, room.pop_all())

    def __enter__(self) -> BackupSet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was unpacked."""
        self.catalog.connection.close()
        self._room.close()

    @property
    def members(self) -> tuple[Member, ...]:
        """The set itself, its parent, its parent's parent, ...: where their slices lie.

        Parents are found among the folders beside the set's by their id. Raises ParentMissing,
        SetDamaged.
        """
        if self._members is None:
            self._members = self._find_members()
        return self._members

    def frame_reader(self) -> FrameReader:
        """Return what reads the frames of this set and its parents. Raises as ``members``."""
        return FrameReader(self.members)

    def _find_members(self) -> tuple[Member, ...]:
        ids = self.catalog.members(limit=MAX_MEMBERS)
        expected = [self.manifest.set_id]
        if self.manifest.parent_id is not None:
            expected.append(self.manifest.parent_id)
        wrong = ids[:2] != expected if self.manifest.parent_id else ids != expected
        if wrong or len(set(ids)) != len(ids):
            raise SetDamaged(
                f"the catalog of {self.folder} is not that of its manifest: it is of other sets",
                hint="take the set from another copy of it",
            )
        found = [_member(self.folder, self.manifest)]
        if len(ids) > 1:
            beside, damaged = _sets_beside(self.folder)
            for set_id in ids[1:]:
                if set_id not in beside:
                    raise self._missing(set_id, damaged)
                found.append(_member(*beside[set_id]))
        return tuple(found)

    def _missing(self, set_id: str, damaged: list[str]) -> ParentMissing:
        folder = self.folder.absolute().parent
        words = f"; it may be one whose manifest is damaged: {', '.join(damaged)}"
        return ParentMissing(
            f"{self.folder} is a differential; the set {set_id} on which it rests is not in "
            f"{folder}{words if damaged else ''}",
            hint="bring that set's folder there",
        )


def set_folder(path: Path) -> Path:
    """Return the folder of the set that ``path`` means: itself, or the newest set in it.

    Raises SetDamaged where there is none.
    """
    if has_manifest(path):
        return path
    names = chain(path)
    if names:
        return path / str(names[-1])
    raise SetDamaged(f"{path} is no backup set and holds none", hint=_hint(path))


def contents(backup: BackupSet, entry: Entry, frames: FrameReader) -> Iterator[tuple[int, bytes]]:
    """Give the runs of data of a regular file, each with its offset, in order.

    Every run is checked before it is given; damaged slices are searched for it. Raises
    SetDamaged (FrameLost) for what is lost.
    """
    if entry.content is not None:
        yield from _parts(backup, entry, frames)
        return
    data = b""
    if entry.frame is not None and entry.start is not None:
        if entry.digest is None:
            raise _no_digest(entry)
        data = _checked(
            backup,
            frames,
            (entry.frame, entry.start, entry.size),
            entry.digest,
            entry_name(entry.path, entry.id),
        )
    elif entry.digest not in (None, hashlib.sha256().digest()) or entry.size:
        raise SetDamaged(f"the catalog does not say where the bytes of {entry.path!r} are")
    if data:
        yield 0, data


def _parts(backup: BackupSet, entry: Entry, frames: FrameReader) -> Iterator[tuple[int, bytes]]:
    """Give the parts of a file; its whole digest is of its parts' and is checked first."""
    content = entry.content or 0
    told = digest_of_parts(
        (part.offset, part.size, part.digest) for part in backup.catalog.parts(content)
    )
    if told != entry.digest:
        raise SetDamaged(f"the catalog is wrong: {entry.path!r} has parts of another file")
    end = 0
    for part in backup.catalog.parts(content):
        if part.offset < end or part.offset + part.size > entry.size:
            raise SetDamaged(f"the catalog is wrong: {entry.path!r} has overlapping parts")
        end = part.offset + part.size
        name = part_name(entry.path, entry.id, part.offset)
        place = (part.frame, part.start, part.size)
        yield part.offset, _checked(backup, frames, place, part.digest, name)


def _checked(
    backup: BackupSet,
    frames: FrameReader,
    place: tuple[int, int, int],
    digest: bytes,
    name: bytes,
) -> bytes:
    number, start, size = place
    frame = backup.catalog.frame(number)
    if frame is None:
        raise SetDamaged(f"the catalog is wrong: it has no frame {number}, where {name!r} would be")
    return frames.fetch(frame, start, size, digest=digest, name=name)


def _no_digest(entry: Entry) -> SetDamaged:
    return SetDamaged(f"the catalog is wrong: {entry.path!r} has no digest")


def _member(folder: Path, manifest: Manifest) -> Member:
    packing = Packing(manifest.codec, manifest.level, manifest.per_file)
    return Member(manifest.set_id, folder, packing.suffix)


def _sets_beside(folder: Path) -> tuple[dict[str, tuple[Path, Manifest]], list[str]]:
    """Return the sets in the folder of a set by their ids, and the names of those unreadable."""
    parent = folder.absolute().parent
    found = {}
    damaged = []
    for name in chain(parent):
        path = parent / str(name)
        try:
            manifest = read_manifest(path)
        except SetDamaged:
            damaged.append(str(name))
        else:
            found[manifest.set_id] = (path, manifest)
    return found, damaged


def _hint(path: Path) -> str:
    try:
        inside = sorted(one.name for one in path.iterdir() if chain(one))
    except OSError:
        inside = []
    if inside:
        return f"it holds prefixes, name one of them: {', '.join(inside[:10])}"
    return "name the folder of a prefix or of a set; a set without a manifest is unfinished"
