"""Finds the tools of mindi/tools.py in a root tree and adds them, with what they need."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from initramfs.closure import Because, ClosureBuilder
from initramfs.errors import UsageError
from initramfs.rootfs import Root
from mindi.configfile import did_you_mean
from mindi.tools import Family, Kit, Tool

PROGRAM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where tools are looked for, in this order; the search path of the rescue environment."""


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A tool of the image; ``version_argv`` is a harmless start, ended with a status of these."""

    name: str
    path: str
    family: Family
    version_argv: tuple[str, ...]
    statuses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AbsentTool:
    """A tool that the root tree does not have, and the Debian package that would bring it."""

    name: str
    family: Family
    package: str


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What became of one or more kits."""

    found: tuple[FoundTool, ...] = ()
    absent: tuple[AbsentTool, ...] = ()

    def __add__(self, other: Toolbox) -> Toolbox:
        return Toolbox(self.found + other.found, self.absent + other.absent)

    def path(self, name: str) -> str | None:
        """Return where the tool ``name`` is in the image; None if it is not."""
        return next((tool.path for tool in self.found if tool.name == name), None)


def without(kits: Sequence[Kit], omitted: Collection[str]) -> tuple[Kit, ...]:
    """Return ``kits`` without the tools, or whole packages, of the names ``omitted``.

    Raises UsageError for a name that is neither.
    """
    known = {kit.package for kit in kits} | {tool.name for kit in kits for tool in kit.tools}
    for name in omitted:
        if name not in known:
            raise UsageError(
                f"--omit-tool {name}: no tool or package of that name goes into an image"
                f"{did_you_mean(name, known)}"
            )
    left = []
    for kit in kits:
        tools = tuple(tool for tool in kit.tools if tool.name not in omitted)
        if kit.package not in omitted and (tools or not kit.tools):
            left.append(replace(kit, tools=tools))
    return tuple(left)


def add_kit(builder: ClosureBuilder, kit: Kit) -> Toolbox:
    """Add what ``builder``'s root has of ``kit``; its data comes only with one of its tools."""
    root = builder.root
    found: list[FoundTool] = []
    absent: list[AbsentTool] = []
    for tool in kit.tools:
        path = find_tool(root, tool)
        name = tool.name.rpartition("/")[2]
        if path is None:
            absent.append(AbsentTool(name, kit.family, kit.package))
            continue
        builder.add(path, Because(f"tool of the rescue environment ({kit.family})"))
        found.append(FoundTool(name, path, kit.family, (path, *tool.start), tool.statuses))
    if found or not kit.tools:
        reason = Because("data of", found[0].path) if found else Because(f"data of {kit.package}")
        for pattern in kit.data:
            for path in expand(root, pattern):
                _add_data(builder, path, reason)
    if kit.links and found:
        for link in links_to(root, found[0].path):
            builder.add(link, Because("another name of", found[0].path))
    return Toolbox(tuple(found), tuple(absent))


def find_tool(root: Root, tool: Tool) -> str | None:
    """Return where ``tool`` is in ``root``, links not followed (a tool may go by its name)."""
    if tool.name.startswith("/"):
        places = [tool.name, tool.name.removeprefix("/usr")]
    else:
        places = [f"{directory}/{tool.name}" for directory in PROGRAM_DIRECTORIES]
    return next((place for place in places if root.is_file(place)), None)


def _add_data(builder: ClosureBuilder, path: str, because: Because) -> None:
    """As ``add_any``, but plain data is not looked into: GRUB alone has 500 ELF modules."""
    if _is_out_of_force(builder.root, path):
        builder.add_link(path, os.devnull, because)
        return
    found = builder.root.locate(path)
    is_code = found is None or found.status.st_mode & 0o111 or ".so" in path
    if is_code or not builder.root.is_file(path):
        add_any(builder, path, because)
    else:
        builder.add_leaf(path, because)


def _is_out_of_force(root: Root, path: str) -> bool:
    """Tell whether an administrator's link to /dev/null hides what is shipped under this name."""
    here = root.locate_link(path)
    if here is None or not stat.S_ISLNK(here.status.st_mode):
        return False
    return os.readlink(root.host(here.path)) == os.devnull  # noqa: PTH115 as it is written


def add_any(builder: ClosureBuilder, path: str, because: Because) -> None:
    """Add a file, or a directory with all below it."""
    if builder.root.is_dir(path):
        builder.add_tree(path, because)
    else:
        builder.add(path, because)


def links_to(root: Root, path: str) -> tuple[str, ...]:
    """Return the links in the directories of programs that lead to the file at ``path``."""
    found = root.locate(path)
    if found is None:
        return ()
    links: list[str] = []
    seen: set[str] = set()
    for directory in PROGRAM_DIRECTORIES:
        place = root.locate(directory)
        if place is None or place.path in seen:
            continue
        seen.add(place.path)
        for name in [entry.name for entry in root.scan(place.path) if entry.is_symlink()]:
            link = f"{place.path}/{name}"
            end = root.locate(link)
            if end is not None and end.path == found.path:
                links.append(link)
    return tuple(links)


def expand(root: Root, pattern: str) -> tuple[str, ...]:
    """Return the paths of ``root`` that match ``pattern`` (fnmatch, part by part), sorted.

    One below /usr/lib that finds nothing is tried without /usr, for trees whose /lib is apart.
    """
    found = list(_matches(root, "", pattern.strip("/").split("/")))
    if pattern.startswith("/usr/lib") and not found:
        found = list(_matches(root, "", pattern.strip("/").split("/")[1:]))
    return tuple(found)


def _matches(root: Root, base: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if not any(sign in part for sign in "*?["):
        if root.exists(f"{base}/{part}"):
            yield from _matches(root, f"{base}/{part}", rest)
        return
    for name in fnmatch.filter(root.list(base or "/"), part):
        if not rest or root.is_dir(f"{base}/{name}"):
            yield from _matches(root, f"{base}/{name}", rest)
