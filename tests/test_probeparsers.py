"""The parsers of tools' outputs where recorded machines do not go."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import pytest

from archive.errors import CannotRead
from archive.machine.layoutnodes import MdLevel, TableKind
from archive.machine.probedevices import parse_lsblk
from archive.machine.probefiles import (
    parse_btrfs_usage,
    parse_default,
    parse_dumpe2fs,
    parse_subvolumes,
)
from archive.machine.probeluks import parse_luks2
from archive.machine.probelvm import parse_report
from archive.machine.probemd import layout_word, parse_export
from archive.machine.probemounts import parse_flags, parse_fstab, parse_swaps
from archive.machine.probetables import attribute_bits, parse_blkid, parse_sfdisk
from archive.machine.superblocks import read_swap


def lsblk(*rows: dict[str, object]) -> str:
    return json.dumps({"blockdevices": list(rows)})


def row(
    name: str, kind: str, *children: dict[str, object], size: int = 1 << 30
) -> dict[str, object]:
    return {
        "name": name,
        "kname": name,
        "path": f"/dev/{name}",
        "maj:min": "8:0",
        "type": kind,
        "size": size,
        "log-sec": 4096,
        "phy-sec": 4096,
        "children": list(children),
    }


def test_a_device_on_several_is_there_once() -> None:
    array = row("md0", "raid1")
    found = parse_lsblk(lsblk(row("sda", "disk", array), row("sdb", "disk", array)))
    assert [(one.kernel_name, one.parents) for one in found] == [
        ("sda", ()),
        ("sdb", ()),
        ("md0", ("sda", "sdb")),
    ]


def test_sectors_of_4096_bytes() -> None:
    (found,) = parse_lsblk(lsblk(row("sda", "disk")))
    assert (found.logical_sector, found.physical_sector) == (4096, 4096)


def test_sizes_of_old_versions_are_text() -> None:
    (found,) = parse_lsblk(lsblk(row("sda", "disk") | {"size": "1073741824"}))
    assert found.size_bytes == 1 << 30


@pytest.mark.parametrize("kind", ["loop", "rom"])
def test_what_holds_nothing_of_the_machine_is_left_out(kind: str) -> None:
    assert parse_lsblk(lsblk(row("x", kind))) == ()


def test_a_drive_without_a_medium_is_left_out() -> None:
    assert parse_lsblk(lsblk(row("sdc", "disk", size=0))) == ()


@pytest.mark.parametrize(
    ("words", "bits"),
    [
        ("", 0),
        ("RequiredPartition", 1),
        ("LegacyBIOSBootable NoBlockIOProtocol", 6),
        ("GUID:60,63", 1 << 60 | 1 << 63),
        ("RequiredPartition GUID:48", 1 << 48 | 1),
    ],
)
def test_attributes(words: str, bits: int) -> None:
    assert attribute_bits(words) == bits


def sfdisk(**values: object) -> str:
    held = {"label": "dos", "id": "0x1", "unit": "sectors", "sectorsize": 512} | values
    return json.dumps({"partitiontable": held})


def test_a_table_without_partitions() -> None:
    table, partitions = parse_sfdisk(sfdisk(), on="disk:sda", tail="sda", shown={})
    assert (table.kind, table.uuid, partitions) == (TableKind.DOS, "0x00000001", ())


def test_partitions_of_nvme_are_numbered_by_their_end() -> None:
    rows = [{"node": "/dev/nvme0n1p12", "start": 8, "size": 8, "type": "83"}]
    _, (found,) = parse_sfdisk(sfdisk(partitions=rows), on="disk:x", tail="x", shown={})
    assert (found.number, found.id) == (12, "part:nvme0n1p12")


def test_a_table_of_another_kind_is_an_error() -> None:
    with pytest.raises(CannotRead):
        parse_sfdisk(sfdisk(label="sun"), on="disk:sda", tail="sda", shown={})


def test_labels_are_decoded() -> None:
    found = parse_blkid("ID_FS_LABEL=x\nID_FS_LABEL_ENC=a\\x20b\\x5cx41\\xff\nID_FS_TYPE=ext4\n")
    assert (found.label, found.type) == ("a b\\x41\udcff", "ext4")


def test_what_may_be_two_things_is_neither() -> None:
    found = parse_blkid("ID_FS_AMBIVALENT=filesystem:ext4:1.0 raid:isw_raid_member:1\n")
    assert (found.type, len(found.ambivalent)) == (None, 2)


@pytest.mark.parametrize(
    ("level", "number", "word"),
    [
        (MdLevel.RAID5, 2, "left-symmetric"),
        (MdLevel.RAID6, 0, "left-asymmetric"),
        (MdLevel.RAID10, 0x102, "n2"),
        (MdLevel.RAID10, 0x201, "f2"),
        (MdLevel.RAID10, 0x10301, "o3"),
        (MdLevel.RAID1, 0, None),
    ],
)
def test_layouts_of_arrays(level: MdLevel, number: int, word: str | None) -> None:
    assert layout_word(level, number) == word


def test_a_layout_of_another_make_is_an_error() -> None:
    with pytest.raises(ValueError, match="layout 20"):
        layout_word(MdLevel.RAID6, 20)


def test_values_of_mdadm() -> None:
    assert parse_export("MD_NAME=a:0\nMD_UUID=1=2\n") == {"MD_NAME": "a:0", "MD_UUID": "1=2"}


def test_subvolumes_seen_from_one_of_them() -> None:
    text = (
        "ID 256 gen 9 top level 5 parent_uuid -    path <FS_TREE>/@\n"
        "ID 257 gen 9 top level 256 parent_uuid 59fe726d  path a b\n"
    )
    found = parse_subvolumes(text, seen_at="@")
    assert [(one.path, one.has_parent) for one in found] == [("@", False), ("@/a b", True)]


def test_the_default_subvolume() -> None:
    assert parse_default("ID 5 (FS_TREE)\n") == 5


def test_mixed_block_groups_have_one_profile() -> None:
    text = "Data+Metadata,single: Size:1\nSystem,DUP: Size:1\n"
    assert parse_btrfs_usage(text) == {"Data": "single", "Metadata": "single"}


def test_swaps_in_use() -> None:
    text = "Filename Type Size Used Priority\n/dev/sda2 partition 1024 0 -2\n/a\\040b file 8 0 7\n"
    device, file = parse_swaps(text)
    assert (device.is_file, device.size_bytes, device.priority) == (False, 1 << 20, None)
    assert (file.path, file.priority) == ("/a b", 7)


def test_fstab() -> None:
    text = (
        "# /dev/x /none ext4 defaults 0 0\nUUID=1 / ext4 errors=remount-ro 0 1\nx /a\\040b/ y z\n"
    )
    assert parse_fstab(text) == {"/": "errors=remount-ro", "/a b": "z"}


def test_flags_of_mounts() -> None:
    text = "31 30 254:1 / /boot rw,nosuid shared:1 - vfat /dev/vda1 rw"
    assert parse_flags(text) == {31: "rw,nosuid"}


def reader(header: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size: header[offset : offset + size]


@pytest.mark.parametrize("page", [4096, 65536])
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_swap_header(page: int, order: Literal["little", "big"]) -> None:
    header = bytearray(page)
    header[1024:1032] = (1).to_bytes(4, order) + (99).to_bytes(4, order)
    header[-10:] = b"SWAPSPACE2"
    assert read_swap(reader(bytes(header))) == (page, 100 * page)


def test_what_is_no_swap_has_no_header() -> None:
    assert read_swap(reader(bytes(65536))) is None


@pytest.mark.parametrize(
    "parse",
    [
        lambda: parse_report("{}", "pv"),
        lambda: parse_report("x", "pv"),
        lambda: parse_luks2("", "{}", on="part:a", name="a"),
        lambda: parse_dumpe2fs("Block size: x", where="/dev/a"),
    ],
    ids=["report", "no JSON", "LUKS", "ext4"],
)
def test_nonsense_is_an_error(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(CannotRead, match="makes no sense"):
        parse()
