"""Volume groups as a restore makes them: LVM, on loop devices, reads back what was saved."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout, Unsupported
from archive.machine.layoutlvm import (
    LogicalVolume,
    LvArea,
    LvKind,
    LvSegment,
    PhysicalVolume,
    VolumeGroup,
)
from archive.machine.layoutnodes import Disk
from restore.plan.actions import Action, Command, Phase
from restore.plan.lvmgroup import restored
from restore.plan.lvmtext import metadata_text, pool_text
from restore.plan.volumes import (
    final_actions,
    group_actions,
    group_conflicts,
    group_losses,
    group_refusals,
    physical_action,
)
from tests.support.groups import EXTENT, START, GroupBuilder, bare, devices_of, every_kind, uuid
from tests.support.layouts import ext4
from tests.support.lvm import Lvm
from tests.support.lvmconfig import read, section
from tests.support.tools import require_tool
from tests.test_probe import layout

SCRATCH = "/scratch"
MACHINES = {
    "nested": bare(layout("nested")),
    "luks-lvm": bare(layout("luks-lvm")),
    "raid": bare(layout("raid")),
    "every-kind": every_kind().layout(),
}


def only_group(saved: Layout) -> VolumeGroup:
    (group,) = saved.all(VolumeGroup)
    return group


def actions(saved: Layout) -> dict[str, Action]:
    found = group_actions(saved, only_group(saved), devices_of(saved), scratch=SCRATCH)
    return {one.id: one for one in found}


def plain_argvs(action: Action) -> list[str]:
    """Return the commands of a step as lines, without the settings that LVM is given."""
    lines = []
    for command in action.commands:
        argv = list(command.argv)
        if argv[0] == "lvm":
            del argv[argv.index("--config") : argv.index("--config") + 2]
        lines.append(" ".join(argv))
    return lines


def settled(volume: LogicalVolume) -> LogicalVolume:
    """Return a volume without what LVM tells only of one that was started."""
    return replace(volume, active=False)


@pytest.fixture
def lvm(tmp_path: Path) -> Iterator[Lvm]:
    folder = tmp_path / "lvm"
    folder.mkdir()
    made = Lvm(folder)
    yield made
    made.detach()


def restore_with(lvm: Lvm, saved: Layout) -> Layout:
    devices = lvm.attach(saved)
    for action in group_actions(saved, only_group(saved), devices, scratch=lvm.scratch):
        lvm.apply(action)
    return lvm.seen(devices)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MACHINES))
def test_lvm_sees_what_was_saved(lvm: Lvm, name: str) -> None:
    saved = MACHINES[name]
    seen = restore_with(lvm, saved)
    assert seen.all(PhysicalVolume) == saved.all(PhysicalVolume)
    assert seen.all(VolumeGroup) == saved.all(VolumeGroup)
    expected = {one.id: settled(one) for one in restored(saved, only_group(saved))}
    assert {one.id: settled(one) for one in seen.all(LogicalVolume)} == expected


def settings_of(tree: object, path: str = "") -> dict[str, object]:
    """Return what metadata says by its place, without what differs from writing to writing."""
    if not isinstance(tree, dict):
        return {path: tree}
    left_out = ("seqno", "description", "creation_host", "creation_time", "major")
    found: dict[str, object] = {}
    for name, value in tree.items():
        if name not in left_out:
            found |= settings_of(value, f"{path}/{name}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MACHINES))
def test_lvm_writes_the_text_as_it_is_written_here(lvm: Lvm, name: str, tmp_path: Path) -> None:
    saved = MACHINES[name]
    restore_with(lvm, saved)
    group, file = only_group(saved), tmp_path / "written"
    lvm.run(Command(argv=("lvm", "vgcfgbackup", "--file", str(file), group.name)))
    ours = metadata_text(saved, group, devices_of(saved, lvm.device_folder))
    assert settings_of(read(ours)) == settings_of(read(file.read_text()))


def test_lvm_refuses_volumes_that_overlap(lvm: Lvm) -> None:
    saved = MACHINES["raid"]
    devices = lvm.attach(saved)
    *_, making, _ = group_actions(saved, only_group(saved), devices, scratch=lvm.scratch)
    for action in group_actions(saved, only_group(saved), devices, scratch=lvm.scratch)[:-1]:
        lvm.apply(action)
    restoring = making.commands[-1]
    file = Path(restoring.argv[restoring.argv.index("--file") + 1])
    right = file.read_text()
    file.write_text(right.replace('["pv0", 30]', '["pv0", 29]'))
    assert right != file.read_text()
    assert lvm.run(restoring).returncode != 0


@pytest.mark.slow
def test_what_was_begun_can_be_begun_again(lvm: Lvm) -> None:
    saved = MACHINES["luks-lvm"]
    devices = lvm.attach(saved)
    for action in group_actions(saved, only_group(saved), devices, scratch=lvm.scratch) * 2:
        lvm.apply(action)
    assert len(lvm.seen(devices).all(LogicalVolume)) == len(restored(saved, only_group(saved)))


def test_a_physical_volume_has_its_bounds(lvm: Lvm) -> None:
    builder = GroupBuilder(disks=2)
    builder.physical[1] = replace(
        builder.physical[1],
        data_start=5 << 19,
        boot_area_start=1 << 20,
        boot_area_bytes=1 << 20,
        extents=190,
        size_bytes=190 * EXTENT,
        metadata_copies=2,
        allocatable=False,
        tags=("one",),
    )
    saved = builder.layout()
    assert restore_with(lvm, saved).all(PhysicalVolume) == saved.all(PhysicalVolume)


def test_a_physical_volume_may_be_in_no_group(lvm: Lvm) -> None:
    builder = GroupBuilder(disks=1)
    alone = replace(builder.physical[0], extents=0, data_start=3 << 19)
    saved = Layout.of([*builder.disks, alone])
    devices = lvm.attach(saved)
    action = physical_action(saved, alone, devices, scratch=lvm.scratch)
    lvm.apply(action)
    (row,) = lvm.report().physical
    assert (row["pv_uuid"], row["vg_name"], row["pe_start"]) == (alone.uuid, "", str(3 << 19))
    assert action.destroys == (devices.path("disk:sda"),)


def test_a_group_belongs_to_its_machine(lvm: Lvm) -> None:
    builder = GroupBuilder(disks=1, system_id="host.example-1")
    builder.plain("root")
    saved = builder.layout()
    devices = lvm.attach(saved)
    for action in group_actions(saved, builder.group, devices, scratch=lvm.scratch):
        lvm.apply(action)
    shown = lvm.run(Command(argv=("lvm", "vgs", "--foreign", "--noheadings", "-o", "vg_systemid")))
    assert shown.stdout.strip() == "host.example-1"


def test_raid_mirrors_and_caches_begin_anew(lvm: Lvm) -> None:
    builder = GroupBuilder()
    builder.plain("before")
    builder.raid("one", "raid1", 2, 1)
    builder.mirror("old")
    builder.cached("cached")
    saved = builder.layout()
    devices = lvm.attach(saved)
    for disk in saved.all(Disk):
        with lvm.image(disk).open("r+b") as image:
            image.write(b"\xff" * (START + 20 * EXTENT))
    by_id = {
        one.id: one for one in group_actions(saved, builder.group, devices, scratch=lvm.scratch)
    }
    lvm.apply(by_id["zero:vg:vg"])
    zeroed = ("one_rmeta_0", "one_rmeta_1", "old_mlog", "fast_cpool_cmeta")
    for volume in saved.all(LogicalVolume):
        for segment in volume.segments:
            for area in segment.areas:
                if not area.on.startswith("pv:"):
                    continue
                disk = saved.get(saved.get(area.on, PhysicalVolume).on, Disk)
                start = START + area.start * EXTENT
                with lvm.image(disk).open("rb") as image:
                    image.seek(start)
                    data = image.read(segment.extents * EXTENT)
                expected = b"\0" if volume.name in zeroed else b"\xff"
                assert data == expected * len(data), volume.name


def test_a_groups_steps_are_these() -> None:
    found = actions(MACHINES["luks-lvm"])
    assert list(found) == [
        "physical:pv:vda2_crypt",
        "pool:lv:vg0/pool",
        "group:vg:vg0",
        "activate:vg:vg0",
    ]
    assert {one.phase for one in found.values()} == {Phase.STORAGE}
    assert [one.destroys for one in found.values()] == [("/dev/sda",), (), (), ()]


def test_a_physical_volumes_commands_are_these() -> None:
    action = actions(MACHINES["raid"])["physical:pv:md126"]
    assert plain_argvs(action) == [
        "mkdir -p /scratch",
        "dd of=/scratch/system.vg status=none",
        "lvm vgchange --activate n --select vg_uuid=pR1yhG-V330-jiaS-3zJo-jxST-CZsj-G8aW7r",
        "lvm pvcreate -ff --yes --zero y --uuid 22f2Oh-sOQH-v1B7-EWvo-Kdfb-razU-9c1eeu "
        "--restorefile /scratch/system.vg --pvmetadatacopies 1 --metadatasize 1044480b /dev/sda",
    ]
    assert action.words == "make /dev/sda a physical volume of the volume group system"


def test_a_groups_commands_are_these() -> None:
    action = actions(MACHINES["raid"])["group:vg:system"]
    assert plain_argvs(action) == [
        "mkdir -p /scratch",
        "dd of=/scratch/system.vg status=none",
        "lvm vgchange --activate n --select vg_uuid=pR1yhG-V330-jiaS-3zJo-jxST-CZsj-G8aW7r",
        "lvm vgcfgrestore --yes --force --file /scratch/system.vg system",
    ]
    assert action.words == "make the volume group system of 312 MiB with its volumes: home, root"


def test_a_group_is_started_without_udev_and_dmeventd() -> None:
    action = actions(MACHINES["raid"])["activate:vg:system"]
    assert plain_argvs(action) == [
        "lvm vgchange --activate y --ignoreactivationskip --monitor n system",
        "lvm vgmknodes system",
    ]


def test_a_thin_pools_commands_are_these() -> None:
    action = actions(MACHINES["luks-lvm"])["pool:lv:vg0/pool"]
    stop = "lvm vgchange --activate n --select vg_uuid=VxQYrC-LAjQ-yQau-We2e-GREH-G0PX-YtGHzH"
    assert plain_argvs(action) == [
        "mkdir -p /scratch",
        "dd of=/scratch/vg0@pool.vg status=none",
        "mkdir -p /scratch",
        "dd of=/scratch/vg0@pool.xml status=none",
        stop,
        "lvm vgcfgrestore --yes --force --file /scratch/vg0@pool.vg vg0",
        "lvm lvchange --activate y --ignoreactivationskip --monitor n vg0/pool",
        "thin_restore -i /scratch/vg0@pool.xml -o /dev/vg0/pool",
        stop,
    ]


@pytest.mark.parametrize("raid", [False, True], ids=["plain", "raid"])
def test_a_pools_metadata_is_a_volume_while_it_is_written(lvm: Lvm, *, raid: bool) -> None:
    builder = GroupBuilder()
    builder.plain("root")
    pool = builder.pool(raid=raid)
    saved = builder.layout()
    devices = lvm.attach(saved)
    found = group_actions(saved, builder.group, devices, scratch=lvm.scratch)
    for action in found[: [one.id for one in found].index(f"pool:{pool.id}") + 1]:
        lvm.apply(action)
    seen = lvm.seen(devices)
    (shown,) = [one for one in seen.all(LogicalVolume) if one.kind is not LvKind.HIDDEN]
    inner = saved.get("lv:vg/pool_tmeta", LogicalVolume)
    assert (shown.name, shown.uuid, shown.segments) == ("pool", inner.uuid, inner.segments)
    assert settings_of(read(pool_text(saved, pool, devices)))["/vg/id"] == builder.group.uuid


def thin_metadata(saved: Layout, folder: Path) -> str:
    """Return what thin_dump tells of what a pool's step has thin_restore write."""
    (action,) = [one for one in actions(saved).values() if one.id.startswith("pool:")]
    restore = next(one for one in action.commands if one.argv[0] == "thin_restore")
    xml = next(one.given for one in action.commands if one.argv[-2].endswith(".xml"))
    (folder / "xml").write_text(xml)
    (folder / "metadata").write_bytes(bytes(4 << 20))
    argv = [f"{folder}/xml" if "/scratch" in one else one for one in restore.argv[1:-1]]
    for name, options in (("thin_restore", argv), ("thin_check", []), ("thin_dump", [])):
        program = require_tool(name, package="thin-provisioning-tools")
        command = [str(program), *options, f"{folder}/metadata"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def test_a_pool_knows_its_volumes_and_nothing_is_in_them(tmp_path: Path) -> None:
    dumped = thin_metadata(every_kind().layout(), tmp_path)
    assert 'transaction="7"' in dumped
    assert 'data_block_size="128" nr_data_blocks="128"' in dumped
    assert dumped.count("<device ") == dumped.count('mapped_blocks="0"') == 2
    assert '<device dev_id="1"' in dumped
    assert '<device dev_id="5"' in dumped


def test_a_pool_does_not_know_snapshots(tmp_path: Path) -> None:
    assert 'dev_id="2"' not in thin_metadata(MACHINES["luks-lvm"], tmp_path)


def test_read_only_volumes_are_so_at_the_end() -> None:
    builder = GroupBuilder()
    builder.plain("kept", read_only=True)
    builder.plain("root")
    saved = builder.layout()
    (action,) = final_actions(saved, builder.group)
    assert plain_argvs(action) == ["lvm lvchange --permission r vg/kept"]
    assert (action.id, action.phase) == ("readonly:lv:vg/kept", Phase.FINISH)
    tree = read(metadata_text(saved, builder.group, devices_of(saved)))
    assert "WRITE" in str(section(tree, "vg", "logical_volumes", "kept")["status"])


def test_filters_and_lists_of_the_machine_hide_nothing() -> None:
    for action in actions(MACHINES["every-kind"]).values():
        for command in action.commands:
            if command.argv[0] == "lvm":
                config = command.argv[command.argv.index("--config") + 1]
                assert 'global_filter=["a|.*|"]' in config
                assert "use_devicesfile=0" in config
                assert 'volume_list=["vg"]' in config


@pytest.mark.parametrize("name", list(MACHINES))
def test_what_can_be_made_is_not_refused(name: str) -> None:
    saved = MACHINES[name]
    assert group_refusals(saved, only_group(saved)) == ()


def refused(builder: GroupBuilder, *more: object) -> list[tuple[str, str]]:
    saved = builder.layout(*more)  # type: ignore[arg-type]
    return [(one.node, one.words) for one in group_refusals(saved, builder.group)]


def segment(type_: str) -> LvSegment:
    return LvSegment(start=0, extents=4, type=type_)


def test_snapshots_are_told_and_not_refused() -> None:
    saved = MACHINES["luks-lvm"]
    losses = {one.node: one.words for one in group_losses(saved, only_group(saved))}
    assert list(losses) == ["lv:vg0/srv-snap", "lv:vg0/data-snap"]
    assert losses["lv:vg0/srv-snap"] == "a snapshot is not restored, what it is of is"


def test_volumes_of_unknown_kinds_are_told() -> None:
    builder = GroupBuilder()
    builder.add("odd", LvKind.OTHER, segment("vdo"))
    assert refused(builder) == []
    (loss,) = group_losses(builder.layout(), builder.group)
    assert (loss.node, loss.words) == ("lv:vg/odd", "volumes of type vdo are not restored")


def test_volumes_of_unknown_kinds_are_refused_where_something_lies_on_them() -> None:
    builder = GroupBuilder()
    builder.add("odd", LvKind.OTHER, segment("vdo"))
    words = "volumes of type vdo are not restored, and something lies on this one"
    assert refused(builder, ext4("lv:vg/odd")) == [("lv:vg/odd", words)]


def test_a_cache_in_a_single_volume_is_told_and_left_out(lvm: Lvm) -> None:
    builder = GroupBuilder()
    cached = builder.cached("cached", single=True)
    saved = builder.layout()
    assert [one.node for one in group_losses(saved, builder.group)] == [cached.id]
    (seen,) = restore_with(lvm, saved).all(LogicalVolume)
    origin = saved.get("lv:vg/cached_corig", LogicalVolume)
    assert (seen.uuid, seen.name, seen.segments) == (cached.uuid, "cached", origin.segments)


def test_a_cache_that_comes_back_is_no_loss() -> None:
    saved = MACHINES["every-kind"]
    assert group_losses(saved, only_group(saved)) == ()


def test_a_missing_physical_volume_is_refused() -> None:
    builder = GroupBuilder()
    words = "some of its physical volumes are missing"
    saved = Layout.of(builder.layout().nodes, [Unsupported("vg:vg", words)])
    assert [one.words for one in group_refusals(saved, builder.group)] == [words]


def test_a_missing_part_is_refused() -> None:
    builder = GroupBuilder()
    builder.raid("one", "raid1", 2, 1)
    whole = builder.volumes[-1].segments[0]
    cut = replace(whole, areas=whole.areas[:1], metadata=whole.metadata[:1])
    builder.volumes[-1] = replace(builder.volumes[-1], segments=(cut,))
    assert refused(builder) == [("lv:vg/one", "of its 2 parts 1 are there")]


def test_raid_that_keeps_room_for_reshaping_is_refused() -> None:
    builder = GroupBuilder()
    builder.raid("five", "raid5_ls", 3, 2)
    whole = builder.volumes[-1]
    builder.volumes[-1] = replace(
        whole, segments=(replace(whole.segments[0], extents=6),), size_bytes=6 * EXTENT
    )
    ((node, words),) = refused(builder)
    assert node == "lv:vg/five"
    assert "reshaped" in words


def test_a_system_id_of_another_form_is_refused() -> None:
    builder = GroupBuilder(system_id='x" } evil { y = "')
    ((node, words),) = refused(builder)
    assert (node, "machine" in words) == ("vg:vg", True)


def test_a_system_id_of_another_form_never_becomes_a_setting() -> None:
    builder = GroupBuilder(system_id='x" } evil { y = "')
    saved = builder.layout()
    with pytest.raises(LayoutInvalid, match="system's id"):
        group_actions(saved, builder.group, devices_of(saved), scratch=SCRATCH)


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    builder = GroupBuilder()
    builder.plain(name)
    assert refused(builder) == [(f"lv:vg/{name}", "LVM takes no such name")]


def test_a_group_without_metadata_is_refused() -> None:
    builder = GroupBuilder(disks=1)
    builder.physical[0] = replace(builder.physical[0], metadata_copies=0, metadata_bytes=0)
    assert refused(builder) == [("vg:vg", "none of its physical volumes has LVM's metadata")]


def test_a_pool_without_chunks_is_refused() -> None:
    builder = GroupBuilder()
    pool = builder.pool()
    changed = replace(pool, segments=(replace(pool.segments[0], chunk_bytes=0),))
    builder.volumes[-1] = changed
    ((_, words),) = refused(builder)
    assert words == "LVM has no words for it: lv:vg/pool is a pool without chunks"


def test_a_pool_with_two_volumes_of_one_number_is_refused() -> None:
    builder = GroupBuilder()
    pool = builder.pool()
    builder.thin("one", 1, pool)
    builder.thin("other", 1, pool)
    ((_, words),) = refused(builder)
    assert words == "LVM has no words for it: lv:vg/pool has two volumes of one number"


def test_what_pvmove_was_moving_is_refused() -> None:
    builder = GroupBuilder()
    moving = builder.hidden("pvmove0", 0)
    part = LvSegment(start=0, extents=4, type="linear", areas=(LvArea(moving.id, 0),))
    builder.add("root", LvKind.LINEAR, part)
    ((node, words),) = refused(builder)
    assert node == moving.id
    assert words.startswith("pvmove was moving")


def test_policies_that_lvm_does_not_know_are_refused() -> None:
    builder = GroupBuilder(allocation="odd")
    builder.plain("root", allocation="strange")
    assert refused(builder) == [
        ("vg:vg", "LVM knows no allocation policy odd"),
        ("lv:vg/root", "LVM knows no allocation policy strange"),
    ]


@pytest.mark.parametrize("field", ["discards", "cache_mode"])
def test_settings_of_pools_that_lvm_does_not_know_are_refused(field: str) -> None:
    builder = GroupBuilder()
    pool = builder.pool()
    changed = replace(pool.segments[0], **{field: "odd"})  # type: ignore[arg-type]
    builder.volumes[-1] = replace(pool, segments=(changed,))
    assert refused(builder) == [(pool.id, "it has settings that LVM does not know")]


def test_physical_volumes_on_logical_ones_are_looked_for_there() -> None:
    builder = GroupBuilder(disks=1)
    outer = builder.plain("outer", extents=20)
    inner = replace(builder.physical[0], id="pv:inner", uuid=uuid(1), on=outer.id, extents=10)
    group = replace(
        builder.group, id="vg:in", name="in", uuid=uuid(2), volumes=(inner.id,), system_id=""
    )
    saved = builder.layout(inner, group)
    devices = devices_of(saved)
    looks = [
        "scan_lvs=1" in str(group_actions(saved, one, devices, scratch=SCRATCH))
        for one in (builder.group, group)
    ]
    assert looks == [False, True]


def conflicts(target: GroupBuilder, *cleared: str) -> list[str]:
    builder = GroupBuilder(disks=2)
    saved = builder.layout()
    found = group_conflicts(saved, builder.group, target.layout(), cleared=cleared)
    return [one.words for one in found]


def test_what_is_cleared_conflicts_with_nothing() -> None:
    assert conflicts(GroupBuilder(disks=2), "disk:sda", "disk:sdb") == []


def test_a_group_of_that_name_on_another_disk_is_a_conflict() -> None:
    target = GroupBuilder(disks=1)
    target.physical[0] = replace(target.physical[0], uuid=uuid(1))
    target.group = replace(target.group, uuid=uuid(2))
    words = "/dev/sda has a volume group vg: rename it or take the disk away"
    assert conflicts(target, "disk:sdb") == [words]
    target.group = replace(target.group, name="another")
    assert conflicts(target, "disk:sdb") == []


def test_a_physical_volume_of_that_uuid_on_another_disk_is_a_conflict() -> None:
    target = GroupBuilder(disks=1)
    target.group = replace(target.group, name="another", uuid=uuid(2))
    words = "/dev/sda has a physical volume of the same UUID: take that disk away"
    assert conflicts(target, "disk:sdb") == [words]


def test_a_group_that_loses_only_a_part_is_a_conflict() -> None:
    assert len(conflicts(GroupBuilder(disks=2), "disk:sda")) == 2
