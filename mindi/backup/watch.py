"""A walk that tells how far it is, and whether what was asked for by name was met at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

from archive.errors import CannotRead
from archive.issues import Issue, IssueKind
from archive.mounts import Mount
from archive.selection import Selection
from archive.walk import Found, Walk
from mindi.backup.asked import Asked
from mindi.backup.progress import Display
from restore.words import shown_text

_LOOK_EVERY = 1024
_NAMED = 5


class NothingTaken(CannotRead):
    """Of all that was asked for nothing is in the set: it is worth nothing, and must not be."""


class WatchedWalk(Walk):
    """A walk over the running system. Raises NothingTaken at its end, if it took nothing."""

    def __init__(
        self, selection: Selection, asked: Asked, mounts: tuple[Mount, ...], display: Display
    ) -> None:
        super().__init__(selection, mounts)
        self._display = display
        self._exclude = selection.exclude
        real = _Real()
        self._groups = [tuple(map(real, group)) for group in asked.groups]
        self._missing = {path for group in self._groups for path in group}
        self._missing.update(map(real, selection.listed))
        self._asked = len(self._missing)

    def __iter__(self) -> Iterator[Found]:
        """Give what is selected."""
        missing = self._missing
        for number, found in enumerate(super().__iter__(), start=1):
            if not number % _LOOK_EVERY:
                self._display.looked(number)
            if found.path in missing:
                missing.discard(found.path)
            yield found
        self._judge()

    def _judge(self) -> None:
        """Say what was asked for and not met; each path that has an issue is told already."""
        told = {issue.path for issue in self.issues}
        for group in self._groups:
            if self._missing.issuperset(group) and told.isdisjoint(group):
                words = "nothing of it is saved: " + self._why(group[0])
                self.issues.append(Issue(group[0], IssueKind.LEFT_OUT, words))
        if len(self._missing) < self._asked:
            return
        reasons = [
            shown_text(f"/{os.fsdecode(issue.path)}: {issue.words}")
            for issue in self.issues[:_NAMED]
        ]
        raise NothingTaken(
            "\n".join(("nothing of what is to be saved can be or is to be taken", *reasons)),
            hint="correct what -I, -E and -J say; no set is made, older ones stay",
        )

    def _why(self, path: bytes) -> str:
        if self._exclude.match(path):
            return "it is excluded (-E)"
        return "it is the sets' own folder, the log, or swap"


class _Real:
    """Makes absolute paths those of the walk: no links above, no slash in front."""

    def __init__(self) -> None:
        self._folders: dict[bytes, bytes] = {}

    def __call__(self, path: bytes) -> bytes:
        folder, _, name = path.rpartition(b"/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = os.path.realpath(folder or b"/").strip(b"/")
        return (real + b"/" + name).strip(b"/")
