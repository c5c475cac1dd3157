"""Where a walk goes: the paths asked for, what leads to them, and where it has to stop."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from archive.coverage import Coverage, Covered, Verdict, decide
from archive.errors import CannotRead
from archive.issues import Issue, IssueKind, issue_of
from archive.mounts import Mount, MountTable
from archive.reach import reachable
from archive.selection import Selection

_MOST_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK


class Special(NamedTuple):
    """What is to be known of one path beside what the filesystem says."""

    mount: Mount | None = None
    """The mount whose root it is."""
    out: bool = False
    """It is not there, as far as a backup cares."""
    whole: bool = False
    """All below it is taken (if it is reached as a part of something that is taken)."""
    file: bool = False
    """It is taken if it is a file."""


class Territory:
    """The shape of a walk. Paths are relative to ``base`` (which ends with a slash), ``b""`` it.

    ``starts`` are taken with all below them; ``spine`` names, for each directory that leads to
    one, the children to go to; ``special`` has what differs, by directory and name.
    Raises CannotRead.
    """

    def __init__(
        self,
        selection: Selection,
        mounts: tuple[Mount, ...],
        *,
        base: bytes,
        issues: list[Issue],
    ) -> None:
        self.base = base
        self._root = base.rstrip(b"/")
        self._issues = issues
        self._table = MountTable(mounts)
        self._reached: set[int] = set()
        self._cache_folders: list[bytes] = []
        asked = _Resolver(base, issues).resolve(selection)
        real = _Resolver(base, issues).real
        selection = replace(selection, always_out=tuple(map(real, selection.always_out)))
        self.coverage: Coverage = decide(
            self._table,
            selection,
            starts=frozenset(map(self._absolute, asked)),
            root=self._root,
        )
        self._by_mount = {covered.mount.number: covered for covered in self.coverage}
        self.starts = {path for path in asked if self._may_be_taken(path)}
        self.special = self._specials(selection)
        for covered in self.coverage:
            path = self.relative(covered.mount.point)
            if covered.verdict is Verdict.TAKEN and path is not None:
                self._check_readable(covered)
                self.starts.add(path)
        self.spine = _spine(self.starts)

    def _absolute(self, path: bytes) -> bytes:
        return self.base + path if path else self._root or b"/"

    def relative(self, absolute: bytes) -> bytes | None:
        """Return an absolute path as the walk names it; None if it is not below the base."""
        if absolute == self._root or absolute + b"/" == self.base or absolute == self.base:
            return b""
        return absolute[len(self.base) :] if absolute.startswith(self.base) else None

    def mount_at(self, path: bytes) -> Mount | None:
        """Return the mount that holds a path."""
        return self._table.holder(self._absolute(path))

    def _may_be_taken(self, path: bytes) -> bool:
        """Say whether the filesystem of a path asked for allows it; if not, that is an issue."""
        mount = self.mount_at(path)
        covered = None if mount is None else self._by_mount[mount.number]
        if covered is None or covered.verdict.taken or covered.verdict is Verdict.EXCLUDED:
            return True
        self._issues.append(Issue(path, IssueKind.LEFT_OUT, covered.words))
        return False

    def _specials(self, selection: Selection) -> dict[bytes, dict[bytes, Special]]:
        special: dict[bytes, dict[bytes, Special]] = {}

        def put(absolute: bytes, what: Special) -> None:
            path = self.relative(absolute)
            if path:
                parent, _, name = path.rpartition(b"/")
                special.setdefault(parent, {})[name] = what

        for covered in self.coverage:
            whole = covered.verdict is Verdict.TAKEN
            file = covered.taken_if_file
            put(covered.mount.point, Special(mount=covered.mount, whole=whole, file=file))
            for stop in covered.stops:
                put(stop, Special())
        for path in selection.always_out:
            put(self._root + path, Special(out=True))
        return special

    def _check_readable(self, covered: Covered) -> None:
        """Raise CannotRead if the root of a filesystem that must be taken cannot be read."""
        if covered.private:
            return
        point = covered.mount.point
        try:
            with reachable(point) as path:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    return
                fd = os.open(path, _DIRECTORY)
            try:
                with os.scandir(fd) as entries:
                    next(entries, None)
            finally:
                os.close(fd)
        except OSError as error:
            raise CannotRead(
                f"Cannot read the {covered.mount.kind} filesystem on {os.fsdecode(point)}: "
                f"{error.strerror}",
                hint="Mend or unmount it, run this as root, or leave it out with --exclude.",
            ) from error

    # What the walk reports

    def reach(self, mount: Mount | None) -> None:
        """Note that a mount's root was seen."""
        if mount is not None:
            self._reached.add(mount.number)

    def take_file(self, mount: Mount) -> None:
        """Note that a mount is a single file, and taken."""
        self._judge(mount, Verdict.TAKEN, "a single file, taken")

    def leave_cache(self, path: bytes) -> None:
        """Note that what is below a directory is left out as a cache."""
        self._cache_folders.append(self._absolute(path) + b"/")

    def fail(self, path: bytes, mount: Mount | None, issue: Issue) -> None:
        """Note an issue of a directory; if it is a mount's root, the mount is lost."""
        self._issues.append(issue)
        if mount is not None and self.relative(mount.point) == path:
            self._lose(mount, f"cannot be read: {issue.words}")

    def finish(self) -> None:
        """Say of each mount that was not reached that it was not taken."""
        for covered in self.coverage:
            if not covered.verdict.taken or covered.mount.number in self._reached:
                continue
            if self.relative(covered.mount.point) is None:
                continue
            if covered.mount.point.startswith(tuple(self._cache_folders)):
                self._judge(covered.mount, Verdict.EXCLUDED, "lies in a cache folder")
            else:
                self._lose(covered.mount, "was not reached")

    def _lose(self, mount: Mount, words: str) -> None:
        self._judge(mount, Verdict.ERROR, words)

    def _judge(self, mount: Mount, verdict: Verdict, words: str) -> None:
        self.coverage = tuple(
            replace(covered, verdict=verdict, words=words)
            if covered.mount.number == mount.number
            else covered
            for covered in self.coverage
        )


def _spine(starts: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Return, for each directory that leads to a start, the names of the children to go to."""
    children: dict[bytes, set[bytes]] = {}
    for path in starts:
        here = path
        while here:
            parent, _, name = here.rpartition(b"/")
            known = children.setdefault(parent, set())
            if name in known:
                break
            known.add(name)
            here = parent
    return {parent: sorted(names) for parent, names in children.items()}


class _Resolver:
    """Follows the links in the paths asked for, but for their last components."""

    def __init__(self, base: bytes, issues: list[Issue]) -> None:
        self._base = base
        self._issues = issues
        self._folders: dict[bytes, bytes] = {b"": b""}
        self.found: set[bytes] = set()

    def resolve(self, selection: Selection) -> set[bytes]:
        """Return the paths to start from: those asked for, and the links on the way to them."""
        for path in selection.include:
            try:
                self._add(path.strip(b"/"))
            except OSError as error:
                raise CannotRead(
                    f"{os.fsdecode(path)} is to be saved: {error.strerror}",
                    hint="Correct the path, or leave it out.",
                ) from error
        for path in selection.listed:
            try:
                self._add(path.strip(b"/"))
            except OSError as error:
                self._issues.append(issue_of(path.strip(b"/"), error))
        return self.found

    def real(self, path: bytes) -> bytes:
        """Return an absolute path without links; as it is if there is nothing."""
        try:
            return b"/" + self._folder(path.strip(b"/"))
        except OSError:
            return path

    def _add(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        folder = self._folder(parent)
        path = (folder + b"/" + name).lstrip(b"/")
        with reachable(self._base + path) as short:
            os.lstat(short)
        self.found.add(path)

    def _folder(self, path: bytes) -> bytes:
        """Return what a directory's path is without links."""
        known = self._folders.get(path)
        if known is not None:
            return known
        here = b""
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            name = waiting.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = here.rpartition(b"/")[0]
                continue
            below = here + b"/" + name if here else name
            with reachable(self._base + below) as short:
                state = os.lstat(short)
                target = os.readlink(short) if stat.S_ISLNK(state.st_mode) else None  # noqa: PTH115
            if target is None:
                here = below
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(40, os.strerror(40), path)
            self.found.add(below)
            if target.startswith(b"/"):
                here = b""
            waiting += target.split(b"/")[::-1]
        self._folders[path] = here
        return here
