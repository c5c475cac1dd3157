"""Checks the rows of a catalog: it may come from an enemy, and SQLite keeps any type anywhere.

What passes can be used without a thought for types and ranges: paths stay below their root, names
hold no NUL, numbers fit where the kernel takes them. What rows mean together is not checked here,
but for the names of one file (``disagreement``).
"""

from __future__ import annotations

import re
import stat
from typing import NoReturn

from archive.codec import Codec
from archive.entry import Entry, Frame, Part
from archive.errors import SetDamaged

LONGEST_PATH = 1 << 20
"""Bytes; the kernel has no limit for trees, and no tree is that deep."""
LONGEST_TARGET = 1 << 16
BLOB_BYTES = 128 << 20
"""The most that one value may hold; a file's attributes are no more than some MiB."""

_MAX_ID = (1 << 32) - 1
_MAX_FLAGS = (1 << 48) - 1
_SECOND = 1_000_000_000
_DIGEST = 32

# An empty component, "." or "..", or a NUL.
_BAD_PATH = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")
_TYPES = {
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFLNK,
    stat.S_IFCHR,
    stat.S_IFBLK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
}
_CODECS = {int(codec) for codec in Codec}

_MAY_BE_NONE = {"link", "frame", "start", "content"}
_BYTES_OR_NONE = {"target", "xattrs", "digest"}
_ENTRY_TYPES = tuple(
    (bytes,)
    if name == "path"
    else (bytes, type(None))
    if name in _BYTES_OR_NONE
    else (int, type(None))
    if name in _MAY_BE_NONE
    else (int,)
    for name in Entry._fields
)
_PART_TYPES = [int, int, int, bytes, int, int]
_FRAME_TYPES = [int] * len(Frame._fields)

OF_ONE_FILE = (
    *("mode", "uid", "gid", "mtime_s", "mtime_ns", "size", "rdev", "target", "xattrs", "flags"),
    *("digest", "frame", "start", "content"),
)
"""Columns in which all names of one hard-linked file are alike."""

# The few combinations of types that rows have: to look one up is quicker than to check it.
_known: set[tuple[type, ...]] = set()


def check_entry(entry: Entry) -> None:
    """Raise SetDamaged for an entry that no writer makes."""
    types = tuple(map(type, entry))
    if types not in _known:
        if not all(one in allowed for one, allowed in zip(types, _ENTRY_TYPES, strict=True)):
            _fail(entry, "has values of wrong types")
        _known.add(types)
    (_, path, mode, uid, gid, _, mtime_ns, _, size, *_) = entry
    kind = mode & 0o170000
    if (
        not 0 <= mode <= 0o177777
        or kind not in _TYPES
        or not 0 <= uid <= _MAX_ID
        or not 0 <= gid <= _MAX_ID
        or not 0 <= mtime_ns < _SECOND
        or size < 0
        or entry.nlink < 0
        or not 0 <= entry.flags <= _MAX_FLAGS
    ):
        _fail(entry, "has numbers out of range")
    if path and (len(path) > LONGEST_PATH or _BAD_PATH.search(path)):
        _fail(entry, "has a path that leads out of the tree, or nowhere")
    _check_by_kind(entry, kind)


def _check_by_kind(entry: Entry, kind: int) -> None:
    if kind == stat.S_IFREG:
        (digest, frame, start, content) = entry[-4:]
        if digest is not None and len(digest) != _DIGEST:
            _fail(entry, "has a digest of a wrong length")
        if (frame is None) != (start is None) or (frame is not None and content is not None):
            _fail(entry, "says in two ways where its bytes are, or in none")
        if start is not None and start < 0:
            _fail(entry, "has numbers out of range")
        if entry.target is not None or not entry.path:
            _fail(entry, "has what a file cannot have")
        return
    if entry.frame is not None or entry.content is not None:
        _fail(entry, "is no file and has bytes")
    if kind == stat.S_IFLNK:
        target = entry.target
        if not target or b"\0" in target or len(target) > LONGEST_TARGET:
            _fail(entry, "is a symbolic link to nowhere")
    elif entry.target is not None:
        _fail(entry, "is no symbolic link and has a target")
    if not entry.path and kind != stat.S_IFDIR:
        _fail(entry, "is the root and no directory")


def disagreement(first: Entry, other: Entry) -> str | None:
    """Say in what two checked entries of one hard-link group differ and cannot; None: nothing."""
    differing = [name for name in OF_ONE_FILE if getattr(first, name) != getattr(other, name)]
    if not differing:
        return None
    return f"the catalog is wrong: two names of one file differ in {', '.join(differing)}"


def check_part(part: Part) -> None:
    """Raise SetDamaged for a part that no writer makes."""
    if [type(one) for one in part] != _PART_TYPES:
        raise SetDamaged("the catalog is wrong: a part has values of wrong types")
    if part.offset < 0 or part.size <= 0 or part.start < 0 or len(part.digest) != _DIGEST:
        raise SetDamaged("the catalog is wrong: a part has numbers out of range")


def check_frame(frame: Frame) -> None:
    """Raise SetDamaged for a frame that no writer makes."""
    if [type(one) for one in frame] != _FRAME_TYPES:
        raise SetDamaged("the catalog is wrong: a frame has values of wrong types")
    if frame.codec not in _CODECS or frame.slice < 1 or min(frame[1:]) < 0:
        raise SetDamaged("the catalog is wrong: a frame has numbers out of range")


def _fail(entry: Entry, words: str) -> NoReturn:
    raise SetDamaged(
        f"the catalog is wrong: entry {str(entry.id)[:30]}, {entry.path[:200]!r}, {words}"
        if isinstance(entry.path, bytes)
        else f"the catalog is wrong: an entry {words}",
        hint="take the set from another copy of it; do not use one of unknown origin",
    )
