"""What a run will come to, about: from an earlier set, or from how full the filesystems are."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from archive.coverage import Coverage, Verdict
from archive.errors import SetDamaged
from archive.manifest import Kind, Manifest, Selected
from archive.manifestfile import read_manifest
from archive.setfolder import chain
from mindi.backup.progress import Expected
from restore.words import size_words

_LOOKED_AT = 10
_SMALLEST = 5
"""No whole system shrinks to less than a fifth."""


def expect(
    folder: Path, selected: Selected, coverage: Coverage, *, by_bytes: bool
) -> tuple[Expected, int | None]:
    """Return what is to come, and how many bytes of slices a full set will have at the least."""
    asked = replace(selected, always_out=())
    for manifest in _latest(folder):
        if replace(manifest.selection, always_out=()) == asked:
            totals = manifest.totals
            paths = totals.files + totals.directories + totals.others
            stored = manifest.slices.size if manifest.kind is Kind.FULL else None
            return Expected(paths, totals.bytes, by_bytes), stored
    used = _used(coverage)
    if used is None:
        return Expected(), None
    paths, size_bytes = used
    return Expected(paths or None, size_bytes, by_bytes), size_bytes // _SMALLEST


def tell_room(folder: Path, least: int | None, say: Callable[[str], None]) -> None:
    """Say that a medium is too small, where that is all but sure."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return
    free = state.f_bavail * state.f_frsize
    if least is not None and free < least:
        say(
            f"{folder} has {size_words(free)} free, and the set will have some "
            f"{size_words(least)} or more: expect it to run full"
        )


def _latest(folder: Path) -> list[Manifest]:
    """Return the manifests of the newest sets that can be read, the newest first."""
    found = []
    for name in chain(folder)[: -_LOOKED_AT - 1 : -1]:
        try:
            found.append(read_manifest(folder / str(name)))
        except SetDamaged:
            continue  # whoever needs it will say so
    return found


def _used(coverage: Coverage) -> tuple[int, int] | None:
    """Return how many files and bytes the filesystems hold that are taken as a whole.

    None where only parts of one are, of which nobody knows how large they are.
    """
    paths = size_bytes = 0
    for covered in coverage:
        if covered.verdict is Verdict.PART:
            return None
        if covered.verdict is not Verdict.TAKEN:
            continue
        try:
            state = os.statvfs(covered.mount.point)
        except OSError:
            return None
        paths += state.f_files - state.f_ffree
        size_bytes += (state.f_blocks - state.f_bfree) * state.f_frsize
    return paths, size_bytes
