"""The tree of an image, every entry with the reason why it is there.

``ClosureBuilder`` is the only way into a tree: it owns parents, symbolic links, the
dependencies of what is added (libraries, interpreters) and duplicates, so that no
caller has to think of them. ``FileClosure`` is the result: sorted, immutable, complete.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from initramfs.entries import Because as Because
from initramfs.entries import Entry as Entry
from initramfs.entries import Identity as Identity
from initramfs.entries import Kind as Kind
from initramfs.entries import describe, directory_entry, file_entry, same
from initramfs.errors import ConflictError, InputError, MissingDependency
from initramfs.libraries import Libraries, Missing
from initramfs.rootfs import MAX_LINKS, Located, Root


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

    @property
    def is_private(self) -> bool:
        """Tell whether a file of it is, where it comes from, not for everybody to read."""
        return any(
            entry.source is not None and entry.kind is Kind.FILE and not entry.mode & stat.S_IROTH
            for entry in self
        )

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
        self._asked_modes: dict[str, int] = {}
        self._missing: dict[str, str | None] = {}

    def __contains__(self, path: str) -> bool:
        return self._place(path, is_query=True) in self._entries

    def add(self, path: str, because: Because, *, optional: bool = False) -> str | None:
        """Add what ``path`` is in the root, all links on the way, and all that it needs.

        Returns the canonical path in the image. A path that is not in the root is noted and
        raised by ``build`` together with all others, or, if ``optional``, answered with None.
        A directory is added empty; see ``add_tree``.
        """
        found = self.root.locate(path)
        if found is None:
            if not optional:
                self._missing[self._complain(path, because)] = None
            return None
        self._add_links(found)
        if stat.S_ISDIR(found.status.st_mode):
            self._put(directory_entry(found.path, found.status.st_mode, because))
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
        entry = file_entry(self._place(path), source, status, because)
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

    def add_directory(self, path: str, because: Because, *, mode: int | None = None) -> str:
        """Add an empty directory; a ``mode`` that is given stays, whatever else brings it."""
        place = self._place(path)
        if mode is not None:
            self._asked_modes[place] = max(mode, self._asked_modes.get(place, 0))
        return self._put(directory_entry(place, 0o755 if mode is None else mode, because))

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
            self._missing[self._complain(path, because)] = None
            return
        self._add_dependencies(found.path, because=because)

    def build(self) -> FileClosure:
        """Return the finished tree; raise MissingDependency with the chain of all that lacks."""
        lacking = sorted(
            words for words, path in self._missing.items() if path is None or path not in self
        )
        if lacking:
            raise MissingDependency(
                "\n".join(lacking),
                hint="install what is missing in the root tree, "
                "or leave out what needs it with --omit-tool",
            )
        ordered = sorted(self._entries, key=lambda path: path.split("/"))
        return FileClosure(MappingProxyType({path: self._finished(path) for path in ordered}))

    def _finished(self, path: str) -> Entry:
        entry, reasons = self._entries[path], tuple(self._reasons[path])
        mode = self._asked_modes.get(path)
        if mode is not None:
            entry = replace(entry, mode=stat.S_IFDIR | mode)
        return entry if len(reasons) == 1 else replace(entry, because=reasons)

    def _add_dependencies(self, path: str, *, because: Because | None = None) -> None:
        needs = self._libraries.of(path)
        for needed in needs.found:
            own = because if needed.by == path else None
            reason = own or Because(f"{needed.name}, {needed.need}", needed.by)
            self.add_leaf(needed.path, reason) if needed.leaf else self.add(needed.path, reason)
        for missing in needs.missing:
            # An interpreter may be the image's own: /bin/sh is BusyBox where the root has none.
            place = missing.name if missing.name.startswith("/") else None
            self._missing[self._lacking(missing)] = place

    def add_leaf(self, path: str, because: Because) -> None:
        """Add a file of the root and the links to it; its own needs are known to be in."""
        found = self.root.locate(path)
        if found is None:
            self._missing[self._complain(path, because)] = None
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
        self._put(file_entry(found.path, host, found.status, because))
        return True

    def _put(self, entry: Entry) -> str:
        known = self._entries.get(entry.path)
        if known is None:
            self._add_parents(entry)
            self._entries[entry.path] = entry
            self._reasons[entry.path] = dict.fromkeys(entry.because)
            return entry.path
        if not same(known, entry):
            raise ConflictError(
                f"{entry.path} is claimed twice in the image:\n"
                f"  as {describe(known)}: {self._chain_words(known.because)}\n"
                f"  as {describe(entry)}: {self._chain_words(entry.because)}",
                hint="leave out one of the two",
            )
        self._reasons[entry.path].update(dict.fromkeys(entry.because))
        if known.kind is Kind.DIRECTORY and entry.mode > known.mode:
            self._entries[entry.path] = replace(known, mode=entry.mode)
        return entry.path

    def _add_parents(self, entry: Entry) -> None:
        parent = entry.path.rpartition("/")[0]
        known = self._entries.get(parent)
        if not parent or (known is not None and known.kind is Kind.DIRECTORY):
            return
        found = self.root.locate_link(parent)
        mode = 0o755
        if found is not None and stat.S_ISDIR(found.status.st_mode):
            mode = found.status.st_mode
        self._put(directory_entry(parent, mode, Because("holds", entry.path)))

    def _link(self, path: str, target: str, because: Because) -> Entry:
        return Entry(path, Kind.SYMLINK, stat.S_IFLNK | 0o777, (because,), target=target)

    def _place(self, path: str, *, last: bool = True, is_query: bool = False) -> str:
        """Canonical place of ``path`` in the image: through the links of the image and root.

        The root's links to directories come into the image with that, unless it is a query.
        """
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        current, crossed = "", 0
        while pending:
            part = pending.pop()
            if part == "..":
                current = current.rpartition("/")[0]
                continue
            here = f"{current}/{part}"
            target = None
            if pending or last:
                target = self._link_target(here, is_query=is_query)
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

    def _link_target(self, here: str, *, is_query: bool) -> str | None:
        entry = self._entries.get(here)
        if entry is not None:
            return entry.target if entry.kind is Kind.SYMLINK else None
        found = self.root.locate_link(here)
        if found is None or not stat.S_ISLNK(found.status.st_mode) or not self.root.is_dir(here):
            return None
        target = os.readlink(self.root.host(here))  # noqa: PTH115 the target as it is written
        if not is_query:
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
