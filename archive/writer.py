"""Writes a set: plans, has slices made by worker processes, keeps the catalog, completes it.

The catalog is committed with each slice, in order, so that what an interrupted run leaves is a
number of whole slices and the rows of just these: ``--resume`` treats them as one more earlier set.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from archive import completion
from archive.catalog import Catalog
from archive.catalogfile import store_catalog
from archive.codec import Packing
from archive.differential import Reference
from archive.entry import FRAME_NUMBERS
from archive.errors import CannotRead, CannotWrite
from archive.issues import Issue, IssueKind
from archive.manifest import IssueCount, Kind, Manifest, Selected
from archive.pack import pack
from archive.packed import Packed, Trouble, Workshop
from archive.partial import Leftover, check_slices, discard_catalogs, leftovers
from archive.planning import Planner
from archive.setfolder import SLICES, Partial, finish
from archive.slicing import Item, Job, cut
from archive.walk import Walk
from archive.workers import Workers

if TYPE_CHECKING:
    from archive.machine.profile import MachineProfile

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
_NAMED_ISSUES = 1000
_KINDS = {
    Trouble.CHANGED: IssueKind.CHANGED,
    Trouble.VANISHED: IssueKind.VANISHED,
    Trouble.OUTGREW: IssueKind.CHANGED,
    Trouble.DENIED: IssueKind.DENIED,
    Trouble.UNREADABLE: IssueKind.UNREADABLE,
}


@dataclass(frozen=True, slots=True)
class Parent:
    """The set that a differential is made against."""

    set_id: str
    catalog: Path
    """Unpacked."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be written, and how."""

    root: bytes
    """What paths are relative to, absolute, real, without a slash at its end: ``b""`` for /."""
    packing: Packing
    jobs: int
    parent: Parent | None
    by_content: bool
    selection: Selected
    host: str
    tool_version: str
    profile: MachineProfile | None = None
    """Of a machine that is saved as a whole."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a run is, in paths and bytes of files."""

    found: int
    found_bytes: int
    unchanged: int
    done: int
    done_bytes: int
    stored_bytes: int
    """As it lies on the medium."""
    path: bytes


class Progress(Protocol):
    """Takes what is to be shown of a run."""

    def update(self, progressed: Progressed) -> None:
        """Take the latest state; called some times a second at most a slice."""


@dataclass(frozen=True, slots=True)
class Written:
    """A whole set."""

    path: Path
    manifest: Manifest
    issues: tuple[Issue, ...]
    """The first of them; all are in the catalog."""


def write_set(order: Order, walk: Walk, partial: Partial, progress: Progress) -> Written:
    """Write a set into ``partial``'s folder and give it its name; the caller holds the lock.

    An unfinished set that lies there is gone on with. Raises CannotWrite, CannotRead, WorkerLost;
    what is written until then stays for the next time.
    """
    started = datetime.now(UTC)
    workshop = Workshop(
        order.root,
        os.fsencode(partial.path / SLICES),
        order.packing,
        _frame_base(order.parent),
    )
    try:
        # Forked first: the workers inherit nothing of the catalog.
        with (
            Workers(functools.partial(pack, workshop), order.jobs) as workers,
            ExitStack() as stack,
        ):
            run = _Run(order, walk, partial, stack, progress)
            run.save(workers)
            run.complete()
            return run.finish(started)
    except sqlite3.Error as error:
        raise CannotWrite(f"cannot write the catalog in {partial.path}: {error}") from error


def _frame_base(parent: Parent | None) -> int:
    """Return what numbers of frames begin at, so that they are above those of all parents."""
    if parent is None:
        return 0
    with Catalog.open_read(parent.catalog) as catalog:
        query = "SELECT max(number) FROM frame"
        return ((catalog.connection.execute(query).fetchone()[0] or 0) // FRAME_NUMBERS) + 1


class _Run:
    def __init__(
        self, order: Order, walk: Walk, partial: Partial, stack: ExitStack, progress: Progress
    ) -> None:
        self._order = order
        self._walk = walk
        self._partial = partial
        self._progress = progress
        left = leftovers(partial.path)
        self._catalog = stack.enter_context(Catalog.create(left.next_catalog))
        references = list(self._references(left, stack))
        self._planner = Planner(
            self._catalog,
            root=order.root,
            references=tuple(references),
            devices=lambda: walk.devices,
            by_content=order.by_content,
        )
        self.set_id = str(uuid.uuid4())
        self._again: dict[int, Item] = {}
        self._broken: set[int] = set()
        self._issues: list[Issue] = []
        self._issue_counts: dict[str, int] = {}
        self._done = self._done_bytes = self._stored = 0

    def _references(self, left: Leftover, stack: ExitStack) -> Iterator[Reference]:
        """Attach what earlier runs know, the newest first; take over their numbers."""
        connection = self._catalog.connection
        earlier = [(path, 0) for path in left.catalogs]
        if self._order.parent is not None:
            earlier.append((self._order.parent.catalog, 1))
        for number, (path, older) in enumerate(earlier):
            schema = f"earlier{number}"
            # Looked at first: an earlier set may come from anywhere.
            catalog = stack.enter_context(Catalog.open_read(path))
            self._catalog.attach(path, schema)
            connection.execute(f"INSERT OR IGNORE INTO device SELECT * FROM {schema}.device")  # noqa: S608
            connection.execute(f"INSERT OR IGNORE INTO part SELECT * FROM {schema}.part")  # noqa: S608
            connection.execute(
                f"INSERT OR IGNORE INTO frame SELECT number, member + {older}, slice, start,"  # noqa: S608
                f" size, raw_size, codec FROM {schema}.frame"
            )
            if older:
                connection.execute(
                    f"INSERT INTO member SELECT number + 1, set_id FROM {schema}.member"  # noqa: S608
                )
            else:
                connection.execute(f"INSERT OR IGNORE INTO slice SELECT * FROM {schema}.slice")  # noqa: S608
            yield Reference(catalog, schema=schema)

    def save(self, workers: Workers[Job, Packed]) -> None:
        """Have everything saved that must be; what changed under it, again."""
        self._pack(workers, self._planner.items(self._walk))
        if self._walk.lost:
            lost = [f"{os.fsdecode(c.mount.point)}: {c.words}" for c in self._walk.lost]
            raise CannotRead(
                "a filesystem that should have been saved cannot be read:\n" + "\n".join(lost),
                hint="mend it, or exclude it by name (-E)",
            )
        for attempt in itertools.count(2):
            # The last time all is kept as it is; each orphan is one fewer: this comes to an end.
            items = self._second_look(last=attempt >= _ATTEMPTS)
            if items is None:
                break
            self._pack(workers, items)
        self._show(b"")

    def _pack(self, workers: Workers[Job, Packed], items: Iterable[Item]) -> None:
        connection = self._catalog.connection
        greatest = connection.execute("SELECT max(number) FROM slice").fetchone()[0] or 0
        connection.execute("BEGIN")
        for packed in workers.map(cut(items, first_slice=greatest + 1)):
            self._enter(packed)
            self._planner.flush()
            connection.execute("COMMIT")
            connection.execute("BEGIN")
        connection.execute("COMMIT")

    def _enter(self, packed: Packed) -> None:
        """Enter a slice that was made, and deal with what went wrong in it."""
        self._done_bytes += packed.read_bytes
        for problem in packed.problems:
            item = problem.item
            if item.content is not None and problem.trouble is not Trouble.CHANGED:
                if item.content in self._broken:
                    continue
                self._broken.add(item.content)
            if problem.trouble is Trouble.OUTGREW and not item.last:
                self._again[item.id] = item
            else:
                self._note(Issue(item.path, _KINDS[problem.trouble], problem.words))
        entries = packed.entries
        if self._broken:
            # The rows' last column is the number of their content.
            entries = [row for row in entries if row[-1] not in self._broken]
        self._catalog.put_entries(entries)
        self._catalog.put_parts(packed.parts)
        self._catalog.put_frames(
            (number, 0, packed.number, *rest) for number, *rest in packed.frames
        )
        if packed.size:
            self._catalog.connection.execute(
                "INSERT INTO slice VALUES (?, ?, ?, ?)",
                (packed.number, packed.size, packed.sha256, packed.raw_size),
            )
        self._done += len(entries)
        self._stored += packed.size
        last = entries[-1][1] if entries else b""
        self._show(last if isinstance(last, bytes) else b"")

    def _second_look(self, *, last: bool) -> Iterator[Item] | None:
        """Plan again what became something else, then links whose first name could not be read."""
        planner = self._planner
        again, self._again = self._again, {}
        if again:
            return (new for item in again.values() for new in planner.again(item, last=last))
        orphans = completion.take_orphans(self._catalog)
        if orphans:
            return (new for orphan in orphans for new in planner.adopt(orphan))
        return None

    def _note(self, issue: Issue) -> None:
        self._catalog.connection.execute(
            "INSERT INTO issue VALUES (?, ?, ?)", (issue.path, issue.kind.value, issue.words)
        )
        self._issue_counts[issue.kind] = self._issue_counts.get(issue.kind, 0) + 1
        if len(self._issues) < _NAMED_ISSUES:
            self._issues.append(issue)

    def _show(self, path: bytes) -> None:
        planner = self._planner
        self._progress.update(
            Progressed(
                planner.found,
                planner.found_bytes,
                planner.unchanged,
                self._done,
                self._done_bytes,
                self._stored,
                path,
            )
        )

    def complete(self) -> None:
        """Enter what rows need of others; forget what earlier sets had and this one has not."""
        for issue in (*self._walk.issues, *self._planner.issues):
            self._note(issue)
        connection = self._catalog.connection
        connection.execute("BEGIN")
        connection.execute("INSERT OR REPLACE INTO member VALUES (0, ?)", (self.set_id,))
        completion.enter_digests(self._catalog)
        completion.enter_links(self._catalog)
        completion.forget_unused(self._catalog)
        connection.execute("COMMIT")

    def finish(self, started: datetime) -> Written:
        """Store the catalog, then the manifest, then give the set its name."""
        order = self._order
        counts = completion.totals(self._catalog)
        slices = completion.slices(self._catalog)
        check_slices(self._partial.path, self._catalog)
        self._catalog.settle()
        catalog = store_catalog(self._catalog.path, self._partial.path)
        manifest = Manifest(
            set_id=self.set_id,
            parent_id=None if order.parent is None else order.parent.set_id,
            name=str(self._partial.name),
            kind=Kind.FULL if order.parent is None else Kind.DIFFERENTIAL,
            created=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            host=order.host,
            tool_version=order.tool_version,
            codec=order.packing.codec,
            level=order.packing.level,
            per_file=order.packing.per_file,
            selection=order.selection,
            slices=slices,
            totals=counts,
            coverage=tuple(covered.stored for covered in self._walk.coverage),
            issues=tuple(IssueCount(kind, n) for kind, n in sorted(self._issue_counts.items())),
            catalog=catalog,
            profile=order.profile,
        )
        discard_catalogs(self._partial.path)
        return Written(finish(self._partial, manifest), manifest, tuple(self._issues))
