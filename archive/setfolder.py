"""The folder of a prefix and the folders of its sets: names, lock, birth, end.

A set is made under a name with a dot and renamed when it is whole and on the medium; a set that
is to go gets a name with a dot first. So whatever ends a run, and whenever, every folder of a
set's name is a whole set. archive/FORMAT.md has the layout.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archive.errors import ArchiveError, CannotWrite
from archive.manifest import Kind, Manifest
from archive.manifestfile import MANIFEST, MANIFEST_COPY, has_manifest

CATALOG = "catalog.sqlite.zst"
CATALOG_COPY = "catalog-copy.sqlite.zst"
SLICES = "slices"
LOCK = ".lock"

FOLDER_MODE = 0o700
FILE_MODE = 0o600

_PARTIAL = ".partial-"
_REMOVED = ".removed-"
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-(full|differential)", re.ASCII)
_LOCKS_NOT = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class SetName:
    """The name of a set's folder; sorts by the time the sets were begun."""

    stamp: str
    """``20261122T231449Z``: UTC, and later than that of every older set of the folder."""
    kind: Kind

    def __str__(self) -> str:
        return f"{self.stamp}-{self.kind}"

    @classmethod
    def parse(cls, text: str) -> SetName | None:
        """Return the name, or None for what is no name of a set."""
        found = _NAME.fullmatch(text)
        return None if found is None else cls(found[1], Kind(found[2]))


@dataclass(frozen=True, slots=True)
class Partial:
    """An unfinished set."""

    name: SetName
    path: Path
    """The folder with the dot; it has a folder ``slices``."""


def slice_path(folder: Path, number: int, suffix: str) -> Path:
    """Return where a slice lies; ``number`` counts from 1, ``suffix`` begins with a dot."""
    return folder / SLICES / f"{number:07d}{suffix}"


def chain(folder: Path) -> tuple[SetName, ...]:
    """Return the whole sets of a prefix's folder, oldest first; none where it does not exist."""
    return tuple(name for name in _names(folder, "") if has_manifest(folder / str(name)))


def prefixes(folder: Path) -> tuple[Path, ...]:
    """Return the folders in a folder that hold sets, whole or unfinished ones."""
    try:
        return tuple(path for path in folder.iterdir() if chain(path) or find_partial(path))
    except OSError:
        return ()


def newest_full(folder: Path) -> SetName | None:
    """Return the newest full set of a prefix's folder."""
    return next((name for name in reversed(chain(folder)) if name.kind is Kind.FULL), None)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a prefix's folder where it is missing, and be the one who writes there.

    Raises CannotWrite where another run does. The lock goes with the process, however it ends.
    """
    lock = folder / LOCK
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    except OSError as error:
        raise _cannot_write(lock, error) from error
    try:
        _take(handle, folder)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotWrite(
            f"another run writes to {folder}", hint="wait for its end, or stop it"
        ) from error
    except OSError as error:
        if error.errno not in _LOCKS_NOT:
            raise _cannot_write(folder / LOCK, error) from error
        _log.warning("%s: this filesystem has no locks; run one backup at a time", folder)


def new_partial(folder: Path, kind: Kind, now: datetime) -> Partial:
    """Begin a set: make its folder, under a name with a dot, later than every set there is.

    ``now`` has a time zone. The caller holds the lock. Raises CannotWrite.
    """
    stamp = now.astimezone(UTC).strftime(_STAMP)
    taken = {name.stamp for mark in ("", _PARTIAL, _REMOVED) for name in _names(folder, mark)}
    if taken and stamp <= max(taken):
        # The clock was set back, or two runs fell into one second: order is by name.
        stamp = _after(max(taken))
    name = SetName(stamp, kind)
    path = folder / f"{_PARTIAL}{name}"
    try:
        path.mkdir(mode=FOLDER_MODE)
        (path / SLICES).mkdir(mode=FOLDER_MODE)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return Partial(name, path)


def find_partial(folder: Path) -> Partial | None:
    """Return the newest unfinished set, which ``--resume`` goes on with."""
    names = _names(folder, _PARTIAL)
    return Partial(names[-1], folder / f"{_PARTIAL}{names[-1]}") if names else None


def finish(partial: Partial, manifest: Manifest) -> Path:
    """Make an unfinished set a whole one; return its folder. Raises CannotWrite.

    Everything reaches the medium first, the manifest last, twice, then the set gets its name.
    """
    folder = partial.path.parent
    whole = folder / str(partial.name)
    try:
        for name in (MANIFEST, MANIFEST_COPY):
            (partial.path / name).unlink(missing_ok=True)
        sync_tree(partial.path)
        for name in (MANIFEST, MANIFEST_COPY):
            write_synced(partial.path / name, manifest.to_json())
        sync(partial.path)
        # rename() would replace an empty folder.
        if os.path.lexists(whole):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        partial.path.rename(whole)
        sync(folder)
    except OSError as error:
        raise _cannot_write(whole, error) from error
    return whole


def discard_partial(partial: Partial) -> None:
    """Remove an unfinished set. Raises CannotWrite."""
    _remove(partial.path)


def remove_set(folder: Path, name: SetName) -> None:
    """Remove a whole set: at no moment does half of it bear its name. Raises CannotWrite."""
    doomed = folder / f"{_REMOVED}{name}"
    try:
        (folder / str(name)).rename(doomed)
        sync(folder)
    except OSError as error:
        raise _cannot_write(folder / str(name), error) from error
    _remove(doomed)


def remove_leftovers(folder: Path) -> None:
    """Remove what interrupted removals left. Raises CannotWrite."""
    for name in _names(folder, _REMOVED):
        _remove(folder / f"{_REMOVED}{name}")


@dataclass(frozen=True, slots=True)
class Held:
    """A set of a chain, as the retention plan wants to know it."""

    name: SetName
    set_id: str
    parent_id: str | None


def surplus(sets: tuple[Held, ...], keep: int) -> tuple[SetName, ...]:
    """Return the sets to remove so that the newest ``keep`` full sets and all made on them stay.

    Pure. Children come before their parents, so that an end in the midst breaks no chain. A set
    whose chain does not lead to a full set here stays: nobody knows what it belongs to. Sets
    whose manifest cannot be read are not to be given, and so count as nothing and stay.
    """
    if keep < 1:
        raise ValueError("at least one full set is kept")
    by_id = {one.set_id: one for one in sets}
    fulls = sorted(one.name for one in sets if one.parent_id is None)
    doomed = set(fulls[: max(0, len(fulls) - keep)])
    found = []
    for one in sets:
        depth, root = _root(one, by_id)
        if root is not None and root.name in doomed:
            found.append((-depth, one.name))
    return tuple(name for _, name in sorted(found))


def _root(one: Held, by_id: dict[str, Held]) -> tuple[int, Held | None]:
    """Return how many parents a set has and the full set that it rests on."""
    depth = 0
    at: Held | None = one
    while at is not None and at.parent_id is not None:
        depth += 1
        # A ring of parents is longer than there are sets.
        at = by_id.get(at.parent_id) if depth <= len(by_id) else None
    return depth, at


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file under a temporary name, bring it to the medium, rename it."""
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE
    )
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def sync(path: Path) -> None:
    """Bring a file or a folder to its medium."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        # Folders of some network and FUSE filesystems cannot be synced.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring a folder and all below it to their medium; quick for what is there already."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            sync_tree(entry)
        else:
            sync(entry)
    sync(folder)


def _names(folder: Path, mark: str) -> list[SetName]:
    """Return the set names in a folder that bear a mark, sorted."""
    try:
        texts = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArchiveError(f"{folder} cannot be read: {error.strerror}") from error
    found = (SetName.parse(text.removeprefix(mark)) for text in texts if text.startswith(mark))
    return sorted(name for name in found if name is not None)


def _after(stamp: str) -> str:
    try:
        after = datetime.strptime(stamp, _STAMP) + timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise CannotWrite(
            f"a set named {stamp}-... has no time that exists", hint="move it away"
        ) from error
    return after.strftime(_STAMP)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
        sync(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{path}: {error.strerror}",
        hint="check that the medium is there, has room, and may be written",
    )
