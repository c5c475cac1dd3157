"""Firmware files that modules may ask for, as far as the root tree has them.

The kernel searches a name below four folders, each plain, then .zst, then .xz
(drivers/base/firmware_loader/main.c, ``fw_path`` and ``_request_firmware``); drivers name
what they may ask for in MODULE_FIRMWARE, sometimes with wildcards.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from initramfs.kmod import Chosen
from initramfs.rootfs import Root

_SUFFIXES = ("", ".zst", ".xz")


@dataclass(frozen=True, slots=True)
class BuiltinDriver:
    """A driver in the kernel's image; ``firmware`` names what it may ask for."""

    name: str
    firmware: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundFirmware:
    """A file for the image: ``path`` as looked up in the root, links not followed."""

    path: str
    module: str


@dataclass(frozen=True, slots=True)
class AbsentFirmware:
    """A ``name`` below the firmware folder that ``module`` may ask for and nobody has."""

    name: str
    module: str


@dataclass(frozen=True, slots=True)
class FirmwareReport:
    """Firmware of drivers; each file once, with the first (``module``) that asks for it.

    Much of what is absent is for devices or revisions that nobody has: it is worth a report,
    not an error.
    """

    found: tuple[FoundFirmware, ...]
    absent: tuple[AbsentFirmware, ...]


def find_firmware(
    root: Root,
    chosen: Iterable[Chosen],
    *,
    builtin: Iterable[BuiltinDriver] = (),
    only: Collection[str] | None = None,
    version: str | None = None,
) -> FirmwareReport:
    """Look for the firmware of ``chosen`` modules, and of ``builtin`` ones, in the root.

    Built-in drivers find it too: the kernel unpacks an initramfs before it starts them.
    ``only`` names what to look for, None all that they ask for.
    ``version`` is the kernel's, for folders of its own; None takes it from the modules' paths.
    """
    choices = tuple(chosen)
    found: dict[str, FoundFirmware] = {}
    absent: dict[str, AbsentFirmware] = {}
    folders = _folders(root, version or _version_of(choices))
    known: dict[str, tuple[str, ...]] = {}
    wants = [(choice.module.name, choice.firmware) for choice in choices]
    wants += [(driver.name, driver.firmware) for driver in builtin]
    for module, names in wants:
        for name in names:
            if only is not None and name not in only:
                continue
            if name not in known:
                known[name] = tuple(_search(root, folders, name))
            for path in known[name]:
                found.setdefault(path, FoundFirmware(path, module))
            if not known[name]:
                absent.setdefault(name, AbsentFirmware(name, module))
    return FirmwareReport(tuple(found.values()), tuple(absent.values()))


def _version_of(choices: tuple[Chosen, ...]) -> str | None:
    if not choices:
        return None
    module = choices[0].module
    words = module.path.split("/")
    return words[words.index("modules") + 1] if "modules" in words[:-1] else None


def _folders(root: Root, version: str | None) -> tuple[str, ...]:
    """Return the folders that exist, in the kernel's order of search."""
    tops = [top for top in ("/lib/firmware", "/usr/lib/firmware") if root.is_dir(top)]
    found: list[str] = []
    for top in tops[:1]:  # the second is for trees without a /lib
        below = ["updates", *([version] if version else [])]
        names = [f"updates/{version}", *below, ""] if version else [*below, ""]
        found += [f"{top}/{name}".rstrip("/") for name in names if root.is_dir(f"{top}/{name}")]
    return tuple(found)


def _search(root: Root, folders: tuple[str, ...], name: str) -> Iterator[str]:
    if any(sign in name for sign in "*?["):
        yield from _expand(root, folders, name)
        return
    for folder in folders:
        for suffix in _SUFFIXES:
            if root.is_file(f"{folder}/{name}{suffix}"):
                yield f"{folder}/{name}{suffix}"
                return


def _expand(root: Root, folders: tuple[str, ...], pattern: str) -> Iterator[str]:
    """Yield all files that match, the first folder's of each name."""
    seen: set[str] = set()
    for folder in folders:
        for path in _matches(root, folder, pattern.split("/")):
            name = path.removeprefix(f"{folder}/")
            if name not in seen:
                seen.add(name)
                yield path


def _matches(root: Root, folder: str, parts: list[str]) -> Iterator[str]:
    for name in root.list(folder):
        path = f"{folder}/{name}"
        if len(parts) > 1:
            if fnmatch.fnmatchcase(name, parts[0]):
                yield from _matches(root, path, parts[1:])
        elif root.is_file(path) and any(
            fnmatch.fnmatchcase(name, parts[0] + suffix) for suffix in _SUFFIXES
        ):
            yield path
