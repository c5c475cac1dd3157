"""Filesystems made by their plans, against what was saved and against their own checkers."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from archive.errors import LayoutInvalid
from archive.machine.layout import AnyNode, Layout, Unsupported
from archive.machine.layoutfiles import BtrfsMember, BtrfsSettings, Family, Filesystem, Swap
from archive.machine.layoutnodes import Disk, Partition, PartitionTable
from archive.run import run
from mindi.tools import KITS
from restore.plan.actions import Action
from restore.plan.filesystems import (
    format_action,
    format_refusals,
    seal_action,
    subvolume_action,
)
from restore.plan.mounts import mount_actions, unmount_actions
from restore.plan.swaps import swap_action
from tests.support.formats import PACKAGES, attached, check, devices, images, perform, seen
from tests.support.layouts import disk
from tests.support.tools import require_tool
from tests.test_probe import MACHINES, layout

pytestmark = pytest.mark.slow

FILESYSTEMS = [(machine, one.id) for machine in MACHINES for one in layout(machine).all(Filesystem)]
# What btrfs gets of its use, not of mkfs.btrfs: a default subvolume, blocks larger than a page.
_BY_USE = 0x2 | 0x20


def made(held: Layout, node: Filesystem, folder: Path) -> Filesystem:
    """Make a filesystem on files, let it be checked, and return what a probe sees of it."""
    action = format_action(held, node, devices(held))
    files = images(held, node, folder)
    if node.family is Family.NILFS2:
        # nilfs-tune wants a block device.
        with attached(files) as loops:
            perform(action, loops)
    else:
        perform(action, files)
        check(node.family, list(files.values()))
    found = seen(node, list(files.values()))
    assert isinstance(found, Filesystem)
    return found


def settable(node: Filesystem) -> Filesystem:
    """Return a filesystem without what mkfs cannot set, and a probe of files does not tell."""
    settings = node.settings
    if not isinstance(settings, BtrfsSettings):
        return node
    numbers = tuple(BtrfsMember(one.number, "") for one in settings.members)
    plain = replace(
        settings,
        members=numbers,
        incompat=settings.incompat & ~_BY_USE,
        data=None,
        metadata=None,
        default_subvolume=None,
    )
    return replace(node, settings=plain)


@pytest.mark.parametrize(("machine", "name"), FILESYSTEMS, ids=[":".join(o) for o in FILESYSTEMS])
def test_it_becomes_what_it_was(machine: str, name: str, tmp_path: Path) -> None:
    held = layout(machine)
    node = held.get(name, Filesystem)
    assert settable(made(held, node, tmp_path)) == settable(node)


@pytest.mark.parametrize(("machine", "name"), FILESYSTEMS, ids=[":".join(o) for o in FILESYSTEMS])
def test_nothing_that_was_recorded_is_refused(machine: str, name: str) -> None:
    held = layout(machine)
    assert format_refusals(held, held.get(name, Filesystem)) == ()


@dataclass(frozen=True)
class Variant:
    """How someone made a filesystem: its family, its size, the commands without the device."""

    family: Family
    size_mib: int
    commands: tuple[str, ...]


def _ext(*commands: str, size_mib: int = 64) -> Variant:
    return Variant(Family.EXT4, size_mib, commands)


def _xfs(options: str, size_mib: int = 320) -> Variant:
    return Variant(Family.XFS, size_mib, (f"mkfs.xfs -q -f {options}",))


def _fat(options: str, size_mib: int = 64) -> Variant:
    return Variant(Family.VFAT, size_mib, (f"mkfs.vfat {options}",))


VARIANTS = {
    "ext4 of 1 KiB blocks": _ext("mke2fs -q -t ext4 -b 1024"),
    "ext4 without a journal": _ext("mke2fs -q -t ext4 -O ^has_journal"),
    "ext4 with bigalloc": _ext("mke2fs -q -t ext4 -O bigalloc -C 65536", size_mib=256),
    "ext4 with casefold": _ext("mke2fs -q -t ext4 -O casefold -E encoding=utf8-12.1"),
    "ext4 without 64bit": _ext("mke2fs -q -t ext4 -O ^64bit,^metadata_csum"),
    "ext4 with small inodes": _ext("mke2fs -q -t ext4 -I 128"),
    "ext4 with large inodes": _ext("mke2fs -q -t ext4 -I 1024 -N 1000"),
    "ext4 with fast commits": _ext("mke2fs -q -t ext4 -O fast_commit,orphan_file -J size=8"),
    "ext4 with other groups": _ext("mke2fs -q -t ext4 -b 1024 -g 4096 -G 4"),
    "ext4 without flexible groups": _ext("mke2fs -q -t ext4 -O ^flex_bg,^resize_inode,meta_bg"),
    "ext4 of 64 KiB blocks": _ext("mke2fs -q -F -t ext4 -b 65536", size_mib=512),
    "ext4 with quotas": _ext("mke2fs -q -t ext4 -O quota,project"),
    "ext4 with all for files": _ext(
        "mke2fs -q -t ext4 -O inline_data,ea_inode,large_dir,encrypt,verity,stable_inodes"
    ),
    "ext4 with other super blocks": _ext("mke2fs -q -t ext4 -O sparse_super2,^resize_inode"),
    "ext4 with a seed of its own": _ext("mke2fs -q -t ext4 -O metadata_csum_seed"),
    "ext4 of long ago": _ext("mke2fs -q -t ext4 -O uninit_bg,^metadata_csum,^64bit"),
    "ext4 for several machines": _ext("mke2fs -q -t ext4 -O mmp"),
    "ext4 on stripes": _ext("mke2fs -q -t ext4 -E stride=16,stripe_width=48"),
    "ext4 with a small part of its device": Variant(
        Family.EXT4, 64, ("mke2fs -q -t ext4 -b 4096 -m 0.3 {} 9001",)
    ),
    "ext4 that grew": _ext("mke2fs -q -t ext4 -b 1024 {} 20000", "resize2fs {} 63000"),
    "ext4 that was tuned": _ext(
        "mke2fs -q -t ext4",
        "tune2fs -r 777 -u 12 -g 34 -e panic -c 31 -i 12345s {}",
        "tune2fs -o ^acl,^user_xattr,journal_data_ordered,nodelalloc -E hash_alg=tea {}",
    ),
    "ext3": Variant(Family.EXT3, 32, ("mke2fs -q -t ext3",)),
    "ext2 with hardly a feature": Variant(
        Family.EXT2, 32, ("mke2fs -q -t ext2 -O none,filetype -I 128",)
    ),
    "ext2 without a feature": Variant(Family.EXT2, 32, ("mke2fs -q -t ext2 -O none",)),
    "ext2 of revision 0": Variant(Family.EXT2, 32, ("mke2fs -q -t ext2 -r 0",)),
    "XFS without reflink": _xfs("-m reflink=0,bigtime=0,inobtcount=0"),
    "XFS with all": _xfs("-m rmapbt=1 -i nrext64=1"),
    "XFS on stripes": _xfs("-d sunit=128,swidth=384,agcount=4", 512),
    "XFS of 1 KiB blocks": _xfs("-b size=1024 -n size=8192"),
    "XFS of many groups": _xfs("-d agcount=7 -i size=1024,maxpct=7", 512),
    "XFS of 4 KiB sectors": _xfs("-s size=4096"),
    "XFS with its log on stripes": _xfs("-l size=70m,sunit=64"),
    "XFS without checksums": _xfs("-m crc=0 -n ftype=0 -i size=256,projid32bit=0 -l lazy-count=0"),
    "XFS with an old log": _xfs("-m crc=0 -l version=1"),
    "XFS that folds case": _xfs("-n version=ci"),
    "XFS without sparse inodes": _xfs("-m finobt=0 -i sparse=0"),
    "XFS that is small": _xfs("--unsupported -l size=8m", 64),
    "XFS of one group": _xfs("--unsupported -d agcount=1"),
    "XFS with a part of its device": _xfs("-d size=314572800"),
    "FAT12": _fat("-F 12", 8),
    "FAT16": _fat("-F 16 -s 4 -r 1024"),
    "FAT32": _fat("-F 32 -s 1 -R 40"),
    "FAT with one table": _fat("-F 16 -f 1 -M 0xf0 -h 63"),
    "FAT that is not aligned": _fat("-F 32 -s 8 -R 33 -a", 600),
    "FAT with sectors of 4 KiB": _fat("-S 4096 -s 2 -F 16", 256),
    "FAT with its clusters by itself": _fat("-F 32", 600),
    "exFAT": Variant(Family.EXFAT, 64, ("mkfs.exfat -c 32K -L plain",)),
    "F2FS of larger sections": Variant(
        Family.F2FS, 256, ("mkfs.f2fs -q -f -s 2 -z 2 -l flash -O encrypt,verity",)
    ),
    "F2FS with all": Variant(
        Family.F2FS,
        128,
        (
            "mkfs.f2fs -q -f -C utf8 -O extra_attr,project_quota,inode_checksum,inode_crtime"
            ",flexible_inline_xattr,quota,lost_found,sb_checksum,casefold,compression",
        ),
    ),
    "JFS": Variant(Family.JFS, 64, ("mkfs.jfs -q -O -s 3 -L jfs",)),
    "NTFS": Variant(Family.NTFS, 64, ("mkntfs -Q -F -q -c 8192 -s 1024 -p 0 -H 255 -S 63",)),
    "btrfs of 4 KiB nodes": Variant(Family.BTRFS, 128, ("mkfs.btrfs -q -f -n 4096 --csum blake2",)),
    "btrfs with mixed groups": Variant(Family.BTRFS, 128, ("mkfs.btrfs -q -f -M --csum sha256",)),
    "btrfs of long ago": Variant(
        Family.BTRFS,
        128,
        ("mkfs.btrfs -q -f -O ^no-holes,^skinny-metadata -R ^free-space-tree --csum xxhash",),
    ),
}


class NotMadeError(Exception):
    """Someone's own commands failed."""


def by_hand(variant: Variant, folder: Path) -> tuple[Layout, Filesystem]:
    """Make a filesystem on a disk as someone did, and return what a probe sees of it."""
    whole = disk(size_mib=variant.size_mib)
    image = str(folder / "by hand")
    with Path(image).open("xb") as file:
        file.truncate(whole.size_bytes)
    for command in variant.commands:
        argv = (command if "{}" in command else command + " {}").split()
        require_tool(argv[0], package=PACKAGES.get(argv[0]))
        ended = run([image if word == "{}" else word for word in argv], timeout_s=60)
        if ended.status:
            raise NotMadeError(ended.output)
    asked = Swap(id="swap:sda", on=whole.id, size_bytes=1)
    found = seen(asked, [image])
    assert isinstance(found, Filesystem)
    node = replace(found, id=f"fs:{whole.kernel_name}")
    return Layout.of([whole, node]), node


@pytest.mark.parametrize("name", VARIANTS)
def test_what_someone_made_is_made_again(name: str, tmp_path: Path) -> None:
    held, node = by_hand(VARIANTS[name], tmp_path)
    assert format_refusals(held, node) == ()
    assert settable(made(held, node, tmp_path)) == settable(node)


def variant(held: Layout, name: str, **changes: object) -> Filesystem:
    """Return a filesystem of a layout with other settings."""
    node = held.get(name, Filesystem)
    return replace(node, settings=replace(node.settings, **changes))  # type: ignore[arg-type]


CHANGES: list[tuple[str, str, dict[str, object]]] = [
    ("mbr", "fs:vda2", {"reserved_blocks": 7000}),
    ("mbr", "fs:vda2", {"inode_bytes": 128}),
    ("mbr", "fs:vda2", {"errors": "panic"}),
    ("mbr", "fs:vda2", {"mount_options": ("acl",)}),
    ("mbr", "fs:vda2", {"stride_blocks": None}),
    ("luks-lvm", "fs:vg0/root", {"inode_percent": 30}),
    ("luks-lvm", "fs:vg0/root", {"log_blocks": 17000}),
    (
        "luks-lvm",
        "fs:vg0/root",
        {"features": ("crc", "finobt", "sparse", "projid32bit", "ftype", "lazy-count")},
    ),
    ("luks-lvm", "fs:vda1", {"media": 0xF0}),
    ("luks-lvm", "fs:vda1", {"hidden_sectors": 63}),
    ("families", "fs:vda2", {"cluster_bytes": 8192}),
    ("families", "fs:vda3", {"features": 0x8}),
    ("families", "fs:vda5", {"log_bytes": 2 << 20}),
    ("families", "fs:vda6", {"cluster_bytes": 8192}),
    ("families", "fs:vda8", {"node_bytes": 32768}),
]


@pytest.mark.parametrize(
    ("machine", "name", "changes"),
    CHANGES,
    ids=[f"{machine} {name} {next(iter(one))}" for machine, name, one in CHANGES],
)
def test_another_setting_is_seen(
    machine: str, name: str, changes: dict[str, object], tmp_path: Path
) -> None:
    held = layout(machine)
    found = settable(made(held, variant(held, name, **changes), tmp_path))
    assert found != settable(held.get(name, Filesystem))


@pytest.mark.parametrize(
    ("machine", "name", "label"),
    [
        ("mbr", "fs:vda2", '-O \u00e4 "$(x)'),
        ("luks-lvm", "fs:vg0/root", "-f \u00e4,'`"),
        ("luks-lvm", "fs:vg0/srv", "--rootdir=/ \u00e4"),
        ("luks-lvm", "fs:vda1", "-C A#B"),
        ("families", "fs:vda2", "-f \u00e4\u6f22"),
        ("families", "fs:vda3", "-g \u00e4"),
        ("families", "fs:vda4", "-n \u00e4"),
        ("families", "fs:vda5", "-c \u00e4"),
        ("families", "fs:vda6", "--force \u00e4"),
    ],
    ids=["ext4", "xfs", "btrfs", "vfat", "exfat", "f2fs", "nilfs2", "jfs", "ntfs"],
)
def test_a_label_is_a_label_whatever_it_looks_like(
    machine: str, name: str, label: str, tmp_path: Path
) -> None:
    held = layout(machine)
    node = replace(held.get(name, Filesystem), label=label)
    assert made(held, node, tmp_path).label == label


def test_without_a_label_there_is_none(tmp_path: Path) -> None:
    held = layout("luks-lvm")
    node = replace(held.get("fs:vda1", Filesystem), label="")
    assert made(held, node, tmp_path).label == ""


def test_a_label_of_fat_that_no_tool_writes_is_left_out(tmp_path: Path) -> None:
    held = layout("luks-lvm")
    node = replace(held.get("fs:vda1", Filesystem), label="M\u00dcLL")
    assert made(held, node, tmp_path).label == ""


def test_the_machine_s_own_settings_of_ext4_have_no_say(tmp_path: Path) -> None:
    held = layout("mbr")
    node = held.get("fs:vda2", Filesystem)
    strange = tmp_path / "mke2fs.conf"
    strange.write_text(
        """[defaults]
        base_features = sparse_super2,filetype,ext_attr,large_dir
        default_mntopts = debug,nobarrier
        enable_periodic_fsck = 1
        errors = panic
        blocksize = 4096
        inode_size = 1024
        inode_ratio = 65536
        reserved_ratio = 20
        hash_alg = tea
        flex_bg_size = 64
        cluster_size = 32768
        [fs_types]
        ext4 = {
            features = has_journal,extent,bigalloc,quota,orphan_file
            options = stride=99
            inode_size = 512
        }
        default = {
            features = inline_data
        }
        """
    )
    files = images(held, node, tmp_path)
    action = format_action(held, node, devices(held))
    setting = ("env", f"MKE2FS_CONFIG={strange}")
    commands = tuple(replace(one, argv=(*setting, *one.argv)) for one in action.commands)
    perform(replace(action, commands=commands), files)
    assert seen(node, list(files.values())) == node


def test_ntfs_behind_what_a_boot_sector_tells_is_made(tmp_path: Path) -> None:
    nodes: list[AnyNode] = []
    for one in layout("families").nodes:
        if isinstance(one, Disk):
            one = replace(one, size_bytes=8 << 40)
        if isinstance(one, PartitionTable):
            one = replace(one, last_sector=(8 << 40) // 512 - 34)
        if one.id == "part:vda6" and isinstance(one, Partition):
            one = replace(one, start=5_000_000_000)
        nodes.append(one)
    held = Layout.of(nodes)
    node = held.get("fs:vda6", Filesystem)
    assert made(held, node, tmp_path) == node


def pool(count: int) -> tuple[Layout, Filesystem]:
    """Return a layout with btrfs on as many disks."""
    held = layout("luks-lvm")
    node = held.get("fs:vg0/srv", Filesystem)
    assert isinstance(node.settings, BtrfsSettings)
    disks = [disk(f"sd{letter}", size_mib=256) for letter in "abcd"[:count]]
    members = tuple(BtrfsMember(number, str(node.uuid)) for number in range(1, count + 1))
    settings = replace(node.settings, members=members, default_subvolume=None)
    placed = replace(node, devices=tuple(one.id for one in disks), settings=settings)
    return Layout.of([*disks, placed]), placed


@pytest.mark.parametrize(
    ("count", "data", "metadata"),
    [
        (1, "dup", "dup"),
        (2, "raid0", "raid1"),
        (3, "raid5", "raid1c3"),
        (4, "raid10", "raid6"),
    ],
)
def test_btrfs_gets_its_profiles(count: int, data: str, metadata: str, tmp_path: Path) -> None:
    held, node = pool(count)
    assert isinstance(node.settings, BtrfsSettings)
    node = replace(node, settings=replace(node.settings, data=data, metadata=metadata))
    files = images(held, node, tmp_path)
    perform(format_action(held, node, devices(held)), files)
    argv = ("btrfs", "inspect-internal", "dump-tree", "-t", "chunk", *files.values())
    chunks = re.findall(r" type (DATA|METADATA)\|(\S+)", run(argv, timeout_s=60).output)
    found = {(kind, profile.lower()) for kind, profile in chunks}
    assert found == {("DATA", data), ("METADATA", metadata)}


REFUSED: list[tuple[str, str, dict[str, object], str]] = [
    (
        "mbr",
        "fs:vda2",
        {"journal_uuid": "41c0bdec-8cb2-4a25-a21a-0dbdfb3f908a"},
        "journal is on another device",
    ),
    ("mbr", "fs:vda2", {"features": ("extent", "FEATURE_C12")}, "FEATURE_C12"),
    ("mbr", "fs:vda2", {"encoding": "utf8,root_owner=1:1"}, "encoding"),
    ("mbr", "fs:vda2", {"hash": "siphash"}, "siphash"),
    ("mbr", "fs:vda2", {"mount_options": ("MNTOPT_12",)}, "MNTOPT_12"),
    ("mbr", "fs:vda2", {"errors": "run"}, "on errors"),
    ("mbr", "fs:vda2", {"blocks": -1}, "below zero: blocks"),
    ("luks-lvm", "fs:vg0/root", {"internal_log": False}, "log is on another device"),
    ("luks-lvm", "fs:vg0/root", {"realtime": True}, "realtime"),
    ("luks-lvm", "fs:vg0/root", {"features": ("crc", "metadir")}, "metadir"),
    ("luks-lvm", "fs:vg0/srv", {"incompat": 0x2000}, "0x2000"),
    ("luks-lvm", "fs:vg0/srv", {"checksum": "crc64"}, "crc64"),
    ("luks-lvm", "fs:vg0/srv", {"data": "raid7"}, "raid7"),
    ("luks-lvm", "fs:vg0/srv", {"default_subvolume": "gone"}, "gone"),
    ("families", "fs:vda3", {"features": 0x4000}, "0x4000"),
    ("families", "fs:vda3", {"features": 0x1000, "encoding": 9}, "encoding 9"),
    ("families", "fs:vda4", {"features": 0x2}, "0x2"),
    ("families", "fs:vda5", {"log_bytes": 0}, "log is on another device"),
    ("families", "fs:vda5", {"block_bytes": 512}, "512"),
    ("families", "fs:vda7", {"bits": 17}, "17 bits"),
    ("families", "fs:vda7", {"cluster_bytes": 1}, "smaller than its sectors"),
]


@pytest.mark.parametrize(
    ("machine", "name", "changes", "words"),
    REFUSED,
    ids=[f"{name} {next(iter(one))} {words}" for _, name, one, words in REFUSED],
)
def test_what_cannot_be_made_is_refused(
    machine: str, name: str, changes: dict[str, object], words: str
) -> None:
    held = layout(machine)
    node = variant(held, name, **changes)
    (refused,) = format_refusals(held, node)
    assert refused.node == name
    assert words in refused.words
    with pytest.raises(LayoutInvalid):
        format_action(held, node, devices(held))


def test_btrfs_that_missed_a_device_is_refused() -> None:
    held, node = pool(2)
    told = Unsupported(node.id, "1 of its 3 devices are missing")
    (refused,) = format_refusals(Layout.of(held.nodes, [told]), node)
    assert "devices are missing" in refused.words


def test_a_filesystem_larger_than_its_device_is_refused() -> None:
    held = layout("mbr")
    node = replace(held.get("fs:vda2", Filesystem), size_bytes=1 << 40)
    (refused,) = format_refusals(held, node)
    assert "larger than its device: 1 TiB on a device of" in refused.words


def test_a_uuid_of_another_family_is_refused() -> None:
    held = layout("mbr")
    node = replace(held.get("fs:vda2", Filesystem), uuid="ABCD-1234")
    (refused,) = format_refusals(held, node)
    assert "ABCD-1234" in refused.words


@pytest.mark.parametrize(
    ("machine", "name", "label"),
    [("mbr", "fs:vda2", "x" * 17), ("luks-lvm", "fs:vg0/root", "\u00e4" * 7)],
    ids=["ext4", "xfs"],
)
def test_a_label_that_has_no_room_is_refused(machine: str, name: str, label: str) -> None:
    held = layout(machine)
    (refused,) = format_refusals(held, replace(held.get(name, Filesystem), label=label))
    assert "label" in refused.words


def test_an_action_says_what_it_does_and_destroys() -> None:
    held = layout("families")
    action = format_action(held, held.get("fs:vda8", Filesystem), devices(held))
    assert action.id == "format:fs:vda8"
    assert action.words == 'make btrfs "pair" of 256 MiB on /dev/vda8 and /dev/vda9'
    assert action.destroys == ("/dev/vda8", "/dev/vda9")


# Of BusyBox.
APPLETS = {"mkdir", "chmod", "dd", "truncate", "env"}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_rescue_image_has_every_program(machine: str) -> None:
    held = layout(machine)
    actions: list[Action | None] = [
        *mount_actions(held, devices(held)),
        *unmount_actions(held),
        *(swap_action(held, one, devices(held)) for one in held.all(Swap)),
    ]
    for node in held.all(Filesystem):
        actions.append(format_action(held, node, devices(held)))
        actions.append(subvolume_action(held, node, devices(held), at="/at"))
        actions.append(seal_action(held, node, devices(held), at="/at"))
    used = {command.argv[0] for one in actions if one is not None for command in one.commands}
    assert used - {tool.name for kit in KITS for tool in kit.tools} - APPLETS == set()


@st.composite
def ext4(draw: st.DrawFn) -> Variant:
    """Return ext4 that someone made with whatever mke2fs takes."""
    block = draw(st.sampled_from([1024, 2048, 4096]))
    switches = "has_journal resize_inode dir_index ext_attr filetype flex_bg 64bit huge_file"
    more = "inline_data ea_inode large_dir encrypt quota project verity dir_nlink extra_isize"
    every = f"{switches} {more} metadata_csum".split()
    words = [f"{draw(st.sampled_from(['', '^']))}{name}" for name in every]
    argv = f"mke2fs -q -F -t ext4 -b {block} -O {','.join(words)}"
    argv += f" -I {draw(st.sampled_from([256, 512, 128]))} -N {draw(st.integers(20, 30000))}"
    argv += f" -m {draw(st.integers(0, 40))} -G {1 << draw(st.integers(1, 8))}"
    tuned = f"tune2fs -c {draw(st.integers(-1, 99))} -i {draw(st.integers(0, 99))}w"
    tuned += f" -u {draw(st.integers(0, 70000))} -E stride={draw(st.integers(0, 999))}"
    blocks = draw(st.integers(20_000, 65536)) * 1024 // block
    return Variant(Family.EXT4, 64, (f"{argv} {{}} {blocks}", tuned))


@st.composite
def xfs(draw: st.DrawFn) -> Variant:
    """Return XFS that someone made with whatever mkfs.xfs takes."""
    crc = draw(st.sampled_from([1, 1, 0]))
    block = draw(st.sampled_from([1024, 2048, 4096]))

    def switches(names: str) -> str:
        return ",".join(f"{name}={draw(st.sampled_from([0, crc]))}" for name in names.split())

    argv = f"mkfs.xfs -q -f --unsupported -m crc={crc}," + switches(
        "finobt rmapbt reflink inobtcount bigtime"
    )
    inode = draw(st.sampled_from([512, 1024] if crc else [256, 512]))
    percent = draw(st.integers(0, 99))
    argv += f" -b size={block} -i size={inode},maxpct={percent}," + switches("sparse nrext64")
    argv += f" -n size={draw(st.sampled_from([4096, 8192]))}"
    stripes = draw(st.sampled_from(["noalign", "sunit=64,swidth=192", "su=128k,sw=3"]))
    argv += f" -d agcount={draw(st.integers(1, 9))},{stripes}"
    argv += f" -l size={draw(st.integers(16, 20))}m"
    return Variant(Family.XFS, draw(st.integers(200, 500)), (argv,))


@st.composite
def fat(draw: st.DrawFn) -> Variant:
    """Return FAT that someone made with whatever mkfs.fat takes."""
    bits = draw(st.sampled_from([12, 16, 32]))
    argv = f"mkfs.vfat -F {bits} -S {draw(st.sampled_from([512, 1024, 4096]))}"
    argv += f" -s {1 << draw(st.integers(0, 6))} -R {draw(st.integers(bits // 4, 99))}"
    argv += f" -f {draw(st.integers(1, 2))} -h {draw(st.integers(0, 1 << 31))}"
    argv += draw(st.sampled_from(["", " -a"]))
    argv += "" if bits == 32 else f" -r {128 * draw(st.integers(1, 16))}"
    return Variant(Family.VFAT, draw(st.integers(1, 400)), (argv,))


@given(chosen=ext4())
@settings(max_examples=60, deadline=None)
def test_whatever_ext4_someone_made_is_made_again(chosen: Variant) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            held, node = by_hand(chosen, Path(folder))
        except NotMadeError:
            # Not all features go together.
            reject()
        assert made(held, node, Path(folder)) == node


@given(chosen=xfs() | fat())
@settings(max_examples=60, deadline=None)
def test_whatever_xfs_or_fat_someone_made_is_made_again(chosen: Variant) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            held, node = by_hand(chosen, Path(folder))
        except NotMadeError:
            # Not all features go together.
            reject()
        assert made(held, node, Path(folder)) == node
