"""Goes through a catalog once, in the tree's order, and makes of it what is to be extracted.

Directories are made on the way; all else is gathered by the frame that holds its bytes, for
workers to do. What a catalog may not say (a path twice, or below something that is no directory,
"..") ends here: such an entry is lost, with words, and none of it reaches the target.
"""

from __future__ import annotations

import stat
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from archive.catalog import ENTRY_COLUMNS, Catalog
from archive.entry import Entry, Part, digest_of_parts, tree_key
from archive.errors import SetDamaged
from archive.rowcheck import check_entry
from restore.nodes import Nodes
from restore.safetree import Refused, reason

OPEN_FRAMES = 32
"""Frames of which files are gathered at the same time: a differential's files lie in its own
slices and in those of its parents by turns."""
MOST_RUNS = 256
"""Runs and parts in one job, which bounds the size of its message."""
LONGEST_RUN = 4096
"""Ids in one run."""
_DIRECTORY = stat.S_IFDIR
_REGULAR = stat.S_IFREG
_ROOT = b""


class Lost(NamedTuple):
    """A path that was not restored, and why."""

    path: bytes
    words: str


class Run(NamedTuple):
    """Entries with ids from ``first`` to ``last`` that lie in a job's frame."""

    first: int
    last: int
    plain: bool
    """Their directories hand nothing down (SafeTree.is_plain)."""


class PartTask(NamedTuple):
    """A run of data to be written into a file that is there."""

    id: int
    """Of the file's entry."""
    path: bytes
    name: bytes
    """What the file is called as yet, in its own directory."""
    part: Part


class Job(NamedTuple):
    """What is to be done with one frame."""

    frame: int | None
    """A number of the catalog; None: what has no bytes (links, devices, empty files)."""
    runs: tuple[Run, ...]
    parts: tuple[PartTask, ...]


class Large(NamedTuple):
    """A file in parts that was begun."""

    id: int
    name: bytes


@dataclass(slots=True)
class _Gathered:
    """The beginning of a job."""

    first: int = 0
    last: int = -1
    plain: bool = True
    runs: list[Run] = field(default_factory=list)
    parts: list[PartTask] = field(default_factory=list)

    def close_run(self) -> None:
        if self.last >= self.first:
            self.runs.append(Run(self.first, self.last, self.plain))
            self.first, self.last = 0, -1


@dataclass(slots=True)
class _Level:
    """A directory on the way from the root to where the plan is."""

    path: bytes
    below: bytes
    """What the paths in it begin with."""
    entry: Entry | None
    """None: of the root, until the catalog names it."""
    wanted: bool
    made: bool = False
    plain: bool = False
    refusal: str | None = None
    """Why nothing can be restored in it."""


class Plan:
    """The way through a catalog. ``jobs`` is gone through once; then the rest is complete.

    Memory: some 8 bytes for a directory or a link, and what one job takes for each open frame.
    """

    def __init__(
        self,
        catalog: Catalog,
        nodes: Nodes,
        *,
        wanted: Callable[[Entry], bool] | None,
        dress_root: bool,
    ) -> None:
        self.catalog = catalog
        self.nodes = nodes
        self.wanted = wanted
        self.dress_root = dress_root
        """Whether the target gets the attributes of the saved root."""
        self.lost: list[Lost] = []
        self.folders = array("q")
        """Ids of the directories that get the catalog's attributes, parents before what is in
        them; negative: of one that was there."""
        self.links = array("q")
        """Ids of entries that are further names of a file, each followed by the first's."""
        self.flagged = array("q")
        """Ids of the first names that have chattr flags."""
        self.large: list[Large] = []
        self._first_names: dict[int, int] = {}
        self._levels = [_Level(_ROOT, _ROOT, None, wanted=False)]
        self._open: OrderedDict[int | None, _Gathered] = OrderedDict()
        self._barrier = 0

    def jobs(self) -> Iterator[Job]:
        """Make the directories, and give the jobs for all else."""
        last_key: bytes | None = None
        for entry in self._entries():
            if (words := self._fault(entry, last_key)) is not None:
                self._lose(entry, words)
                continue
            last_key = tree_key(entry.path)
            if entry.mode & 0o170000 == _DIRECTORY:
                self._directory(entry)
            elif self.wanted is not None and not self.wanted(entry):
                self._barrier = entry.id
            elif self._levels[-1].made or self._make_levels(entry):
                yield from self._content(entry, self._levels[-1].plain)
        for frame in list(self._open):
            yield self._closed(frame)

    def _entries(self) -> Iterator[Entry]:
        """Give what the catalog has, unchecked: one wrong entry costs no more than itself."""
        query = f"SELECT {ENTRY_COLUMNS} FROM entry ORDER BY id"  # noqa: S608
        last = 0
        for row in self.catalog.connection.execute(query):
            entry = Entry._make(row)
            # A damaged B-tree can lead in rings: then this is what ends the walk.
            if type(entry.id) is not int or entry.id <= last:
                raise SetDamaged(f"{self.catalog.path} is damaged: its entries are not in order")
            last = entry.id
            yield entry

    def _fault(self, entry: Entry, last_key: bytes | None) -> str | None:
        """Say what an entry has that no writer makes. Leaves the levels that lead to it."""
        try:
            check_entry(entry)
        except SetDamaged as error:
            return error.message
        path = entry.path
        if last_key is not None and tree_key(path) <= last_key:
            return "the catalog has it twice, or out of order"
        folder = path.rpartition(b"/")[0]
        levels = self._levels
        while not path.startswith(levels[-1].below):
            levels.pop()
        if levels[-1].path != folder:
            return "the catalog has no directory that holds it"
        return None

    def _lose(self, entry: Entry, words: str) -> None:
        path = entry.path if isinstance(entry.path, bytes) else repr(entry.path).encode()
        self.lost.append(Lost(path, words))
        self._barrier = entry.id

    # Directories

    def _directory(self, entry: Entry) -> None:
        wanted = self.wanted is None or self.wanted(entry)
        if entry.path:
            self._levels.append(_Level(entry.path, entry.path + b"/", entry, wanted))
        else:
            self._levels[0].entry, self._levels[0].wanted = entry, wanted
        if wanted:
            self._make_levels(entry)

    def _make_levels(self, entry: Entry) -> bool:
        """Make the directories that lead to an entry; say whether it can be restored there."""
        parent: _Level | None = None
        for level in self._levels:
            if level.refusal is None and not level.made:
                self._make_level(level, parent)
            if level.refusal is not None:
                self._lose(entry, level.refusal)
                self._levels[-1].refusal = level.refusal
                return False
            parent = level
        return True

    def _make_level(self, level: _Level, parent: _Level | None) -> None:
        tree = self.nodes.tree
        inherits = parent is None or not parent.plain
        entry = level.entry
        fresh = False
        try:
            if entry is not None and parent is not None:
                fresh = self.nodes.folder(entry)
            if not fresh:
                tree.sweep(level.path)
            elif inherits:
                tree.make_plain(level.path)
            level.plain = (fresh and not inherits) or tree.is_plain(level.path)
            if fresh and entry is not None and self.nodes.fold_case(entry):
                level.plain = False
        except (OSError, ValueError, Refused) as error:
            level.refusal = reason(error, tree.root)
            return
        level.made = True
        is_kept = parent is None and not self.dress_root
        if entry is not None and (fresh or level.wanted) and not is_kept:
            self.folders.append(entry.id if fresh else -entry.id)

    # All else

    def _content(self, entry: Entry, plain: bool) -> Iterator[Job]:
        if entry.link is not None and not self._is_first_name(entry):
            self._barrier = entry.id
            return
        if entry.mode & 0o170000 == _REGULAR:
            if entry.content is not None:
                self._barrier = entry.id
                yield from self._large(entry)
                return
            frame = entry.frame
        else:
            frame = None
        while frame not in self._open and len(self._open) >= OPEN_FRAMES:
            yield self._closed(next(iter(self._open)))
        gathered = self._gathered(frame)
        number = entry.id
        last = gathered.last
        if (
            last <= self._barrier
            or gathered.plain is not plain
            or number - gathered.first > LONGEST_RUN
        ):
            gathered.close_run()
            gathered.first, gathered.plain = number, plain
        gathered.last = number
        if len(gathered.runs) >= MOST_RUNS or (
            frame is None and number - gathered.first >= LONGEST_RUN
        ):
            yield self._closed(frame)

    def _gathered(self, frame: int | None) -> _Gathered:
        gathered = self._open.get(frame)
        if gathered is None:
            gathered = self._open[frame] = _Gathered()
        else:
            self._open.move_to_end(frame)
        return gathered

    def _closed(self, frame: int | None) -> Job:
        gathered = self._open.pop(frame)
        gathered.close_run()
        return Job(frame, tuple(gathered.runs), tuple(gathered.parts))

    def _is_first_name(self, entry: Entry) -> bool:
        assert entry.link is not None  # noqa: S101 what the caller asks about
        first = self._first_names.setdefault(entry.link, entry.id)
        if first != entry.id:
            self.links.extend((entry.id, first))
            return False
        if entry.flags and entry.kind == _REGULAR:
            self.flagged.append(entry.id)
        return True

    def _large(self, entry: Entry) -> Iterator[Job]:
        """Begin a file in parts, and gather the parts."""
        try:
            self._check_parts(entry)
            name = self.nodes.large(entry)
        except (SetDamaged, Refused, OSError, OverflowError) as error:
            self._lose(entry, reason(error, self.nodes.tree.root))
            return
        self.large.append(Large(entry.id, name))
        for part in self.catalog.parts(entry.content or 0):
            while part.frame not in self._open and len(self._open) >= OPEN_FRAMES:
                yield self._closed(next(iter(self._open)))
            gathered = self._gathered(part.frame)
            gathered.parts.append(PartTask(entry.id, entry.path, name, part))
            if len(gathered.parts) >= MOST_RUNS:
                yield self._closed(part.frame)

    def _check_parts(self, entry: Entry) -> None:
        """Raise SetDamaged for parts that are not those of the file."""
        end = 0

        def checked() -> Iterator[tuple[int, int, bytes]]:
            nonlocal end
            for part in self.catalog.parts(entry.content or 0):
                if part.offset < end or part.offset + part.size > entry.size:
                    raise SetDamaged("the catalog has parts of it that lie outside of it")
                end = part.offset + part.size
                yield part.offset, part.size, part.digest

        if digest_of_parts(checked()) != entry.digest:
            raise SetDamaged("the catalog's list of its parts is not what its digest says")
