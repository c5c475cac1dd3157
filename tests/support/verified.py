"""Reads a set back, every byte of it, and compares with what the catalog and the manifest say."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from archive.entry import Entry, digest_of_parts
from archive.frames import FrameReader
from archive.reader import BackupSet
from archive.rowcheck import check_entry


def verified_entries(folder: Path) -> list[Entry]:
    """Return all entries of a set; its slices, frames and digests are as they should be.

    Every path has a folder to be in, all names of a file say the same of it, and the set's
    folder holds nothing but what belongs there.
    """
    with BackupSet.open(folder) as backup, backup.frame_reader() as reader:
        catalog = backup.catalog
        _check_slices(folder, backup)
        entries = list(catalog.entries())
        folders = {b""}
        groups: dict[int, Entry] = {}
        for entry in entries:
            check_entry(entry)
            assert entry.path.rpartition(b"/")[0] in folders, entry.path
            if stat.S_ISDIR(entry.mode):
                folders.add(entry.path)
            if entry.link is not None:
                first = groups.setdefault(entry.link, entry)
                assert entry[2:] == first[2:], (entry.path, first.path)
            if not stat.S_ISREG(entry.mode):
                continue
            if entry.content is None:
                data = _read(backup, reader, entry.frame, entry.start, entry.size)
                assert hashlib.sha256(data).digest() == entry.digest, entry.path
                continue
            parts = list(catalog.parts(entry.content))
            for part in parts:
                data = _read(backup, reader, part.frame, part.start, part.size)
                assert hashlib.sha256(data).digest() == part.digest, entry.path
            whole = digest_of_parts((part.offset, part.size, part.digest) for part in parts)
            assert whole == entry.digest, entry.path
        return entries


def _read(
    backup: BackupSet, reader: FrameReader, number: int | None, start: int | None, size: int
) -> bytes:
    if number is None:
        assert size == 0
        return b""
    frame = backup.catalog.frame(number)
    assert frame is not None and start is not None
    data = reader.read(frame)[start : start + size]
    assert len(data) == size
    return bytes(data)


def _check_slices(folder: Path, backup: BackupSet) -> None:
    names = {path.name for path in folder.iterdir()}
    twice = {"manifest.json": "manifest-copy.json", "catalog.sqlite.zst": "catalog-copy.sqlite.zst"}
    assert names == {*twice, *twice.values(), "slices"}
    for name, copy in twice.items():
        assert (folder / name).read_bytes() == (folder / copy).read_bytes()
    query = "SELECT number, size, sha256 FROM slice"
    rows = backup.catalog.connection.execute(query).fetchall()
    files = {int(path.name.split(".")[0]): path for path in (folder / "slices").iterdir()}
    assert files.keys() == {number for number, _, _ in rows}
    for number, size, digest in rows:
        data = files[number].read_bytes()
        assert len(data) == size
        assert hashlib.sha256(data).digest() == digest
