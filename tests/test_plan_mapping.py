"""Which disk of a machine becomes which of those that were saved: no wrong one, ever."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutfiles import Swap
from archive.machine.layoutnodes import Disk, Opaque, Partition, PartitionTable, TableKind
from restore.plan.mapping import Match, Matched, in_use, match_disks
from tests.support import layouts
from tests.support.layouts import MIB, SECTOR
from tests.support.tools import require_tool
from tests.test_probe import MACHINES
from tests.test_probe import layout as recorded

NAMES = tuple(f"sd{letter}" for letter in "abcdef")
WWNS = tuple(f"0x5000c500a1b2c3d{number}" for number in range(3))


def disk(
    name: str,
    *,
    serial: str | None = None,
    wwn: str | None = None,
    size_mib: int = 100,
    sector: int = 512,
    transport: str | None = None,
    model: str | None = None,
) -> Disk:
    bare = layouts.disk(name, size_mib=size_mib)
    return replace(
        bare, serial=serial, wwn=wwn, logical_sector=sector, transport=transport, model=model
    )


def swap(on: Disk, *, priority: int | None = None, uuid: str | None = None) -> Swap:
    """Return what makes a disk one that holds something: swap on the whole of it."""
    return Swap(
        id=f"swap:{on.kernel_name}",
        on=on.id,
        size_bytes=on.size_bytes - 4096,
        priority=priority,
        uuid=uuid,
    )


def full(*disks: Disk) -> Layout:
    return Layout.of([node for one in disks for node in (one, swap(one))])


def empty(*disks: Disk) -> Layout:
    return Layout.of(disks)


def mixed(*, held: Sequence[Disk], blank: Sequence[Disk]) -> Layout:
    return Layout.of([*full(*held).nodes, *blank])


def pairs(found: Matched) -> dict[str, str]:
    return {one.saved.kernel_name: one.target.kernel_name for one in found.matches}


def whys(found: Matched) -> list[str]:
    return [one.why for one in found.matches]


def words(found: Matched) -> str:
    (refusal,) = found.refusals
    return refusal.words


# Who a disk is


def test_a_serial_tells_whatever_the_kernel_calls_the_disk() -> None:
    saved = full(disk("sda", serial="A"), disk("sdb", serial="B"))
    found = match_disks(saved, empty(disk("sda", serial="B"), disk("sdb", serial="A")))
    assert pairs(found) == {"sda": "sdb", "sdb": "sda"}
    assert whys(found) == ["same serial", "same serial"]
    assert found.paths() == {"disk:sda": "/dev/sdb", "disk:sdb": "/dev/sda"}
    assert (found.refusals, found.spare) == ((), ())


def test_a_wwn_tells_in_whatever_form() -> None:
    saved = full(disk("sda", wwn="0x5000C500A1B2C3D4"))
    found = match_disks(saved, empty(disk("sda"), disk("sdb", wwn="naa.5000c500a1b2c3d4")))
    assert (pairs(found), whys(found)) == ({"sda": "sdb"}, ["same WWN"])


def test_without_udev_an_ata_disk_is_known_by_what_sysfs_tells() -> None:
    shown = f"t10.ATA     {'QEMU HARDDISK':40}{'QM00001':20}".strip()
    found = match_disks(
        full(disk("sda", serial="QM00001")), empty(disk("sda"), disk("sdb", wwn=shown))
    )
    assert (pairs(found), whys(found)) == ({"sda": "sdb"}, ["same serial"])


def test_a_model_without_a_serial_is_no_serial() -> None:
    shown = f"t10.ATA     {'QEMU HARDDISK':40}".strip()
    found = match_disks(full(disk("sda", wwn=shown)), empty(disk("sda", wwn=shown)))
    assert whys(found) == ["same size, in order"]


def test_the_first_half_of_a_wwn_does_not_contradict_it() -> None:
    short, long = "0x600508b1001c4d8f", "naa.600508b1001c4d8f0000000000000001"
    found = match_disks(
        full(disk("sda", serial="A1", wwn=short)), empty(disk("sda", serial="A1", wwn=long))
    )
    assert whys(found) == ["same serial"]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (
            disk("sda", serial="A", wwn="0x5000c500a1b2c3d4"),
            disk("sda", serial="A", wwn="0x5000c500a1b2c3d5"),
        ),
        (
            disk("sda", serial="A", wwn="0x5000c500a1b2c3d4"),
            disk("sda", serial="B", wwn="0x5000c500a1b2c3d4"),
        ),
        (disk("sda", serial="A"), disk("sda", serial="B")),
        (disk("sda", serial=""), disk("sda", serial="")),
        (disk("sda", serial="00000000"), disk("sda", serial="00000000")),
        (disk("sda"), disk("sda")),
    ],
    ids=["other-WWN", "other-serial", "both-other", "empty", "zeros", "none"],
)
def test_what_does_not_tell_is_matched_by_size(was: Disk, now: Disk) -> None:
    assert whys(match_disks(full(was), empty(now))) == ["same size, in order"]


@pytest.mark.parametrize("side", ["saved", "target"])
def test_a_serial_that_two_disks_have_tells_nothing(side: str) -> None:
    twice = empty(disk("sda", serial="123"), disk("sdb", serial="123"))
    once = empty(disk("sda", serial="123"), disk("sdb", serial="9"))
    saved, target = (twice, once) if side == "saved" else (once, twice)
    found = match_disks(full(*saved.all(Disk)), target)
    assert whys(found) == ["same size, in order"] * 2


def test_namespaces_of_a_drive_are_told_by_their_wwn() -> None:
    one, other = "eui.0025385b71b0cd9e", "eui.0025385b71b0cd9f"
    saved = full(disk("nvme0n1", serial="S", wwn=one), disk("nvme0n2", serial="S", wwn=other))
    target = empty(disk("nvme0n1", serial="S", wwn=other), disk("nvme0n2", serial="S", wwn=one))
    found = match_disks(saved, target)
    assert pairs(found) == {"nvme0n1": "nvme0n2", "nvme0n2": "nvme0n1"}
    assert whys(found) == ["same WWN", "same WWN"]


def test_a_disk_that_two_saved_ones_could_be_is_refused() -> None:
    saved = full(disk("sda", serial="A"), disk("sdb", wwn="0x5000c500a1b2c3d4"))
    found = match_disks(saved, empty(disk("sda", serial="A", wwn="0x5000c500a1b2c3d4")))
    assert found.matches == ()
    assert [one.node for one in found.refusals] == ["disk:sda", "disk:sdb"]
    assert "do not tell which disk here" in found.refusals[0].words


def test_a_cheap_serial_on_another_model_of_another_size_is_not_believed() -> None:
    saved = full(disk("sda", serial="0123456789", model="Stick"))
    target = empty(disk("sda", serial="0123456789", model="Archive", size_mib=500))
    assert whys(match_disks(saved, target)) == ["400 MiB larger, in order"]


def test_a_model_that_is_cut_off_is_the_same() -> None:
    saved = full(disk("sda", serial="A1", model="Samsung_SSD_860_EVO_500GB"))
    target = empty(disk("sda", serial="A1", model="Samsung SSD 860", size_mib=500))
    assert whys(match_disks(saved, target)) == ["same serial, 400 MiB larger"]


# A disk that is known and cannot be used


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (disk("sdb", serial="A", size_mib=60), "it is too small by 40 MiB"),
        (disk("sdb", serial="A", sector=4096), "it has sectors of 4096 bytes, 512 bytes"),
        (disk("sdh", serial="A"), "it holds the set"),
    ],
    ids=["small", "sector", "kept"],
)
def test_nothing_takes_the_place_of_a_known_disk(now: Disk, why: str) -> None:
    kept = {"disk:sdh": "it holds the set"}
    saved = full(disk("sda", serial="A"))
    found = match_disks(saved, empty(disk("sda", serial="N"), now), kept=kept)
    assert found.matches == ()
    assert why in words(found)
    assert "serial A" in words(found)
    alone = match_disks(saved, empty(disk("sda", serial="N")), kept=kept)
    assert pairs(alone) == {"sda": "sda"}


# By size and order


def test_disks_of_a_size_are_taken_in_order() -> None:
    saved = full(disk("sdz"), disk("sdaa"), disk("nvme10n1", size_mib=300))
    target = empty(disk("sdd"), disk("nvme0n1", size_mib=300), disk("sdc"))
    found = match_disks(saved, target)
    assert pairs(found) == {"sdz": "sdc", "sdaa": "sdd", "nvme10n1": "nvme0n1"}
    assert set(whys(found)) == {"same size, in order"}


def test_a_larger_disk_is_taken_where_none_is_of_the_size() -> None:
    found = match_disks(full(disk("sda")), empty(disk("sda", size_mib=5000)))
    assert whys(found) == ["4.8 GiB larger, in order"]


def test_the_size_goes_before_the_order() -> None:
    found = match_disks(full(disk("sda")), empty(disk("sda", size_mib=500), disk("sdb")))
    assert pairs(found) == {"sda": "sdb"}
    assert [one.kernel_name for one in found.spare] == ["sda"]


def test_larger_disks_are_dealt_out_so_that_all_fit() -> None:
    saved = full(disk("sda", size_mib=50), disk("sdb", size_mib=100))
    target = empty(disk("sda", size_mib=110), disk("sdb", size_mib=60))
    assert pairs(match_disks(saved, target)) == {"sda": "sdb", "sdb": "sda"}


def test_a_disk_that_is_little_larger_goes_before_one_that_is_much_larger() -> None:
    target = empty(disk("sda", size_mib=500), disk("sdb", size_mib=300))
    assert pairs(match_disks(full(disk("sda")), target)) == {"sda": "sdb"}


def test_what_needs_most_chooses_first() -> None:
    saved = full(disk("sda", size_mib=50), disk("sdb", size_mib=100))
    target = mixed(held=[disk("sdb", size_mib=60)], blank=[disk("sda", size_mib=110)])
    assert pairs(match_disks(saved, target)) == {"sda": "sdb", "sdb": "sda"}


def test_where_all_are_taken_the_order_goes_before_what_is_on_them() -> None:
    target = mixed(held=[disk("sda")], blank=[disk("sdb")])
    found = match_disks(full(disk("sda"), disk("sdb")), target)
    assert pairs(found) == {"sda": "sda", "sdb": "sdb"}


def test_the_order_does_not_go_before_what_speaks_against_a_disk() -> None:
    saved = full(disk("sda", transport="sata"), disk("sdb", transport="usb"))
    target = empty(disk("sda", transport="usb"), disk("sdb", transport="sata"))
    assert pairs(match_disks(saved, target)) == {"sda": "sdb", "sdb": "sda"}


def test_of_two_larger_ones_that_hold_something_none_is_chosen() -> None:
    target = full(disk("sda", size_mib=200), disk("sdb", size_mib=300))
    found = match_disks(full(disk("sda")), target)
    assert words(found).count("it may be meant, there is something on it") == 2


def test_an_empty_disk_goes_before_one_that_is_not() -> None:
    target = mixed(held=[disk("sda")], blank=[disk("sdb")])
    found = match_disks(full(disk("sda")), target)
    assert pairs(found) == {"sda": "sdb"}


def test_another_machine_of_the_same_disks_is_taken_with_all_that_is_on_it() -> None:
    saved = full(disk("sda", serial="A"), disk("sdb", serial="B"))
    target = full(disk("sda", serial="C"), disk("sdb", serial="D"))
    assert pairs(match_disks(saved, target)) == {"sda": "sda", "sdb": "sdb"}


def test_a_stick_with_something_on_it_is_not_taken_for_another() -> None:
    saved = full(disk("sda", transport="usb", serial="A"))
    now = disk("sda", transport="usb", serial="N", size_mib=200)
    found = match_disks(saved, full(now))
    assert "it is connected by usb, and there is something on it" in words(found)
    assert pairs(match_disks(saved, empty(now))) == {"sda": "sda"}


def test_of_two_that_hold_something_none_is_chosen() -> None:
    target = full(disk("sda", serial="X"), disk("sdb", serial="Y"))
    found = match_disks(full(disk("sda", serial="A")), target)
    assert found.matches == ()
    assert words(found).count("it may be meant, there is something on it") == 2
    assert "wipefs" in words(found)


def test_a_full_disk_of_the_size_and_a_larger_empty_one_are_told_apart_by_nothing() -> None:
    target = mixed(held=[disk("sda")], blank=[disk("sdb", size_mib=200)])
    found = match_disks(full(disk("sda")), target)
    assert found.matches == ()
    assert "it may be meant, it is empty" in words(found)


def test_a_full_disk_of_the_size_goes_before_a_larger_full_one() -> None:
    found = match_disks(full(disk("sda")), full(disk("sda", size_mib=200), disk("sdb")))
    assert pairs(found) == {"sda": "sdb"}


def test_on_the_saved_machine_a_strange_disk_with_something_on_it_is_not_taken() -> None:
    saved = full(disk("sda", serial="A"), disk("sdb", serial="B"))
    known, new = disk("sda", serial="A"), disk("sdb", serial="N")
    found = match_disks(saved, full(known, new))
    assert pairs(found) == {"sda": "sda"}
    assert "it was no disk of this machine" in words(found)
    replaced = match_disks(saved, mixed(held=[known], blank=[new]))
    assert pairs(replaced) == {"sda": "sda", "sdb": "sdb"}
    assert whys(replaced) == ["same serial", "same size, in order"]


def test_a_known_disk_that_is_carried_around_does_not_make_it_the_saved_machine() -> None:
    stick = disk("sdh", serial="U", transport="usb")
    saved = full(disk("sda", serial="A"), stick)
    found = match_disks(saved, full(disk("sda", serial="N"), stick))
    assert pairs(found) == {"sda": "sda", "sdh": "sdh"}


def test_a_known_disk_that_holds_the_set_does_not_make_it_the_saved_machine() -> None:
    archive = disk("sdh", serial="U", transport="sata")
    saved = mixed(held=[disk("sda", serial="A")], blank=[archive])
    target = full(disk("sda", serial="N"), archive)
    assert match_disks(saved, target).matches == ()
    carried = match_disks(saved, target, kept={archive.id: "it holds the set"})
    assert pairs(carried) == {"sda": "sda"}


UUIDS = ("441ad07a-bf8a-480a-8873-99f05cb0f1c4", "9f7f1768-b1dc-4cb0-9e45-c56de67bae70")


def held(one: Disk, uuid: str) -> list[AnyNode]:
    return [one, swap(one, uuid=uuid)]


def test_a_restore_that_was_begun_goes_to_the_same_disks_again() -> None:
    saved = Layout.of([*held(disk("sda"), UUIDS[0]), *held(disk("sdb"), UUIDS[1])])
    target = Layout.of([*held(disk("sdb"), UUIDS[0]), disk("sda")])
    found = match_disks(saved, target)
    assert pairs(found) == {"sda": "sdb", "sdb": "sda"}
    assert whys(found) == ["same content, same size", "same size, in order"]


def test_a_copy_is_not_overwritten_and_not_left_beside() -> None:
    saved = Layout.of(held(disk("sda"), UUIDS[0]))
    target = Layout.of([*held(disk("sda"), UUIDS[0]), disk("sdb")])
    found = match_disks(saved, target)
    assert found.matches == ()
    assert words(found).count("it may be meant") == 2


def test_what_holds_the_saved_content_goes_before_what_holds_something_else() -> None:
    saved = Layout.of(held(disk("sda"), UUIDS[0]))
    target = Layout.of([*held(disk("sda"), UUIDS[1]), *held(disk("sdb"), UUIDS[0])])
    assert pairs(match_disks(saved, target)) == {"sda": "sdb"}


def test_an_empty_disk_of_the_size_is_not_taken_beside_a_larger_copy() -> None:
    saved = Layout.of(held(disk("sda"), UUIDS[0]))
    target = Layout.of([*held(disk("sda", size_mib=200), UUIDS[0]), disk("sdb")])
    assert match_disks(saved, target).matches == ()


def test_a_table_without_a_number_is_no_content_that_is_known() -> None:
    def one(name: str) -> list[AnyNode]:
        on = disk(name)
        return [on, replace(layouts.table(on.id, kind=TableKind.DOS), uuid="0x00000000")]

    saved, target = Layout.of(one("sda")), Layout.of([*one("sda"), *full(disk("sdb")).nodes])
    assert words(match_disks(saved, target)).count("it may be meant") == 2


# What is never taken


@pytest.mark.parametrize("transport", ["usb", "iscsi", "mmc"])
def test_disks_of_others_are_not_taken_for_its_own(transport: str) -> None:
    now = empty(disk("sda", transport=transport))
    found = match_disks(full(disk("sda", transport="sata")), now)
    assert f"it is connected by {transport}" in words(found)
    assert pairs(match_disks(full(disk("sda", transport=transport)), now)) == {"sda": "sda"}


def test_a_disk_on_two_paths_is_no_two_disks() -> None:
    wwn = "0x600508b1001c4d8f0000000000000001"
    saved = full(disk("sda", serial="A"), disk("sdb", serial="B"))
    target = [disk("sda", serial="P", wwn=wwn), disk("sdb", serial="P", wwn=wwn)]
    found = match_disks(saved, empty(*target))
    assert found.matches == ()
    assert "it is the same disk as /dev/sda, over another path" in found.refusals[0].words
    apart = [target[0], replace(target[1], serial="Q", wwn=None)]
    assert len(match_disks(saved, empty(*apart)).matches) == 2


def test_a_known_disk_on_two_paths_is_not_taken() -> None:
    wwn = "0x600508b1001c4d8f0000000000000001"
    found = match_disks(full(disk("sda", wwn=wwn)), empty(*(disk(n, wwn=wwn) for n in NAMES[:2])))
    assert words(found).count("over another path") == 2


@pytest.mark.parametrize(
    "other",
    [disk("sdb", wwn=WWNS[0], serial="Q"), disk("sdb", wwn=WWNS[0], size_mib=200)],
    ids=["serial", "size"],
)
def test_a_wwn_that_different_disks_have_makes_them_no_paths(other: Disk) -> None:
    target = empty(disk("sda", wwn=WWNS[0], serial="P"), other)
    assert whys(match_disks(full(disk("sda")), target)) == ["same size, in order"]


def test_a_saved_disk_on_two_paths_is_refused() -> None:
    wwn = "0x600508b1001c4d8f0000000000000001"
    saved = full(disk("sda", serial="P", wwn=wwn), disk("sdb", serial="P", wwn=wwn))
    found = match_disks(saved, empty(disk("sda"), disk("sdb")))
    assert found.matches == ()
    assert "is the same disk as /dev/sdb, over another path" in found.refusals[0].words


def test_a_disk_of_which_nothing_is_restored_needs_none_and_is_left_alone() -> None:
    idle = disk("sdb", serial="B")
    saved = mixed(held=[disk("sda", serial="A")], blank=[idle])
    assert match_disks(saved, empty(disk("sda", serial="A"))).refusals == ()
    found = match_disks(saved, empty(idle))
    assert "it is the disk that was /dev/sdb, on which there is nothing to restore" in words(found)
    assert found.spare == (idle,)


def test_what_cannot_be_made_needs_no_disk() -> None:
    pool = disk("sdb")
    strange = Opaque(id="opaque:sdb", on=(pool.id,), what="zfs_member")
    saved = Layout.of([*full(disk("sda")).nodes, pool, strange])
    assert pairs(match_disks(saved, empty(disk("sda")))) == {"sda": "sda"}


def test_what_lies_on_what_cannot_be_made_needs_its_disk() -> None:
    pool = disk("sdb")
    strange = Opaque(id="opaque:sdb", on=(pool.id,), what="multipath")
    above = replace(swap(pool), on=strange.id)
    saved = Layout.of([pool, strange, above])
    assert [one.node for one in match_disks(saved, empty()).refusals] == ["disk:sdb"]


def test_a_refusal_tells_all_that_is_there_and_what_to_do() -> None:
    saved = full(disk("sda", serial="A", model="Big One", size_mib=500), disk("sdb"))
    target = empty(
        disk("sda", size_mib=499),
        disk("sdb"),
        disk("sdc", size_mib=600, sector=4096, serial="C"),
        disk("sdh", size_mib=500),
    )
    found = match_disks(saved, target, kept={"disk:sdh": "it holds the backup set"})
    assert words(found) == (
        "no disk here is taken for /dev/sda (Big One, serial A, 500 MiB): "
        "/dev/sda (499 MiB): it is too small by 1 MiB; "
        "/dev/sdb (100 MiB): it is too small by 400 MiB; "
        "/dev/sdc (serial C, 600 MiB): it has sectors of 4096 bytes, 512 bytes are needed; "
        "/dev/sdh (500 MiB): it holds the backup set; "
        "connect an empty disk of at least 500 MiB (524288000 bytes) with sectors of 512 bytes"
    )


def test_a_machine_without_a_disk() -> None:
    assert "there is no disk" in words(match_disks(full(disk("sda")), empty()))


def test_names_from_a_set_do_nothing_to_a_terminal() -> None:
    found = match_disks(full(disk("sda", model="\x1b[2J\n")), empty())
    assert words(found).isprintable()


# Smaller disks


def parted(kind: TableKind, *, end_mib: int = 60) -> Layout:
    """Return a disk of 100 MiB whose one partition ends at ``end_mib``."""
    table = replace(layouts.table(kind=kind), sector_bytes=SECTOR)
    if kind is TableKind.GPT:
        table = replace(table, last_sector=end_mib * MIB // SECTOR - 1)
    part = layouts.partition(start=2048, size=(end_mib - 1) * MIB // SECTOR, of=table)
    return Layout.of([disk("sda"), table, part, layouts.ext4()])


def of_size(size_bytes: int) -> Layout:
    return empty(replace(disk("sda"), size_bytes=size_bytes))


LEAST = {TableKind.DOS: 60 * MIB, TableKind.GPT: 60 * MIB + 33 * SECTOR}
"""A GPT has 32 sectors of entries and a header behind its last partition."""


@pytest.mark.parametrize("kind", TableKind, ids=lambda kind: kind.value)
def test_a_disk_may_be_smaller_down_to_the_end_of_its_table(kind: TableKind) -> None:
    found = match_disks(parted(kind), of_size(LEAST[kind]))
    assert whys(found) == ["40 MiB smaller, in order"]
    refused = match_disks(parted(kind), of_size(LEAST[kind] - SECTOR))
    assert "it is too small by 512 bytes" in words(refused)


def test_a_gpt_that_goes_up_to_the_end_needs_all_of_it() -> None:
    saved = Layout.of(layouts.simple())
    assert match_disks(saved, of_size(100 * MIB)).refusals == ()
    assert "it is too small by 512 bytes" in words(match_disks(saved, of_size(100 * MIB - SECTOR)))


def test_what_lies_on_the_whole_disk_needs_all_of_it() -> None:
    refused = match_disks(full(disk("sda")), of_size(100 * MIB - SECTOR))
    assert "it is too small by 512 bytes" in words(refused)


@pytest.mark.parametrize("kind", TableKind, ids=lambda kind: kind.value)
@pytest.mark.parametrize("missing", [0, 1], ids=["enough", "a-sector-less"])
def test_sfdisk_agrees_on_the_least_size(kind: TableKind, missing: int, tmp_path: Path) -> None:
    (part,) = parted(kind).all(Partition)
    (table,) = parted(kind).all(PartitionTable)
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(LEAST[kind] - missing * SECTOR)
    bounds = f"first-lba: 34\nlast-lba: {table.last_sector}\n" if table.last_sector else ""
    script = f"label: {kind}\nunit: sectors\n{bounds}start={part.start},size={part.size}\n"
    done = subprocess.run(
        [require_tool("sfdisk"), "--quiet", image], input=script.encode(), capture_output=True
    )
    assert (done.returncode == 0) == (missing == 0), done.stderr


# What is in use


def test_what_is_mounted_is_in_use() -> None:
    assert in_use(Layout.of(layouts.simple())) == {"disk:sda": "/ is mounted from it"}


def test_what_is_not_mounted_is_not_in_use() -> None:
    assert in_use(Layout.of(layouts.simple()[1:])) == {}


def test_swap_in_use() -> None:
    nodes: list[AnyNode] = [
        disk("sda"),
        swap(disk("sda"), priority=5),
        disk("sdb"),
        swap(disk("sdb")),
    ]
    used = "swap on it is in use"
    assert in_use(Layout.of(nodes)) == {"disk:sda": f"{used} (sda)"}
    known = in_use(Layout.of(nodes), swaps=["swap:sdb"])
    assert known == {"disk:sda": f"{used} (sda)", "disk:sdb": f"{used} (sdb)"}


def test_what_is_mounted_from_nobody_knows_where_may_be_on_any_disk_that_is_not_understood() -> (
    None
):
    pool = Opaque(id="opaque:sdb", on=("disk:sdb",), what="zfs_member")
    files = Opaque(id="opaque:rpool", on=(), what="zfs of rpool")
    nodes: list[AnyNode] = [disk("sda"), disk("sdb"), pool, files]
    assert in_use(Layout.of(nodes)) == {}
    nodes.append(layouts.mount(source=files.id, point="/"))
    assert in_use(Layout.of(nodes)) == {"disk:sdb": "zfs_member on it may be what is on /"}


def test_in_use_through_arrays_encryption_and_groups() -> None:
    for name in ("raid", "nested", "luks-lvm"):
        layout = recorded(name)
        assert set(in_use(layout)) == {one.id for one in layout.all(Disk)}


# Recorded machines


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_restored_to_its_own_disks(name: str) -> None:
    saved = recorded(name)
    found = match_disks(saved, saved)
    assert found.refusals == ()
    assert all(one.saved == one.target and one.why == "same serial" for one in found.matches)


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_cloned_to_blank_disks(name: str) -> None:
    saved = recorded(name)
    disks = [replace(one, serial=None, wwn=None) for one in saved.all(Disk)]
    found = match_disks(saved, empty(*disks))
    assert found.refusals == ()
    assert all(one.saved.kernel_name == one.target.kernel_name for one in found.matches)


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_not_cloned_to_disks_that_are_too_small(name: str) -> None:
    saved = recorded(name)
    disks = [
        replace(one, serial=None, wwn=None, size_bytes=one.size_bytes // 2)
        for one in saved.all(Disk)
    ]
    found = match_disks(saved, empty(*disks))
    assert found.matches == ()
    assert all("too small" in one.words for one in found.refusals)


# Whatever the machines are

KINDS = ("empty", "swap", "gpt", "dos", "opaque")


@st.composite
def machines(draw: st.DrawFn) -> Layout:
    """Return a machine of up to six disks, empty or not, told apart or not."""
    nodes: list[AnyNode] = []
    for name in draw(st.permutations(NAMES))[: draw(st.integers(0, 6))]:
        one = disk(
            name,
            serial=draw(st.sampled_from([None, "", "0000", "A", "B", "C", "D", "E"])),
            wwn=draw(st.sampled_from([None, None, None, *WWNS])),
            size_mib=draw(st.sampled_from([100, 101, 200])),
            sector=draw(st.sampled_from([512, 512, 512, 4096])),
            transport=draw(st.sampled_from([None, "sata", "sata", "usb"])),
        )
        nodes += [one, *content(one, draw(st.sampled_from(KINDS)))]
    return Layout.of(nodes)


def content(on: Disk, kind: str) -> list[AnyNode]:
    if kind == "swap":
        return [swap(on)]
    if kind == "opaque":
        return [Opaque(id=f"opaque:{on.kernel_name}", on=(on.id,), what="zfs_member")]
    if kind in ("gpt", "dos"):
        table = layouts.table(on.id, kind=TableKind(kind))
        if table.last_sector is not None:
            table = replace(table, last_sector=49 * MIB // SECTOR)
        return [table, layouts.partition(of=table)]
    return []


@st.composite
def kept_disks(draw: st.DrawFn) -> Mapping[str, str]:
    return {f"disk:{name}": "it holds the set" for name in draw(st.sets(st.sampled_from(NAMES)))}


def wrong(saved: Layout, target: Layout, kept: Mapping[str, str], found: Matched) -> set[str]:
    """Return what no matching may be, and this one is."""
    faults = set()
    became = [one.target.id for one in found.matches]
    told = [one.saved.id for one in found.matches] + [one.node for one in found.refusals]
    held = {
        name: [node for node in layout.nodes if name in node.below and not isinstance(node, Opaque)]
        for layout in (saved,)
        for name in (one.id for one in saved.all(Disk))
    }
    if len(set(became)) != len(became):
        faults.add("twice")
    if sorted(told) != sorted(name for name, nodes in held.items() if nodes):
        faults.add("not told of all")
    if {one.id for one in found.spare} != {one.id for one in target.all(Disk)} - set(became):
        faults.add("spare")
    for one in found.matches:
        is_parted = isinstance(held[one.saved.id][0], PartitionTable)
        least = 50 * MIB if is_parted else one.saved.size_bytes
        if one.target.size_bytes < least or one.target.logical_sector != one.saved.logical_sector:
            faults.add("size")
        if one.target.id in kept:
            faults.add("kept")
        if one.why.endswith("in order") and destroys(one, target, kept, found):
            faults.add("destroys what it need not")
    return faults


def destroys(one: Match, target: Layout, kept: Mapping[str, str], found: Matched) -> bool:
    """Tell whether a disk that holds something was taken though an empty one would have done."""
    return bool(target.above(one.target)) and any(
        not target.above(spare)
        and spare.id not in kept
        and (spare.serial, spare.wwn, spare.transport) == (None, None, one.saved.transport)
        and spare.logical_sector == one.saved.logical_sector
        and spare.size_bytes >= one.saved.size_bytes
        for spare in found.spare
    )


@given(saved=machines(), target=machines(), kept=kept_disks())
def test_no_matching_is_wrong(saved: Layout, target: Layout, kept: Mapping[str, str]) -> None:
    assert wrong(saved, target, kept, match_disks(saved, target, kept=kept)) == set()


def test_wrong_matchings_are_seen() -> None:
    saved = full(disk("sda"), disk("sdb", size_mib=200))
    target = mixed(held=[disk("sda")], blank=[disk("sdb")])
    was, now = saved.all(Disk), target.all(Disk)
    match = Match(was[0], now[0], "same size, in order")
    bad = Matched((match, Match(was[1], now[0], "")), (), (now[1],))
    faults = wrong(saved, target, {"disk:sda": "held"}, bad)
    assert faults == {"twice", "size", "kept", "destroys what it need not"}
    assert wrong(saved, target, {}, Matched((), (), ())) == {"not told of all", "spare"}


def called_otherwise(layout: Layout, called: Mapping[str, str]) -> Layout:
    nodes: list[AnyNode] = []
    for one in layout.all(Disk):
        name = called[one.kernel_name]
        other = replace(one, id=f"disk:{name}", kernel_name=name)
        nodes += [other, swap(other)] if layout.above(one) else [other]
    return Layout.of(nodes)


@given(saved=machines(), target=machines(), names=st.permutations(NAMES))
def test_other_kernel_names_change_no_match_by_identity(
    saved: Layout, target: Layout, names: Sequence[str]
) -> None:
    called = dict(zip(NAMES, names, strict=True))
    renamed = called_otherwise(target, called)

    def known(layout: Layout, back: Mapping[str, str]) -> set[tuple[str, str, str]]:
        return {
            (one.saved.id, back[one.target.kernel_name], one.why)
            for one in match_disks(saved, layout).matches
            if one.why.startswith(("same serial", "same WWN"))
        }

    same = {name: name for name in NAMES}
    assert known(target, same) == known(renamed, {new: old for old, new in called.items()})


@given(machine=machines())
def test_a_machine_with_nothing_to_tell_its_disks_is_restored_to_blank_ones(
    machine: Layout,
) -> None:
    plain = {one.id: replace(one, serial=None, wwn=None) for one in machine.all(Disk)}
    saved = Layout.of(plain.get(node.id, node) for node in machine.nodes)
    found = match_disks(saved, empty(*plain.values()))
    assert found.refusals == ()
    assert all(one.why == "same size, in order" for one in found.matches)
