"""What a run of ``mondoarchive`` is to save: from its options and this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from archive.errors import CannotRead
from archive.manifest import Selected
from archive.patterns import Patterns
from archive.selection import (
    Selection,
    parse_excludes,
    parse_file_list,
    parse_includes,
    swap_files,
)
from archive.setfolder import prefixes
from mindi.backup.options import ArchiveOptions

_SWAPS = Path("/proc/swaps")
_STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be saved, as the walk and as the manifest want it."""

    selection: Selection
    selected: Selected


def own_paths(options: ArchiveOptions, scratch: Path) -> tuple[Path, ...]:
    """Return what no backup takes beside the folders of sets."""
    return (scratch, *swaps(), *([] if options.log is None else [options.log]))


def choose(options: ArchiveOptions, *, scratch: Path) -> Choice:
    """Return what the options ask for. Raises WrongUsage, CannotRead."""
    cwd = _cwd()
    include = parse_includes(options.include, cwd=cwd)
    exclude = parse_excludes(options.exclude, cwd=cwd)
    listed: tuple[bytes, ...] = ()
    if options.file_list is not None:
        listed = parse_file_list(_read_list(options.file_list), cwd=cwd)
    elif not include:
        include = (b"/",)
    places = (options.chain_folder, *prefixes(options.folder), *own_paths(options, scratch))
    out = [os.fsencode(os.path.realpath(path)) for path in places]
    selection = Selection(
        include=include,
        exclude=Patterns(exclude),
        listed=listed,
        one_filesystem=options.one_file_system,
        no_network=options.no_network,
        exclude_caches=options.exclude_caches,
        always_out=tuple(dict.fromkeys(out)),
    )
    return Choice(
        selection,
        Selected(
            include=tuple(map(os.fsdecode, include)),
            exclude=tuple(map(os.fsdecode, exclude)),
            one_filesystem=options.one_file_system,
            no_network=options.no_network,
            exclude_caches=options.exclude_caches,
            always_out=tuple(map(os.fsdecode, selection.always_out)),
            listed=options.file_list is not None,
        ),
    )


def _cwd() -> bytes:
    try:
        return os.fsencode(Path.cwd())
    except OSError as error:
        raise CannotRead(
            f"the current folder cannot be told: {error.strerror}", hint="cd to one that is there"
        ) from error


def swaps() -> tuple[Path, ...]:
    """Return the swap files in use."""
    try:
        return tuple(Path(os.fsdecode(path)) for path in swap_files(_SWAPS.read_bytes()))
    except OSError:
        return ()  # a kernel without swap has no such file


def _read_list(path: Path) -> bytes:
    try:
        if path == _STANDARD_INPUT:
            return sys.stdin.buffer.read()
        return path.read_bytes()
    except OSError as error:
        raise CannotRead(f"cannot read the list of files {path}: {error.strerror}") from error
