"""Saves and restores small trees by the archive's own interfaces, for tests."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from archive.codec import Codec, Packing
from archive.manifest import Kind, Selected
from archive.reader import BackupSet
from archive.selection import Selection
from archive.setfolder import find_partial, locked, new_partial
from archive.walk import Walk
from archive.writer import Order, Parent, Progress, Progressed, Written, write_set
from restore.extract import Extracted, extract

ZSTD = Packing(Codec.ZSTD, 1)


class Silent:
    """Shows nothing."""

    def update(self, progressed: Progressed) -> None:
        """Take no notice."""


def save(
    tree: Path,
    folder: Path,
    *,
    packing: Packing = ZSTD,
    parent: Path | None = None,
    jobs: int = 2,
    selection: Selection | None = None,
    by_content: bool = False,
    resume: bool = False,
    walk: Walk | None = None,
    progress: Progress | None = None,
) -> Written:
    """Save a tree into a prefix's folder; against the set ``parent``, if there is one.

    ``walk`` stands in for the one of the tree and the selection.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    walk = walk or Walk(selection or Selection(), (), root=os.fsencode(tree.resolve()))
    progress = progress or Silent()
    if parent is None:
        return _save(tree, folder, packing, None, jobs, by_content, resume, walk, progress)
    with BackupSet.open(parent) as opened:
        against = Parent(opened.manifest.set_id, opened.catalog.path)
        return _save(tree, folder, packing, against, jobs, by_content, resume, walk, progress)


def _save(
    tree: Path,
    folder: Path,
    packing: Packing,
    parent: Parent | None,
    jobs: int,
    by_content: bool,
    resume: bool,
    walk: Walk,
    progress: Progress,
) -> Written:
    kind = Kind.FULL if parent is None else Kind.DIFFERENTIAL
    order = Order(
        root=os.fsencode(tree.resolve()),
        packing=packing,
        jobs=jobs,
        parent=parent,
        by_content=by_content,
        selection=Selected(("/",), (), False, False, False),
        host="test",
        tool_version="0",
    )
    with locked(folder):
        partial = find_partial(folder) if resume else None
        if partial is None:
            partial = new_partial(folder, kind, datetime.now(UTC))
        return write_set(order, walk, partial, progress)


def restore(saved: Path, target: Path, *, jobs: int = 2) -> Extracted:
    """Restore all of a set below a new directory."""
    with BackupSet.open(saved) as backup:
        return extract(backup, target, jobs=jobs)
