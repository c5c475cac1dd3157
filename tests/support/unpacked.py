"""Writes a closure out as a tree of files."""

from __future__ import annotations

import shutil
from pathlib import Path

from initramfs.closure import FileClosure, Kind


def unpack(closure: FileClosure, top: Path) -> Path:
    """Write directories, files and links of ``closure`` below ``top``; return ``top``."""
    for entry in closure:
        place = top / entry.path.lstrip("/")
        if entry.kind is Kind.DIRECTORY:
            place.mkdir(parents=True, exist_ok=True)
        elif entry.kind is Kind.SYMLINK:
            place.symlink_to(entry.target or "")
        elif entry.content is not None:
            place.write_bytes(entry.content)
        elif entry.source is not None:
            shutil.copyfile(entry.source, place)
            place.chmod(entry.mode & 0o7777)
    return top
