"""LVM as pvs(8), vgs(8) and lvs(8) report it: ``--reportformat json --units b --nosuffix``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from archive.errors import CannotRead
from archive.machine.layoutlvm import (
    LogicalVolume,
    LvArea,
    LvKind,
    LvSegment,
    PhysicalVolume,
    VolumeGroup,
)
from archive.machine.probesystem import Asker

Row = Mapping[str, str]

_FORMAT = ("--reportformat", "json", "--units", "b", "--nosuffix")
# What all of these tools take; old ones do not know every column, so all are asked for.
COMMANDS = {
    "pv": ("lvm", "pvs", *_FORMAT, "-o", "pv_all,vg_name"),
    "vg": ("lvm", "vgs", *_FORMAT, "-o", "vg_all"),
    "seg": ("lvm", "lvs", "-a", "--segments", *_FORMAT, "-o", "lv_all,seg_all,vg_name"),
}
_AREA = re.compile(r"(?P<name>.+?)\((?P<start>\d+)\)")
_KINDS = {
    "linear": LvKind.LINEAR,
    "striped": LvKind.STRIPED,
    "mirror": LvKind.MIRROR,
    "thin-pool": LvKind.THIN_POOL,
    "thin": LvKind.THIN,
    "cache": LvKind.CACHE,
    "cache-pool": LvKind.CACHE_POOL,
}


@dataclass(frozen=True, slots=True)
class LvmReport:
    """The rows of the three reports; of volumes one row for each segment."""

    physical: tuple[Row, ...] = ()
    groups: tuple[Row, ...] = ()
    segments: tuple[Row, ...] = ()


def parse_report(text: str, kind: str) -> tuple[Row, ...]:
    """Return the rows of a report: ``kind`` is ``pv``, ``vg`` or ``seg``. Raises CannotRead."""
    try:
        rows = [row for part in json.loads(text)["report"] for row in part.get(kind, [])]
        return tuple({str(name): str(value) for name, value in row.items()} for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotRead(f"what LVM says of its {kind}s makes no sense: {error!r}") from error


def read_report(asker: Asker) -> LvmReport:
    """Ask a machine that has physical volumes. Raises CannotRead."""
    rows = {kind: parse_report(asker.output(*argv), kind) for kind, argv in COMMANDS.items()}
    return LvmReport(rows["pv"], rows["vg"], rows["seg"])


def volume_id(row: Row) -> str:
    """Return the id of the logical volume of a row."""
    return f"lv:{row['vg_name']}/{_plain(row['lv_name'])}"


def volume_ids(report: LvmReport) -> dict[str, str]:
    """Return the ids of volumes by device-mapper's UUIDs of them."""
    groups = {row["vg_name"]: row["vg_uuid"] for row in report.groups}
    found = {}
    for row in report.segments:
        both = groups.get(row["vg_name"], "") + row["lv_uuid"]
        found["LVM-" + both.replace("-", "")] = volume_id(row)
    return found


def closed_ids(report: LvmReport) -> frozenset[str]:
    """Return the ids of volumes in which nothing is looked for: parts of others, snapshots."""
    closed = (LvKind.HIDDEN, LvKind.SNAPSHOT, LvKind.THIN_POOL, LvKind.CACHE_POOL)
    return frozenset(volume_id(row) for row in report.segments if _kind(row) in closed)


def physical_volume(row: Row, *, on: str, tail: str) -> PhysicalVolume:
    """Return the physical volume of a row, on the node ``on``. Raises CannotRead."""
    try:
        return PhysicalVolume(
            id=f"pv:{tail}",
            on=on,
            uuid=row["pv_uuid"],
            size_bytes=int(row["pv_size"]),
            data_start=int(row["pe_start"]),
            extents=int(row["pv_pe_count"]),
            metadata_copies=int(row["pv_mda_count"]),
            metadata_bytes=int(row["pv_mda_size"]),
            boot_area_start=int(row.get("pv_ba_start") or 0),
            boot_area_bytes=int(row.get("pv_ba_size") or 0),
            allocatable=bool(row["pv_allocatable"]) or not row["vg_name"],
            tags=_tags(row["pv_tags"]),
        )
    except (KeyError, ValueError) as error:
        raise CannotRead(f"what LVM says of {on} makes no sense: {error!r}") from error


def volume_group(row: Row, *, volumes: tuple[str, ...]) -> VolumeGroup:
    """Return the group of a row over the physical volumes ``volumes``. Raises CannotRead."""
    try:
        copies = row.get("vg_mda_copies", "")
        return VolumeGroup(
            id=f"vg:{row['vg_name']}",
            name=row["vg_name"],
            uuid=row["vg_uuid"],
            volumes=volumes,
            extent_bytes=int(row["vg_extent_size"]),
            allocation=row["vg_allocation_policy"],
            tags=_tags(row["vg_tags"]),
            max_logical=int(row["max_lv"]),
            max_physical=int(row["max_pv"]),
            metadata_copies=int(copies) if copies.isdecimal() else 0,
            system_id=row.get("vg_systemid", ""),
            autoactivation=row.get("vg_autoactivation", "enabled") != "",
        )
    except (KeyError, ValueError) as error:
        raise CannotRead(f"what LVM says of a group makes no sense: {error!r}") from error


def logical_volumes(
    report: LvmReport, group: VolumeGroup, physical: Mapping[str, str]
) -> tuple[LogicalVolume, ...]:
    """Return the volumes of a group; ``physical``: ids by device path. Raises CannotRead."""
    rows: dict[str, list[Row]] = {}
    for row in report.segments:
        if row["vg_name"] == group.name:
            rows.setdefault(volume_id(row), []).append(row)
    hidden = {one[0]["lv_name"].strip("[]"): name for name, one in rows.items()}
    try:
        return tuple(
            _volume(name, one, group, {**hidden, **physical}) for name, one in rows.items()
        )
    except (KeyError, ValueError) as error:
        raise CannotRead(f"what LVM says of {group.name} makes no sense: {error!r}") from error


def _volume(
    name: str, rows: list[Row], group: VolumeGroup, places: Mapping[str, str]
) -> LogicalVolume:
    row = rows[0]
    kind = _kind(row)
    origin, pool = _plain(row["origin"]), _plain(row["pool_lv"])
    return LogicalVolume(
        id=name,
        group=group.id,
        name=_plain(row["lv_name"]),
        uuid=row["lv_uuid"],
        kind=kind,
        size_bytes=int(row["lv_size"]),
        segments=tuple(_segment(one, group, places) for one in rows),
        pool=places[pool] if pool else None,
        origin=places[origin] if origin and kind is LvKind.SNAPSHOT else None,
        allocation=row["lv_allocation_policy"],
        read_only=row["lv_permissions"] == "read-only",
        skip_activation=bool(row["lv_skip_activation"]),
        autoactivation=row.get("lv_autoactivation", "enabled") != "",
        active=bool(row["lv_active"]),
        read_ahead=row["lv_read_ahead"] or "auto",
        minor=int(row["lv_minor"]) if row["lv_minor"].isdecimal() else None,
        tags=_tags(row["lv_tags"]),
    )


def _kind(row: Row) -> LvKind:
    roles = row["lv_role"].split(",")
    if row["lv_name"].startswith("["):
        return LvKind.HIDDEN
    if {"thicksnapshot", "thinsnapshot"}.intersection(roles):
        return LvKind.SNAPSHOT
    word = row["segtype"]
    if word.startswith("raid"):
        return LvKind.RAID
    return _KINDS.get(word, LvKind.OTHER)


def _segment(row: Row, group: VolumeGroup, places: Mapping[str, str]) -> LvSegment:
    extents = int(row["seg_size_pe"])
    start = row["seg_start_pe"]
    zero = row.get("zero", "")
    word = row["segtype"]
    is_thin_pool = word == "thin-pool"
    return LvSegment(
        start=int(start) if start.isdecimal() else 0,
        extents=extents,
        type=word,
        areas=_areas(row["devices"], places),
        metadata=_areas(row.get("metadata_devices", ""), places) or _metadata(row, places),
        stripes=int(row["stripes"]),
        stripe_bytes=int(row["stripe_size"] or 0),
        region_bytes=int(row["region_size"] or 0),
        chunk_bytes=int(row["chunk_size"] or 0),
        thin_id=_optional(row["thin_id"]),
        transaction=_optional(row["transaction_id"]) if is_thin_pool else None,
        discards=row["discards"] or None,
        zero=bool(zero) and zero != "unknown" if is_thin_pool else None,
        cache_mode=row.get("cache_mode") or None,
        cache_policy=row.get("cache_policy") or None,
    )


def _metadata(row: Row, places: Mapping[str, str]) -> tuple[LvArea, ...]:
    """Return where a pool's metadata is: lvs tells it as a volume, not as devices."""
    name = _plain(row.get("metadata_lv", ""))
    return (LvArea(places[name], 0),) if name else ()


def _areas(text: str, places: Mapping[str, str]) -> tuple[LvArea, ...]:
    areas = []
    for part in text.split(","):
        found = _AREA.fullmatch(part.strip())
        if found is not None:
            areas.append(LvArea(places[_plain(found["name"])], int(found["start"])))
    return tuple(areas)


def _optional(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _plain(name: str) -> str:
    return name.strip("[]")


def _tags(text: str) -> tuple[str, ...]:
    return tuple(sorted(text.split(","))) if text else ()
