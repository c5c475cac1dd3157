"""Volume groups for tests: built volume by volume, with extents taken as LVM takes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutlvm import (
    LogicalVolume,
    LvArea,
    LvKind,
    LvSegment,
    PhysicalVolume,
    VolumeGroup,
)
from archive.machine.layoutnodes import Disk
from restore.plan.devices import Devices

MIB = 1 << 20
EXTENT = MIB
START = MIB
"""Where the data of physical volumes begins."""


def uuid(number: int) -> str:
    return f"abcdef-{number // 10000:04}-{number % 10000:04}-0000-0000-0000-vwxyzA"


class GroupBuilder:
    """A group ``vg`` on ``disks`` disks of ``extents`` extents each."""

    def __init__(self, *, disks: int = 6, extents: int = 200, **settings: Any) -> None:
        self.disks = [_disk(number, extents) for number in range(disks)]
        self.physical = [_physical(disk, number, extents) for number, disk in enumerate(self.disks)]
        self.group = VolumeGroup(
            id="vg:vg",
            name="vg",
            uuid=uuid(9999),
            volumes=tuple(one.id for one in self.physical),
            extent_bytes=EXTENT,
            **settings,
        )
        self.volumes: list[LogicalVolume] = []
        self._taken = [0] * disks

    def layout(self, *more: AnyNode) -> Layout:
        return Layout.of([*self.disks, *self.physical, self.group, *self.volumes, *more])

    def plain(
        self, name: str, *runs: tuple[int, ...], extents: int = 4, **settings: Any
    ) -> LogicalVolume:
        """Add a volume with a segment for each run, which is the disks that it is striped over."""
        segments: list[LvSegment] = []
        for number, disks in enumerate(runs or ((0,),)):
            areas = tuple(self._take(disk, extents) for disk in disks)
            segments.append(
                LvSegment(
                    start=sum(one.extents for one in segments),
                    extents=extents * len(disks),
                    type="striped" if len(disks) > 1 else "linear",
                    areas=areas,
                    stripes=len(disks),
                    stripe_bytes=(16384 << number) if len(disks) > 1 else 0,
                )
            )
        kind = LvKind.STRIPED if segments[0].stripes > 1 else LvKind.LINEAR
        return self.add(name, kind, *segments, **settings)

    def hidden(self, name: str, disk: int, extents: int = 4) -> LogicalVolume:
        volume = self.plain(name, (disk,), extents=extents)
        return self._change(volume, kind=LvKind.HIDDEN)

    def raid(
        self, name: str, type_: str, parts: int, data: int, *, extents: int = 4, **settings: Any
    ) -> LogicalVolume:
        """Add a RAID volume of ``parts`` images, whose data is in ``data`` of them."""
        metadata = []
        if type_ != "raid0":
            metadata = [self.hidden(f"{name}_rmeta_{one}", one, 1) for one in range(parts)]
        images = [self.hidden(f"{name}_rimage_{one}", one, extents) for one in range(parts)]
        segment = LvSegment(
            start=0,
            extents=extents * data,
            type=type_,
            areas=tuple(LvArea(one.id, 0) for one in images),
            metadata=tuple(LvArea(one.id, 0) for one in metadata),
            stripes=parts,
            stripe_bytes=0 if type_ == "raid1" else 65536,
            region_bytes=0 if type_.startswith("raid0") else 2 * MIB,
        )
        return self.add(name, LvKind.RAID, segment, **settings)

    def mirror(self, name: str, *, log: bool = True) -> LogicalVolume:
        images = [self.hidden(f"{name}_mimage_{one}", one) for one in range(2)]
        if log:
            self.hidden(f"{name}_mlog", 2, 1)
        segment = LvSegment(
            start=0,
            extents=4,
            type="mirror",
            areas=tuple(LvArea(one.id, 0) for one in images),
            stripes=2,
            region_bytes=2 * MIB,
        )
        return self.add(name, LvKind.MIRROR, segment)

    def pool(self, name: str = "pool", *, raid: bool = False) -> LogicalVolume:
        """Add a thin pool, with its parts on RAID 1 or on one disk."""
        if raid:
            data = self.hide(self.raid(f"{name}_tdata", "raid1", 2, 1, extents=8))
            inner = self.hide(self.raid(f"{name}_tmeta", "raid1", 2, 1, extents=4))
        else:
            data, inner = self.hidden(f"{name}_tdata", 0, 8), self.hidden(f"{name}_tmeta", 1, 4)
        segment = LvSegment(
            start=0,
            extents=8,
            type="thin-pool",
            areas=(LvArea(data.id, 0),),
            metadata=(LvArea(inner.id, 0),),
            chunk_bytes=65536,
            transaction=7,
            discards="passdown",
            zero=True,
        )
        return self.add(name, LvKind.THIN_POOL, segment)

    def thin(
        self, name: str, number: int, pool: LogicalVolume, kind: LvKind = LvKind.THIN
    ) -> LogicalVolume:
        segment = LvSegment(
            start=0, extents=50, type="thin", stripes=0, thin_id=number, discards="passdown"
        )
        return self.add(name, kind, segment, pool=pool.id)

    def cached(self, name: str, *, single: bool = False) -> LogicalVolume:
        """Add a cached volume, its cache a pool or a ``single`` volume."""
        origin = self.hidden(f"{name}_corig", 3)
        words = {"chunk_bytes": 65536, "cache_mode": "writethrough", "cache_policy": "smq"}
        if single:
            cache = self.hidden("fast_cvol", 4, 8)
        else:
            data, inner = self.hidden("fast_cpool_cdata", 4, 4), self.hidden("fast_cpool_cmeta", 5)
            held = LvSegment(
                start=0,
                extents=4,
                type="cache-pool",
                areas=(LvArea(data.id, 0),),
                metadata=(LvArea(inner.id, 0),),
                **words,  # type: ignore[arg-type]
            )
            cache = self.add("fast_cpool", LvKind.HIDDEN, held)
        segment = LvSegment(
            start=0,
            extents=4,
            type="cache",
            areas=(LvArea(origin.id, 0),),
            **words,  # type: ignore[arg-type]
        )
        return self.add(name, LvKind.CACHE, segment, pool=cache.id)

    def add(self, name: str, kind: LvKind, *segments: LvSegment, **settings: Any) -> LogicalVolume:
        volume = LogicalVolume(
            id=f"lv:vg/{name}",
            group=self.group.id,
            name=name,
            uuid=uuid(len(self.volumes)),
            kind=kind,
            size_bytes=sum(one.extents for one in segments) * EXTENT,
            segments=segments,
            **settings,
        )
        self.volumes.append(volume)
        return volume

    def hide(self, volume: LogicalVolume) -> LogicalVolume:
        return self._change(volume, kind=LvKind.HIDDEN)

    def _change(self, volume: LogicalVolume, **changes: Any) -> LogicalVolume:
        changed = dataclasses.replace(volume, **changes)
        self.volumes[self.volumes.index(volume)] = changed
        return changed

    def _take(self, disk: int, extents: int) -> LvArea:
        start = self._taken[disk]
        self._taken[disk] += extents
        return LvArea(self.physical[disk].id, start)


def every_kind() -> GroupBuilder:
    """Return a group with a volume of each kind that comes back."""
    builder = GroupBuilder(tags=("a/tag", "b"))
    builder.plain("linear", (0,), (1,), (0,))
    builder.plain("striped", (0, 1), (2, 3, 4), read_ahead="131072", allocation="contiguous")
    builder.raid("zero", "raid0", 2, 2)
    builder.raid("zerometa", "raid0_meta", 2, 2)
    builder.raid("one", "raid1", 3, 1, tags=("x",))
    builder.raid("four", "raid4", 3, 2)
    builder.raid("five", "raid5_ls", 4, 3)
    builder.raid("six", "raid6_zr", 5, 3)
    builder.raid("ten", "raid10", 4, 2)
    builder.mirror("mirror")
    builder.mirror("core", log=False)
    pool = builder.pool()
    builder.thin("thin1", 1, pool)
    builder.thin("thin5", 5, pool)
    builder.cached("cached")
    builder.hidden("lvol0_pmspare", 5, 4)
    builder.plain("skipped", (2,), skip_activation=True, autoactivation=False, minor=200)
    return builder


def bare(layout: Layout) -> Layout:
    """Return the LVM of a layout with each physical volume on a disk of its own."""
    nodes: list[AnyNode] = []
    for number, one in enumerate(layout.all(PhysicalVolume)):
        (below,) = layout.below(one)
        size_bytes = layout.size_of(below)
        assert size_bytes is not None
        disk = dataclasses.replace(_disk(number, 1), size_bytes=size_bytes)
        nodes += [disk, dataclasses.replace(one, on=disk.id)]
    return Layout.of([*nodes, *layout.all(VolumeGroup), *layout.all(LogicalVolume)])


def devices_of(layout: Layout, folder: str = "/dev") -> Devices:
    return Devices(layout, {one.id: f"{folder}/{one.kernel_name}" for one in layout.all(Disk)})


def _disk(number: int, extents: int) -> Disk:
    name = f"sd{chr(ord('a') + number)}"
    return Disk(
        id=f"disk:{name}",
        kernel_name=name,
        size_bytes=START + extents * EXTENT,
        logical_sector=512,
        physical_sector=512,
    )


def _physical(disk: Disk, number: int, extents: int) -> PhysicalVolume:
    return PhysicalVolume(
        id=f"pv:{disk.kernel_name}",
        on=disk.id,
        uuid=uuid(8000 + number),
        size_bytes=extents * EXTENT,
        data_start=START,
        extents=extents,
        metadata_copies=1,
        metadata_bytes=START - 4096,
    )
