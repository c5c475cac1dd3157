"""Files of a set that are damaged or missing, as whoever looks at them tells it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """A file of a set that is damaged or missing."""

    path: Path
    is_missing: bool
    words: str
    """What is wrong, to be read behind the path and a colon."""

    def __str__(self) -> str:
        return f"{self.path} {self.words}"
