"""The catalog on the medium: compressed, twice, and back.

Nothing of it is unpacked before its digest is found right, and never more than the manifest
says, which is bounded itself: manifest and catalog may both come from an enemy.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import BinaryIO

import zstandard

from archive.catalog import Catalog
from archive.catalogmerge import merge
from archive.errors import CannotWrite, SetDamaged
from archive.faults import Fault
from archive.manifest import CatalogFile, Manifest
from archive.regular import open_regular
from archive.setfolder import CATALOG, CATALOG_COPY, FILE_MODE

LEVEL = 3
MAX_RATIO = 1000
"""No catalog shrinks by more than this, small ones (below ``SMALL``) aside."""
SMALL = 16 << 20
MAX_BYTES = 1 << 40
MAX_WINDOW = 8 << 20
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)


def store_catalog(db: Path, folder: Path) -> CatalogFile:
    """Compress a closed catalog into a set's folder, in both copies, onto the medium.

    What SQLite's journal holds goes into the database first; ``db`` itself stays.
    Raises CannotWrite.
    """
    try:
        with Catalog.open_write(db) as catalog:
            catalog.settle()
        with (
            db.open("rb") as source,
            _created(folder / CATALOG) as first,
            _created(folder / CATALOG_COPY) as second,
        ):
            sink = _Twice(first, second)
            raw_size = os.fstat(source.fileno()).st_size
            packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
            run = packer.compressobj(size=raw_size)
            while data := source.read(_CHUNK):
                sink.write(run.compress(data))
            sink.write(run.flush())
            for file in (first, second):
                file.flush()
                os.fsync(file.fileno())
    except (OSError, sqlite3.Error, zstandard.ZstdError) as error:
        raise CannotWrite(
            f"the catalog cannot be written to {folder}: {error}",
            hint="check that the medium is there, has room, and may be written",
        ) from error
    return CatalogFile(sink.size, sink.digest.hexdigest(), raw_size)


def load_catalog(folder: Path, manifest: Manifest, scratch: Path) -> Path:
    """Unpack a set's catalog into the folder ``scratch``; return the database's path.

    Takes the copy, and logs a warning, where the first is damaged; what is sound of each where
    both are. Raises SetDamaged where that does not help, CannotWrite where ``scratch`` has no
    room.
    """
    stored = manifest.catalog
    _check_sizes(folder, stored)
    _check_room(scratch, stored)
    target = scratch / f"{manifest.set_id}.sqlite"
    found: list[str] = []
    for name in (CATALOG, CATALOG_COPY):
        fault = _fault(folder / name, stored)
        if fault is None:
            if found:
                _log.warning("%s: using the copy, %s", found[0], CATALOG_COPY)
            return _unpack(folder / name, stored, target)
        found.append(str(fault))
    merged = scratch / f"{manifest.set_id}.sqlite.zst"
    if _merge(folder, stored, merged):
        _log.warning("%s: both damaged, together they are whole", "; ".join(found))
        try:
            return _unpack(merged, stored, target)
        finally:
            merged.unlink()
    raise SetDamaged(
        f"the catalog of {folder} and its copy are damaged: {'; '.join(found)}",
        hint="take the set from another copy of it; afio or cpio read its slices without us",
    )


def catalog_faults(folder: Path, manifest: Manifest) -> tuple[Fault, ...]:
    """Return what is wrong with either copy of a set's catalog."""
    faults = (_fault(folder / name, manifest.catalog) for name in (CATALOG, CATALOG_COPY))
    return tuple(fault for fault in faults if fault is not None)


class _Twice:
    """Writes to two files and keeps the digest of what it wrote."""

    def __init__(self, *files: BinaryIO) -> None:
        self._files = files
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        for file in self._files:
            file.write(data)
        self.digest.update(data)
        self.size += len(data)


def _created(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, FILE_MODE), "wb")


def _check_sizes(folder: Path, stored: CatalogFile) -> None:
    largest = min(MAX_BYTES, max(SMALL, stored.size * MAX_RATIO))
    if stored.raw_size > largest:
        raise SetDamaged(
            f"the catalog of {folder} would be {stored.raw_size} bytes of {stored.size}: no "
            "catalog is like that",
            hint="somebody may have made this set to fill your disk: do not use it",
        )


def _check_room(scratch: Path, stored: CatalogFile) -> None:
    try:
        room = os.statvfs(scratch)
    except OSError:
        # To write there will fail, with better words.
        return
    # A ramfs, that of a rescue environment, has no size.
    if room.f_blocks and room.f_bavail * room.f_frsize < stored.raw_size:
        raise CannotWrite(
            f"{scratch} has no room for the catalog",
            hint=f"{stored.raw_size} bytes are needed there",
        )


def _fault(path: Path, stored: CatalogFile) -> Fault | None:
    """Return what is wrong with a copy of the catalog, by its size and digest."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != stored.size:
                return Fault(path, False, f"has {size} bytes, not {stored.size}")
            while data := file.read(_CHUNK):
                digest.update(data)
    except OSError as error:
        words = f"cannot be read: {error.strerror}"
        return Fault(path, isinstance(error, FileNotFoundError), words)
    if digest.hexdigest() == stored.sha256:
        return None
    return Fault(path, False, "has a wrong digest")


def _merge(folder: Path, stored: CatalogFile, target: Path) -> bool:
    try:
        return merge(folder / CATALOG, folder / CATALOG_COPY, stored, target)
    except OSError as error:
        _log.info("the copies of the catalog cannot be put together: %s", error)
        return False


def _unpack(path: Path, stored: CatalogFile, target: Path) -> Path:
    unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    done = 0
    try:
        with open_regular(path) as source, _created(target) as file:
            reader = unpacker.stream_reader(source, read_size=_CHUNK)
            while data := reader.read(_CHUNK):
                done += len(data)
                if done > stored.raw_size:
                    break
                file.write(data)
    except zstandard.ZstdError as error:
        raise SetDamaged(f"{path} is no catalog: {error}") from error
    except OSError as error:
        raise CannotWrite(
            f"{path} cannot be unpacked to {target}: {error.strerror}",
            hint=f"{stored.raw_size} bytes are needed there",
        ) from error
    if done != stored.raw_size:
        raise SetDamaged(f"{path} holds another number of bytes than the {stored.raw_size} stated")
    return target
