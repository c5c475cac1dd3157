"""Extracts a backup set, or some of it, into a directory: with worker processes, exactly, safely.

The main process goes through the catalog and makes directories (mode 0700 until the end);
workers make what lies in them, a frame at a time. Then come the other names of files, and
last the attributes of directories, the deepest first.
"""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from archive.catalog import Catalog
from archive.entry import Entry, tree_key
from archive.errors import ArchiveError, CannotWrite, SetDamaged
from archive.reader import BackupSet
from archive.rowcheck import disagreement
from archive.workers import Workers
from restore.extractplan import Lost, Plan
from restore.extractworker import Ground, work
from restore.nodes import Attribute, Nodes, Unset
from restore.safetree import Refused, SafeTree, reason

Progress = Callable[[int, int], None]
"""Told of files and bytes that were restored since it was told last."""


class Warned(NamedTuple):
    """What could not be set on so many restored ``paths``, with one of them and its reason."""

    attribute: Attribute
    paths: int
    path: bytes
    words: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """What an extraction did. ``lost`` is in the order of the tree."""

    files: int
    """All that is restored and is no directory."""
    folders: int
    bytes: int
    lost: tuple[Lost, ...]
    warnings: tuple[Warned, ...]

    @property
    def is_complete(self) -> bool:
        """Say whether all is as it was when it was saved."""
        return not self.lost and not self.warnings


def extract(
    backup: BackupSet,
    target: Path,
    *,
    wanted: Callable[[Entry], bool] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    dress_target: bool = False,
) -> Extracted:
    """Restore the entries that are ``wanted`` (None: all) below ``target``, which is made.

    Directories above them are made as they were; those that are there stay as they are. What
    else is there under a wanted name is replaced, but no directory by anything, nor anything
    by a directory. ``dress_target``: a target that was there gets the attributes of the saved
    root too, as one that is made does. ``jobs``: worker processes; None: one a processor. Raises
    CannotWrite for a target that takes nothing more, SetDamaged for a catalog that cannot be
    read, WorkerLost.
    """
    try:
        dress_target |= not target.is_dir()
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{target}: {error.strerror}") from error
    count = jobs or len(os.sched_getaffinity(0))
    try:
        with SafeTree(target) as tree:
            nodes = Nodes(tree)
            plan = Plan(backup.catalog, nodes, wanted=wanted, dress_root=dress_target)
            extraction = _Extraction(backup, nodes, plan, progress)
            try:
                return extraction.run(count)
            except BaseException:
                extraction.drop_unfinished()
                raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise SetDamaged(f"{backup.catalog.path}: the catalog is damaged: {error}") from error


class _Extraction:
    """One run of ``extract``."""

    def __init__(
        self,
        backup: BackupSet,
        nodes: Nodes,
        plan: Plan,
        progress: Progress | None,
    ) -> None:
        self.backup = backup
        self.catalog: Catalog = backup.catalog
        self.tree = nodes.tree
        self.nodes = nodes
        self.plan = plan
        self.progress = progress
        self.files = 0
        self.bytes = 0
        self.folders = 0
        self.lost: list[Lost] = []
        self.lost_ids: set[int] = set()
        self.unset: dict[Attribute, Unset] = {}
        """What workers could not set."""

    def run(self, jobs: int) -> Extracted:
        ground = Ground(self.tree.root, self.catalog.path, self.backup.frame_reader())
        with Workers(functools.partial(work, ground), jobs) as workers:
            for done in workers.map_unordered(self.plan.jobs()):
                self.lost += done.lost
                self.lost_ids.update(done.lost_ids)
                self._count(done.files, done.bytes)
                _add(self.unset, done.unset)
        self.lost += self.plan.lost
        self._finish_large()
        self._link()
        self._flag()
        self._finish_folders()
        return Extracted(
            files=self.files,
            folders=self.folders,
            bytes=self.bytes,
            lost=tuple(sorted(self.lost, key=lambda lost: tree_key(lost.path))),
            warnings=tuple(self._warnings()),
        )

    def _count(self, files: int, size: int) -> None:
        self.files += files
        self.bytes += size
        if self.progress is not None and (files or size):
            self.progress(files, size)

    def _entry(self, number: int) -> Entry:
        return next(self.catalog.entries(where="id = ?", values=(number,)))

    def _lose(self, entry: Entry, error: Exception) -> None:
        self.lost.append(Lost(entry.path, reason(error, self.tree.root)))
        self.lost_ids.add(entry.id)

    def drop_unfinished(self) -> None:
        """Remove the files in parts that have not got their names yet."""
        for large in self.plan.large:
            with suppress(OSError, ArchiveError, sqlite3.DatabaseError, StopIteration):
                self.nodes.drop(self._entry(large.id), large.name)

    def _finish_large(self) -> None:
        for number, name in self.plan.large:
            entry = self._entry(number)
            try:
                if number in self.lost_ids:
                    self.nodes.drop(entry, name)
                    continue
                self.nodes.finish_large(entry, name)
                self._count(1, 0)
            except (OSError, Refused) as error:
                with suppress(OSError, Refused):
                    self.nodes.drop(entry, name)
                self._lose(entry, error)

    def _link(self) -> None:
        numbers = iter(self.plan.links)
        for number, first in zip(numbers, numbers, strict=True):
            entry = self._entry(number)
            try:
                if first in self.lost_ids:
                    raise Refused("it is a link of a file that could not be restored")
                bearer = self._entry(first)
                if (words := disagreement(bearer, entry)) is not None:
                    raise Refused(words)
                self.nodes.hard_link(entry, bearer)
                self._count(1, 0)
            except (OSError, Refused) as error:
                self._lose(entry, error)

    def _flag(self) -> None:
        for number in self.plan.flagged:
            if number in self.lost_ids:
                continue
            entry = self._entry(number)
            try:
                self.nodes.late_flags(entry)
            except (OSError, Refused) as error:
                self._lose(entry, error)

    def _finish_folders(self) -> None:
        for number in reversed(self.plan.folders):
            entry = self._entry(abs(number))
            try:
                self.nodes.finish_folder(entry, fresh=number > 0)
                self.folders += 1
            except (OSError, Refused) as error:
                self._lose(entry, error)

    def _warnings(self) -> Iterator[Warned]:
        _add(self.unset, self.nodes.unset)
        for attribute, found in sorted(self.unset.items()):
            yield Warned(attribute, found.count, found.path, found.words)


def _add(whole: dict[Attribute, Unset], more: dict[Attribute, Unset]) -> None:
    """Add what could not be set to what is known."""
    for attribute, found in more.items():
        known = whole.setdefault(attribute, Unset(0, found.path, found.words))
        known.count += found.count
