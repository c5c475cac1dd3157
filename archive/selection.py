"""What is to be saved: the words of the command line, made into paths and patterns."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from archive.errors import CannotRead, WrongUsage
from archive.mounts import unescaped
from archive.patterns import Patterns, has_wildcards, literal


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for. All paths are absolute and normal (no ``..``, no doubled slashes)."""

    include: tuple[bytes, ...] = (b"/",)
    """Each with all below it. One that is missing makes the backup fail."""
    exclude: Patterns = field(default_factory=Patterns)
    listed: tuple[bytes, ...] = ()
    """As ``include``, from a file: one that is missing meanwhile is an issue, no more."""
    one_filesystem: bool = False
    """Only those filesystems that an included path lies in."""
    no_network: bool = False
    exclude_caches: bool = False
    """Of a directory with a CACHEDIR.TAG, keep the tag alone (bford.info/cachedir)."""
    always_out: tuple[bytes, ...] = ()
    """Our own output, swap files: neither they nor what is below them. Links are followed."""


def parse_includes(values: Iterable[str], *, cwd: bytes) -> tuple[bytes, ...]:
    """Return the paths of ``-I`` values: each a path, or several as a shell would write them.

    Wildcards stand for what is there now. Raises WrongUsage, CannotRead.
    """
    paths: list[bytes] = []
    for text, exists in _words(values, cwd=cwd):
        path = _absolute(text, cwd=cwd)
        if exists or not has_wildcards(text):
            paths.append(path)
            continue
        pattern = _absolute(text, cwd=glob.escape(cwd))
        found = sorted(glob.glob(pattern, recursive=True, include_hidden=True))
        if not found:
            raise CannotRead(
                f"Nothing matches {text.decode(errors='replace')}, which is to be saved",
                hint="Correct the pattern, or leave it out.",
            )
        paths += found
    return tuple(dict.fromkeys(paths))


def parse_excludes(values: Iterable[str], *, cwd: bytes) -> tuple[bytes, ...]:
    """Return the patterns of ``-E`` values, split as those of ``-I``. Raises WrongUsage.

    With ``/``, ``./`` or ``../`` in front it is a path; where that exists, it is no pattern,
    whatever characters it has. All else is a pattern for any depth, wherever the command is run.
    """
    patterns = []
    for text, exists in _words(values, cwd=cwd):
        if exists and text.startswith((b"/", b"./", b"../")):
            patterns.append(literal(_absolute(text, cwd=cwd)))
        elif text.startswith((b"./", b"../")):
            patterns.append(_absolute(text, cwd=literal(cwd)))
        else:
            patterns.append(text)
    return tuple(dict.fromkeys(patterns))


def parse_file_list(data: bytes, *, cwd: bytes) -> tuple[bytes, ...]:
    """Return the paths of a ``-J`` file: one a line, or each ended by a NUL if there is one."""
    if b"\0" in data:
        lines = data.split(b"\0")
    else:
        lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return tuple(dict.fromkeys(_absolute(line, cwd=cwd) for line in lines if line))


def swap_files(swaps: bytes) -> tuple[bytes, ...]:
    """Return the swap files that the content of /proc/swaps names (partitions are no files)."""
    return _swaps(swaps, b"file")


def swap_devices(swaps: bytes) -> tuple[bytes, ...]:
    """Return the devices on which the content of /proc/swaps says that swap is in use."""
    return _swaps(swaps, b"partition")


def _swaps(swaps: bytes, kind: bytes) -> tuple[bytes, ...]:
    rows = [line.split() for line in swaps.splitlines()[1:]]
    return tuple(unescaped(row[0]) for row in rows if len(row) > 1 and row[1] == kind)


def _words(values: Iterable[str], *, cwd: bytes) -> Iterable[tuple[bytes, bool]]:
    """Give each path or pattern of some values, and whether something has that very name."""
    for value in values:
        whole = os.fsencode(value)
        if whole and _exists(whole, cwd=cwd):
            yield whole, True
            continue
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise WrongUsage(
                f"Cannot tell the paths in {value!r} apart: {error}",
                hint="Close the quotation, or give each path with an option of its own.",
            ) from error
        if not words:
            raise WrongUsage("An empty path is given")
        for word in words:
            text = os.fsencode(word)
            yield text, _exists(text, cwd=cwd)


def _exists(text: bytes, *, cwd: bytes) -> bool:
    try:
        os.lstat(os.path.join(cwd, text))  # noqa: PTH118 (Path knows no bytes)
    except (OSError, ValueError):
        return False
    return True


def _absolute(text: bytes, *, cwd: bytes) -> bytes:
    """Return a path without ``.``, ``..``, doubled or closing slashes."""
    path = os.path.normpath(os.path.join(cwd, text))  # noqa: PTH118
    # POSIX lets two leading slashes mean something else; here they do not.
    return b"/" + path.lstrip(b"/")
