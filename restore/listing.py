"""Shows entries of a set: as lines for people, as JSON for programs."""

from __future__ import annotations

import os
import re
import stat
import time

from archive.attributes import unpack_xattrs
from archive.entry import Entry, unsigned64
from archive.errors import SetDamaged, WrongUsage
from restore.words import named, shown, text_of

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})


def line(entry: Entry) -> str:
    """Return a line as ``ls -l`` has them, with numbers for the owners and the whole path.

    A ``+`` behind the mode: there are extended attributes (ACLs, capabilities, labels).
    """
    mode = stat.filemode(entry.mode) + ("+" if entry.xattrs else " ")
    owners = f"{entry.uid:>5} {entry.gid:>5}"
    path = shown(b"/" + entry.path)
    if entry.target is not None:
        path += f" -> {shown(entry.target)}"
    return f"{mode} {entry.nlink:>3} {owners} {_size(entry):>12} {_date(entry.mtime_s)} {path}"


def _size(entry: Entry) -> str:
    if entry.kind in _DEVICES:
        number = unsigned64(entry.rdev)
        return f"{os.major(number)}, {os.minor(number)}"
    return str(entry.size if entry.target is None else len(entry.target))


def _date(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"


def record(entry: Entry) -> dict[str, object]:
    """Return what JSON has of an entry; docs/commands.md has the keys."""
    held: dict[str, object] = {
        **named("path", b"/" + entry.path),
        "type": _TYPES[entry.kind],
        "mode": f"{entry.mode:o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_s": entry.mtime_s,
        "mtime_ns": entry.mtime_ns,
        "size": entry.size,
        "links": entry.nlink,
        "sha256": None,
        "xattrs": [],
    }
    if entry.target is not None:
        held |= named("target", entry.target)
    if entry.kind in _DEVICES:
        number = unsigned64(entry.rdev)
        held["device"] = [os.major(number), os.minor(number)]
    if entry.digest is not None and entry.content is None:
        held["sha256"] = entry.digest.hex()
    if entry.xattrs is not None:
        try:
            names = [name for name, _ in unpack_xattrs(entry.xattrs)]
        except SetDamaged:
            held["xattrs"] = None
        else:
            held["xattrs"] = [name.decode("utf-8", "replace") for name in names]
    return held


def xattrs_fault(entry: Entry) -> str | None:
    """Say what is wrong with the extended attributes of an entry."""
    if entry.xattrs is None:
        return None
    try:
        unpack_xattrs(entry.xattrs)
    except SetDamaged as error:
        return f"/{text_of(entry.path)}: {error.message}"
    return None


class Matching:
    """Says of entries whether a regular expression is found in their paths (from the slash on).

    Raises WrongUsage.
    """

    def __init__(self, expression: str) -> None:
        try:
            self._search = re.compile(expression, re.DOTALL).search
        except (re.error, RecursionError, OverflowError) as error:
            raise WrongUsage(
                f"{expression!r} is no regular expression: {error}",
                hint="put it into quotes, and a backslash before what is to be taken as it is",
            ) from error

    def __call__(self, entry: Entry) -> bool:
        """Say whether it is found."""
        return self._search(text_of(b"/" + entry.path)) is not None
