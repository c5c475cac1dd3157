"""LVM2's text metadata of a volume group, as vgcfgrestore(8) takes it, from a saved layout.

The grammar and the words are those that LVM writes itself (lvm2: lib/format_text/export.c, flags.c,
and the ``text_export`` of each segment type). Numbers are in sectors of 512 bytes or in extents.

What is not written: when and where a volume was made, which is not saved; the permission of
read-only volumes, as files are yet to be written to them; policy settings of caches and what a
full pool does, for which LVM's defaults are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import (
    LogicalVolume,
    LvArea,
    LvKind,
    LvSegment,
    PhysicalVolume,
    VolumeGroup,
)
from archive.machine.layoutnodes import Node
from restore.plan.devices import Devices
from restore.plan.lvmgroup import copies, members, mirror_log, needed, restored, segments

SECTOR = 512
_ANY_EXTENT = 4 << 20


def metadata_text(layout: Layout, group: VolumeGroup, devices: Devices) -> str:
    """Return the metadata of a group with all that comes back of it. Raises LayoutInvalid."""
    volumes = restored(layout, group)
    return _text(layout, group, devices, volumes, names={one.id: one.name for one in volumes})


def check_text(layout: Layout, group: VolumeGroup) -> None:
    """Raise LayoutInvalid where there is no text for a group."""
    volumes = restored(layout, group)
    _text(layout, group, None, volumes, names={one.id: one.name for one in volumes})


def physical_text(layout: Layout, volume: PhysicalVolume, devices: Devices) -> str:
    """Return metadata that tells pvcreate(8) all of a physical volume that is in no group."""
    alone = VolumeGroup(
        id="vg:alone",
        name="alone",
        uuid=volume.uuid,
        volumes=(volume.id,),
        extent_bytes=_ANY_EXTENT,
    )
    return _text(layout, alone, devices, (), names={})


def pool_text(layout: Layout, pool: LogicalVolume, devices: Devices) -> str:
    """Return the metadata of a group that holds but one volume, called as a thin pool.

    It lies where the pool has its metadata, which can be written only while it is no part
    of a pool. Raises LayoutInvalid.
    """
    group = layout.get(pool.group, VolumeGroup)
    inner = layout.get(_only(pool.segments[0].metadata), LogicalVolume)
    volumes = needed(layout, group, [inner])
    names = {one.id: one.name for one in volumes} | {inner.id: pool.name}
    return _text(layout, group, devices, volumes, names=names, shown=inner.id)


def thin_xml(layout: Layout, pool: LogicalVolume) -> str:
    """Return a thin pool's own metadata as thin_restore(8) takes it: no volume has any block yet.

    LVM wants the pool to be at its transaction, and to know its volumes by their numbers. Raises
    LayoutInvalid.
    """
    segment = pool.segments[0]
    chunk_sectors = _sectors("chunks", segment.chunk_bytes)
    if chunk_sectors == 0:
        raise LayoutInvalid(f"{pool.id[:80]} is a pool without chunks")
    blocks = pool.size_bytes // segment.chunk_bytes
    numbers = sorted(
        part.thin_id
        for one in restored(layout, layout.get(pool.group, VolumeGroup))
        for part in one.segments
        if one.pool == pool.id and part.type == "thin" and part.thin_id is not None
    )
    if len(set(numbers)) != len(numbers):
        raise LayoutInvalid(f"{pool.id[:80]} has two volumes of one number")
    lines = [
        f'<superblock uuid="" time="0" transaction="{segment.transaction or 0}" '
        f'data_block_size="{chunk_sectors}" nr_data_blocks="{blocks}">',
        *(
            f'  <device dev_id="{number}" mapped_blocks="0" transaction="0" '
            'creation_time="0" snap_time="0">\n  </device>'
            for number in numbers
        ),
        "</superblock>",
    ]
    return "\n".join(lines) + "\n"


def _text(
    layout: Layout,
    group: VolumeGroup,
    devices: Devices | None,
    volumes: Sequence[LogicalVolume],
    *,
    names: Mapping[str, str],
    shown: str | None = None,
) -> str:
    places = {name: f"pv{number}" for number, name in enumerate(group.volumes)}
    physical = [
        line
        for name in group.volumes
        for line in _block(places[name], _physical(layout, name, devices))
    ]
    writer = _Writer(layout, {**places, **names})
    logical = [
        line
        for one in volumes
        for line in _block(names[one.id], writer.volume(one, shown=one.id == shown))
    ]
    body = [*_group(group), *_block("physical_volumes", physical)]
    if logical:
        body += _block("logical_volumes", logical)
    head = ['contents = "Text Format Volume Group"', "version = 1", 'description = ""']
    return "\n".join([*head, *_block(group.name, body)]) + "\n"


def _block(name: str, lines: Iterable[str]) -> list[str]:
    return [f"{name} {{", *(f"\t{line}" for line in lines), "}"]


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _strings(key: str, values: Iterable[str]) -> str:
    return f"{key} = [{', '.join(_string(value) for value in values)}]"


def _sectors(what: str, size_bytes: int) -> int:
    sectors, rest = divmod(size_bytes, SECTOR)
    if rest or sectors < 0:
        raise LayoutInvalid(f"{what} of {size_bytes} bytes are no whole sectors")
    return sectors


def _only(areas: Sequence[LvArea]) -> str:
    """Return what the one area is on of which a pool or cache has its data or its metadata."""
    if len(areas) != 1:
        raise LayoutInvalid(f"a pool or cache has {len(areas)} areas where there is one")
    return areas[0].on


def _group(group: VolumeGroup) -> Iterator[str]:
    yield f"id = {_string(group.uuid)}"
    yield "seqno = 1"
    yield 'format = "lvm2"'
    yield _strings("status", ("RESIZEABLE", "READ", "WRITE"))
    yield _strings("flags", () if group.autoactivation else ("NOAUTOACTIVATE",))
    if group.tags:
        yield _strings("tags", group.tags)
    if group.system_id:
        yield f"system_id = {_string(group.system_id)}"
    yield f"extent_size = {_sectors('extents', group.extent_bytes)}"
    yield f"max_lv = {group.max_logical}"
    yield f"max_pv = {group.max_physical}"
    if group.allocation != "normal":
        yield f"allocation_policy = {_string(group.allocation)}"
    yield f"metadata_copies = {group.metadata_copies}"


def _physical(layout: Layout, name: str, devices: Devices | None) -> Iterator[str]:
    volume = layout.get(name, PhysicalVolume)
    yield f"id = {_string(volume.uuid)}"
    if devices is not None:
        yield f"device = {_string(devices.path(volume.on))}"
    yield _strings("status", ("ALLOCATABLE",) if volume.allocatable else ())
    yield _strings("flags", ())
    if volume.tags:
        yield _strings("tags", volume.tags)
    size_bytes = layout.size_of(layout.get(volume.on, Node))
    if size_bytes is not None:
        yield f"dev_size = {size_bytes // SECTOR}"
    yield f"pe_start = {_sectors('bytes before the data', volume.data_start)}"
    yield f"pe_count = {volume.extents}"
    if volume.boot_area_bytes:
        yield f"ba_start = {_sectors('bytes before the boot area', volume.boot_area_start)}"
        yield f"ba_size = {_sectors('a boot area', volume.boot_area_bytes)}"


class _Writer:
    """Writes volumes; ``places``: what they and physical volumes are called, by their ids."""

    def __init__(self, layout: Layout, places: Mapping[str, str]) -> None:
        self._layout = layout
        self._places = places

    def volume(self, volume: LogicalVolume, *, shown: bool) -> Iterator[str]:
        visible = ("VISIBLE",) if shown or volume.kind is not LvKind.HIDDEN else ()
        fixed = ("FIXED_MINOR",) if volume.minor is not None else ()
        yield f"id = {_string(volume.uuid)}"
        yield _strings("status", ("READ", "WRITE", *fixed, *visible))
        yield _strings(
            "flags",
            (
                *(("ACTIVATION_SKIP",) if volume.skip_activation else ()),
                *(() if volume.autoactivation else ("NOAUTOACTIVATE",)),
            ),
        )
        if volume.tags:
            yield _strings("tags", volume.tags)
        if volume.allocation != "inherit":
            yield f"allocation_policy = {_string(volume.allocation)}"
        if volume.read_ahead.isdecimal():
            # LVM's word for none is -1.
            yield f"read_ahead = {int(volume.read_ahead) // SECTOR or -1}"
        if volume.minor is not None:
            # LVM takes device-mapper's major number where there is none.
            yield f"minor = {volume.minor}"
        held = segments(self._layout, volume)
        yield f"segment_count = {len(held)}"
        for number, segment in enumerate(held, 1):
            lines = [
                f"start_extent = {segment.start}",
                f"extent_count = {segment.extents}",
                *self._segment(volume, segment),
            ]
            yield from _block(f"segment{number}", lines)

    def _segment(self, volume: LogicalVolume, segment: LvSegment) -> Iterator[str]:
        match segment.type:
            case "linear" | "striped":
                yield 'type = "striped"'
                yield f"stripe_count = {len(segment.areas)}"
                if len(segment.areas) > 1:
                    yield f"stripe_size = {_sectors('stripes', segment.stripe_bytes)}"
                yield self._stripes("stripes", segment.areas)
            case "mirror":
                yield 'type = "mirror"'
                yield f"mirror_count = {len(segment.areas)}"
                log = mirror_log(volume, self._named(volume))
                if log is not None:
                    yield f"mirror_log = {_string(log.name)}"
                yield f"region_size = {_sectors('regions', segment.region_bytes)}"
                yield self._stripes("mirrors", segment.areas)
            case "thin-pool":
                yield from self._thin_pool(segment)
            case "thin":
                if segment.thin_id is None:
                    raise LayoutInvalid(f"{volume.id[:80]} has no number in its pool")
                yield 'type = "thin"'
                yield f"thin_pool = {self._name(volume.pool)}"
                yield "transaction_id = 0"
                yield f"device_id = {segment.thin_id}"
            case "cache":
                yield 'type = "cache"'
                yield f"cache_pool = {self._name(volume.pool)}"
                yield f"origin = {self._name(_only(segment.areas))}"
            case "cache-pool":
                yield from self._cache_pool(segment)
            case word if word.startswith("raid"):
                yield from self._raid(segment)
            case word:
                raise LayoutInvalid(f"segments of type {word} are not known")

    def _raid(self, segment: LvSegment) -> Iterator[str]:
        is_plain = segment.type.startswith("raid0")
        yield f"type = {_string(segment.type)}"
        yield f"{'stripe' if is_plain else 'device'}_count = {len(segment.areas)}"
        if segment.type.startswith("raid10"):
            yield f"data_copies = {copies(segment)}"
        if segment.region_bytes and not is_plain:
            yield f"region_size = {_sectors('regions', segment.region_bytes)}"
        if segment.stripe_bytes:
            yield f"stripe_size = {_sectors('stripes', segment.stripe_bytes)}"
        both = segment.metadata or (None,) * len(segment.areas)
        names = [
            self._name(area.on)
            for pair in zip(both, segment.areas, strict=True)
            for area in pair
            if area is not None
        ]
        yield f"{'raids' if segment.metadata else 'raid0_lvs'} = [{', '.join(names)}]"

    def _thin_pool(self, segment: LvSegment) -> Iterator[str]:
        yield 'type = "thin-pool"'
        yield f"metadata = {self._name(_only(segment.metadata))}"
        yield f"pool = {self._name(_only(segment.areas))}"
        yield f"transaction_id = {segment.transaction or 0}"
        yield f"chunk_size = {_sectors('chunks', segment.chunk_bytes)}"
        if segment.discards is not None:
            yield f"discards = {_string(segment.discards)}"
        yield f"zero_new_blocks = {0 if segment.zero is False else 1}"

    def _cache_pool(self, segment: LvSegment) -> Iterator[str]:
        yield 'type = "cache-pool+METADATA_FORMAT"'
        yield f"data = {self._name(_only(segment.areas))}"
        yield f"metadata = {self._name(_only(segment.metadata))}"
        yield f"chunk_size = {_sectors('chunks', segment.chunk_bytes)}"
        # It is made anew, in the format of today whatever it was in.
        yield "metadata_format = 2"
        if segment.cache_mode is not None:
            yield f"cache_mode = {_string(segment.cache_mode)}"
        if segment.cache_policy is not None:
            yield f"policy = {_string(segment.cache_policy)}"

    def _stripes(self, key: str, areas: Iterable[LvArea]) -> str:
        return f"{key} = [{', '.join(f'{self._name(one.on)}, {one.start}' for one in areas)}]"

    def _name(self, name: str | None) -> str:
        if name is None or name not in self._places:
            raise LayoutInvalid(f"{str(name)[:80]} holds a volume, and is no part of its group")
        return _string(self._places[name])

    def _named(self, volume: LogicalVolume) -> dict[str, LogicalVolume]:
        return members(self._layout, self._layout.get(volume.group, VolumeGroup))
