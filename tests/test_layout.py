"""Storage layouts: what cannot be cannot be built, and JSON gives back what it was made of."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archive.errors import LayoutInvalid, SetDamaged
from archive.machine.layout import AnyNode, Layout, Unsupported
from archive.machine.layoutfiles import Swap
from archive.machine.layoutlvm import (
    LogicalVolume,
    LvArea,
    LvKind,
    LvSegment,
    PhysicalVolume,
    VolumeGroup,
)
from archive.machine.layoutnodes import Disk, Luks, Opaque, Partition, PartitionKind, TableKind
from archive.machine.layoutview import mountlist, tree
from archive.machine.probe import probe_layout
from tests.support.layouts import disk, ext4, mount, partition, simple, table
from tests.support.recording import Recorded

RECORDED = Path(__file__).parent / "recorded"
LVM = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-{:06}"


def volume(name: str, on: str, *, group: str = "vg:a", number: int = 1) -> LogicalVolume:
    return LogicalVolume(
        id=f"lv:a/{name}",
        group=group,
        name=name,
        uuid=LVM.format(number),
        kind=LvKind.LINEAR,
        size_bytes=4 << 20,
        segments=(LvSegment(start=0, extents=1, type="linear", areas=(LvArea(on, 0),)),),
    )


def physical(on: str = "disk:sda") -> PhysicalVolume:
    return PhysicalVolume(
        id="pv:sda",
        on=on,
        uuid=LVM.format(90),
        size_bytes=96 << 20,
        data_start=1 << 20,
        extents=24,
        metadata_copies=1,
        metadata_bytes=1 << 20,
    )


def group() -> VolumeGroup:
    return VolumeGroup(
        id="vg:a", name="a", uuid=LVM.format(91), volumes=("pv:sda",), extent_bytes=4 << 20
    )


def logical(number: int, start: int, size: int) -> Partition:
    one = partition(number, start=start, size=size, of=table(kind=TableKind.DOS))
    return replace(one, kind=PartitionKind.LOGICAL)


def extended() -> Partition:
    one = partition(2, start=10_000, size=5_000, of=table(kind=TableKind.DOS))
    return replace(one, kind=PartitionKind.EXTENDED, type="5")


def dos(*partitions: Partition) -> list[AnyNode]:
    return [disk(), table(kind=TableKind.DOS), *partitions]


IMPOSSIBLE: dict[str, Callable[[], list[AnyNode]]] = {
    "an id twice": lambda: [disk(), disk()],
    "an unknown id": lambda: [disk(), ext4()],
    "a mount of a disk": lambda: [disk(), mount("disk:sda")],
    "a partition on a disk": lambda: [disk(), replace(partition(), table="disk:sda")],
    "two things on a device": lambda: [disk(), ext4("disk:sda"), table()],
    "overlap": lambda: [disk(), table(), partition(1), partition(2, start=4095)],
    "behind the table's end": lambda: [disk(), table(), partition(size=1 << 40)],
    "in front of its beginning": lambda: [disk(), table(), partition(start=33)],
    "behind the disk's end": lambda: dos(
        partition(start=2048, size=300_000, of=table(kind=TableKind.DOS))
    ),
    "a number twice": lambda: [
        disk(),
        table(),
        partition(1),
        replace(partition(1, start=8192), id="part:other"),
    ],
    "a size that is not its sectors'": lambda: [
        disk(),
        table(),
        replace(partition(), size_bytes=1),
    ],
    "a dos type in a GPT": lambda: [disk(), table(), replace(partition(), type="83")],
    "a logical one alone": lambda: dos(logical(5, 11_000, 100)),
    "a logical one outside": lambda: dos(extended(), logical(5, 14_950, 100)),
    "logical ones that overlap": lambda: dos(
        extended(), logical(5, 11_000, 100), logical(6, 11_050, 100)
    ),
    "two extended ones": lambda: dos(
        extended(), replace(extended(), id="part:sda3", number=3, start=20_000)
    ),
    "a filesystem on an extended one": lambda: [*dos(extended()), ext4("part:sda2")],
    "a mount point twice": lambda: [*simple(), replace(mount(), id="mount:other")],
    "a volume in another group": lambda: [
        disk(),
        physical(),
        group(),
        replace(disk("sdb")),
        replace(physical("disk:sdb"), id="pv:sdb", uuid=LVM.format(3)),
        volume("x", "pv:sdb"),
    ],
    "a volume name twice": lambda: [
        disk(),
        physical(),
        group(),
        volume("x", "pv:sda"),
        replace(volume("x", "pv:sda"), id="lv:a/y"),
    ],
    "the same extents twice": lambda: [
        disk(),
        physical(),
        group(),
        volume("x", "pv:sda"),
        volume("y", "pv:sda"),
    ],
    "extents that are not there": lambda: [
        disk(),
        replace(physical(), extents=0),
        group(),
        volume("x", "pv:sda"),
    ],
    "volumes on each other": lambda: [
        disk(),
        physical(),
        group(),
        volume("x", "lv:a/y"),
        volume("y", "lv:a/x"),
    ],
    "a filesystem on a hidden volume": lambda: [
        disk(),
        physical(),
        group(),
        replace(volume("x", "pv:sda"), kind=LvKind.HIDDEN),
        ext4("lv:a/x"),
    ],
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_cannot_be_built(name: str) -> None:
    with pytest.raises(LayoutInvalid):
        Layout.of(IMPOSSIBLE[name]())


def test_what_is_next_to_it_can_be_built() -> None:
    layout = Layout.of(
        [*dos(extended(), logical(5, 11_000, 100), logical(6, 11_100, 100)), ext4("part:sda5")]
    )
    assert len(layout.all(Partition)) == 3


def test_volumes_may_lie_on_volumes() -> None:
    nodes = [volume("x", "lv:a/y"), volume("y", "pv:sda", number=2), group(), physical(), disk()]
    assert [one.name for one in Layout.of(nodes).all(LogicalVolume)] == ["y", "x"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(mount(), point="/../etc"),
        lambda: replace(mount(), point="etc"),
        lambda: replace(mount(), point="/a\0b"),
        lambda: replace(ext4(), label="a\0b"),
        lambda: replace(ext4(), uuid="--help"),
        lambda: replace(ext4().settings, features=("x",)) and replace(ext4(), id="no kind"),
        lambda: replace(group(), name="-a"),
        lambda: replace(group(), tags=("a b",)),
        lambda: replace(disk(), logical_sector=513),
        lambda: replace(disk(), kernel_name="../sda"),
        lambda: replace(partition(), start=0),
        lambda: replace(table(), uuid="0x12345678"),
        lambda: Swap(id="swap:/a", on="fs:sda1", path="../a", size_bytes=1),
        lambda: Luks(
            id="luks:a",
            on="part:sda1",
            version=3,
            uuid="45881994-12a6-4b28-951b-4f538218e8f5",
            cipher="aes-xts-plain64",
            key_bits=512,
            hash="sha256",
            sector_bytes=512,
            offset_bytes=0,
        ),
    ],
)
def test_values_that_no_tool_should_be_given_make_no_node(make: Callable[[], object]) -> None:
    with pytest.raises(LayoutInvalid):
        make()


def test_the_order_of_the_nodes_makes_no_difference() -> None:
    nodes = simple()
    layouts = set()
    for seed in range(10):
        random.Random(seed).shuffle(nodes)  # noqa: S311 no secret
        layouts.add(Layout.of(nodes).to_json())
    assert len(layouts) == 1


def test_disks_are_in_the_order_of_their_numbers() -> None:
    layout = Layout.of([disk("nvme10n1"), disk("nvme2n1")])
    assert [one.kernel_name for one in layout.all(Disk)] == ["nvme2n1", "nvme10n1"]


def test_json_gives_back_the_layout() -> None:
    nodes = [*simple(), Opaque(id="opaque:sdb", on=(), what="zfs_member")]
    layout = Layout.of(nodes, [Unsupported("opaque:sdb", "cannot be made anew")])
    assert Layout.from_json(layout.to_json()) == layout


def test_names_that_are_not_utf8_come_back() -> None:
    layout = Layout.of([*simple(), mount(point="/\udcff")])
    assert Layout.from_json(layout.to_json()) == layout


def test_disks_below_a_filesystem_are_known() -> None:
    layout = Layout.of([*simple(), disk("sdb")])
    assert [one.id for one in layout.disks_of(layout.get("mount:/", type(mount())))] == ["disk:sda"]


def held() -> dict[str, object]:
    found = Layout.of(simple()).to_object()
    assert isinstance(found, dict)
    return found


def changed(**values: object) -> bytes:
    return json.dumps(held() | values).encode()


def node(number: int, **values: object) -> bytes:
    found = held()
    nodes = found["nodes"]
    assert isinstance(nodes, list)
    nodes[number] |= values
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        changed(version=2),
        changed(version=True),
        changed(more=1),
        changed(nodes=None),
        changed(nodes=[None]),
        changed(nodes=[{"is": "Node", "id": "disk:sda"}]),
        changed(unsupported=[{"node": "disk:sdz", "words": "?"}]),
        node(0, size_bytes=1.5),
        node(0, size_bytes=True),
        node(0, size_bytes="1"),
        node(0, size_bytes=-1),
        node(0, size_bytes=1 << 64),
        node(0, model=1),
        node(0, more=1),
        node(0, **{"is": "Exception"}),
        node(0, **{"is": ["Disk"]}),
        node(1, on="fs:sda1"),
        node(1, kind="apm"),
        node(3, settings={"is": "FatSettings"}),
        node(4, point="/../.."),
        b'{"version": 1, "version": 1, "nodes": [], "unsupported": []}',
    ],
    ids=lambda data: ascii(data[-40:]),
)
def test_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(SetDamaged):
        Layout.from_json(data)


def test_the_unchanged_json_is_taken() -> None:
    assert Layout.from_json(changed()) == Layout.of(simple())


def test_a_newer_version_says_what_to_do() -> None:
    with pytest.raises(SetDamaged) as caught:
        Layout.from_json(changed(version=2))
    assert caught.value.hint == "use the newer program that wrote it"


STRANGE = [None, True, -1, 0, 1, 1 << 63, 1 << 64, 0.5, "", "/", "x", "..", "a\0b", [], ["x"], {}]


def mutate(value: object, chance: random.Random) -> object:
    """Return JSON in which one value somewhere is another."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        return value | {key: mutate(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], mutate(value[place], chance), *value[place + 1 :]]
    return chance.choice(STRANGE)


@pytest.mark.parametrize("name", ["nested", "luks-lvm", "families"])
def test_any_change_gives_a_layout_or_is_refused(name: str) -> None:
    """Of another exception a user would see a bug in place of a damaged set."""
    whole = json.loads(probe_layout(Recorded(RECORDED / f"{name}.json")).to_json())
    refused = 0
    for seed in range(400):
        changed = mutate(whole, random.Random(seed))  # noqa: S311 no secret
        try:
            layout = Layout.from_json(json.dumps(changed).encode())
        except SetDamaged:
            refused += 1
        else:
            tree(layout)
            mountlist(layout)
    assert refused > 200
