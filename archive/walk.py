"""Walks what is selected, in the order of the tree, and says what it could not see.

Every directory is opened once, by its path and without following a link at its end; that it is
still the one that was found (device and inode) guards against all that was swapped above it. Names
and states then come from the descriptor. Memory is bounded by a part of one directory a level,
and by the names of the largest directory.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from archive.coverage import Coverage, Covered, Verdict
from archive.descent import Descent
from archive.issues import Issue, IssueKind, issue_of
from archive.mounts import Mount
from archive.reach import LONGEST
from archive.selection import Selection
from archive.territory import Special, Territory

_ENCODING = sys.getfilesystemencoding()
_AT_ONCE = 2048
"""States of files that are held at a time, of one directory."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_SUBVOLUME_INODE = 256
_CACHE_TAG = b"CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


class Found(NamedTuple):
    """One path: relative to the root, without leading slash; its lstat; its filesystem."""

    path: bytes
    stat: os.stat_result
    device: int
    """Index into ``Walk.devices``."""


class _Folder(NamedTuple):
    """A directory that is being walked."""

    path: bytes
    whole: bool
    """Whether all of it is taken, or only what leads to more."""
    mount: Mount | None
    device: int
    state: os.stat_result
    entries: Iterator[tuple[bytes, os.stat_result]]


_NOTHING: dict[bytes, Special] = {}
_ORDINARY = Special()


class Walk:
    """An iteration over what a selection holds; made once, iterated once.

    ``mounts`` are those of mountinfo, ``root`` is what the selection's paths are relative to.
    ``issues`` grows as things happen. Raises CannotRead for an included path that is missing, and
    for a local filesystem that cannot be read.
    """

    def __init__(
        self, selection: Selection, mounts: tuple[Mount, ...], *, root: bytes = b"/"
    ) -> None:
        self.issues: list[Issue] = []
        self._caches = selection.exclude_caches
        self._base = root.rstrip(b"/") + b"/"
        self._territory = Territory(selection, mounts, base=self._base, issues=self.issues)
        self._descent = Descent()
        self._devices: dict[str, int] = {}
        names = selection.exclude.names
        paths = selection.exclude.paths
        self._bad_name = None if names is None else names.fullmatch
        self._bad_path = None if paths is None else paths.fullmatch

    @property
    def devices(self) -> tuple[str, ...]:
        """The identities of the filesystems met so far; they survive a reboot where possible."""
        return tuple(self._devices)

    @property
    def coverage(self) -> Coverage:
        """What becomes of each mounted filesystem; final when the walk is over."""
        return self._territory.coverage

    @property
    def lost(self) -> tuple[Covered, ...]:
        """The local filesystems that should have been taken and were not: an error at the end."""
        return tuple(
            covered
            for covered in self.coverage
            if covered.verdict is Verdict.ERROR and not covered.private
        )

    def __iter__(self) -> Iterator[Found]:
        """Give what is selected, parents first, names bytewise."""
        top = self._top()
        yield Found(b"", top.state, top.device)
        stack = [self._enter(top)]
        try:
            yield from self._walk(stack)
        finally:
            self._descent.close()
        self._territory.finish()

    def _walk(self, stack: list[_Folder]) -> Iterator[Found]:
        territory = self._territory
        new = tuple.__new__
        bad_name, bad_path = self._bad_name, self._bad_path
        while stack:
            path, whole, mount, device, state, entries = stack[-1]
            prefix = path + b"/" if path else b""
            odd = path in territory.special or not whole
            number = state.st_dev
            for name, state in entries:
                path = prefix + name
                if bad_name is not None and bad_name(name):
                    continue
                if bad_path is not None and bad_path(path):
                    continue
                if odd or state.st_dev != number:
                    found, below = self._at_border(stack[-1], name, path, state)
                    if found is not None:
                        yield found
                    if below is not None:
                        stack.append(self._enter(below))
                        break
                    continue
                yield new(Found, (path, state, device))
                if state.st_mode & 0o170000 == 0o040000:
                    stack.append(self._enter(_Folder(path, True, mount, device, state, iter(()))))
                    break
            else:
                stack.pop()

    def _top(self) -> _Folder:
        state = os.stat(self._base)  # noqa: PTH116 (Path knows no bytes)
        mount = self._territory.mount_at(b"")
        self._territory.reach(mount)
        whole = b"" in self._territory.starts
        return _Folder(b"", whole, mount, self._device(mount, b"", state), state, iter(()))

    def _at_border(
        self, folder: _Folder, name: bytes, path: bytes, state: os.stat_result
    ) -> tuple[Found | None, _Folder | None]:
        """Judge a path where something begins or ends.

        Returns what to give, and the directory to enter.
        """
        territory = self._territory
        special = territory.special.get(folder.path, _NOTHING).get(name, _ORDINARY)
        if special.out:
            return None, None
        asked = path in territory.starts
        whole = asked or special.whole or (folder.whole and special is _ORDINARY)
        mount = special.mount or folder.mount
        device = folder.device
        is_folder = stat.S_ISDIR(state.st_mode)
        enter = is_folder and (whole or path in territory.spine)
        if special.mount is not None and _is_gone(special.mount, folder, state):
            words = "it was unmounted while the backup ran"
            territory.fail(path, special.mount, Issue(path, IssueKind.VANISHED, words))
            enter = False
        elif special.mount is not None:
            territory.reach(mount)
            device = self._device(mount, path, state)
        elif state.st_dev != folder.state.st_dev:
            device = self._device(mount, path, state)
            if is_folder and not _is_subvolume(mount, state):
                words = "a filesystem was mounted here while the backup ran"
                self.issues.append(Issue(path, IssueKind.MOUNTED, words))
                enter = False
        if not is_folder and not whole:
            if special.mount is None:
                self.issues.append(Issue(path, IssueKind.CHANGED, "it was a directory before"))
                return None, None
            if not (special.file and folder.whole and stat.S_ISREG(state.st_mode)):
                return None, None
            territory.take_file(special.mount)
        below = _Folder(path, whole, mount, device, state, iter(())) if enter else None
        return Found(path, state, device), below

    def _device(self, mount: Mount | None, path: bytes, state: os.stat_result) -> int:
        """Return the number of a filesystem, or of a subvolume whose root is ``path``."""
        number = f"{os.major(state.st_dev)}:{os.minor(state.st_dev)}"
        if mount is None:
            return self._devices.setdefault(number, len(self._devices))
        identity = mount.identity
        start = self._territory.relative(mount.point)
        if start is not None and start != path:
            if _is_subvolume(mount, state):
                inside = path[len(start) :].strip(b"/")
                identity = mount.identity_of(mount.root.rstrip(b"/") + b"/" + inside)
            else:
                # Overlayfs gives files the numbers of what lies below, and their inodes.
                identity += f" {number}"
        return self._devices.setdefault(identity, len(self._devices))

    # Directories

    def _enter(self, folder: _Folder) -> _Folder:
        """Open a directory and read its names; if that fails, it is an issue and seems empty."""
        try:
            fd = self._open(folder)
        except OSError as error:
            self._fail(folder, issue_of(folder.path, error))
            return folder
        try:
            if not folder.whole:
                names = self._territory.spine.get(folder.path, [])
                return folder._replace(entries=self._states(folder, names, fd))
            if self._caches and is_cache(fd):
                self._territory.leave_cache(folder.path)
                return folder._replace(entries=self._states(folder, [_CACHE_TAG], fd))
            with os.scandir(fd) as entries:
                return folder._replace(entries=self._list(folder, entries, fd))
        except OSError as error:
            self._fail(folder, issue_of(folder.path, error))
            return folder
        finally:
            os.close(fd)

    def _open(self, folder: _Folder) -> int:
        """Return a descriptor of a directory if it is the one that was found. Raises OSError."""
        path = self._base + folder.path
        above: int | None = None
        if len(path) > LONGEST:
            above, path = self._descent.approach(path)
        fd = _open_directory(path, above, readable=folder.whole)
        state = os.fstat(fd)
        if state.st_ino == folder.state.st_ino and state.st_dev == folder.state.st_dev:
            return fd
        os.close(fd)
        raise OSError(errno.ENOTDIR, "it was replaced while the backup ran")

    def _fail(self, folder: _Folder, issue: Issue) -> None:
        self._territory.fail(folder.path, folder.mount, issue)

    def _list(
        self, folder: _Folder, entries: Iterator[os.DirEntry[str]], fd: int
    ) -> Iterator[tuple[bytes, os.stat_result]]:
        """Return the names and states of a directory in their order."""
        first = list(islice(entries, _AT_ONCE))
        if len(first) < _AT_ONCE:
            try:
                return iter(
                    sorted(
                        [
                            (
                                entry.name.encode(_ENCODING, "surrogateescape"),
                                entry.stat(follow_symlinks=False),
                            )
                            for entry in first
                        ]
                    )
                )
            except OSError:
                # One of them vanished, most likely: which one is told below.
                pass
        names = [entry.name.encode(_ENCODING, "surrogateescape") for entry in first]
        del first
        names.extend(entry.name.encode(_ENCODING, "surrogateescape") for entry in entries)
        names.sort()
        return self._states(folder, names, fd)

    def _states(
        self, folder: _Folder, names: list[bytes], fd: int
    ) -> Iterator[tuple[bytes, os.stat_result]]:
        """Give names with their states, a part of a large directory at a time."""
        if len(names) <= _AT_ONCE:
            return iter(self._some_states(folder, names, fd))
        return self._many_states(folder, names)

    def _many_states(
        self, folder: _Folder, names: list[bytes]
    ) -> Iterator[tuple[bytes, os.stat_result]]:
        for start in range(0, len(names), _AT_ONCE):
            try:
                fd = self._open(folder)
            except OSError as error:
                self._fail(folder, issue_of(folder.path, error))
                return
            try:
                states = self._some_states(folder, names[start : start + _AT_ONCE], fd)
            finally:
                os.close(fd)
            yield from states

    def _some_states(
        self, folder: _Folder, names: list[bytes], fd: int
    ) -> list[tuple[bytes, os.stat_result]]:
        found = []
        for name in names:
            try:
                found.append((name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
            except OSError as error:
                path = folder.path + b"/" + name if folder.path else name
                self.issues.append(issue_of(path, error))
        return found


def _open_directory(path: bytes, above: int | None, *, readable: bool) -> int:
    """Open a directory, without touching its access time where that is allowed."""
    if not readable:
        return os.open(path, _OPEN | os.O_PATH, dir_fd=above)
    try:
        return os.open(path, _OPEN | os.O_NOATIME, dir_fd=above)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return os.open(path, _OPEN, dir_fd=above)


def _is_subvolume(mount: Mount | None, state: os.stat_result) -> bool:
    """Say whether a directory with a device number of its own is a btrfs subvolume."""
    if mount is not None and mount.kind != "btrfs":
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_ino == _SUBVOLUME_INODE


def _is_gone(mount: Mount, folder: _Folder, state: os.stat_result) -> bool:
    """Say whether a directory is the one below a mount, not the mount's root."""
    return (
        stat.S_ISDIR(state.st_mode)
        and state.st_dev == folder.state.st_dev != mount.device
        and mount.kind != "btrfs"
    )


def is_cache(fd: int) -> bool:
    """Say whether a directory has a CACHEDIR.TAG."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        tag = os.open(_CACHE_TAG, flags, dir_fd=fd)
    except OSError:
        return False
    try:
        return os.read(tag, len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)
