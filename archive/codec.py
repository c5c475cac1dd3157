"""The compressions of a set: names, levels, and how one frame is packed and unpacked."""

from __future__ import annotations

import enum


class Codec(enum.IntEnum):
    """How a frame is compressed; the number is stored in catalogs and never changes."""

    NONE = 0
    GZIP = 1
    BZIP2 = 2
    LZO = 3
    XZ = 4
    ZSTD = 5
