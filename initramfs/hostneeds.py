"""What a machine asks of a kernel's modules, beyond the aliases of its devices.

A driver that is built into the running kernel is not among the loaded modules, and the kernel of
an image may have it as a module: so the devices themselves are asked, in sysfs (the kernel's
Documentation/ABI/testing/sysfs-*, Documentation/admin-guide/sysfs-rules.rst). Paths are below
a tree that is given; links in it are relative, as the kernel makes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from initramfs.modinfo import normalise

_HOST = re.compile(r"host\d+")

# Names of SCSI hosts (their proc_name) that are not those of their drivers' modules.
_MODULES_OF_HOSTS = {"iscsi_iser": "ib_iser", "beiscsi": "be2iscsi"}


@dataclass(frozen=True, slots=True)
class HostNeed:
    """``words`` (modules or aliases; those that a kernel has) that a machine needs, and ``why``.

    What is of its layout is taken in any case, and its lack is worth a word to the user. The
    rest may have another name in another kernel, or be of no use to a rescue.
    """

    words: tuple[str, ...]
    why: str
    is_of_layout: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """A device that a person knows by ``name``; ``folder`` is its place below /sys."""

    name: str
    folder: Path


def first_of_each(needs: Iterable[HostNeed]) -> tuple[HostNeed, ...]:
    """Return ``needs`` without those whose words were there before."""
    found: dict[tuple[str, ...], HostNeed] = {}
    for need in needs:
        found.setdefault(need.words, need)
    return tuple(found.values())


def attribute(file: Path) -> str:
    """Return the text of an attribute without its line's end; "" where it is not or not for us."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:  # a device that was unplugged meanwhile, or an attribute that it has not
        return ""


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the sorted names in a folder, none where there is no such folder."""
    try:
        return tuple(sorted(os.listdir(folder)))  # noqa: PTH208 names, not paths
    except OSError:
        return ()


def uevent_value(folder: Path, key: str) -> str:
    """Return what the device in ``folder`` says of ``key`` in its uevent, "" for nothing."""
    lines = attribute(folder / "uevent").splitlines()
    return next((line[len(key) + 1 :] for line in lines if line.startswith(f"{key}=")), "")


def driver_needs(sys: Path, devices: Iterable[Device], area: str) -> Iterator[HostNeed]:
    """Yield the drivers of ``devices`` and of all that they hang on, up to their bus.

    ``area`` begins each reason. A driver is told by its ``module`` link, which the kernel makes
    for built-in ones too; where it can have no modules at all, by its own name.
    """
    top = os.path.realpath(sys / "devices") + os.sep
    seen: set[str] = set()
    for device in devices:
        place = os.path.realpath(device.folder)
        while place.startswith(top) and place not in seen:
            seen.add(place)
            for module in _drivers_at(place):
                why = f"{area}: {device.name} is driven by {module}"
                yield HostNeed((module,), why, is_of_layout=False)
            place = os.path.dirname(place)  # noqa: PTH120 as text


def host_of(sys: Path, folder: Path) -> str:
    """Return the module of the SCSI host that the device in ``folder`` hangs on, "" for none."""
    top = os.path.realpath(sys / "devices") + os.sep
    place = os.path.realpath(folder)
    while place.startswith(top):
        if module := _module_of_host(place):
            return module
        place = os.path.dirname(place)  # noqa: PTH120
    return ""


def _drivers_at(place: str) -> Iterator[str]:
    try:
        driver = os.readlink(f"{place}/driver")  # noqa: PTH115
    except OSError:  # a bus, or a device without a driver
        driver = ""
    if driver:
        # Without it the driver's name is all there is: most are called as their modules.
        with suppress(OSError):
            driver = os.readlink(f"{place}/driver/module")  # noqa: PTH115
        yield normalise(driver.rpartition("/")[2])
    if module := _module_of_host(place):
        yield module


def _module_of_host(place: str) -> str:
    name = place.rpartition("/")[2]
    if not _HOST.fullmatch(name):
        return ""
    said = attribute(Path(place, "scsi_host", name, "proc_name"))
    return _MODULES_OF_HOSTS.get(said, normalise(said)) if said.isprintable() else ""
