"""Decides what need not be saved again: the catalogs of earlier sets, read beside the walk.

Both the walk and a catalog are in the tree's order, so each catalog is read once, from front to
back, and no more than one of its rows is in memory.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from archive.catalog import Catalog
from archive.entry import signed64, tree_key
from archive.slicing import Known

_COLUMNS = (
    "id, path, mode, uid, gid, mtime_s, mtime_ns, ctime_ns, size, inode, device, nlink, "
    "link, digest, frame, start, content"
)


class Row(NamedTuple):
    """What of an earlier entry is needed to tell whether the path is still the same."""

    id: int
    path: bytes
    mode: int
    uid: int
    gid: int
    mtime_s: int
    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    device: int
    nlink: int
    link: int | None
    digest: bytes | None
    frame: int | None
    start: int | None
    content: int | None

    def is_same(self, found: os.stat_result, device: int) -> bool:
        """Tell whether nothing was done to the path since: no clock set back can hide it.

        The kernel moves ctime at every change of content or attributes, to the time of the
        change; any other ctime than the one seen then is a change.
        """
        return (
            self.ctime_ns == found.st_ctime_ns
            and self.inode == signed64(found.st_ino)
            and self.device == device
            and self.mode == found.st_mode
            and (self.size == found.st_size or not stat.S_ISREG(self.mode))
            and self.mtime_s * 1_000_000_000 + self.mtime_ns == found.st_mtime_ns
            and self.nlink == found.st_nlink
            and self.uid == found.st_uid
            and self.gid == found.st_gid
        )

    @property
    def known(self) -> Known | None:
        """Where the bytes of a file kept in one piece lie."""
        if self.digest is None or self.content is not None:
            return None
        return Known(self.digest, self.frame, self.start)


class Reference:
    """The catalog of an earlier set, asked for paths in the tree's order."""

    def __init__(self, catalog: Catalog, *, schema: str) -> None:
        self.schema = schema
        """The name under which the new catalog has it attached."""
        self._catalog = catalog
        query = f"SELECT {_COLUMNS} FROM entry ORDER BY id"  # noqa: S608
        self._rows = map(Row._make, catalog.connection.execute(query))
        self._row = next(self._rows, None)

    def at(self, path: bytes) -> Row | None:
        """Return the row of ``path``, if the set has it; to be asked once for each path."""
        row = self._row
        if row is not None and row.path != path:
            key = tree_key(path)
            while row is not None and tree_key(row.path) < key:
                row = next(self._rows, None)
            self._row = row
        if row is None or row.path != path:
            return None
        self._row = next(self._rows, None)
        return row

    def known_parts(self, content: int) -> dict[int, Known]:
        """Return where the parts of a file lie, by their offsets."""
        return {
            part.offset: Known(part.digest, part.frame, part.start)
            for part in self._catalog.parts(content)
        }
