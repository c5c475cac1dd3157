"""The last steps of a catalog, when all slices are made: what one row needs of others."""

from __future__ import annotations

import stat
from typing import NamedTuple

from archive.catalog import Catalog
from archive.entry import Entry, digest_of_parts
from archive.manifest import Slices, Totals

_OF_BEARER = ", ".join(f"b.{name}" for name in Entry._fields[2:])


class Orphan(NamedTuple):
    """A hard link of which the name that was read for all of them could not be read."""

    id: int
    path: bytes
    link: int
    device: int
    st_dev: int
    inode: int
    """What the file was found to be; both as SQLite stores them."""


def take_orphans(catalog: Catalog) -> list[Orphan]:
    """Return one hard link of each group without bytes, and take it from those that wait."""
    query = (
        "SELECT min(p.id), p.path, p.link, p.device, l.st_dev, l.inode"
        " FROM temp.pending p JOIN temp.link l ON l.number = p.link"
        " LEFT JOIN entry e ON e.id = l.id AND e.link = l.number"
        " WHERE e.id IS NULL GROUP BY p.link"
    )
    orphans = [Orphan._make(row) for row in catalog.connection.execute(query)]
    for orphan in orphans:
        catalog.connection.execute("DELETE FROM temp.pending WHERE id = ?", (orphan.id,))
        catalog.connection.execute(
            "UPDATE temp.link SET id = ?, path = ? WHERE number = ?",
            (orphan.id, orphan.path, orphan.link),
        )
    return orphans


def enter_links(catalog: Catalog) -> None:
    """Give every hard link that waits the row of the name that was read."""
    catalog.connection.execute(
        f"INSERT INTO entry SELECT p.id, p.path, {_OF_BEARER} FROM temp.pending p"  # noqa: S608
        " JOIN temp.link l ON l.number = p.link"
        " JOIN entry b ON b.id = l.id AND b.link = l.number"
    )


def enter_digests(catalog: Catalog) -> None:
    """Give every file that is kept in parts its digest."""
    waiting = catalog.connection.execute(
        "SELECT id, content FROM entry WHERE content IS NOT NULL AND digest IS NULL"
    )
    for number, content in waiting.fetchall():
        digest = digest_of_parts((p.offset, p.size, p.digest) for p in catalog.parts(content))
        catalog.connection.execute("UPDATE entry SET digest = ? WHERE id = ?", (digest, number))


def forget_unused(catalog: Catalog) -> None:
    """Remove the parts and frames of earlier sets that no entry names any more."""
    connection = catalog.connection
    connection.execute(
        "DELETE FROM part WHERE content NOT IN"
        " (SELECT content FROM entry WHERE content IS NOT NULL)"
    )
    connection.execute(
        "DELETE FROM frame WHERE number NOT IN (SELECT frame FROM entry WHERE frame IS NOT NULL)"
        " AND number NOT IN (SELECT frame FROM part)"
    )


def totals(catalog: Catalog) -> Totals:
    """Count what the catalog lists; hard links count once in bytes, and as files each."""
    connection = catalog.connection
    regular, folder = stat.S_IFREG, stat.S_IFDIR
    files, directories, others = connection.execute(
        "SELECT total(mode & 61440 = ?1), total(mode & 61440 = ?2),"
        " total(mode & 61440 NOT IN (?1, ?2)) FROM entry",
        (regular, folder),
    ).fetchone()
    size = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM entry WHERE link IS NULL"
    ).fetchone()[0]
    size += connection.execute(
        "SELECT coalesce(sum(size), 0) FROM"
        " (SELECT max(size) AS size FROM entry WHERE link IS NOT NULL GROUP BY link)"
    ).fetchone()[0]
    own = "JOIN frame f ON f.number = x.frame WHERE f.member = 0"
    stored_files, stored = connection.execute(
        f"SELECT count(*), coalesce(sum(x.size), 0) FROM entry x {own} AND x.link IS NULL"  # noqa: S608
    ).fetchone()
    linked_files, linked = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM (SELECT max(x.size) AS size"  # noqa: S608
        f" FROM entry x {own} AND x.link IS NOT NULL GROUP BY x.link)"
    ).fetchone()
    stored_parts, part_bytes = connection.execute(
        f"SELECT count(DISTINCT content), coalesce(sum(x.size), 0) FROM part x {own}"  # noqa: S608
    ).fetchone()
    return Totals(
        int(files),
        int(directories),
        int(others),
        size,
        stored_files + linked_files + stored_parts,
        stored + linked + part_bytes,
    )


def slices(catalog: Catalog) -> Slices:
    """Add up the set's own slices."""
    row = catalog.connection.execute(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(raw_size), 0) FROM slice"
    ).fetchone()
    return Slices(*row)
