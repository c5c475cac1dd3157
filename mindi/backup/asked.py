"""What the words of a run ask for, beside what comes of them: for saying where the two differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from archive.errors import CannotRead
from archive.mounts import lies_in
from archive.patterns import Patterns, has_wildcards
from archive.selection import Selection, parse_excludes, parse_includes
from mindi.backup.options import ArchiveOptions


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be there, or was perhaps meant otherwise."""

    groups: tuple[tuple[bytes, ...], ...]
    """What ``-I`` asks for, in absolute paths: of each of these something is to be saved. A path,
    or all that a value with wildcards stands for."""
    notes: tuple[str, ...]


def asked_of(options: ArchiveOptions, selection: Selection) -> Asked:
    """Return what is asked for. Raises CannotRead for a list of files without any."""
    if options.file_list is not None and not selection.listed:
        raise CannotRead(
            f"the list of files {options.file_list} names none",
            hint="see whether what makes it failed; or leave -J out",
        )
    groups = tuple(_groups(options.include)) or tuple((path,) for path in selection.include)
    notes = (*_links(selection.include), *_absent(selection.exclude.texts))
    return Asked(groups, notes)


def check_patterns(options: ArchiveOptions) -> None:
    """Raise WrongUsage for patterns of ``-E`` that cannot be: of them the words alone tell."""
    Patterns(parse_excludes(options.exclude, cwd=b"/"))


def _groups(values: tuple[str, ...]) -> Iterator[tuple[bytes, ...]]:
    cwd = os.fsencode(Path.cwd())
    for value in values:
        paths = parse_includes((value,), cwd=cwd)
        if has_wildcards(os.fsencode(value)):
            yield paths
        else:
            yield from ((path,) for path in paths)


def _links(include: tuple[bytes, ...]) -> Iterator[str]:
    """Tell of links to folders that lie outside of all that is saved."""
    for path in include:
        if not (os.path.islink(path) and os.path.isdir(path)):  # noqa: PTH112, PTH114 (bytes)
            continue
        target = os.path.realpath(path)
        if not any(lies_in(target, one) for one in include):
            yield (
                f"{os.fsdecode(path)} is a link: it is saved, the folder that it leads to is not; "
                f"-I {os.fsdecode(target)} saves that"
            )


def _absent(exclude: tuple[bytes, ...]) -> Iterator[str]:
    """Tell of paths to leave out that are not there. Patterns may match nothing."""
    for path in exclude:
        plain = path.startswith(b"/") and not has_wildcards(path) and b"\\" not in path
        if plain and not os.path.lexists(path):
            yield f"there is no {os.fsdecode(path)}, which is to be left out"
