"""Which volumes of a volume group come back, and what each of them lies on.

Snapshots do not, nor volumes of kinds that are not known here, nor hidden volumes that only these
need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import LogicalVolume, LvKind, LvSegment, VolumeGroup

_LEFT_OUT = (LvKind.SNAPSHOT, LvKind.OTHER)
_SPARE = "_pmspare"
"""The end of the name of the volume that LVM keeps for the repair of a pool's metadata."""


def members(layout: Layout, group: VolumeGroup) -> dict[str, LogicalVolume]:
    """Return the volumes of a group by their names."""
    return {one.name: one for one in layout.all(LogicalVolume) if one.group == group.id}


def restored(layout: Layout, group: VolumeGroup) -> tuple[LogicalVolume, ...]:
    """Return the volumes of a group that come back, with the hidden ones that these need."""
    found = members(layout, group)
    tops = [
        one
        for one in found.values()
        if one.kind not in (*_LEFT_OUT, LvKind.HIDDEN) or one.name.endswith(_SPARE)
    ]
    return needed(layout, group, tops)


def needed(
    layout: Layout, group: VolumeGroup, tops: Iterable[LogicalVolume]
) -> tuple[LogicalVolume, ...]:
    """Return volumes and all that they lie on, in the order of the layout."""
    named = members(layout, group)
    ids = {one.id: one for one in named.values()}
    wanted: set[str] = set()
    waiting = list(tops)
    while waiting:
        one = waiting.pop()
        if one.id not in wanted:
            wanted.add(one.id)
            waiting += [ids[name] for name in _parts(layout, one, named) if name in ids]
    return tuple(one for one in ids.values() if one.id in wanted)


def segments(layout: Layout, volume: LogicalVolume) -> tuple[LvSegment, ...]:
    """Return a volume's segments as they come back.

    Those of a volume whose cache is no cache pool are those of what was cached: where in a single
    volume a cache has its metadata is not saved.
    """
    if uncached(layout, volume):
        (area,) = volume.segments[0].areas
        return layout.get(area.on, LogicalVolume).segments
    return volume.segments


def uncached(layout: Layout, volume: LogicalVolume) -> bool:
    """Tell whether a cached volume comes back without its cache."""
    if volume.segments[0].type != "cache" or len(volume.segments[0].areas) != 1:
        return False
    pool = layout.get(volume.pool, LogicalVolume) if volume.pool else None
    return pool is None or pool.segments[0].type != "cache-pool"


def mirror_log(volume: LogicalVolume, named: Mapping[str, LogicalVolume]) -> LogicalVolume | None:
    """Return the volume that a mirror keeps its log in, None with one in memory."""
    is_mirror = any(one.type == "mirror" for one in volume.segments)
    return named.get(f"{volume.name}_mlog") if is_mirror else None


def copies(segment: LvSegment) -> int:
    """Return how many areas of a segment hold the same."""
    if segment.type in ("raid1", "mirror"):
        return max(len(segment.areas), 1)
    return 2 if segment.type.startswith("raid10") else 1


def area_extents(segment: LvSegment) -> int:
    """Return how many extents of each of its areas a segment has. Raises LayoutInvalid."""
    if not segment.areas:
        raise LayoutInvalid(f"a {segment.type} segment has no areas")
    parity = 2 if segment.type.startswith("raid6") else 0
    if segment.type.startswith(("raid4", "raid5")):
        parity = 1
    stripes, rest = divmod(len(segment.areas) - parity, copies(segment))
    if stripes < 1 or rest or segment.extents % stripes:
        raise LayoutInvalid(f"a {segment.type} segment has {len(segment.areas)} areas")
    return segment.extents // stripes


def _parts(
    layout: Layout, volume: LogicalVolume, named: Mapping[str, LogicalVolume]
) -> Iterator[str]:
    """Yield the ids of what a volume lies on, as it comes back."""
    for segment in segments(layout, volume):
        yield from (area.on for area in (*segment.areas, *segment.metadata))
    log = mirror_log(volume, named)
    if log is not None:
        yield log.id
    if volume.pool is not None and not uncached(layout, volume):
        yield volume.pool
