"""Paths inside a root tree, resolved as a process chrooted there would see them.

Nothing here follows a symbolic link with the build host's eyes: an absolute target
is absolute *in the tree*, and ``..`` stops at its top (path_resolution(7)).
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import InputError

# What Linux itself allows before it answers ELOOP (path_resolution(7)).
MAX_LINKS = 40

_GLOB = re.compile(r"[*?\[]")


class LinkLoopError(InputError):
    """Symbolic links that lead to themselves, or too many of them (ELOOP)."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path ends: canonical ``path`` in the tree, ``links`` crossed as (path, target)."""

    path: str
    links: tuple[tuple[str, str], ...]
    status: os.stat_result


@dataclass(frozen=True, slots=True)
class _Node:
    status: os.stat_result
    target: str | None


class Root:
    """A root tree on the build host; look-ups are cached, so build one per tree and build."""

    def __init__(self, path: Path) -> None:
        """Open the tree at ``path``; raise InputError if it is no readable directory."""
        self.path = path
        self._prefix = os.fspath(path).rstrip("/")
        self._nodes: dict[str, _Node | None] = {}
        self._ends: dict[str, Located | None] = {}
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            raise InputError(
                f"cannot read the root tree {path}: {error.strerror}",
                hint="give --root a directory that holds a Linux root tree and that you may read",
            ) from error

    def host(self, canonical: str) -> Path:
        """Return the build host's path of a *canonical* path in the tree."""
        return Path(self._prefix + canonical)

    def locate(self, path: str) -> Located | None:
        """Follow ``path`` (absolute) to its end; None where something on the way is missing.

        Raises LinkLoopError for a loop of links, InputError for a directory that cannot be
        searched.
        """
        try:
            return self._ends[path]
        except KeyError:
            found = self._ends[path] = self._follow(path, last=True)
            return found

    def locate_link(self, path: str) -> Located | None:
        """Like ``locate``, but stop at a symbolic link in the last place (as lstat does)."""
        return self._follow(path, last=False)

    def _follow(self, path: str, *, last: bool) -> Located | None:
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links: list[tuple[str, str]] = []
        crossed = 0
        current = ""
        node = self._node("/")
        while pending:
            part = pending.pop()
            if part == "..":
                current = current.rpartition("/")[0]
                node = self._node(current or "/")
                continue
            here = f"{current}/{part}"
            node = self._node(here)
            if node is None:
                return None
            if node.target is None or (not pending and not last):
                if pending and not stat.S_ISDIR(node.status.st_mode):
                    return None
                current = here
                continue
            crossed += 1
            if crossed > MAX_LINKS:
                raise LinkLoopError(f"{self.path}: too many levels of symbolic links in {path}")
            if (here, node.target) not in links:
                links.append((here, node.target))
            if node.target.startswith("/"):
                current = ""
            pending.extend(p for p in reversed(node.target.split("/")) if p not in ("", "."))
            node = self._node(current or "/")
        if node is None:
            return None
        return Located(current or "/", tuple(links), node.status)

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` leads to something; a loop of links does not."""
        return self._end(path) is not None

    def is_file(self, path: str) -> bool:
        """Tell whether ``path`` leads to a regular file."""
        found = self._end(path)
        return found is not None and stat.S_ISREG(found.status.st_mode)

    def is_dir(self, path: str) -> bool:
        """Tell whether ``path`` leads to a directory."""
        found = self._end(path)
        return found is not None and stat.S_ISDIR(found.status.st_mode)

    def _end(self, path: str) -> Located | None:
        try:
            return self.locate(path)
        except LinkLoopError:
            return None

    def list(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in the directory at ``path``; empty where there is none."""
        found = self._end(path)
        if found is None or not stat.S_ISDIR(found.status.st_mode):
            return ()
        try:
            return tuple(sorted(os.listdir(self.host(found.path))))  # noqa: PTH208 names, not paths
        except OSError as error:
            raise self._unreadable(found.path, error) from error

    def scan(self, canonical: str) -> tuple[os.DirEntry[str], ...]:
        """Return the entries of a directory by its *canonical* path, sorted by name.

        For large directories: their kinds are known without a look at each. Raises InputError.
        """
        try:
            with os.scandir(self.host(canonical)) as entries:
                return tuple(sorted(entries, key=lambda entry: entry.name))
        except OSError as error:
            raise self._unreadable(canonical, error) from error

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Return the sorted paths that ``pattern`` (absolute, glob(7)) matches and that exist.

        A wildcard matches no leading dot and no slash.
        """
        found = [""]
        for part in pattern.split("/")[1:]:
            if not _GLOB.search(part):
                found = [f"{above}/{part}" for above in found]
                continue
            matches = re.compile(fnmatch.translate(part)).match
            found = [
                f"{above}/{name}"
                for above in found
                for name in self.list(above or "/")
                if matches(name) and (part.startswith(".") or not name.startswith("."))
            ]
        return tuple(sorted(path for path in found if self.exists(path)))

    def read(self, path: str) -> bytes:
        """Return the content of the file at ``path``; raise InputError if it cannot be read."""
        found = self.locate(path)
        if found is None:
            raise InputError(f"{path}: not found in the root tree {self.path}")
        try:
            return self.host(found.path).read_bytes()
        except OSError as error:
            raise self._unreadable(found.path, error) from error

    def _node(self, canonical: str) -> _Node | None:
        try:
            return self._nodes[canonical]
        except KeyError:
            pass
        name = self._prefix + canonical
        node: _Node | None
        try:
            status = os.lstat(name)
            target = os.readlink(name) if stat.S_ISLNK(status.st_mode) else None  # noqa: PTH115
            node = _Node(status, target)
        except (FileNotFoundError, NotADirectoryError):
            node = None
        except OSError as error:
            raise self._unreadable(canonical, error) from error
        self._nodes[canonical] = node
        return node

    def _unreadable(self, canonical: str, error: OSError) -> InputError:
        return InputError(
            f"cannot read {canonical} in the root tree {self.path}: {error.strerror}",
            hint="building an image of this tree needs the right to read it; try as root",
        )
