"""Which disk here is which of those that were saved, by what their makers wrote into them.

A disk has a serial number and a world wide name (WWN). Who asks tells how they look: udev's
``0x5000c5...`` is sysfs' ``naa.5000c5...``, and where a disk has no WWN sysfs makes one up of its
model and serial (``t10.ATA     MODEL     SERIAL``). What several disks of a
machine have alike (the serials of cheap bridges, namespaces of an NVMe drive, paths to one disk)
tells none of them from another. Kernel names tell nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archive.machine.layout import Layout
from archive.machine.layoutnodes import Disk

_BLANKS = re.compile(r"[\s_]+")
_HEX = re.compile(r"(?:0x|naa\.|eui\.)?([0-9a-f]{16,32})")
_RUNS = re.compile(r"(\d+)")
_FILLERS = "0fF.-"
_ATA = "t10.ATA     "
_ATA_SERIAL = len(_ATA) + 40


@dataclass(frozen=True, slots=True)
class Known:
    """A disk of the target that is one of the saved ones; ``why`` as ``same serial``."""

    disk: Disk
    why: str


@dataclass(frozen=True, slots=True)
class Recognition:
    """Which saved disks are here, by their ids."""

    found: Mapping[str, Known]
    disputed: Mapping[str, tuple[Disk, ...]]
    """Saved disks that more than one here could be, or that share the one with another."""


@dataclass(frozen=True, slots=True)
class _Marks:
    serial: str | None
    wwn: str | None
    model: str | None


def recognize(saved: Layout, target: Layout) -> Recognition:
    """Return which disks are the same, whatever their size is now."""
    was, now = _marks(saved), _marks(target)
    single = _single(was.values()), _single(now.values())
    claims: dict[str, list[Known]] = {}
    for disk in saved.all(Disk):
        for other in target.all(Disk):
            why = _why((disk, was[disk.id]), (other, now[other.id]), single)
            if why is not None:
                claims.setdefault(disk.id, []).append(Known(other, why))
    wanted = Counter(one.disk.id for known in claims.values() for one in known)
    found = {
        name: known[0]
        for name, known in claims.items()
        if len(known) == 1 and wanted[known[0].disk.id] == 1
    }
    disputed = {
        name: tuple(one.disk for one in known)
        for name, known in claims.items()
        if name not in found
    }
    return Recognition(found, disputed)


def twins(layout: Layout) -> dict[str, Disk]:
    """Return for each disk that is another one too, over another path, that other one."""
    marks = _marks(layout)
    by_wwn: dict[str | None, list[Disk]] = {}
    for disk in layout.all(Disk):
        by_wwn.setdefault(marks[disk.id].wwn, []).append(disk)
    by_wwn.pop(None, None)
    return {
        disk.id: other
        for group in by_wwn.values()
        for disk in group
        for other in group
        if other is not disk
        and other.size_bytes == disk.size_bytes
        and not _differ(marks[disk.id].serial, marks[other.id].serial)
    }


def natural(disk: Disk) -> tuple[tuple[int, int, str], ...]:
    """Return what disks sort by so that sdb comes before sdaa, and nvme2n1 before nvme10n1."""
    runs = (run for run in _RUNS.split(disk.kernel_name) if run)
    return tuple((0, int(run), "") if run.isdecimal() else (1, len(run), run) for run in runs)


def _why(
    saved: tuple[Disk, _Marks],
    target: tuple[Disk, _Marks],
    single: tuple[frozenset[str], frozenset[str]],
) -> str | None:
    (disk, was), (other, now) = saved, target
    if _differ(was.serial, now.serial) or _wwns_differ(was.wwn, now.wwn):
        return None
    alone = single[0] & single[1]
    has_wwn = was.wwn is not None and was.wwn == now.wwn and was.wwn in alone
    if was.serial is not None and was.serial == now.serial and was.serial in alone:
        # Cheap bridges share a few serials among all of a series, and of all machines.
        is_alike = disk.size_bytes == other.size_bytes or not _models_differ(was.model, now.model)
        if has_wwn or is_alike:
            return "same serial"
    return "same WWN" if has_wwn else None


def _marks(layout: Layout) -> dict[str, _Marks]:
    return {disk.id: _marks_of(disk) for disk in layout.all(Disk)}


def _marks_of(disk: Disk) -> _Marks:
    serial, wwn = _plain(disk.serial), (disk.wwn or "").strip()
    if wwn.startswith("t10."):
        # SAT-4, 10.4.4: the vendor in 8 characters, the model in 40, then the serial.
        serial = serial or (_plain(wwn[_ATA_SERIAL:]) if wwn.startswith(_ATA) else None)
        wwn = ""
    number = _HEX.fullmatch(wwn.lower())
    return _Marks(serial, _told(number[1] if number else wwn.lower()), _plain(disk.model))


def _plain(text: str | None) -> str | None:
    """Return a text with its blanks as udev writes them; None where it tells nothing."""
    return _told(_BLANKS.sub("_", text or "").strip("_"))


def _told(text: str) -> str | None:
    """A run of one such character, ``0000000000``, is what those have that were given none."""
    return None if any(text == letter * len(text) for letter in _FILLERS) else text


def _single(marks: Iterable[_Marks]) -> frozenset[str]:
    """Return the serials and WWNs that one disk alone has."""
    every = [(one.serial, one.wwn) for one in marks]
    counts = Counter(text for pair in every for text in set(pair) if text is not None)
    return frozenset(text for text, number in counts.items() if number == 1)


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _wwns_differ(one: str | None, other: str | None) -> bool:
    """Tell whether two WWNs are of one kind and not the same, nor one the other's beginning."""
    if one is None or other is None or bool(_HEX.fullmatch(one)) != bool(_HEX.fullmatch(other)):
        return False
    return not one.startswith(other) and not other.startswith(one)


def _models_differ(one: str | None, other: str | None) -> bool:
    """SCSI has room for 16 characters of a model, ATA for 40."""
    if one is None or other is None:
        return False
    return not one.startswith(other) and not other.startswith(one)
