"""The entries of an image tree: what they are, and the reasons why they are there."""

from __future__ import annotations

import enum
import os
import stat
from dataclasses import dataclass
from pathlib import Path


class Kind(enum.StrEnum):
    """What an entry is."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Because:
    """One reason for an entry: ``what`` in words, ``by`` the image path that asked for it.

    A seed, asked for by the recipe of the image itself, has no ``by``.
    """

    what: str
    by: str | None = None

    def __str__(self) -> str:
        return f"{self.what} {self.by}" if self.by else self.what


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one state of a source file from another without reading it (stat(2))."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Take the identity out of a stat result."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of the image.

    A FILE has either ``source`` (a build host's file, with its ``identity``) or ``content``;
    a SYMLINK has ``target``; a DEVICE has ``device`` (major, minor) and its type in ``mode``.
    ``mode`` is a whole st_mode, type bits included. Everything belongs to root.
    """

    path: str
    kind: Kind
    mode: int
    because: tuple[Because, ...]
    source: Path | None = None
    identity: Identity | None = None
    content: bytes | None = None
    target: str | None = None
    device: tuple[int, int] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of content that the entry brings into the archive."""
        if self.kind is Kind.SYMLINK:
            return len(os.fsencode(self.target or ""))
        if self.content is not None:
            return len(self.content)
        return self.identity.size_bytes if self.identity else 0


def directory_entry(path: str, mode: int, because: Because) -> Entry:
    """Make the entry of a directory."""
    return Entry(path, Kind.DIRECTORY, stat.S_IFDIR | stat.S_IMODE(mode), (because,))


def file_entry(path: str, source: Path, status: os.stat_result, because: Because) -> Entry:
    """Make the entry of a file of the build host."""
    mode = stat.S_IFREG | stat.S_IMODE(status.st_mode)
    return Entry(path, Kind.FILE, mode, (because,), source=source, identity=Identity.of(status))


def same(one: Entry, other: Entry) -> bool:
    """Tell whether two entries bring the same thing into the image, whatever their modes."""
    if one.kind is not other.kind:
        return False
    if one.kind is Kind.FILE:
        if one.source is not None and other.source is not None:
            return one.source == other.source or one.source.samefile(other.source)
        return one.content is not None and one.content == other.content
    return (one.target, one.device) == (other.target, other.device)


def describe(entry: Entry) -> str:
    """Say in words what an entry is and where it comes from."""
    return f"{entry.kind} {entry.source or entry.target or ''}".rstrip()
