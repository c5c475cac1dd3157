"""The compressions that a kernel can undo; a module of its own, because it is cheap to import."""

from __future__ import annotations

import enum


class Codec(enum.StrEnum):
    """A compression that the kernel can undo (CONFIG_RD_*)."""

    NONE = "none"
    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    LZO = "lzo"
