"""Finds the modules of a tree on which depmod never ran (unpacked packages).

Where several files are one module, the order of depmod.d(5) decides: its ``override``
lines, then ``search`` lines, else ``updates`` before all others.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from initramfs.errors import InputError
from initramfs.modinfo import name_of, normalise
from initramfs.rootfs import Root

_CONFIGURATION = ("/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/lib/depmod.d")
_BUILT_IN = "built-in"
# Links to the kernel's source tree, which may hold modules of its own.
_NOT_MODULES = frozenset({"build", "source"})


@dataclass(frozen=True, slots=True)
class _Preference:
    """What depmod.d says: folders in order of preference, folders for single modules ("*": all)."""

    search: tuple[str, ...]
    overrides: tuple[tuple[str, str], ...]

    def rank(self, name: str, path: str) -> int:
        """Rate the module file ``path`` (below the tree); the lowest of a name is taken."""
        for module, folder in self.overrides:
            if module in ("*", name) and path.startswith(f"{folder}/"):
                return -1
        default = len(self.search)
        for rank, folder in enumerate(self.search):
            if folder == _BUILT_IN:
                default = rank
            elif path.startswith(f"{folder}/"):
                return rank
        return default


def find_modules(root: Root, directory: str, version: str) -> dict[str, str]:
    """Return name -> path below ``directory`` (canonical in ``root``) of every module.

    Raises InputError where a folder cannot be read.
    """
    found: dict[str, str] = {}
    preference: _Preference | None = None
    for path in sorted(_walk(root, directory)):
        name = name_of(path)
        if name is None:
            continue
        if name not in found:
            found[name] = path
            continue
        preference = preference or _read_preference(root, version)
        if preference.rank(name, path) < preference.rank(name, found[name]):
            found[name] = path
    return found


def _walk(root: Root, directory: str) -> list[str]:
    top = os.fspath(root.host(directory))
    found: list[str] = []
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(f"{top}/{below}") as entries:
                for entry in entries:
                    path = below + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if path not in _NOT_MODULES:
                            pending.append(path + "/")
                    elif ".ko" in entry.name and _is_file(root, directory, path, entry):
                        found.append(path)
        except OSError as error:
            raise InputError(
                f"cannot read {directory}/{below} in {root.path}: {error.strerror}",
                hint="building an image of this tree needs the right to read it; try as root",
            ) from error
    return found


def _is_file(root: Root, directory: str, path: str, entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        located = root.locate(f"{directory}/{path}")
        return located is not None and stat.S_ISREG(located.status.st_mode)
    return entry.is_file(follow_symlinks=False)


def _read_preference(root: Root, version: str) -> _Preference:
    search: list[str] = []
    overrides: list[tuple[str, str]] = []
    files: dict[str, str] = {}
    for folder in _CONFIGURATION:
        for name in root.list(folder):
            if name.endswith(".conf"):
                files.setdefault(name, f"{folder}/{name}")
    for _, path in sorted(files.items()):
        for line in root.read(path).decode("utf-8", "surrogateescape").splitlines():
            words = line.split()
            if words[:1] == ["search"]:
                search.extend(words[1:])
            elif words[:1] == ["override"] and len(words) == 4 and _is_for(words[2], version):
                overrides.append((normalise(words[1]), words[3]))
    return _Preference(tuple(search or ("updates", _BUILT_IN)), tuple(overrides))


def _is_for(pattern: str, version: str) -> bool:
    """Tell whether an override is meant for this kernel: "*", or a regular expression."""
    if pattern == "*":
        return True
    try:
        return re.search(pattern, version) is not None
    except re.error:
        return False
