"""The manifest on its medium: twice, and the copy taken where the first cannot be read."""

from __future__ import annotations

import logging
from pathlib import Path

from archive.errors import SetDamaged
from archive.faults import Fault
from archive.manifest import MAX_BYTES, Manifest
from archive.regular import open_regular

MANIFEST = "manifest.json"
MANIFEST_COPY = "manifest-copy.json"

_log = logging.getLogger(__name__)


def has_manifest(folder: Path) -> bool:
    """Tell whether a folder is that of a set, whole or damaged."""
    return any((folder / name).is_file() for name in (MANIFEST, MANIFEST_COPY))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a set's folder.

    Takes the copy, and logs a warning, where the first is damaged or missing. Raises SetDamaged,
    which tells of the first, where neither can be had.
    """
    try:
        return _read(folder / MANIFEST)
    except SetDamaged as error:
        try:
            manifest = _read(folder / MANIFEST_COPY)
        except SetDamaged:
            raise error from None
        _log.warning("%s: using the copy, %s", error.message, MANIFEST_COPY)
        return manifest


def manifest_faults(folder: Path) -> tuple[Fault, ...]:
    """Return what is wrong with either file; a copy that is sound may be another set's."""
    faults = []
    read = []
    for path in (folder / MANIFEST, folder / MANIFEST_COPY):
        try:
            read.append(_read(path))
        except SetDamaged as error:
            words = error.message.removeprefix(f"{path} ")
            faults.append(Fault(path, not path.exists(), words))
    if not faults and read[0] != read[1]:
        faults.append(Fault(folder / MANIFEST_COPY, False, f"is no copy of {MANIFEST}"))
    return tuple(faults)


def _read(path: Path) -> Manifest:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SetDamaged(
            f"{path} cannot be read: {error.strerror}",
            hint="a folder without a manifest is no backup set",
        ) from error
    return Manifest.from_json(data, where=str(path))
