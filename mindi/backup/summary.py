"""What a run of ``mondoarchive`` came to, for people and for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archive.issues import Issue
from archive.manifest import Covered, Kind
from archive.writer import Written
from mindi.backup.progress import time_words
from restore.words import count_words, named, shown_text, size_words

if TYPE_CHECKING:
    from archive.machine.profile import MachineProfile
    from mindi.backup.verify import Verified

EXIT_COMPLETE = 0
EXIT_WARNINGS = 1
_NAMED = 10
"""So many issues of each kind are named."""
_NAMED_MOUNTS = 6
"""Of those that share a reason."""
_TITLE_COLUMNS = 10
_TELLING = 2
"""What is stored takes less than so many times its files, where that is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A whole new set, and what was done beside."""

    written: Written
    read_bytes: int
    """Of files, those that had to be read twice counted twice."""
    unchanged: int
    """Paths that an earlier set, or an interrupted run, had as they are."""
    seconds: float
    parent: str | None
    """The name of the parent's folder."""
    verified: Verified | None
    removed: tuple[str, ...]
    """The sets that ``--keep`` removed."""
    notes: tuple[str, ...] = ()
    """What is no warning, and to be known."""
    warnings: tuple[str, ...] = ()
    """Of the set as a whole; those of its paths are in the manifest."""

    @property
    def exit_code(self) -> int:
        """0: complete; 1: with warnings. What is worse is an error, and told as one."""
        found = self.verified is not None and self.verified.differs
        warned = self.warnings or self.written.manifest.issues
        return EXIT_WARNINGS if warned or found else EXIT_COMPLETE

    @property
    def rate(self) -> float:
        """Bytes read in a second."""
        return self.read_bytes / max(self.seconds, 0.001)

    def to_json(self) -> dict[str, object]:
        """Return it for programs; docs/commands.md has the keys."""
        manifest = self.written.manifest
        return {
            **named("set", os.fsencode(self.written.path)),
            "set_id": manifest.set_id,
            "kind": manifest.kind.value,
            "parent": self.parent,
            "complete": self.exit_code == EXIT_COMPLETE,
            "codec": manifest.codec.name.lower(),
            "level": manifest.level,
            "per_file": manifest.per_file,
            "files": manifest.totals.files,
            "directories": manifest.totals.directories,
            "others": manifest.totals.others,
            "bytes": manifest.totals.bytes,
            "unchanged": self.unchanged,
            "read_bytes": self.read_bytes,
            "packed_files": manifest.totals.stored_files,
            "packed_bytes": manifest.totals.stored_bytes,
            "machine": manifest.profile is not None,
            "slices": manifest.slices.count,
            "slices_bytes": manifest.slices.size,
            "catalog_bytes": manifest.catalog.size,
            "seconds": round(self.seconds, 3),
            "bytes_per_second": round(self.rate),
            "coverage": [
                {
                    **named("mount_point", os.fsencode(covered.mount_point)),
                    "filesystem": covered.filesystem,
                    "source": covered.source,
                    "taken": covered.taken,
                    "why": covered.why,
                }
                for covered in manifest.coverage
            ],
            "issues": [{"kind": one.kind, "count": one.count} for one in manifest.issues],
            "first_issues": [
                {
                    **named("path", b"/" + issue.path),
                    "kind": issue.kind.value,
                    "words": issue.words,
                }
                for issue in self.written.issues
            ],
            "verified": None if self.verified is None else self.verified.to_json(),
            "removed": list(self.removed),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """Return it for people."""
        return "\n".join((shown_text(os.fspath(self.written.path)), *self._lines()))

    def _lines(self) -> Iterator[str]:
        manifest = self.written.manifest
        warnings = sum(one.count for one in manifest.issues) + len(self.warnings)
        state = "complete" if not warnings else f"complete, with {count_words(warnings, 'warning')}"
        yield _line("set", f"{manifest.kind}, {state}")
        if self.parent is not None:
            yield _line("parent", shown_text(self.parent))
        totals = manifest.totals
        yield _line(
            "holds",
            f"{count_words(totals.files, 'file')} ({size_words(totals.bytes)}), "
            f"{count_words(totals.directories, 'directory', 'directories')}, "
            f"{count_words(totals.others, 'other')}",
        )
        if manifest.kind is Kind.DIFFERENTIAL or self.unchanged:
            packed = (
                f"{count_words(totals.stored_files, 'file')} ({size_words(totals.stored_bytes)})"
            )
            yield _line("changed", f"{packed}; {count_words(self.unchanged, 'path')} as before")
        yield _line("stored", self._stored())
        rate = f", {size_words(round(self.rate))}/s" if self.read_bytes else ""
        yield _line("time", time_words(self.seconds) + rate)
        yield from _coverage(manifest.coverage)
        yield from _machine(manifest.profile)
        yield from (_line("warning", shown_text(words)) for words in self.warnings)
        yield from self._issues()
        if self.verified is not None:
            yield from (_line(title, words) for title, words in self.verified.lines())
        if self.removed:
            yield _line("removed", ", ".join(self.removed))
        yield from (_line("note", shown_text(note)) for note in self.notes)

    def _stored(self) -> str:
        manifest = self.written.manifest
        words = (
            f"{size_words(manifest.slices.size)} in {count_words(manifest.slices.count, 'slice')}"
        )
        # Of a few tiny files all that is stored is what is around them.
        if manifest.slices.size < _TELLING * manifest.totals.stored_bytes:
            words += f", {manifest.slices.size / manifest.totals.stored_bytes:.1%} of its files"
        each = ", each file for itself" if manifest.per_file else ""
        words += f" ({manifest.codec.name.lower()}, level {manifest.level}{each})"
        return f"{words}; catalog 2 x {size_words(manifest.catalog.size)}"

    def _issues(self) -> Iterator[str]:
        for one in self.written.manifest.issues:
            yield _line("warning", f"{one.kind}: {count_words(one.count, 'path')}")
            named = [issue for issue in self.written.issues if issue.kind == one.kind][:_NAMED]
            for issue in named:
                yield _line("", f"  {shown_text(_path(issue))}: {shown_text(issue.words)}")
            if one.count > len(named):
                yield _line("", f"  and {one.count - len(named):,} more")


def _coverage(coverage: Iterable[Covered]) -> Iterator[str]:
    """Say which filesystems were taken, and of the others why not, those of one reason together."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for covered in coverage:
        name = shown_text(covered.mount_point)
        if covered.taken:
            name = f"{name} ({covered.filesystem})"
        groups.setdefault((covered.taken, covered.why), []).append(name)
    for taken, why in sorted(groups, key=lambda group: not group[0]):
        names = groups[taken, why]
        words = ", ".join(names[:_NAMED_MOUNTS])
        if len(names) > _NAMED_MOUNTS:
            words += f" and {len(names) - _NAMED_MOUNTS} more"
        if not taken or why != "taken":
            words += f": {shown_text(why)}"
        yield _line("taken" if taken else "left out", words)


def _machine(profile: MachineProfile | None) -> Iterator[str]:
    """Say that the set describes the machine, and what of it no restore makes."""
    if profile is None:
        return
    lacking = dict.fromkeys(one.node for one in profile.layout.unsupported)
    words = "its storage layout is in the set"
    if lacking:
        words += f"; not restored, as allowed: {', '.join(lacking)}"
    yield _line("machine", shown_text(words))


def _line(title: str, words: str) -> str:
    return f"  {title:{_TITLE_COLUMNS}}{words}"


def _path(issue: Issue) -> str:
    return "/" + os.fsdecode(issue.path)
