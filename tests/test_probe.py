"""The probe, asked of recorded machines (qemu_tests/storage.py made them)."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive.errors import CannotRead
from archive.machine.layout import Layout
from archive.machine.layoutfiles import (
    BtrfsSettings,
    ClusterSettings,
    ExtSettings,
    F2fsSettings,
    Family,
    FatSettings,
    Filesystem,
    JfsSettings,
    Mount,
    NilfsSettings,
    Swap,
    XfsSettings,
)
from archive.machine.layoutlvm import LogicalVolume, LvArea, LvKind
from archive.machine.layoutnodes import (
    Disk,
    Luks,
    MdArray,
    MdBitmap,
    MdLevel,
    Opaque,
    Partition,
    PartitionKind,
)
from archive.machine.layoutview import mountlist, tree
from archive.machine.probe import probe_layout
from archive.machine.probedevices import COMMAND
from archive.run import NOT_RUN
from tests.support.recording import Recorded

RECORDED = Path(__file__).parent / "recorded"
GOLDEN = Path(__file__).parent / "golden"
MACHINES = sorted(file.stem for file in RECORDED.glob("*.json"))


def recorded(name: str) -> Recorded:
    return Recorded(RECORDED / f"{name}.json")


def layout(name: str) -> Layout:
    return probe_layout(recorded(name))


def settings(machine: str, name: str) -> object:
    return layout(machine).get(name, Filesystem).settings


@pytest.mark.parametrize("name", MACHINES)
def test_the_tree_and_the_mountlist_are_as_agreed(name: str) -> None:
    found = layout(name)
    expected = (GOLDEN / f"layout-{name}.txt").read_text()
    assert f"{tree(found)}\n\n{mountlist(found)}\n" == expected


@pytest.mark.parametrize("name", MACHINES)
def test_json_gives_back_what_was_seen(name: str) -> None:
    found = layout(name)
    assert Layout.from_json(found.to_json()) == found


@pytest.mark.parametrize("name", MACHINES)
def test_it_is_seen_alike_each_time(name: str) -> None:
    assert layout(name).to_json() == layout(name).to_json()


def test_a_disk_is_known_by_its_serial() -> None:
    (disk,) = layout("mbr").all(Disk)
    assert (disk.serial, disk.size_bytes) == ("mindi-disk0", 512 << 20)


def test_partitions_of_a_dos_table() -> None:
    found = [(one.number, one.type, one.kind, one.active) for one in layout("mbr").all(Partition)]
    primary, logical = PartitionKind.PRIMARY, PartitionKind.LOGICAL
    assert found == [
        (1, "83", primary, True),
        (2, "83", primary, False),
        (3, "5", PartitionKind.EXTENDED, False),
        (5, "82", logical, False),
        (6, "c", logical, False),
    ]


def test_a_gpt_partition_has_its_attributes() -> None:
    esp = layout("luks-lvm").get("part:vda1", Partition)
    assert (esp.name, esp.attributes, esp.start) == ("EFI System", 1 << 63 | 1, 2048)


def test_settings_of_ext4() -> None:
    found = settings("mbr", "fs:vda2")
    assert isinstance(found, ExtSettings)
    assert "metadata_csum" not in found.features
    assert (found.reserved_blocks, found.stride_blocks, found.errors) == (6144, 4, "remount-ro")
    assert (found.block_bytes, found.blocks, found.inode_bytes) == (1024, 204800, 256)


def test_ext2_has_no_journal() -> None:
    found = settings("mbr", "fs:vda1")
    assert isinstance(found, ExtSettings)
    assert found.journal_bytes is None


def test_settings_of_xfs() -> None:
    found = settings("luks-lvm", "fs:vg0/root")
    assert isinstance(found, XfsSettings)
    assert (found.group_count, found.log_blocks, found.inode_bytes) == (4, 16384, 512)
    assert {"crc", "reflink", "bigtime", "ftype"} <= set(found.features)
    assert "rmapbt" not in found.features


def test_settings_of_btrfs() -> None:
    found = settings("luks-lvm", "fs:vg0/srv")
    assert isinstance(found, BtrfsSettings)
    assert (found.data, found.metadata, found.default_subvolume) == ("single", "dup", "@www")


def test_btrfs_on_two_devices() -> None:
    found = layout("families").get("fs:vda8", Filesystem)
    assert found.devices == ("part:vda8", "part:vda9")
    assert isinstance(found.settings, BtrfsSettings)
    assert (found.settings.data, len(found.settings.members)) == ("raid1", 2)


@pytest.mark.parametrize(
    ("machine", "name", "bits"),
    [("families", "fs:vda7", 12), ("mbr", "fs:vda6", 16), ("luks-lvm", "fs:vda1", 32)],
    ids=["FAT12", "FAT16", "FAT32"],
)
def test_settings_of_fat(machine: str, name: str, bits: int) -> None:
    found = settings(machine, name)
    assert isinstance(found, FatSettings)
    assert (found.bits, found.sector_bytes, found.tables) == (bits, 512, 2)


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("fs:vda2", Family.EXFAT, ClusterSettings(sector_bytes=512, cluster_bytes=4096)),
        (
            "fs:vda3",
            Family.F2FS,
            # extra_attr and inode_checksum
            F2fsSettings(
                sector_bytes=512, features=0x28, section_segments=1, zone_sections=1, encoding=0
            ),
        ),
        (
            "fs:vda4",
            Family.NILFS2,
            NilfsSettings(block_bytes=4096, segment_blocks=2048, reserved_percent=5, features=0),
        ),
        (
            "fs:vda5",
            Family.JFS,
            JfsSettings(block_bytes=4096, log_bytes=1 << 20, case_insensitive=False),
        ),
        ("fs:vda6", Family.NTFS, ClusterSettings(sector_bytes=512, cluster_bytes=4096)),
    ],
    ids=["exfat", "f2fs", "nilfs2", "jfs", "ntfs"],
)
def test_settings_of_other_families(name: str, family: Family, expected: object) -> None:
    found = layout("families").get(name, Filesystem)
    assert (found.family, found.settings) == (family, expected)


def test_labels_that_are_not_ascii() -> None:
    assert layout("luks-lvm").get("fs:vg0/srv", Filesystem).label == "Dienst äöü"


def test_arrays() -> None:
    found = {one.name: one for one in layout("raid").all(MdArray)}
    boot, system = found["server:boot"], found["server:system"]
    assert (boot.level, boot.metadata, boot.bitmap) == (MdLevel.RAID1, "1.0", MdBitmap.NONE)
    assert (system.metadata, system.bitmap) == ("1.2", MdBitmap.INTERNAL)
    assert [(one.on, one.slot) for one in boot.members] == [("part:vda2", 0), ("part:vdb2", 1)]


def test_an_array_with_parity_and_a_spare() -> None:
    (found,) = layout("nested").all(MdArray)
    assert (found.level, found.layout, found.chunk_bytes, found.slots) == (
        *(MdLevel.RAID5, "left-symmetric", 64 << 10),
        3,
    )
    assert [one.slot for one in found.members] == [0, 1, 2, None]


def test_luks2_has_the_parameters_of_each_slot() -> None:
    (found,) = layout("luks-lvm").all(Luks)
    assert (found.version, found.cipher, found.mapper) == (2, "aes-xts-plain64", "vda2_crypt")
    assert [(one.kdf, one.iterations, one.memory_kib) for one in found.slots] == [
        ("pbkdf2", 1000, None),
        ("argon2id", 4, 65536),
    ]


def test_luks1() -> None:
    found = layout("nested").get("luks:inner", Luks)
    assert (found.version, found.key_bits, found.slots[0].iterations) == (1, 512, 1000)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("old_mimage_0", LvKind.HIDDEN),
        ("mirror_rmeta_1", LvKind.HIDDEN),
        ("fast_cpool", LvKind.HIDDEN),
        ("striped", LvKind.STRIPED),
        ("two", LvKind.LINEAR),
        ("five", LvKind.RAID),
        ("mirror", LvKind.RAID),
        ("old", LvKind.MIRROR),
        ("cached", LvKind.CACHE),
    ],
)
def test_kinds_of_volumes(name: str, kind: LvKind) -> None:
    assert layout("nested").get(f"lv:in/{name}", LogicalVolume).kind is kind


def test_a_cached_volume_names_its_origin_and_its_cache() -> None:
    found = layout("nested").get("lv:in/cached", LogicalVolume)
    (segment,) = found.segments
    assert (found.pool, segment.areas) == (
        "lv:in/fast_cpool",
        (LvArea("lv:in/cached_corig", 0),),
    )
    assert (segment.cache_mode, segment.cache_policy) == ("writethrough", "smq")


def test_a_volume_in_two_pieces() -> None:
    found = layout("nested").get("lv:in/two", LogicalVolume)
    assert [(one.start, one.extents) for one in found.segments] == [(0, 16), (16, 8)]


def test_a_thin_pool_has_data_and_metadata() -> None:
    (segment,) = layout("luks-lvm").get("lv:vg0/pool", LogicalVolume).segments
    assert segment.areas == (LvArea("lv:vg0/pool_tdata", 0),)
    assert segment.metadata == (LvArea("lv:vg0/pool_tmeta", 0),)


def test_a_thin_volume_has_its_number_in_the_pool() -> None:
    found = layout("luks-lvm").get("lv:vg0/data", LogicalVolume)
    assert (found.kind, found.pool, found.segments[0].thin_id) == (LvKind.THIN, "lv:vg0/pool", 1)


def test_snapshots_and_what_is_foreign_are_named() -> None:
    assert [one.node for one in layout("luks-lvm").unsupported] == [
        "lv:vg0/srv-snap",
        "lv:vg0/data-snap",
    ]
    assert [one.node for one in layout("families").unsupported] == ["luks:vda11", "opaque:vda10"]


def test_a_machine_with_nothing_foreign_has_none() -> None:
    assert layout("raid").unsupported == layout("nested").unsupported == ()


def test_a_bind_mount_is_one() -> None:
    found = layout("mbr").get("mount:/mnt/srv", Mount)
    assert (found.bind, found.root, found.source) == (True, "/home", "fs:vda2")


def test_a_mount_has_its_options_and_those_of_fstab() -> None:
    found = layout("mbr").get("mount:/mnt", Mount)
    assert found.options == ("rw", "relatime", "stripe=8")
    assert found.fstab == "errors=remount-ro"


def test_a_mounted_subvolume_is_the_source() -> None:
    found = layout("luks-lvm").get("mount:/mnt/www", Mount)
    assert (found.source, found.root, found.bind) == ("subvolume:vg0/srv/@www", "/", False)


def test_swap_on_a_partition_and_in_a_file() -> None:
    partition, file = layout("mbr").all(Swap)
    assert (partition.priority, partition.label, partition.size_bytes) == (5, "swap", 48 << 20)
    assert (file.on, file.path, file.size_bytes) == ("fs:vda2", "/swapfile", 8 << 20)


def test_a_machine_without_disks_has_an_empty_layout() -> None:
    system = recorded("mbr")
    system.asked["run"] = {"\0".join(COMMAND): [0, "", ""]}
    system.asked["read"] = {}
    assert probe_layout(system).nodes == ()


def test_a_disk_that_cannot_be_opened_is_named() -> None:
    """blkid ends as if there were nothing on it."""
    system = recorded("mbr")
    said = "blkid: error: /dev/vda1: Operation not permitted\n"
    system.asked["run"]["blkid\0-p\0-o\0udev\0/dev/vda1"] = [2, "", said]
    (found,) = probe_layout(system).unsupported
    assert found.node == "opaque:vda1"
    assert "only root may read disks" in found.words


def test_a_missing_tool_is_named_where_it_is_needed() -> None:
    system = recorded("mbr")
    system.asked["run"]["sfdisk\0-J\0/dev/vda"] = [NOT_RUN, "", "No such file or directory"]
    found = [one.words for one in probe_layout(system).unsupported]
    assert "needs sfdisk, which is not there" in " ".join(found)


def test_without_lsblk_there_is_no_layout() -> None:
    system = recorded("mbr")
    del system.asked["run"]["\0".join(COMMAND)]
    with pytest.raises(CannotRead, match="needs lsblk, which is not there"):
        probe_layout(system)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"blockdevices": [1]}', '{"blockdevices": [{}]}', "{" * 10]
)
def test_nonsense_of_lsblk_is_an_error(text: str) -> None:
    system = recorded("mbr")
    system.asked["run"]["\0".join(COMMAND)] = [0, text or "x", ""]
    with pytest.raises(CannotRead, match="lsblk"):
        probe_layout(system)


def test_a_locked_volume_is_named() -> None:
    found = layout("families").get("luks:vda11", Luks)
    assert found.mapper is None


def test_a_mount_point_with_a_newline_is_one_as_any() -> None:
    system = recorded("mbr")
    text = system.asked["read"]["/proc/self/mountinfo"]
    system.asked["read"]["/proc/self/mountinfo"] = str(text).replace("/mnt/boot ", "/mnt/a\\012b ")
    found = probe_layout(system).get("mount:/mnt/a\\x0ab", Mount)
    assert found.point == "/mnt/a\nb"


def test_what_is_on_a_device_that_nothing_explains_is_kept() -> None:
    """A LUKS volume with its header elsewhere: the mapping is there, the volume is not."""
    system = recorded("luks-lvm")
    system.asked["run"]["blkid\0-p\0-o\0udev\0/dev/vda2"] = [2, "", ""]
    found = probe_layout(system)
    assert found.unsupported[0].node == "luks:vda2_crypt"
    assert found.get("mount:/mnt/data", Mount)


def test_a_table_that_makes_no_sense_is_named() -> None:
    system = recorded("mbr")
    said = system.asked["run"]["sfdisk\0-J\0/dev/vda"]
    assert isinstance(said, list)
    said[1] = str(said[1]).replace('"start": 133120', '"start": 133000')
    words = {one.node: one.words for one in probe_layout(system).unsupported}
    assert words["opaque:vda"] == "part:vda1 and part:vda2 overlap"


def test_a_group_that_lacks_a_disk_is_named() -> None:
    system = recorded("raid")
    for name, said in system.asked["run"].items():
        if name.startswith("lvm\0vgs"):
            assert isinstance(said, list)
            said[1] = str(said[1]).replace('"pv_count":"1"', '"pv_count":"2"')
    found = probe_layout(system)
    assert ("vg:system", "some of its physical volumes are missing") in [
        (one.node, one.words) for one in found.unsupported
    ]
    assert found.get("mount:/mnt/home", Mount)


def test_an_array_whose_tool_is_missing_is_named() -> None:
    system = recorded("raid")
    system.asked["run"] = {
        name: said for name, said in system.asked["run"].items() if not name.startswith("mdadm")
    }
    assert "needs mdadm, which is not there" in " ".join(
        one.words for one in probe_layout(system).unsupported
    )


def test_an_array_without_one_of_its_members_is_shown() -> None:
    system = recorded("raid")
    place = "/sys/class/block/md127/md"
    system.asked["names"][place] = ["dev-vda2"]
    (found,) = (one for one in probe_layout(system).all(MdArray) if one.kernel_name == "md127")
    assert ([one.on for one in found.members], found.slots) == (["part:vda2"], 2)


@pytest.mark.parametrize("question", ["subvolume\0list", "filesystem\0usage", "inspect-internal"])
def test_btrfs_that_does_not_tell_all_is_named(question: str) -> None:
    system = recorded("families")
    asked = system.asked["run"]
    system.asked["run"] = {name: said for name, said in asked.items() if question not in name}
    found = probe_layout(system)
    assert "opaque:vda8" in [one.node for one in found.unsupported]
    assert found.get("mount:/mnt/pair", Mount)


def test_settings_of_ext4_with_casefold() -> None:
    system = recorded("mbr")
    said = system.asked["run"]["dumpe2fs\0-h\0/dev/vda2"]
    assert isinstance(said, list)
    said[1] = f"{said[1]}\nCharacter encoding:       utf8-12.1\n"
    found = probe_layout(system).get("fs:vda2", Filesystem).settings
    assert isinstance(found, ExtSettings)
    assert found.encoding == "utf8-12.1"


def test_a_disk_with_sectors_of_4096_bytes() -> None:
    found = layout("sectors")
    disk = found.get("disk:sda", Disk)
    (first, *_) = (one for one in found.all(Partition) if one.table == "table:sda")
    assert (disk.logical_sector, disk.model) == (4096, "scsi_debug")
    assert (first.start, first.size, first.size_bytes) == (1024, 4096, 16 << 20)


def test_swap_with_a_key_of_its_own_is_no_loss() -> None:
    found = layout("sectors")
    assert found.get("opaque:cryptswap", Opaque).what == "swap with a key of this boot's"
    assert found.unsupported == ()
