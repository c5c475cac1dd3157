"""What becomes of every mounted filesystem: taken or not, and why. Decided before the walk."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, replace

from archive import manifest
from archive.mounts import Mount, MountTable, Nature, ancestors, lies_in, unescaped
from archive.selection import Selection


class Verdict(enum.StrEnum):
    """What became of a filesystem; the values are stored."""

    TAKEN = "taken"
    PART = "part"
    """Only paths in it that were asked for."""
    SAME = "same"
    """Its directories are taken where they are mounted elsewhere."""
    PSEUDO = "pseudo"
    MEMORY = "memory"
    IMAGE = "image"
    VIEW = "view"
    NETWORK = "network"
    EXCLUDED = "excluded"
    OTHER = "other filesystem"
    OUTSIDE = "outside"
    OWN = "own output"
    ERROR = "error"

    @property
    def taken(self) -> bool:
        """Whether at least some of it is in the set."""
        return self in (Verdict.TAKEN, Verdict.PART)


_WORDS = {
    Verdict.TAKEN: "taken",
    Verdict.PART: "taken only where it was asked for",
    Verdict.PSEUDO: "made up by the kernel, holds no files",
    Verdict.MEMORY: "lies in memory, is empty after each boot",
    Verdict.IMAGE: "a read-only medium or image: save its medium, or the file it is in",
    Verdict.VIEW: "shows directories that are taken where they lie",
    Verdict.NETWORK: "lies on another machine, and those were to be left out",
    Verdict.EXCLUDED: "was to be left out",
    Verdict.OTHER: "another filesystem than what was asked for",
    Verdict.OUTSIDE: "outside of what was asked for",
    Verdict.OWN: "this backup's own output",
}

_BY_NATURE = {
    Nature.PSEUDO: Verdict.PSEUDO,
    Nature.MEMORY: Verdict.MEMORY,
    Nature.IMAGE: Verdict.IMAGE,
}

# These give way where a path inside is asked for by its name.
_YIELDING = frozenset({Verdict.MEMORY, Verdict.IMAGE, Verdict.VIEW, Verdict.OTHER, Verdict.OUTSIDE})


@dataclass(frozen=True, slots=True)
class Covered:
    """One mounted filesystem and what became of it."""

    mount: Mount
    verdict: Verdict
    words: str
    """Why, to be read behind the mount point and a colon."""
    stops: tuple[bytes, ...] = ()
    """Directories in it that are taken elsewhere (btrfs subvolumes, mostly)."""

    @property
    def stored(self) -> manifest.Covered:
        """This as the manifest tells it."""
        return manifest.Covered(
            mount_point=os.fsdecode(self.mount.point),
            filesystem=self.mount.kind,
            source=os.fsdecode(self.mount.source),
            taken=self.verdict.taken,
            why=self.words,
        )

    @property
    def private(self) -> bool:
        """Whether it need not be readable: its owner or another machine decides that."""
        return self.mount.nature in (Nature.USER, Nature.NETWORK)

    @property
    def taken_if_file(self) -> bool:
        """Whether it is taken if it turns out to be a single file, bound over another.

        What it hides cannot be seen, and nothing would be restored in its place.
        """
        return self.verdict in (Verdict.TAKEN, Verdict.SAME, Verdict.MEMORY, Verdict.IMAGE)


Coverage = tuple[Covered, ...]
"""What became of each filesystem that paths lead to, in the order of mountinfo."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for. Paths are those that the mounts see."""

    table: MountTable
    selection: Selection
    starts: frozenset[bytes]
    root: bytes

    def holds(self, path: bytes) -> bool:
        """Say whether a path is one that was asked for, or below one."""
        return not self.starts.isdisjoint(ancestors(path))

    def excludes(self, path: bytes) -> bool:
        """Say whether a path matches a pattern."""
        return self.selection.exclude.match(path[len(self.root) :].lstrip(b"/"))

    def is_own(self, path: bytes) -> bool:
        """Say whether a path is one of those that are always out, or below one."""
        return any(lies_in(path, self.root + own) for own in self.selection.always_out)


def decide(
    table: MountTable, selection: Selection, *, starts: frozenset[bytes], root: bytes
) -> Coverage:
    """Say of each visible mount whether it is taken.

    ``starts`` are the absolute paths asked for, as the mounts see them: below ``root``, which is
    empty or has no closing slash.
    """
    asked = _Asked(table, selection, starts, root)
    held = {mount.number for start in starts if (mount := table.holder(start))}
    decided: list[Covered] = []
    for mount in table.mounts:
        verdict, words = _verdict(mount, asked)
        if mount.number in held and verdict in _YIELDING:
            verdict = Verdict.TAKEN if mount.point in starts else Verdict.PART
            words = _WORDS[verdict]
        found = Covered(mount, verdict, words)
        if mount.point not in starts:
            for earlier in decided:
                found = _without_double(found, earlier, asked)
        decided.append(found)
    return tuple(decided)


def _verdict(mount: Mount, asked: _Asked) -> tuple[Verdict, str]:
    """Judge a mount by itself: paths asked for in it aside."""
    selection = asked.selection
    verdict = _BY_NATURE.get(mount.nature, Verdict.TAKEN)
    if asked.is_own(mount.point):
        verdict = Verdict.OWN
    elif mount.nature is Nature.NETWORK and selection.no_network:
        verdict = Verdict.NETWORK
    elif not asked.holds(mount.point):
        verdict = Verdict.OUTSIDE if verdict.taken else verdict
    elif asked.excludes(mount.point):
        verdict = Verdict.EXCLUDED
    elif mount.nature is Nature.VIEW and _is_double(mount, asked):
        verdict = Verdict.VIEW
    elif verdict.taken and selection.one_filesystem and mount.point not in asked.starts:
        verdict = Verdict.OTHER
    if verdict is Verdict.PSEUDO and mount.kind == "autofs":
        return verdict, "an automount point, with nothing mounted there now"
    return verdict, _WORDS[verdict]


def _is_double(mount: Mount, asked: _Asked) -> bool:
    """Say whether all directories that an overlay shows lie where they are taken themselves.

    Lower directories with relative names (as container engines give them) lie by the upper one.
    """
    folders = []
    for option in mount.options.split(b","):
        name, _, value = option.partition(b"=")
        if name in (b"upperdir", b"lowerdir", b"lowerdir+", b"datadir+"):
            folders += [one for one in unescaped(value).split(b":") if one.startswith(b"/")]
    for folder in folders:
        where = asked.table.holder(folder)
        if where is None or where.nature is not Nature.LOCAL or lies_in(folder, mount.point):
            return False
        if asked.excludes(folder) or not asked.holds(folder):
            return False
    return bool(folders)


def _without_double(covered: Covered, earlier: Covered, asked: _Asked) -> Covered:
    """Leave out of a mount what an earlier mount of the same filesystem has taken."""
    mount, other = covered.mount, earlier.mount
    if covered.verdict is not Verdict.TAKEN or not earlier.verdict.taken:
        return covered
    if mount.device != other.device or mount.kind != other.kind:
        return covered
    if lies_in(mount.root, other.root):
        there = _below(other.point, mount.root, other.root)
        if asked.table.holder(there) is not other or not asked.holds(there):
            return covered
        if asked.excludes(there) or asked.is_own(there):
            return covered
        name = os.fsdecode(there)
        return replace(covered, verdict=Verdict.SAME, words=f"the same as {name}")
    if earlier.verdict is Verdict.TAKEN and lies_in(other.root, mount.root):
        here = _below(mount.point, other.root, mount.root)
        if asked.table.holder(here) is mount:
            name = os.fsdecode(other.point)
            words = f"taken, but for what is taken elsewhere: {name}"
            if covered.stops:
                words = f"{covered.words}, {name}"
            return replace(covered, stops=(*covered.stops, here), words=words)
    return covered


def _below(point: bytes, inner: bytes, outer: bytes) -> bytes:
    """Return where the directory ``inner`` of a filesystem is seen, ``outer`` at ``point``."""
    rest = inner[len(outer) :].strip(b"/")
    return point.rstrip(b"/") + b"/" + rest if rest else point
