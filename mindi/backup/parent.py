"""Finds the set that a differential is made against, and makes sure that it can be restored.

A parent that is missing or damaged is an error: a full backup in its place would be a surprise
in time and room, and a differential on it a backup that nobody can restore.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from archive.catalog import Catalog
from archive.catalogfile import catalog_faults, load_catalog
from archive.errors import ParentMissing, SetDamaged, WrongUsage
from archive.frames import Member
from archive.manifest import Kind, Manifest
from archive.manifestfile import MANIFEST, manifest_faults, read_manifest
from archive.partial import parent_of
from archive.reader import BackupSet
from archive.setfolder import Partial, SetName, chain, newest_full, slice_path
from archive.writer import Parent

_FULL_AGAIN = (
    "make a full set (without -D), or name another parent with --parent; "
    "`mondoarchive -V` says what is lost of a set"
)


def choose_parent(folder: Path, wanted: str | None, partial: Partial | None) -> Path:
    """Return the folder of the parent: the one that is wanted, or the newest full set.

    An unfinished set that is gone on with keeps the parent that it was begun with. Raises
    ParentMissing, SetDamaged, WrongUsage.
    """
    named = None if wanted is None else _named(folder, wanted)
    begun = None if partial is None else parent_of(partial.path)
    if begun is None:
        return _newest(folder) if named is None else named
    for name in chain(folder):
        path = folder / str(name)
        if read_manifest(path).set_id != begun:
            continue
        if named is not None and not named.samefile(path):
            raise WrongUsage(
                f"the unfinished set in {folder} was begun against {path.name}, not {named.name}",
                hint="leave --parent out; or leave --resume out, which discards it",
            )
        return path
    raise ParentMissing(
        f"the set {begun}, against which the unfinished one in {folder} was begun, is gone",
        hint="leave --resume out: the unfinished set is then discarded",
    )


def _named(folder: Path, wanted: str) -> Path:
    path = folder / wanted if os.sep not in wanted else Path(wanted)
    if not path.is_dir():
        there = ", ".join(str(name) for name in chain(folder)) or "none"
        raise ParentMissing(f"there is no set {path}", hint=f"the sets in {folder}: {there}")
    if not folder.is_dir() or not path.resolve().parent.samefile(folder):
        raise WrongUsage(
            f"the parent {path} does not lie in {folder}",
            hint="a differential and its parent lie in one folder, so that they stay together",
        )
    return path.resolve()


def _newest(folder: Path) -> Path:
    newest = newest_full(folder)
    for path in sorted(folder.iterdir(), reverse=True):
        name = SetName.parse(path.name)
        if name is None or name.kind is not Kind.FULL or name == newest:
            continue
        if newest is None or name > newest:
            raise SetDamaged(
                f"the full set {path} has lost its {MANIFEST} and the copy", hint=_FULL_AGAIN
            )
    if newest is None:
        raise ParentMissing(
            f"there is no full set in {folder} to make a differential against",
            hint="make one: the same command without -D",
        )
    return folder / str(newest)


def open_parent(path: Path, *, scratch: Path, stack: ExitStack) -> Parent:
    """Check that a set and all it rests on are whole, as far as sizes tell; unpack its catalog.

    The catalog goes when ``stack`` is closed. Raises SetDamaged, ParentMissing, CannotWrite.
    """
    try:
        backup = stack.enter_context(BackupSet.open(path, scratch=scratch))
        members = backup.members
        _check_whole(members[0], backup.manifest, backup.catalog)
        # Nothing that is open may be inherited by the processes that are forked later.
        backup.catalog.connection.close()
        for member in members[1:]:
            manifest = read_manifest(member.folder)
            unpacked = load_catalog(member.folder, manifest, scratch)
            try:
                with Catalog.open_read(unpacked) as catalog:
                    _check_whole(member, manifest, catalog)
            finally:
                unpacked.unlink()
    except SetDamaged as error:
        error.message = f"the parent of the differential is not whole: {error.message}"
        error.hint = f"{error.hint}; or {_FULL_AGAIN}" if error.hint else _FULL_AGAIN
        raise
    return Parent(backup.manifest.set_id, backup.catalog.path)


def _check_whole(member: Member, manifest: Manifest, catalog: Catalog) -> None:
    """Raise SetDamaged unless all slices of a set are there, and all that is kept twice is."""
    for fault in (*manifest_faults(member.folder), *catalog_faults(member.folder, manifest)):
        raise SetDamaged(str(fault))
    count = size = 0
    for number, expected, _ in catalog.slices():
        path = slice_path(member.folder, number, member.suffix)
        try:
            found = path.stat().st_size
        except OSError as error:
            raise SetDamaged(f"{path}: {error.strerror}") from error
        if found != expected:
            raise SetDamaged(f"{path} has {found} bytes, not {expected}")
        count += 1
        size += expected
    if (count, size) != (manifest.slices.count, manifest.slices.size):
        raise SetDamaged(f"the catalog of {member.folder} does not fit its manifest")
