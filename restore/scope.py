"""What a set was to hold of a tree: what is beside that, or changes by itself, is no difference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache

from archive.catalog import Catalog
from archive.entry import Entry
from archive.manifest import Manifest
from archive.patterns import Patterns
from restore.difference import Difference, Kind

_MOST_LINKS = 40
_KNOWN_PATHS = 4096
_WHOLE_MOUNT = "taken"
"""What the manifest says of mounts of which all is taken, or all that is not taken elsewhere."""


class Scope:
    """What was asked for, by a set's manifest. Paths have no leading slash.

    ``starts`` are taken with all below them, but for what lies below ``stops``, is ``out`` or
    matches ``exclude``. ``out``: what is left out here beside what the set itself tells of.
    """

    def __init__(self, catalog: Catalog, manifest: Manifest, *, out: Iterable[bytes] = ()) -> None:
        selection = manifest.selection
        self._catalog = catalog
        self.exclude = Patterns(tuple(map(os.fsencode, selection.exclude)))
        self.exclude_caches = selection.exclude_caches
        own = (os.fsencode(path).strip(b"/") for path in selection.always_out)
        self.out = frozenset((*own, *out))
        # Lists of files have many in one directory.
        find = lru_cache(maxsize=_KNOWN_PATHS)(catalog.find)
        asked = (os.fsencode(path) for path in selection.include)
        self.starts = frozenset(_resolved(find, path) for path in asked)
        mounts = tuple((os.fsencode(one.mount_point).strip(b"/"), one) for one in manifest.coverage)
        self.stops = frozenset(
            point
            for point, one in mounts
            if not one.taken or one.why.partition(",")[0] != _WHOLE_MOUNT
        )
        self._covers = frozenset(point for point, one in mounts if not one.taken)
        self._stirred = frozenset(path.rpartition(b"/")[0] for path in self.out)

    def judges(self, difference: Difference) -> bool:
        """Say whether what differs is the set's concern.

        The times of some directories are not: of those that only lead to what was asked for (by a
        list, that may be all outside of the other paths), as they change with whatever is made
        beside; of those that hold what is always left out; and of those where another filesystem
        was mounted that was not taken, as they are the times of its root.
        """
        if difference.kind is not Kind.TIMES:
            return True
        path = difference.path
        if path in self._covers or path in self._stirred:
            return False
        if self._is_asked_for(path):
            return True
        entry = self._catalog.find(path)
        return entry is None or entry.mode & 0o170000 != 0o040000

    def _is_asked_for(self, path: bytes) -> bool:
        """Say whether a path is one that was asked for, or below one."""
        above = path
        while above not in self.starts:
            if not above:
                return False
            above = above.rpartition(b"/")[0]
        return True


def _resolved(find: Callable[[bytes], Entry | None], path: bytes) -> bytes:
    """Return what a path that was asked for is in the catalog: its directories may be links.

    ``find`` gives the entry of a path. The path may come from an enemy: it may have millions of
    names, and is looked up no further than the catalog knows it.
    """
    here: list[bytes] = []
    waiting = path.strip(b"/").split(b"/")[::-1]
    links = known = 0
    while waiting:
        name = waiting.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            del here[-1:]
            known = min(known, len(here))
            continue
        here.append(name)
        entry = find(b"/".join(here)) if waiting and known == len(here) - 1 else None
        if entry is None:
            continue
        known = len(here)
        if entry.target is not None and links < _MOST_LINKS:
            links += 1
            del here[0 if entry.target.startswith(b"/") else -1 :]
            known = len(here)
            waiting += entry.target.split(b"/")[::-1]
    return b"/".join(here)
