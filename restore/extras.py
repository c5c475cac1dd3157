"""Finds what is in a live tree and not in a set, though it would be if it had been there.

Only in directories that the set has taken wholly: below a path that was asked for, on a
filesystem that was taken, not left out by a pattern. What is mounted in the tree is not entered.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from archive.walk import is_cache
from restore.difference import Difference, Kind
from restore.safetree import Refused, SafeTree
from restore.scope import Scope


@dataclass(slots=True)
class _Level:
    """A directory of the catalog on the way to where the comparison is."""

    path: bytes
    whole: bool
    device: int = -1
    """st_dev; -1: nothing is known of it."""
    is_mount: bool = False
    names: set[bytes] = field(default_factory=set)
    """What is here and was not yet met in the catalog."""
    has_children: bool = False


class Extras:
    """Follows a catalog, in its order, and gives what else is here.

    Memory: the names of the directories on the way to where it is.
    """

    def __init__(self, tree: SafeTree, scope: Scope) -> None:
        self._tree = tree
        self._scope = scope
        self._levels: list[_Level] = []

    def meet(self, path: bytes, *, is_folder: bool, wanted: bool = True) -> Iterator[Difference]:
        """Take the next entry; give what is extra in directories that end before it.

        ``wanted``: of a directory, whether to look into it.
        """
        folder, _, name = path.rpartition(b"/")
        while self._levels and (self._levels[-1].path != folder or not path):
            yield from self._leave()
        if path and self._levels:
            self._levels[-1].names.discard(name)
            self._levels[-1].has_children = True
        if is_folder and (self._levels or not path):
            self._levels.append(self._enter(path, wanted=wanted))

    def end(self) -> Iterator[Difference]:
        """Give what is left when the catalog is at its end."""
        while self._levels:
            yield from self._leave()

    def _enter(self, path: bytes, *, wanted: bool) -> _Level:
        above = self._levels[-1] if self._levels else None
        scope = self._scope
        whole = path in scope.starts or (
            above is not None and above.whole and path not in scope.stops
        )
        level = _Level(path, whole)
        if not whole or not wanted:
            return level
        try:
            self._list(level)
        except (OSError, Refused):
            return level  # told where its attributes are compared
        level.is_mount = above is not None and above.device not in (-1, level.device)
        return level

    def _list(self, level: _Level) -> None:
        descriptor = self._open(level.path)
        try:
            level.device = os.fstat(descriptor).st_dev
            if not self._scope.exclude_caches or not is_cache(descriptor):
                level.names = set(map(os.fsencode, os.listdir(descriptor)))
        finally:
            os.close(descriptor)

    def _open(self, path: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = self._tree.folder(path)
        try:
            return os.open(b".", flags | os.O_NOATIME, dir_fd=folder)
        except PermissionError:
            return os.open(b".", flags, dir_fd=folder)

    def _leave(self) -> Iterator[Difference]:
        level = self._levels.pop()
        # What is mounted now where nothing was, or something else, is no part of the tree.
        if level.names and not (level.is_mount and not level.has_children):
            yield from self._extra(level)

    def _extra(self, level: _Level) -> Iterator[Difference]:
        """Give the names that are left of a directory, with all below them."""
        waiting = [level]
        while waiting:
            level = waiting.pop()
            for name in sorted(level.names):
                path = level.path + b"/" + name if level.path else name
                if path in self._scope.out or self._scope.exclude.match(path):
                    continue
                below = _Level(path, whole=True)
                words = self._look(below, level.device)
                if words is not None:
                    yield Difference(path, Kind.EXTRA, words)
                    waiting.append(below)

    def _look(self, level: _Level, device: int) -> str | None:
        """Read what an extra path holds, if it is a directory; None: it is gone."""
        try:
            folder, name = self._tree.place(level.path)
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                return ""
            if found.st_dev != device:
                return "something is mounted there"
            self._list(level)
        except FileNotFoundError:
            return None
        except (OSError, Refused) as error:
            return f"cannot be read: {error}"
        return ""
