"""What an interrupted run left in the folder of an unfinished set: what of it is whole, and used.

Each run has a catalog of its own there, ``catalog-N.sqlite``, the greatest N the latest.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from archive.catalog import Catalog
from archive.codec import Codec, Packing
from archive.errors import CannotWrite, SetDamaged
from archive.setfolder import FOLDER_MODE, SLICES

_log = logging.getLogger(__name__)
_CATALOG = re.compile(r"catalog-(\d+)\.sqlite")
_SLICE = re.compile(r"(\d{7,})\.afio(\.\w+)?")


@dataclass(frozen=True, slots=True)
class Leftover:
    """The catalogs of earlier runs, the latest first, and where this run's own belongs."""

    catalogs: tuple[Path, ...]
    next_catalog: Path


def leftovers(folder: Path) -> Leftover:
    """Look at an unfinished set; remove what is not whole of it: slices, rows, catalogs."""
    (folder / SLICES).mkdir(mode=FOLDER_MODE, exist_ok=True)
    found: list[Path] = []
    latest = 0
    for number, path in sorted(_catalogs(folder), reverse=True):
        latest = max(latest, number)
        if _is_sound(path):
            found.append(path)
        else:
            _log.info("%s was not begun, or is damaged: left out", path)
            _remove_catalog(path)
    whole = _whole_slices(folder, found)
    for path in found:
        with Catalog.open_write(path) as catalog:
            _forget_slices(catalog, whole)
            catalog.settle()
    for path in (folder / SLICES).iterdir():
        name = _SLICE.fullmatch(path.name)
        if name is None or int(name[1]) not in whole:
            path.unlink()
    return Leftover(tuple(found), folder / f"catalog-{latest + 1}.sqlite")


def check_slices(folder: Path, catalog: Catalog) -> None:
    """See that every slice that was made is there. Raises CannotWrite."""
    rows = catalog.connection.execute("SELECT number, size FROM slice").fetchall()
    try:
        files = {number: file.stat().st_size for number, file in _slice_files(folder).items()}
    except OSError as error:
        raise CannotWrite(f"{folder}: {error.strerror}") from error
    for number, size in rows:
        if files.get(number) != size:
            raise CannotWrite(
                f"slice {number} was taken away from {folder}, or changed, while the set was made",
                hint="--resume makes it again; let nothing else write there",
            )


def discard_catalogs(folder: Path) -> None:
    """Remove the unpacked catalogs of a set that has its packed one."""
    for _, path in list(_catalogs(folder)):
        _remove_catalog(path)


def parent_of(folder: Path) -> str | None:
    """Return the id of the set that an unfinished differential was begun against, if one was."""
    for _, path in sorted(_catalogs(folder), reverse=True):
        for (set_id,) in _asked(path, "SELECT set_id FROM member WHERE number = 1"):
            return str(set_id)
    return None


def is_packed_as(folder: Path, packing: Packing) -> bool:
    """Tell whether an unfinished set's slices and those of a packing can make one set."""
    for path in (folder / SLICES).glob("*"):
        name = _SLICE.fullmatch(path.name)
        if name is not None and path.name != name[1] + packing.suffix:
            return False
    fitting = {packing.codec, Codec.NONE} if packing.per_file else {packing.codec}
    query = "SELECT DISTINCT codec FROM frame WHERE member = 0"
    return all(
        codec in fitting for _, path in _catalogs(folder) for (codec,) in _asked(path, query)
    )


def _asked(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return what an interrupted run's catalog answers; nothing, where it is not whole."""
    try:
        with Catalog.open_write(path) as catalog:
            return catalog.connection.execute(query).fetchall()
    except (SetDamaged, sqlite3.DatabaseError):
        return []


def _catalogs(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.iterdir():
        number = _CATALOG.fullmatch(path.name)
        if number is not None:
            yield int(number[1]), path


def _is_sound(path: Path) -> bool:
    """Fold what SQLite keeps beside a catalog into it; tell whether it is whole."""
    try:
        with Catalog.open_write(path) as catalog:
            catalog.settle()
            return bool(catalog.connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        raise  # The medium's fault, not the catalog's.
    except (SetDamaged, sqlite3.DatabaseError):
        return False


def _remove_catalog(path: Path) -> None:
    for name in (path.name, f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)


def _slice_files(folder: Path) -> dict[int, Path]:
    files = {}
    for path in (folder / SLICES).iterdir():
        name = _SLICE.fullmatch(path.name)
        if name is not None:
            files[int(name[1])] = path
    return files


def _whole_slices(folder: Path, catalogs: list[Path]) -> set[int]:
    """Return the numbers of the slices that are there, byte by byte as the catalogs say."""
    files = _slice_files(folder)
    whole: set[int] = set()
    for path in catalogs:
        with Catalog.open_read(path) as catalog:
            rows = catalog.connection.execute("SELECT number, size, sha256 FROM slice").fetchall()
        for number, size, sha256 in rows:
            file = files.get(number)
            if number in whole or file is None or file.stat().st_size != size:
                continue
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").digest() == sha256:
                    whole.add(number)
    return whole


def _forget_slices(catalog: Catalog, whole: set[int]) -> None:
    """Remove the rows that rest on slices of the set which are not whole."""
    connection = catalog.connection
    rows = connection.execute(
        "SELECT number FROM slice UNION SELECT slice FROM frame WHERE member = 0"
    ).fetchall()
    for (number,) in rows:
        if number in whole:
            continue
        lost = "SELECT number FROM frame WHERE member = 0 AND slice = ?1"
        connection.execute(
            f"DELETE FROM entry WHERE frame IN ({lost}) OR content IN"  # noqa: S608
            f" (SELECT content FROM part WHERE frame IN ({lost}))",
            (number,),
        )
        connection.execute(f"DELETE FROM part WHERE frame IN ({lost})", (number,))  # noqa: S608
        connection.execute("DELETE FROM frame WHERE member = 0 AND slice = ?", (number,))
        connection.execute("DELETE FROM slice WHERE number = ?", (number,))
