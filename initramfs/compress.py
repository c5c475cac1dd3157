"""Compression of an initrd: the codecs that a kernel may know."""

from __future__ import annotations

import enum


class Codec(enum.StrEnum):
    """A compression that the kernel can undo (CONFIG_RD_*)."""

    NONE = "none"
    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    LZO = "lzo"
