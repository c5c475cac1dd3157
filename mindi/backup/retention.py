"""Removes old chains of sets when a new set is whole (``--keep``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from archive.errors import SetDamaged
from archive.manifestfile import read_manifest
from archive.setfolder import Held, SetName, chain, remove_set, surplus

_log = logging.getLogger(__name__)


def retire(folder: Path, keep: int, newest_id: str, say: Callable[[str], None]) -> tuple[str, ...]:
    """Remove from a prefix's folder what ``keep`` full sets leave over; return what went.

    The set ``newest_id`` stays with all that it rests on, old as that may be. The caller holds
    the lock. Raises CannotWrite.
    """
    held = tuple(_held(folder, say))
    doomed = _spare(surplus(held, keep), held, newest_id)
    for name in doomed:
        remove_set(folder, name)
        _log.info("removed %s", folder / str(name))
    return tuple(str(name) for name in doomed)


def _held(folder: Path, say: Callable[[str], None]) -> Iterator[Held]:
    for name in chain(folder):
        try:
            manifest = read_manifest(folder / str(name))
        except SetDamaged as error:
            say(f"kept because nobody can tell what it is: {error.message}")
            continue
        yield Held(name, manifest.set_id, manifest.parent_id)


def _spare(
    doomed: tuple[SetName, ...], held: tuple[Held, ...], newest_id: str
) -> tuple[SetName, ...]:
    """Take a set and its parents off the list of those to go."""
    by_id = {one.set_id: one for one in held}
    spared: set[SetName] = set()
    at = by_id.get(newest_id)
    while at is not None and at.name not in spared:
        spared.add(at.name)
        at = None if at.parent_id is None else by_id.get(at.parent_id)
    return tuple(name for name in doomed if name not in spared)
