"""The fail-safe roots: a distribution's own kernel and rescue tools, fetched, never installed.

A root lives in the cache folder as ``roots/<name>/tree`` with ``roots/<name>/root.json``, its
stamp, beside it. The stamp is written last and names the time of every directory, so that a root
which was interrupted, or lost or gained a file since, is known for that and built again.

``roots/<name>`` is a link to the newest root of that name. Who uses a root locks it to the end of
the process (flock(2)), so that one made meanwhile takes its name, but not its files away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from initramfs.errors import ImageError, InputError, MissingDependency, OutputError
from mindi.cachefolder import own_cache
from mindi.debian import (
    Package,
    PackageManager,
    Progress,
    host_architecture,
    make_merged,
    unpack,
)
from mindi.programs import run
from mindi.rescuepackages import Flavour, kernel_package, required_packages, rescue_packages
from mindi.settle import settle

# Part of every stamp: raised when a tree that an older version made would no longer do.
_GENERATION = 1

_T = TypeVar("_T")

_KERNEL = re.compile(r"^linux-(image|modules|modules-extra)-(unsigned-)?\d")


@dataclass(frozen=True, slots=True)
class FailsafeRoot:
    """An unpacked root tree at ``path``; ``kernel`` is its vmlinuz, ``version`` the release.

    ``packages`` are (name, version), sorted; ``absent`` the packages that were wished for and
    that the distribution's archive does not have (firmware, where only ``main`` is used).
    """

    path: Path
    kernel: Path
    version: str
    packages: tuple[tuple[str, str], ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a root is made of: packages that must be there, and those that may.

    ``closed`` says whether all that they depend on comes along, or only the kernel itself.
    """

    name: str
    architecture: str
    required: tuple[str, ...]
    wished: tuple[str, ...] = ()
    closed: bool = True

    @property
    def digest(self) -> str:
        """Tells a root of this recipe from one of another."""
        return hashlib.sha256(f"{_GENERATION} {self!r}".encode()).hexdigest()[:16]


def _ignore(words: str) -> None:
    del words


def kernel_root(
    cache: Path,
    *,
    flavour: Flavour = Flavour.GENERIC,
    architecture: str | None = None,
    refresh: bool = False,
    progress: Progress = _ignore,
) -> FailsafeRoot:
    """Return a root that holds a kernel and its modules and nothing else.

    It is fetched at the first call, or with ``refresh``; ``architecture`` (dpkg's name of it) is
    the host's if not given. Raises MissingDependency where there is no apt or no such package,
    ToolError where the archive cannot be reached and nothing is cached.
    """
    machine = architecture or host_architecture()
    recipe = Recipe(
        f"kernel-{flavour}-{machine}", machine, (kernel_package(flavour, machine),), closed=False
    )
    return package_root(cache, recipe, refresh=refresh, progress=progress)


def full_root(
    cache: Path,
    *,
    flavour: Flavour = Flavour.GENERIC,
    architecture: str | None = None,
    refresh: bool = False,
    progress: Progress = _ignore,
) -> FailsafeRoot:
    """Return a root with a kernel and the whole set of rescue tools; see ``kernel_root``."""
    machine = architecture or host_architecture()
    recipe = Recipe(
        f"full-{flavour}-{machine}",
        machine,
        (kernel_package(flavour, machine), *required_packages()),
        rescue_packages(machine),
    )
    return package_root(cache, recipe, refresh=refresh, progress=progress)


def package_root(
    cache: Path,
    recipe: Recipe,
    *,
    refresh: bool = False,
    sources: Path | None = None,
    progress: Progress = _ignore,
) -> FailsafeRoot:
    """Return the root of a ``recipe`` that names a kernel package; made if it is not there.

    ``sources`` stands in for the host's ``/etc/apt``. Builders of the same cache wait for each
    other. The root stays as it is until this process ends.
    """
    home = own_cache(cache) / "roots" / recipe.name
    if not refresh:
        found = _read(home, recipe)
        if found is not None:
            return found
    with _locked(cache, progress):
        if not refresh:
            found = _read(home, recipe)  # made by another one while this one waited
            if found is not None:
                return found
        return _make(cache, home, recipe, refresh=refresh, sources=sources, progress=progress)


def _make(
    cache: Path,
    home: Path,
    recipe: Recipe,
    *,
    refresh: bool,
    sources: Path | None,
    progress: Progress,
) -> FailsafeRoot:
    manager = PackageManager(
        cache / "apt" / recipe.architecture, architecture=recipe.architecture, sources=sources
    )
    order, archives = _gather(manager, recipe, refresh=refresh, progress=progress)
    try:
        _sweep(home)  # what an interrupted run left takes room
        # For its owner only: what is set-uid in there must be no way up for anyone.
        beside = Path(mkdtemp(prefix=f".{home.name}.", dir=home.parent))
        tree = beside / "tree"
        tree.mkdir()
        tree.chmod(0o755)
        make_merged(tree)
        unpack(archives, tree, progress=progress)
        progress("settling the tree")
        version = _find_kernel(tree, recipe)
        run("depmod", "-b", os.fspath(tree), version)
        settle(tree)
        _write_stamp(beside, recipe, version, order)
        _switch(home, beside)
    except OSError as error:
        raise OutputError(
            f"cannot make the fail-safe root {home}: {error.strerror}",
            hint="see that there is room in the cache folder, or name another in MINDI_CACHE",
        ) from error
    finally:
        _sweep(home)
    made = _read(home, recipe)
    if made is None:
        raise InputError(f"{home} changed while it was made", hint="run the same command again")
    return made


@dataclass(frozen=True, slots=True)
class _Order:
    packages: tuple[Package, ...]
    absent: tuple[str, ...]


def _gather(
    manager: PackageManager, recipe: Recipe, *, refresh: bool, progress: Progress
) -> tuple[_Order, tuple[Path, ...]]:
    """Find and fetch the packages; lists that turn out to be stale are fetched anew, once."""
    if refresh or not manager.has_lists:
        progress("fetching the lists of packages")
        _with_hint(manager.refresh)
        order = _order(manager, recipe, progress)
        return order, _with_hint(lambda: manager.fetch(order.packages, progress=progress))
    stale: _Order | None = None
    try:
        stale = _order(manager, recipe, progress)
        return stale, manager.fetch(stale.packages, progress=progress)
    except ImageError as error:
        progress("fetching the lists of packages")
        _with_hint(manager.refresh)
        order = _order(manager, recipe, progress)
        if order == stale:  # nothing new, so no use in trying again
            raise _hinted(error) from error
    return order, _with_hint(lambda: manager.fetch(order.packages, progress=progress))


def _order(manager: PackageManager, recipe: Recipe, progress: Progress) -> _Order:
    """Ask apt what a recipe comes to."""
    progress("asking apt what is needed")
    there = manager.available((*recipe.required, *recipe.wished))
    lacking = [name for name in recipe.required if name not in there]
    if lacking:
        raise MissingDependency(
            f"the package archive has no {', '.join(lacking)} for {recipe.architecture}",
            hint="see that the sources in /etc/apt are those of a Debian release for this machine",
        )
    absent = tuple(name for name in recipe.wished if name not in there)
    wanted = [name for name in (*recipe.required, *recipe.wished) if name in there]
    packages = manager.closure(wanted)
    if not recipe.closed:
        packages = tuple(package for package in packages if _KERNEL.match(package.name))
    return _Order(packages, absent)


def _with_hint(act: Callable[[], _T]) -> _T:
    try:
        return act()
    except ImageError as error:
        raise _hinted(error) from error


def _hinted(error: ImageError) -> ImageError:
    return type(error)(
        error.message,
        hint=error.hint
        or "fail-safe packages are fetched once, and that needs a network "
        "(apt's own settings, proxies too, are honoured)",
    )


def _find_kernel(tree: Path, recipe: Recipe) -> str:
    versions = sorted(path.name for path in (tree / "usr/lib/modules").glob("*"))
    if len(versions) != 1 or not (tree / f"boot/vmlinuz-{versions[0]}").is_file():
        raise MissingDependency(
            f"{recipe.required[0]} brought {len(versions)} kernels with modules, not one",
            hint="report this with the output of `mindi doctor`",
        )
    return versions[0]


def _write_stamp(home: Path, recipe: Recipe, version: str, order: _Order) -> None:
    tree = home / "tree"
    run("sync", "--file-system", os.fspath(tree))  # a power cut must not leave empty files
    stamp = {
        "recipe": recipe.digest,
        "kernel": version,
        "packages": [(package.name, package.version) for package in order.packages],
        "absent": list(order.absent),
        "directories": {
            os.path.relpath(folder, tree): os.stat(folder).st_mtime_ns  # noqa: PTH116 many
            for folder, _, _ in os.walk(tree)
        },
    }
    (home / "root.json").write_text(json.dumps(stamp), encoding="utf-8")


def _read(home: Path, recipe: Recipe) -> FailsafeRoot | None:
    """Return the root at ``home`` if it is whole and of this recipe, locked until we end."""
    place = home.resolve()
    held: int | None = None
    try:
        held = _lock(place, fcntl.LOCK_SH)
    except BlockingIOError:
        return None  # it is being removed
    except OSError:
        pass  # not there, or in a cache that cannot be written, where nobody removes anything
    root = _read_stamp(place, recipe)
    if root is None and held is not None:
        os.close(held)
    return root


def _read_stamp(home: Path, recipe: Recipe) -> FailsafeRoot | None:
    tree = os.fspath(home / "tree")
    try:
        stamp: dict[str, Any] = json.loads((home / "root.json").read_bytes())
        if stamp["recipe"] != recipe.digest:
            return None
        for folder, mtime_ns in stamp["directories"].items():
            if os.stat(f"{tree}/{folder}").st_mtime_ns != mtime_ns:  # noqa: PTH116 many
                return None
        root = FailsafeRoot(
            path=home / "tree",
            kernel=home / "tree" / "boot" / f"vmlinuz-{stamp['kernel']}",
            version=stamp["kernel"],
            packages=tuple((name, version) for name, version in stamp["packages"]),
            absent=tuple(stamp["absent"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whatever is wrong with it, the answer is to make it again
    return root if root.kernel.is_file() else None


@contextmanager
def _locked(cache: Path, progress: Progress) -> Iterator[None]:
    try:
        (cache / "roots").mkdir(parents=True, exist_ok=True)
        lock = (cache / "roots" / ".lock").open("ab")
    except OSError as error:
        raise OutputError(
            f"cannot write to the cache folder {cache}: {error.strerror}",
            hint="name another one in MINDI_CACHE",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another mindi that fetches packages")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _switch(home: Path, made: Path) -> None:
    """Let ``home`` lead to the root that was ``made``."""
    link = home.with_name(f".{home.name}.link")
    link.unlink(missing_ok=True)
    link.symlink_to(made.name)
    if home.is_dir() and not home.is_symlink():  # a root in the place of the link
        home.replace(mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    link.replace(home)


def _sweep(home: Path) -> None:
    """Remove the roots that ``home`` does not lead to; one in use is left to a later run."""
    current = home.resolve()
    for folder in home.parent.resolve().glob(f".{home.name}.*"):
        if folder == current or folder.is_symlink():
            continue
        try:
            held = _lock(folder, fcntl.LOCK_EX)
        except OSError:
            continue
        (folder / "root.json").unlink(missing_ok=True)  # first, so that no reader begins on it
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _lock(folder: Path, kind: int) -> int:
    """Lock a root without waiting; return what keeps the lock, raise OSError if it is taken."""
    held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise
    return held
