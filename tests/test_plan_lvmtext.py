"""LVM's metadata as text: its own parser takes it, and it says what the layout says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import LogicalVolume, LvArea, LvKind, LvSegment, VolumeGroup
from restore.plan.devices import Devices
from restore.plan.lvmgroup import area_extents, restored
from restore.plan.lvmtext import metadata_text, physical_text, pool_text
from tests.support.groups import EXTENT, GroupBuilder, bare, devices_of, every_kind
from tests.support.lvmconfig import read, section
from tests.support.tools import require_tool
from tests.test_probe import layout

MACHINES = {
    "nested": bare(layout("nested")),
    "luks-lvm": bare(layout("luks-lvm")),
    "raid": bare(layout("raid")),
    "every-kind": every_kind().layout(),
}


def text_of(saved: Layout) -> str:
    (group,) = saved.all(VolumeGroup)
    return metadata_text(saved, group, devices_of(saved))


def tree_of(saved: Layout) -> dict[str, object]:
    (group,) = saved.all(VolumeGroup)
    return section(read(text_of(saved)), group.name)


def number(held: dict[str, object], name: str) -> int:
    found = held.get(name, 0)
    assert isinstance(found, int)
    return found


def word(held: dict[str, object], name: str) -> str:
    found = held[name]
    assert isinstance(found, str)
    return found


def array(held: dict[str, object], name: str) -> list[object]:
    found = held[name]
    assert isinstance(found, list)
    return found


class Read:
    """What a text says of the volumes of a group, in the terms of a layout."""

    def __init__(self, saved: Layout) -> None:
        (group,) = saved.all(VolumeGroup)
        self.tree = tree_of(saved)
        self._group = group

    def volumes(self) -> dict[str, tuple[LvSegment, ...]]:
        if "logical_volumes" not in self.tree:
            return {}
        below = section(self.tree, "logical_volumes")
        return {self._id(name): self._segments(section(below, name)) for name in below}

    def _id(self, name: object) -> str:
        found = re.fullmatch(r"pv(\d+)", str(name))
        return self._group.volumes[int(found[1])] if found else f"lv:{self._group.name}/{name}"

    def _segments(self, held: dict[str, object]) -> tuple[LvSegment, ...]:
        count = number(held, "segment_count")
        assert f"segment{count + 1}" not in held
        return tuple(self._segment(section(held, f"segment{one}")) for one in range(1, count + 1))

    def _segment(self, held: dict[str, object]) -> LvSegment:
        type_ = word(held, "type").partition("+")[0]
        common = LvSegment(
            start=number(held, "start_extent"),
            extents=number(held, "extent_count"),
            type=type_,
            stripe_bytes=number(held, "stripe_size") * 512,
            region_bytes=number(held, "region_size") * 512,
            chunk_bytes=number(held, "chunk_size") * 512,
        )
        if type_ in ("striped", "mirror"):
            areas = self._pairs(array(held, "stripes" if type_ == "striped" else "mirrors"))
            assert number(held, "stripe_count") + number(held, "mirror_count") == len(areas)
            kind = "linear" if type_ == "striped" and len(areas) == 1 else type_
            return replace(common, type=kind, areas=areas, stripes=len(areas))
        if type_.startswith("raid"):
            return self._raid(common, held)
        if type_ == "thin":
            return replace(common, stripes=0, thin_id=number(held, "device_id"))
        if type_ == "cache":
            return replace(common, areas=self._whole([held["origin"]]))
        data = held["pool"] if type_ == "thin-pool" else held["data"]
        common = replace(
            common, areas=self._whole([data]), metadata=self._whole([held["metadata"]])
        )
        if type_ == "thin-pool":
            return replace(
                common,
                transaction=number(held, "transaction_id"),
                discards=word(held, "discards"),
                zero=bool(held["zero_new_blocks"]),
            )
        return replace(
            common, cache_mode=word(held, "cache_mode"), cache_policy=word(held, "policy")
        )

    def _raid(self, common: LvSegment, held: dict[str, object]) -> LvSegment:
        both = [] if common.type == "raid0" else array(held, "raids")
        areas, metadata = self._whole(both[1::2]), self._whole(both[::2])
        if common.type == "raid0":
            areas = self._whole(array(held, "raid0_lvs"))
        assert number(held, "device_count") + number(held, "stripe_count") == len(areas)
        return replace(common, areas=areas, metadata=metadata, stripes=len(areas))

    def _pairs(self, held: list[object]) -> tuple[LvArea, ...]:
        pairs = zip(held[::2], held[1::2], strict=True)
        return tuple(LvArea(self._id(name), int(str(start))) for name, start in pairs)

    def _whole(self, names: list[object]) -> tuple[LvArea, ...]:
        return tuple(LvArea(self._id(name), 0) for name in names)


def expected(volume: LogicalVolume) -> tuple[LvSegment, ...]:
    """Return a volume's segments without what LVM's reports repeat of its pool's."""
    return tuple(
        replace(one, discards=None)
        if one.type == "thin"
        else replace(one, chunk_bytes=0, cache_mode=None, cache_policy=None)
        if one.type == "cache"
        else one
        for one in volume.segments
    )


def assert_says_the_same(saved: Layout) -> None:
    (group,) = saved.all(VolumeGroup)
    volumes = restored(saved, group)
    assert Read(saved).volumes() == {one.id: expected(one) for one in volumes}


@pytest.mark.parametrize("name", list(MACHINES))
def test_every_segment_is_in_the_text(name: str) -> None:
    assert_says_the_same(MACHINES[name])


def settings_of(tree: dict[str, object]) -> Iterator[str]:
    """Yield settings as lvmconfig prints them: an array of one value as that value."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from settings_of(value)
        else:
            shown = value[0] if isinstance(value, list) and len(value) == 1 else value
            words = json.dumps(shown, separators=(",", ":"))
            yield f"{name}={words}"


def lvmconfig(text: str, group: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Have LVM read a text, as its configuration is of the same grammar, and print it."""
    (folder / "lvm.conf").write_text(text)
    argv = [str(require_tool("lvmconfig", package="lvm2")), "--type", "current", group]
    environment = os.environ | {"LVM_SYSTEM_DIR": str(folder), "LVM_SUPPRESS_FD_WARNINGS": "1"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", list(MACHINES))
def test_lvms_own_parser_reads_the_same(name: str, tmp_path: Path) -> None:
    # In a configuration, sections with tags are of those hosts only.
    text = text_of(MACHINES[name]).replace("tags = ", "marks = ")
    (group,) = MACHINES[name].all(VolumeGroup)
    done = lvmconfig(text, group.name, tmp_path)
    assert done.returncode == 0, done.stderr
    # It prints no names of sections that no configuration has.
    found = [line.strip() for line in done.stdout.splitlines() if "=" in line]
    assert sorted(found) == sorted(settings_of(section(read(text), group.name)))


def test_lvms_own_parser_refuses_what_is_broken(tmp_path: Path) -> None:
    text = text_of(MACHINES["raid"])
    broken = text.replace('["pv0", 30]', '["pv0", 30')
    assert broken != text
    assert lvmconfig(broken, "system", tmp_path).returncode != 0


@pytest.mark.parametrize("broken", ["a {", "a = [1 2]", "a = 1 }", "a = 1\na = 2", 'a = "x'])
def test_the_tests_reader_refuses_what_is_broken(broken: str) -> None:
    with pytest.raises(ValueError, match="."):
        read(broken)


PARTS = st.sampled_from(
    [("raid0", 2, 2), ("raid0_meta", 3, 3), ("raid1", 2, 1), ("raid1", 4, 1), ("raid4", 3, 2)]
    + [("raid5", 3, 2), ("raid5_ra", 6, 5), ("raid6", 5, 3), ("raid6_n_6", 6, 4)]
    + [("raid10", 4, 2), ("raid10_near", 6, 3)]
)
DISKS = st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True).map(tuple)


@st.composite
def groups(draw: st.DrawFn) -> GroupBuilder:
    words = st.lists(st.sampled_from(["a", "b/c", "x=y", "#1"]), max_size=2, unique=True).map(tuple)
    builder = GroupBuilder(
        extents=100_000,
        tags=draw(words),
        allocation=draw(st.sampled_from(["normal", "cling", "anywhere"])),
        autoactivation=draw(st.booleans()),
        max_logical=draw(st.integers(0, 255)),
    )
    names = draw(
        st.lists(st.from_regex(r"[A-Za-z0-9_+][a-z.+-]{0,8}", fullmatch=True), unique=True)
    )
    for number_, name in enumerate(names):
        extents = draw(st.integers(1, 50))
        match draw(st.sampled_from(["plain", "raid", "mirror", "pool"])):
            case "plain":
                runs = draw(st.lists(DISKS, min_size=1, max_size=4))
                flags = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
                read_only, skip, autoactivation = flags
                builder.plain(
                    name,
                    *runs,
                    extents=extents,
                    read_only=read_only,
                    skip_activation=skip,
                    autoactivation=autoactivation,
                    minor=draw(st.none() | st.integers(0, 255)),
                    tags=draw(words),
                )
            case "raid":
                type_, parts, data = draw(PARTS)
                builder.raid(name, type_, parts, data, extents=extents)
            case "mirror":
                builder.mirror(name, log=draw(st.booleans()))
            case _:
                pool = builder.pool(name, raid=draw(st.booleans()))
                kinds = draw(st.lists(st.sampled_from([LvKind.THIN, LvKind.SNAPSHOT]), max_size=4))
                for one, kind in enumerate(kinds):
                    builder.thin(f"thin{number_}.{one}", one, pool, kind)
    return builder


@settings(max_examples=60, deadline=None)
@given(groups())
def test_any_group_is_in_its_text(builder: GroupBuilder) -> None:
    assert_says_the_same(builder.layout())


@settings(max_examples=60, deadline=None)
@given(groups())
def test_what_a_volume_is_besides_its_segments_is_in_the_text(builder: GroupBuilder) -> None:
    saved = builder.layout()
    tree = tree_of(saved)
    volumes = restored(saved, builder.group)
    if not volumes:
        assert "logical_volumes" not in tree
    for one in volumes:
        held = section(tree, "logical_volumes", one.name)
        assert held["id"] == one.uuid
        assert ("VISIBLE" in array(held, "status")) == (one.kind is not LvKind.HIDDEN)
        assert ("ACTIVATION_SKIP" in array(held, "flags")) == one.skip_activation
        assert ("NOAUTOACTIVATE" in array(held, "flags")) != one.autoactivation
        assert held.get("tags", []) == list(one.tags)
        assert held.get("minor") == one.minor


def test_a_group_says_what_it_is() -> None:
    builder = GroupBuilder(
        disks=2, tags=("a",), allocation="cling", max_logical=9, metadata_copies=2, system_id="me"
    )
    tree = tree_of(builder.layout())
    below = tree.pop("physical_volumes")
    assert isinstance(below, dict)
    assert list(below) == ["pv0", "pv1"]
    assert tree == {
        "id": builder.group.uuid,
        "seqno": 1,
        "format": "lvm2",
        "status": ["RESIZEABLE", "READ", "WRITE"],
        "flags": [],
        "tags": ["a"],
        "system_id": "me",
        "extent_size": EXTENT // 512,
        "max_lv": 9,
        "max_pv": 0,
        "allocation_policy": "cling",
        "metadata_copies": 2,
    }


def test_a_physical_volume_says_where_it_is() -> None:
    builder = GroupBuilder(disks=1, extents=10)
    one = replace(builder.physical[0], boot_area_start=1 << 20, boot_area_bytes=4096, tags=("t",))
    builder.physical[0] = replace(one, allocatable=False)
    saved = builder.layout()
    text = metadata_text(saved, builder.group, Devices(saved, {"disk:sda": "/dev/vdx"}))
    assert section(read(text), "vg", "physical_volumes", "pv0") == {
        "id": one.uuid,
        "device": "/dev/vdx",
        "status": [],
        "flags": [],
        "tags": ["t"],
        "dev_size": 11 * 2048,
        "pe_start": 2048,
        "pe_count": 10,
        "ba_start": 2048,
        "ba_size": 8,
    }


def test_strings_are_escaped() -> None:
    builder = GroupBuilder(disks=1, system_id='a "quoted" back\\slash')
    assert tree_of(builder.layout())["system_id"] == 'a "quoted" back\\slash'


def test_snapshots_and_what_only_they_need_are_left_out() -> None:
    builder = GroupBuilder()
    kept = builder.plain("kept")
    builder.raid("snap", "raid1", 2, 1)
    builder.volumes[-1] = replace(builder.volumes[-1], kind=LvKind.SNAPSHOT, origin=kept.id)
    assert list(Read(builder.layout()).volumes()) == [kept.id]


def test_a_mirrors_log_is_named() -> None:
    builder = GroupBuilder()
    builder.mirror("one")
    builder.mirror("two", log=False)
    volumes = section(tree_of(builder.layout()), "logical_volumes")
    assert section(volumes, "one", "segment1")["mirror_log"] == "one_mlog"
    assert "mirror_log" not in section(volumes, "two", "segment1")


def test_read_ahead_is_in_sectors() -> None:
    builder = GroupBuilder()
    for name, value in (("auto", "auto"), ("none", "0"), ("much", "1048576")):
        builder.plain(name, read_ahead=value)
    volumes = section(tree_of(builder.layout()), "logical_volumes")
    found = {name: section(volumes, name).get("read_ahead") for name in volumes}
    assert found == {"auto": None, "none": -1, "much": 2048}


def test_a_pools_text_has_its_metadata_alone() -> None:
    builder = GroupBuilder()
    builder.plain("root")
    pool = builder.pool()
    saved = builder.layout()
    tree = section(read(pool_text(saved, pool, devices_of(saved))), "vg", "logical_volumes")
    assert list(tree) == ["pool"]
    assert section(tree, "pool")["id"] == saved.get("lv:vg/pool_tmeta", LogicalVolume).uuid
    assert "VISIBLE" in array(section(tree, "pool"), "status")


def test_a_physical_volume_alone_has_a_text_without_volumes() -> None:
    builder = GroupBuilder(disks=1)
    saved = builder.layout()
    tree = section(read(physical_text(saved, builder.physical[0], devices_of(saved))), "alone")
    assert "logical_volumes" not in tree
    assert section(tree, "physical_volumes", "pv0")["id"] == builder.physical[0].uuid


def test_segments_of_unknown_types_have_no_text() -> None:
    builder = GroupBuilder()
    builder.add("odd", LvKind.LINEAR, LvSegment(start=0, extents=1, type="odd"))
    with pytest.raises(LayoutInvalid, match="of type odd"):
        text_of(builder.layout())


def test_bytes_that_are_no_sectors_have_no_text() -> None:
    builder = GroupBuilder()
    builder.group = replace(builder.group, extent_bytes=(1 << 20) + 1)
    with pytest.raises(LayoutInvalid, match="no whole sectors"):
        text_of(builder.layout())


@pytest.mark.parametrize(
    ("type_", "areas", "extents", "each"),
    [
        ("linear", 1, 7, 7),
        ("striped", 3, 12, 4),
        ("raid1", 3, 5, 5),
        ("raid5_ls", 4, 12, 4),
        ("raid6_zr", 5, 12, 4),
        ("raid10", 4, 8, 4),
        ("mirror", 2, 5, 5),
    ],
)
def test_an_area_has_so_many_extents(type_: str, areas: int, extents: int, each: int) -> None:
    held = tuple(LvArea("pv:sda", one) for one in range(areas))
    assert area_extents(LvSegment(start=0, extents=extents, type=type_, areas=held)) == each


@pytest.mark.parametrize(
    ("type_", "areas", "extents"), [("striped", 3, 10), ("raid6", 2, 4), ("raid10", 3, 6)]
)
def test_areas_that_do_not_divide_their_segment_are_none(
    type_: str, areas: int, extents: int
) -> None:
    held = tuple(LvArea("pv:sda", one) for one in range(areas))
    with pytest.raises(LayoutInvalid):
        area_extents(LvSegment(start=0, extents=extents, type=type_, areas=held))
