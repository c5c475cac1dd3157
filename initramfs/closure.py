"""The tree of an image, every entry with the reason why it is there.

``ClosureBuilder`` is the only way into a tree: it owns parents, symbolic links, the
dependencies of what is added (libraries, interpreters) and duplicates, so that no
caller has to think of them. ``FileClosure`` is the result: sorted, immutable, complete.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from initramfs.errors import ConflictError, InputError, MissingDependency
from initramfs.libraries import Libraries, Missing
from initramfs.rootfs import MAX_LINKS, Located, Root


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


@dataclass(frozen=True, slots=True)
class FileClosure:
    """A complete image tree; ``entries`` by path, sorted so that parents come first."""

    entries: Mapping[str, Entry]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, path: str) -> bool:
        return path in self.entries

    def chain(self, path: str) -> tuple[Because, ...]:
        """Follow the first reason of ``path`` back to a seed; raise KeyError if it is not in."""
        if path not in self.entries:
            raise KeyError(path)
        return chain(path, lambda by: _reasons(self.entries, by))


def chain(path: str, reasons: Callable[[str], tuple[Because, ...]]) -> tuple[Because, ...]:
    """Follow first reasons from ``path`` to a seed; a circle ends where it closes."""
    found: list[Because] = []
    seen: set[str] = set()
    current: str | None = path
    while current is not None and current not in seen:
        seen.add(current)
        because = reasons(current)
        found.extend(because[:1])
        current = because[0].by if because else None
    return tuple(found)


def _reasons(entries: Mapping[str, Entry], path: str) -> tuple[Because, ...]:
    return entries[path].because if path in entries else ()


class ClosureBuilder:
    """Collects an image tree out of one root tree, files from elsewhere, and made content."""

    def __init__(self, root: Root, libraries: Libraries) -> None:
        """Start an empty image of ``root``; ``libraries`` resolves in that same root."""
        self.root, self._libraries = root, libraries
        self._entries: dict[str, Entry] = {}
        self._reasons: dict[str, dict[Because, None]] = {}
        self._missing: list[str] = []

    def __contains__(self, path: str) -> bool:
        return self._place(path) in self._entries

    def add(self, path: str, because: Because, *, optional: bool = False) -> str | None:
        """Add what ``path`` is in the root, all links on the way, and all that it needs.

        Returns the canonical path in the image. A path that is not in the root is noted and
        raised by ``build`` together with all others, or, if ``optional``, answered with None.
        A directory is added empty; see ``add_tree``.
        """
        found = self.root.locate(path)
        if found is None:
            if not optional:
                self._missing.append(self._complain(path, because))
            return None
        self._add_links(found)
        if stat.S_ISDIR(found.status.st_mode):
            self._put(_directory(found.path, found.status.st_mode, because))
        elif not stat.S_ISREG(found.status.st_mode):
            raise InputError(f"{found.path} in {self.root.path} is no regular file or directory")
        elif self._add_found(found, because):
            self._add_dependencies(found.path)
        return found.path

    def add_tree(
        self, path: str, because: Because, *, keep: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Add the directory ``path`` of the root with all below it for which ``keep`` says yes.

        ``keep`` is asked with each path below (as found, not canonical); a directory that it
        refuses is not entered. Links are kept, and what they lead to comes along.
        """
        top = self.add(path, because)
        if top is None:
            return
        for name in self.root.list(top):
            below = f"{top}/{name}"
            if not keep(below):
                continue
            found = self.root.locate_link(below)
            if found is not None and stat.S_ISDIR(found.status.st_mode):
                self.add_tree(below, Because("in the directory", top), keep=keep)
            elif found is not None and self.root.exists(below):
                self.add(below, Because("in the directory", top))

    def add_file(
        self, source: Path, path: str, because: Because, *, mode: int | None = None
    ) -> str:
        """Add the build host's file ``source`` as ``path``, with no search for what it needs."""
        try:
            status = source.stat()
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror}") from error
        entry = _file(self._place(path), source, status, because)
        if mode is not None:
            entry = replace(entry, mode=stat.S_IFREG | mode)
        return self._put(entry)

    def add_content(self, path: str, content: bytes, because: Because, *, mode: int = 0o644) -> str:
        """Add a file with made ``content``."""
        place = self._place(path)
        return self._put(Entry(place, Kind.FILE, stat.S_IFREG | mode, (because,), content=content))

    def add_link(self, path: str, target: str, because: Because) -> str:
        """Add a symbolic link; what it leads to is the caller's to add."""
        return self._put(self._link(self._place(path, last=False), target, because))

    def add_directory(self, path: str, because: Because, *, mode: int = 0o755) -> str:
        """Add an empty directory."""
        return self._put(_directory(self._place(path), mode, because))

    def add_device(self, path: str, device: tuple[int, int], because: Because, *, mode: int) -> str:
        """Add a device node; ``mode`` holds its type (S_IFCHR or S_IFBLK) and permissions."""
        place = self._place(path)
        return self._put(Entry(place, Kind.DEVICE, mode, (because,), device=device))

    def add_from(self, root: Root, path: str, because: Because) -> str:
        """Add a data file of another root tree at its own path, with the links to it.

        Links between directories are this image's own affair and are not taken over.
        """
        found = root.locate(path)
        if found is None:
            raise MissingDependency(f"{because} needs {path}, not found in {root.path}")
        by = because
        for link, target in found.links:
            if root.is_dir(link):
                continue
            by = Because("link to it:", self.add_link(link, target, by))
        return self.add_file(root.host(found.path), found.path, by)

    def add_needs_of(self, path: str, because: Because) -> None:
        """Add what the root's file ``path`` needs (libraries, interpreter), not the file."""
        found = self.root.locate(path)
        if found is None:
            self._missing.append(self._complain(path, because))
            return
        self._add_dependencies(found.path, because=because)

    def build(self) -> FileClosure:
        """Return the finished tree; raise MissingDependency with the chain of all that lacks."""
        if self._missing:
            lacking = sorted(set(self._missing))
            raise MissingDependency(
                "\n".join(lacking),
                hint="install what is missing in the root tree, or leave out what needs it",
            )
        ordered = sorted(self._entries, key=lambda path: path.split("/"))
        return FileClosure(MappingProxyType({path: self._finished(path) for path in ordered}))

    def _finished(self, path: str) -> Entry:
        entry, reasons = self._entries[path], tuple(self._reasons[path])
        return entry if len(reasons) == 1 else replace(entry, because=reasons)

    def _add_dependencies(self, path: str, *, because: Because | None = None) -> None:
        needs = self._libraries.of(path)
        for needed in needs.found:
            own = because if needed.by == path else None
            reason = own or Because(f"{needed.name}, {needed.need}", needed.by)
            self.add_leaf(needed.path, reason) if needed.leaf else self.add(needed.path, reason)
        self._missing.extend(self._lacking(missing) for missing in needs.missing)

    def add_leaf(self, path: str, because: Because) -> None:
        """Add a file of the root and the links to it; its own needs are known to be in."""
        found = self.root.locate(path)
        if found is None:
            self._missing.append(self._complain(path, because))
            return
        self._add_links(found)
        self._add_found(found, because)

    def _add_links(self, found: Located) -> None:
        """Add the links on the way; they are there for what they lead to, not the reverse."""
        because = Because("leads to", found.path)
        for link, target in found.links:
            known = self._entries.get(link)
            if known is not None and known.target == target:
                self._reasons[link][because] = None
            else:
                self._put(self._link(link, target, because))

    def _add_found(self, found: Located, because: Because) -> bool:
        """Add a file of the root, or one more reason for it; tell whether it is new."""
        host = self.root.host(found.path)
        known = self._entries.get(found.path)
        if known is not None and known.source == host:
            self._reasons[found.path][because] = None
            return False
        self._put(_file(found.path, host, found.status, because))
        return True

    def _put(self, entry: Entry) -> str:
        known = self._entries.get(entry.path)
        if known is None:
            self._add_parents(entry)
            self._entries[entry.path] = entry
            self._reasons[entry.path] = dict.fromkeys(entry.because)
            return entry.path
        if not _same(known, entry):
            raise ConflictError(
                f"{entry.path} is claimed twice in the image:\n"
                f"  as {_describe(known)}: {self._chain_words(known.because)}\n"
                f"  as {_describe(entry)}: {self._chain_words(entry.because)}",
                hint="leave out one of the two",
            )
        self._reasons[entry.path].update(dict.fromkeys(entry.because))
        if known.kind is Kind.DIRECTORY and entry.mode > known.mode:
            self._entries[entry.path] = replace(known, mode=entry.mode)
        return entry.path

    def _add_parents(self, entry: Entry) -> None:
        parent = entry.path.rpartition("/")[0]
        if not parent or parent in self._entries:
            return
        found = self.root.locate_link(parent)
        mode = 0o755
        if found is not None and stat.S_ISDIR(found.status.st_mode):
            mode = found.status.st_mode
        self._put(_directory(parent, mode, Because("holds", entry.path)))

    def _link(self, path: str, target: str, because: Because) -> Entry:
        return Entry(path, Kind.SYMLINK, stat.S_IFLNK | 0o777, (because,), target=target)

    def _place(self, path: str, *, last: bool = True) -> str:
        """Canonical place of ``path`` in the image: through the links of the image and root."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        current, crossed = "", 0
        while pending:
            part = pending.pop()
            if part == "..":
                current = current.rpartition("/")[0]
                continue
            here = f"{current}/{part}"
            target = self._link_target(here, is_last=not pending, follow_last=last)
            if target is None:
                current = here
                continue
            crossed += 1
            if crossed > MAX_LINKS:
                raise ConflictError(f"{path}: too many levels of symbolic links in the image")
            if target.startswith("/"):
                current = ""
            pending.extend(p for p in reversed(target.split("/")) if p not in ("", "."))
        return current or "/"

    def _link_target(self, here: str, *, is_last: bool, follow_last: bool) -> str | None:
        if is_last and not follow_last:
            return None
        entry = self._entries.get(here)
        if entry is not None:
            return entry.target if entry.kind is Kind.SYMLINK else None
        if is_last:
            return None
        found = self.root.locate_link(here)
        if found is None or not stat.S_ISLNK(found.status.st_mode) or not self.root.is_dir(here):
            return None
        target = os.readlink(self.root.host(here))  # noqa: PTH115 the target as it is written
        self._put(self._link(here, target, Because("directory link of the root tree")))
        return target

    def _complain(self, path: str, because: Because) -> str:
        return f"{self._chain_words((because,))} needs {path}, not found in {self.root.path}"

    def _lacking(self, missing: Missing) -> str:
        entry = self._entries.get(missing.by)
        origin = f" ({self._chain_words(entry.because)})" if entry else ""
        needs = f"{missing.by}{origin} needs {missing.name}"
        return f"{needs}, not found in: {', '.join(missing.searched)}"

    def _chain_words(self, because: tuple[Because, ...]) -> str:
        first = because[0]
        words = [str(first)]
        if first.by is not None:
            rest = chain(first.by, lambda by: _reasons(self._entries, by))
            words.extend(str(reason) for reason in rest)
        return " <- ".join(words)


def _directory(path: str, mode: int, because: Because) -> Entry:
    return Entry(path, Kind.DIRECTORY, stat.S_IFDIR | stat.S_IMODE(mode), (because,))


def _file(path: str, source: Path, status: os.stat_result, because: Because) -> Entry:
    mode = stat.S_IFREG | stat.S_IMODE(status.st_mode)
    return Entry(path, Kind.FILE, mode, (because,), source=source, identity=Identity.of(status))


def _same(one: Entry, other: Entry) -> bool:
    if one.kind is not other.kind:
        return False
    if one.kind is Kind.FILE:
        if one.source is not None and other.source is not None:
            return one.source == other.source or one.source.samefile(other.source)
        return one.content is not None and one.content == other.content
    return (one.target, one.device) == (other.target, other.device)


def _describe(entry: Entry) -> str:
    return f"{entry.kind} {entry.source or entry.target or ''}".rstrip()
