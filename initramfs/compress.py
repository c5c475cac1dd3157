"""Compression of an initrd: the codecs that a kernel may know."""

from __future__ import annotations

from initramfs.codec import Codec

__all__ = ["Codec"]
