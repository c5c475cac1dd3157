"""What goes to the workers that make slices, and what comes back from them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from archive.codec import Packing
from archive.slicing import Item

Row = tuple[object, ...]


class Trouble(enum.Enum):
    """What can be wrong with a path."""

    CHANGED = "changed while it was read"
    VANISHED = "vanished before it was read"
    OUTGREW = "became something else before it was read"
    DENIED = "no permission to read it"
    UNREADABLE = "cannot be read"


class Problem(NamedTuple):
    """Something that went wrong with one item."""

    item: Item
    trouble: Trouble
    words: str


class Packed(NamedTuple):
    """A slice as it was made: the rows that the catalog gets of it."""

    number: int
    size: int
    """0: there was nothing to write, and there is no file."""
    sha256: bytes
    raw_size: int
    entries: list[Row]
    parts: list[Row]
    frames: list[tuple[int, int, int, int, int]]
    problems: list[Problem]
    read_bytes: int


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all workers of a run have in common."""

    root: bytes
    """What paths are relative to, without a slash at its end: ``b""`` for ``/``."""
    slices: bytes
    """The folder that slices are written to."""
    packing: Packing
    frame_base: int
    """Added to the number of a slice, so that its frames' numbers differ from a parent's."""
