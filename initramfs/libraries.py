"""What a file needs to start: shared libraries and interpreters, resolved by reading it.

The rules are those of ld.so(8); nothing of the tree is ever executed.
"""

from __future__ import annotations

from dataclasses import dataclass

from initramfs.rootfs import Root


@dataclass(frozen=True, slots=True)
class Dependency:
    """A file that was found: ``name`` as asked for, ``by`` whom (canonical path in the root).

    ``path`` is where the loader's search finds it, links not yet followed. A ``leaf`` needs no
    look of its own: all its needs are in the same answer.
    """

    name: str
    by: str
    path: str
    leaf: bool = True


@dataclass(frozen=True, slots=True)
class Missing:
    """A need that nothing fulfils, and the directories that were searched, in order."""

    name: str
    by: str
    searched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """All that one file needs to start, directly and through others, in the loader's order."""

    found: tuple[Dependency, ...] = ()
    missing: tuple[Missing, ...] = ()


class Libraries:
    """Resolves needs in one root tree; look-ups are cached, so build one per tree and build."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def of(self, path: str) -> Dependencies:
        """Return what the file at the canonical ``path`` needs; nothing for a data file.

        Raises InputError if the file cannot be read.
        """
        return Dependencies()
