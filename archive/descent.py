"""Opens the directories of a very deep tree one after the other, as a walk comes to them.

What is deeper than PATH_MAX is reached over directories that are held open, so that each step
costs the same at any depth.
"""

from __future__ import annotations

import os

from archive.reach import LONGEST

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_MOST_HELD = 100
"""Directories held open; each is good for some 3,900 bytes of path."""


class Descent:
    """The directories held open on the way to where a walk is. Paths are absolute."""

    def __init__(self) -> None:
        self._held: list[tuple[bytes, int]] = []

    def approach(self, path: bytes) -> tuple[int | None, bytes]:
        """Return a directory's descriptor, which stays ours, and the way to ``path`` from there.

        Raises OSError.
        """
        while self._held and not path.startswith(self._held[-1][0]):
            os.close(self._held.pop()[1])
        start, folder = self._held[-1] if self._held else (b"", None)
        rest = path[len(start) :]
        while len(rest) > LONGEST:
            cut = rest.rindex(b"/", 1, LONGEST) + 1
            folder = os.open(rest[:cut], _STEP, dir_fd=folder)
            start += rest[:cut]
            rest = rest[cut:]
            if len(self._held) == _MOST_HELD:
                os.close(self._held.pop()[1])
            self._held.append((start, folder))
        return folder, rest

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            os.close(self._held.pop()[1])
