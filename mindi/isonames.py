"""Names on an ISO: a path as ISO 9660 level 3 and Joliet allow it.

ECMA-119 (7.5): capitals, digits and underscore, 30 characters and a dot in all, a version number;
Joliet: 64 UCS-2 characters without ``* / : ; ? \\``. Rock Ridge keeps the name as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ISO_NAME_CHARACTERS = 30
JOLIET_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class IsoPath:
    """One file or directory: its ISO 9660 path, Rock Ridge name and Joliet path."""

    iso: str
    rock_ridge: str
    joliet: str


@dataclass(slots=True)
class IsoNames:
    """Gives each path of one image its names, the same for the same sequence of questions."""

    _known: dict[str, IsoPath] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def knows(self, path: str) -> bool:
        """Tell whether ``path`` has been asked for."""
        return path in self._known

    def directory(self, path: str) -> IsoPath:
        """Return the names of the directory ``path`` (absolute, with no trailing slash)."""
        return self._name(path, is_directory=True)

    def file(self, path: str) -> IsoPath:
        """Return the names of the file ``path``."""
        return self._name(path, is_directory=False)

    def _name(self, path: str, *, is_directory: bool) -> IsoPath:
        if path in self._known:
            return self._known[path]
        parent, _, name = path.rpartition("/")
        above = self.directory(parent) if parent else IsoPath("", "", "")
        stem, dot, suffix = name.rpartition(".")
        if is_directory or not dot:
            stem, suffix = name, ""
        number = 0
        while True:
            iso = f"{above.iso}/{_iso_name(stem, suffix, number, is_directory=is_directory)}"
            joliet = f"{above.joliet}/{_joliet_name(name, number)}"
            # Joliet's readers compare without case; one number serves both trees.
            if iso not in self._taken and joliet.casefold() not in self._taken:
                break
            number += 1
        self._taken.update((iso, joliet.casefold()))
        self._known[path] = IsoPath(iso, name, joliet)
        return self._known[path]


def _iso_name(stem: str, suffix: str, number: int, *, is_directory: bool) -> str:
    mark = str(number) if number else ""
    suffix = _capitals(suffix)[: ISO_NAME_CHARACTERS // 2]
    room = ISO_NAME_CHARACTERS - len(suffix) - len(mark)
    name = (_capitals(stem)[:room] or "_") + mark
    return name if is_directory else f"{name}.{suffix};1"


def _joliet_name(name: str, number: int) -> str:
    mark = f"~{number}" if number else ""
    shown = re.sub(r"[*/:;?\\]|[^\u0020-\uffff]", "_", name)
    return shown[: JOLIET_NAME_CHARACTERS - len(mark)] + mark


def _capitals(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())
