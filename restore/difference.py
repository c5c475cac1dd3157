"""What can differ between a backup set and a live tree."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Kind(enum.StrEnum):
    """How a path differs; the values are shown."""

    MISSING = "missing"
    """It is in the set, not here."""
    EXTRA = "extra"
    """It is here, not in the set, though it would be if it had been there."""
    TYPE = "type"
    """It is something else; nothing more is compared then."""
    CONTENT = "content"
    TARGET = "target"
    """A symbolic link points elsewhere."""
    DEVICE = "device"
    """A device node has another number."""
    MODE = "mode"
    OWNER = "owner"
    TIMES = "times"
    XATTR = "xattr"
    FLAGS = "flags"
    """Those of chattr(1)."""
    LINKS = "links"
    """Other paths are the same file than are in the set."""
    UNREADABLE = "unreadable"
    """It cannot be read here, so that not all could be compared."""


class Difference(NamedTuple):
    """A path, without its leading slash, and one thing that differs, in words if there are any."""

    path: bytes
    kind: Kind
    words: str = ""
