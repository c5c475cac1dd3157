"""What is on disks is let go of in order, and nothing of it is recognized afterwards."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import Disk, Luks, MdArray, MdLevel, MdMember, Opaque, Partition
from restore.plan.actions import Action, Phase
from restore.plan.clearing import clearing_actions, clearing_refusals
from tests.support.layouts import MIB, disk, ext4, mount, partition, table
from tests.support.tools import lacking, require_tool
from tests.test_probe import MACHINES, layout

PACKAGES = {
    "blkid": "util-linux",
    "cryptsetup": "cryptsetup-bin",
    "losetup": "mount",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkswap": "util-linux",
    "dd": "coreutils",
    "pvcreate": "lvm2",
    "sfdisk": "fdisk",
    "wipefs": "util-linux",
}


def everything(held: Layout) -> tuple[Action, ...]:
    return clearing_actions(held, held.all(Disk))


def ids(held: Layout) -> list[str]:
    return [action.id for action in everything(held)]


def argvs(held: Layout, name: str) -> list[str]:
    (action,) = (one for one in everything(held) if one.id == name)
    return [" ".join(command.argv) for command in action.commands]


def test_what_is_on_top_is_let_go_of_first() -> None:
    assert ids(layout("nested")) == [
        "close:luks:inner",
        "deactivate:vg:in",
        *(f"unmap:part:mapper/outer{number}" for number in (3, 2, 1)),
        "close:luks:outer",
        "stop:md:md127",
        *(f"wipe:disk:vd{letter}" for letter in "abcd"),
    ]


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_let_go_of_before_what_lies_on_it(machine: str) -> None:
    held = layout(machine)
    place = {action.node: number for number, action in enumerate(everything(held))}
    for node in held.nodes:
        for name in node.below:
            if node.id in place and name in place:
                assert place[node.id] < place[name], (node.id, name)
    for action in everything(held):
        if action.id.startswith("wipe:part:"):
            (on,) = held.disks_of(held.get(action.node, Partition))
            assert place[action.node] < place[on.id]


def test_partitions_are_cleared_and_then_their_disk() -> None:
    assert ids(layout("mbr")) == [f"wipe:part:vda{number}" for number in (1, 2, 5, 6)] + [
        "wipe:disk:vda"
    ]


def test_nothing_of_other_disks_is_touched() -> None:
    held = Layout.of([disk(), table(), partition(), ext4(), disk("sdb"), disk("sdc")])
    for name in ("sda", "sdb"):
        made = clearing_actions(held, [held.get(f"disk:{name}", Disk)])
        words = [word for one in made for command in one.commands for word in command.argv]
        assert {one.destroys for one in made} == {(f"/dev/{name}",)}
        others = {"sda", "sdb", "sdc"} - {name}
        assert not [word for word in words if any(other in word for other in others)]


def test_of_no_disks_nothing_is_cleared() -> None:
    assert clearing_actions(layout("nested"), []) == ()


def test_a_disk_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LayoutInvalid, match="disk:sdz"):
        clearing_actions(layout("mbr"), [disk("sdz")])


def test_mirrors_are_stopped_and_forgotten() -> None:
    assert argvs(layout("raid"), "stop:md:md127") == [
        "wipefs --all --lock=yes -- /dev/md127",
        "mdadm --stop /dev/md127",
        "mdadm --zero-superblock /dev/vda2",
        "mdadm --zero-superblock /dev/vdb2",
    ]


def test_a_group_is_deactivated_by_its_uuid() -> None:
    held = layout("raid")
    (group,) = held.all(VolumeGroup)
    assert argvs(held, "deactivate:vg:system") == [
        f"lvm vgchange --activate n --select vg_uuid={group.uuid}"
    ]


def test_a_name_is_never_an_option() -> None:
    assert argvs(layout("luks-lvm"), "close:luks:vda2_crypt") == ["cryptsetup close -- vda2_crypt"]
    assert argvs(layout("nested"), "unmap:part:mapper/outer1") == ["dmsetup remove -- outer1"]


def test_the_kernel_forgets_the_devices_of_a_btrfs() -> None:
    assert argvs(layout("families"), "forget:fs:vda8") == [
        "btrfs device scan --forget -- /dev/vda8 /dev/vda9"
    ]


def test_a_locked_volume_is_not_closed() -> None:
    assert layout("families").get("luks:vda11", Luks).mapper is None
    assert not [name for name in ids(layout("families")) if name.startswith("close:")]


@pytest.mark.parametrize("machine", MACHINES)
def test_only_letting_go_may_fail(machine: str) -> None:
    for action in everything(layout(machine)):
        is_wipe = action.id.startswith("wipe:")
        assert all(command.may_fail is not is_wipe for command in action.commands)
        # The first to run looks at whether the device is in use.
        assert not is_wipe or action.commands[0].argv[0] == "wipefs"
        assert not is_wipe or "--force" not in action.commands[0].argv


@pytest.mark.parametrize("machine", MACHINES)
def test_steps_are_told_apart_and_lie_in_the_first_phase(machine: str) -> None:
    held = layout(machine)
    assert len(set(ids(held))) == len(ids(held))
    known = {node.id for node in held.nodes}
    assert all(one.phase is Phase.CLEAR and one.node in known for one in everything(held))
    assert everything(held) == everything(layout(machine))


@pytest.mark.parametrize(
    ("machine", "name", "words"),
    [
        (
            "mbr",
            "wipe:part:vda2",
            'clear the partition /dev/vda2 (200 MiB): a filesystem, ext4 "root disk"',
        ),
        (
            "mbr",
            "wipe:disk:vda",
            "clear the disk /dev/vda (512 MiB, serial mindi-disk0): "
            "a dos partition table with 5 partitions",
        ),
        (
            "raid",
            "wipe:part:vda1",
            "clear the partition /dev/vda1 (1 MiB): it holds nothing known",
        ),
        ("raid", "deactivate:vg:system", "deactivate the volume group system (2 volumes)"),
        (
            "raid",
            "stop:md:md126",
            "stop the array /dev/md126 (raid1, 316 MiB) and make /dev/vda3 and /dev/vdb3 "
            "forget it: a part of the volume group system",
        ),
        (
            "luks-lvm",
            "close:luks:vda2_crypt",
            "close the encrypted volume vda2_crypt, which lies on /dev/vda2",
        ),
        (
            "luks-lvm",
            "wipe:part:vda2",
            'clear the partition /dev/vda2 (1.4 GiB): an encrypted volume "crypt"',
        ),
    ],
)
def test_a_step_says_what_is_lost(machine: str, name: str, words: str) -> None:
    (action,) = (one for one in everything(layout(machine)) if one.id == name)
    assert action.words == words


def test_a_label_does_nothing_to_a_terminal() -> None:
    held = Layout.of([disk(), table(), partition(), ext4(label="\x1b[2J\nclear")])
    (words,) = (one.words for one in everything(held) if one.id == "wipe:part:sda1")
    assert words.endswith('a filesystem, ext4 "?[2J?clear"')


# What must not be torn.


def refused(held: Layout, *names: str) -> list[str]:
    disks = [held.get(f"disk:{name}", Disk) for name in names]
    return [one.node for one in clearing_refusals(held, disks)]


def test_an_array_is_not_torn() -> None:
    held = layout("raid")
    assert refused(held, "vda") == ["md:md126", "md:md127"]
    assert refused(held, "vda", "vdb") == []
    assert refused(held) == []


def test_nothing_of_what_would_be_torn_is_touched() -> None:
    held = layout("raid")
    made = clearing_actions(held, [held.get("disk:vda", Disk)])
    assert not [one.id for one in made if not one.id.startswith("wipe:")]


def volumes(*names: str) -> Layout:
    uuid = "22f2Oh-sOQH-v1B7-EWvo-Kdfb-razU-9c1ee"
    physical = [
        PhysicalVolume(
            id=f"pv:{name}",
            on=f"disk:{name}",
            uuid=f"{uuid}{number}",
            size_bytes=96 * MIB,
            data_start=MIB,
            extents=24,
            metadata_copies=1,
            metadata_bytes=MIB,
        )
        for number, name in enumerate(names)
    ]
    group = VolumeGroup(
        id="vg:data",
        name="data",
        uuid=f"{uuid}z",
        volumes=tuple(one.id for one in physical),
        extent_bytes=4 * MIB,
    )
    return Layout.of([*(disk(name) for name in ("sda", "sdb", "sdc")), *physical, group])


def test_a_volume_group_is_not_torn() -> None:
    held = volumes("sda", "sdb")
    (refusal,) = clearing_refusals(held, [held.get("disk:sda", Disk)])
    assert refusal.node == "vg:data"
    assert refusal.words.startswith(
        "the volume group data lies on disks that are to be overwritten and also on /dev/sdb"
    )
    assert "vgreduce" in refusal.words


def test_a_volume_group_that_lies_elsewhere_is_left_alone() -> None:
    held = volumes("sda", "sdb")
    assert refused(held, "sdc") == []
    made = clearing_actions(held, [held.get("disk:sdc", Disk)])
    assert [one.id for one in made] == ["wipe:disk:sdc"]


def test_a_btrfs_over_disks_is_not_torn() -> None:
    held = layout("families")
    (pair,) = (node for node in held.nodes if node.id == "fs:vda8")
    on = replace(pair, id="fs:sda", devices=("disk:sda", "disk:sdb"))
    two = Layout.of([disk(), disk("sdb"), on])
    assert refused(two, "sdb") == ["fs:sda"]
    assert refused(two, "sda", "sdb") == []


def test_only_the_lowest_of_what_is_torn_is_told() -> None:
    array = MdArray(
        id="md:md0",
        kernel_name="md0",
        name="",
        uuid="7a29821d:153dd938:4da5a58b:cf838ebb",
        level=MdLevel.RAID1,
        metadata="1.2",
        size_bytes=90 * MIB,
        component_bytes=90 * MIB,
        slots=2,
        members=(MdMember("disk:sda", 0, 2048), MdMember("disk:sdb", 1, 2048)),
    )
    held = Layout.of([disk(), disk("sdb"), array, ext4("md:md0"), mount("fs:md0")])
    assert refused(held, "sda") == ["md:md0"]


def test_a_device_that_nobody_knows_to_stop_is_refused() -> None:
    strange = Opaque(id="opaque:mpatha", on=("disk:sda",), what="a device of type mpath")
    held = Layout.of([disk(), disk("sdb"), strange])
    (refusal,) = clearing_refusals(held, [held.get("disk:sda", Disk)])
    assert "mpatha (a device of type mpath) lies on /dev/sda" in refusal.words
    assert refused(held, "sdb") == []


def test_content_that_nobody_knows_is_overwritten() -> None:
    assert refused(layout("families"), "vda") == []


# The commands, on files.


def run(*argv: str, given: str = "") -> str:
    argv = (str(require_tool(argv[0], package=PACKAGES[argv[0]])), *argv[1:])
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def made_ext4(path: Path) -> None:
    run("mkfs.ext4", "-q", "-F", str(path))


def made_btrfs(path: Path) -> None:
    run("mkfs.btrfs", "-q", "--mixed", str(path))


def made_swap(path: Path) -> None:
    run("mkswap", str(path))


def made_luks2(path: Path) -> None:
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    # The second header lies behind what is zeroed.
    size = ("--luks2-metadata-size", "4m")
    run("cryptsetup", "luksFormat", "-q", *cheap, *size, str(path), "-", given="secret")


def made_gpt(path: Path) -> None:
    run("sfdisk", "-q", str(path), given="label: gpt\nsize=8MiB\n")


def made_dos(path: Path) -> None:
    run("sfdisk", "-q", str(path), given="label: dos\nsize=8MiB\n")


def made_lvm(path: Path) -> None:
    losetup = ("losetup", "--find", "--show", str(path))
    argv = (str(require_tool("losetup", package="mount")), *losetup[1:])
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"no loop device: {done.stderr}")
    device = done.stdout.strip()
    try:
        only = f'devices {{ use_devicesfile=0 filter=["a|^{device}$|", "r|.*|"] }}'
        run("pvcreate", "--config", only, device)
    finally:
        run("losetup", "--detach", device)


def made_md_at_the_end(path: Path) -> None:
    """Write what is told of an array's member by a super block of version 1.0, of md_p.h."""
    sector = (path.stat().st_size // 512 - 16) & ~7
    block = bytearray(4096)
    struct.pack_into("<IIII", block, 0, 0xA92B4EFC, 1, 0, 0)
    struct.pack_into("<Q", block, 144, sector)
    with path.open("r+b") as file:
        file.seek(sector * 512)
        file.write(block)


MAKERS = [made_ext4, made_btrfs, made_swap, made_luks2, made_gpt, made_dos, made_lvm]
MAKERS.append(made_md_at_the_end)


def recognized(path: Path) -> bool:
    """Tell whether blkid or wipefs know what is in a file."""
    blkid = [str(require_tool("blkid", package="util-linux")), "--probe", str(path)]
    done = subprocess.run(blkid, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2)
    return done.returncode == 0 or bool(run("wipefs", "--no-act", str(path)))


def wiped(path: Path, *, size_bytes: int, only: Callable[[str], bool] = bool) -> None:
    """Run the commands that clear a disk, on a file; ``only`` those of some programs."""
    held = Layout.of([replace(disk(), size_bytes=size_bytes)])
    for command in everything(held)[-1].commands:
        argv = [word.replace("/dev/sda", str(path)) for word in command.argv]
        if only(argv[0]):
            run(*argv)


@pytest.mark.parametrize("size_mib", [20, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_nothing_is_recognized_afterwards(
    make: Callable[[Path], None], size_mib: int, tmp_path: Path
) -> None:
    path = tmp_path / "disk.img"
    size_bytes = size_mib * MIB + 512
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size_bytes)
    make(path)
    assert recognized(path)
    wiped(path, size_bytes=size_bytes)
    assert not recognized(path)
    assert path.stat().st_size == size_bytes


def test_zeros_alone_would_leave_a_second_header(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("xb") as file:
        file.truncate(120 * MIB)
    made_luks2(path)
    wiped(path, size_bytes=120 * MIB, only=lambda program: program == "dd")
    assert recognized(path)


def test_the_mark_alone_would_leave_the_rest_of_a_label(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("xb") as file:
        file.truncate(20 * MIB)
    made_lvm(path)
    wiped(path, size_bytes=20 * MIB, only=lambda program: program == "wipefs")
    assert b"LABELONE" in path.read_bytes()
    wiped(path, size_bytes=20 * MIB)
    assert b"LABELONE" not in path.read_bytes()


@pytest.mark.parametrize("size_bytes", [512, 4096, MIB, MIB + 512, 2 * MIB, 5 * MIB + 1536])
def test_the_ends_of_a_device_of_any_size_are_zeros(size_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * size_bytes)
    wiped(path, size_bytes=size_bytes)
    content = path.read_bytes()
    assert len(content) == size_bytes
    ends = min(MIB, size_bytes)
    assert content[:ends] == content[-ends:] == bytes(ends)
    assert content[ends:-ends].count(b"x") == max(size_bytes - 2 * MIB, 0)


def test_a_device_in_use_is_not_cleared(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("xb") as file:
        file.truncate(20 * MIB)
    made_ext4(path)
    losetup = require_tool("losetup", package="mount")
    done = subprocess.run(
        [losetup, "--find", "--show", path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lacking(f"no loop device: {done.stderr}")
    device = Path(done.stdout.strip())
    point = tmp_path / "point"
    point.mkdir()
    try:
        subprocess.run(["mount", "-t", "ext4", device, point], check=True)
        try:
            with pytest.raises(AssertionError, match="busy"):
                wiped(device, size_bytes=20 * MIB)
        finally:
            subprocess.run(["umount", point], check=True)
        assert recognized(device)
        # The negative twin: what is no longer in use is.
        wiped(device, size_bytes=20 * MIB)
        assert not recognized(device)
    finally:
        subprocess.run([losetup, "--detach", device], check=True)
