"""Arrays as a restore makes them: argvs taken from mdadm(8), whose options mdadm knows."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutnodes import (
    Disk,
    MdArray,
    MdBitmap,
    MdLevel,
    MdMember,
    Opaque,
)
from restore.plan.actions import Action, Phase
from restore.plan.arrays import array_action, array_refusals
from restore.plan.devices import Devices
from tests.support.layouts import MIB, disk
from tests.support.tools import require_tool
from tests.test_probe import layout

UUID = "7a29821d:153dd938:4da5a58b:cf838ebb"
ALWAYS = ("mdadm", "--create", "/dev/md0", "--run", "--config=none", "--homehost=<none>")
NAMES = ("sda", "sdb", "sdc", "sdd", "sde")


def members(*slots: int | None, offset: int | None = 2048) -> tuple[MdMember, ...]:
    """Return members on sda, sdb, ... in those slots."""
    return tuple(
        MdMember(f"disk:{name}", slot, offset) for name, slot in zip(NAMES, slots, strict=False)
    )


def array(level: MdLevel, held: tuple[MdMember, ...], **more: object) -> MdArray:
    last = max((member.slot for member in held if member.slot is not None), default=1)
    made = MdArray(
        id="md:md0",
        kernel_name="md0",
        name="host:0",
        uuid=UUID,
        level=level,
        metadata="1.2",
        size_bytes=90 * MIB,
        component_bytes=90 * MIB,
        slots=last + 1,
        members=held,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def held_by(one: MdArray, *more: AnyNode) -> Layout:
    known = {node.id for node in more}
    disks = [disk(name) for name in NAMES if f"disk:{name}" not in known]
    return Layout.of([*disks, *more, one])


def action(one: MdArray, held: Layout | None = None) -> Action:
    held = held or held_by(one)
    paths = {node.id: f"/dev/{node.kernel_name}" for node in held.all(Disk)}
    return array_action(held, one, Devices(held, paths))


def argv(one: MdArray, held: Layout | None = None) -> tuple[str, ...]:
    (command,) = action(one, held).commands
    return command.argv


def words(one: MdArray, *more: AnyNode) -> list[str]:
    return [each.words for each in array_refusals(held_by(one, *more), one)]


PLAIN = (f"--uuid={UUID}", "--name=host:0")
SIZE = "--size=92160"
CHUNK = 64 * 1024

CASES = {
    "raid0": (
        array(MdLevel.RAID0, members(0, 1), chunk_bytes=CHUNK, component_bytes=0),
        ("--metadata=1.2", *PLAIN, "--level=raid0", "--chunk=64", "--data-offset=1024K")
        + ("--raid-devices=2", "/dev/sda", "/dev/sdb"),
    ),
    "linear": (
        array(MdLevel.LINEAR, members(0, 1), component_bytes=0),
        ("--metadata=1.2", *PLAIN, "--level=linear", "--data-offset=1024K")
        + ("--raid-devices=2", "/dev/sda", "/dev/sdb"),
    ),
    "raid1-0.90": (
        array(MdLevel.RAID1, members(0, 1, offset=0), metadata="0.90", name=""),
        ("--metadata=0.90", f"--uuid={UUID}", "--level=raid1", SIZE, "--bitmap=none")
        + ("--raid-devices=2", "/dev/sda", "/dev/sdb"),
    ),
    "raid1-1.0-bitmap": (
        array(MdLevel.RAID1, members(0, 1, offset=0), metadata="1.0", bitmap=MdBitmap.INTERNAL),
        ("--metadata=1.0", *PLAIN, "--level=raid1", SIZE, "--bitmap=internal")
        + ("--raid-devices=2", "/dev/sda", "/dev/sdb"),
    ),
    "raid1-missing": (
        array(MdLevel.RAID1, members(1), slots=2, metadata="1.1"),
        ("--metadata=1.1", *PLAIN, "--level=raid1", SIZE, "--bitmap=none", "--data-offset=1024K")
        + ("--raid-devices=2", "missing", "/dev/sda"),
    ),
    "raid1-alone": (
        array(MdLevel.RAID1, members(0)),
        ("--metadata=1.2", *PLAIN, "--level=raid1", SIZE, "--bitmap=none", "--data-offset=1024K")
        + ("--force", "--raid-devices=1", "/dev/sda"),
    ),
    "raid4": (
        array(MdLevel.RAID4, members(0, 1, 2), chunk_bytes=CHUNK),
        ("--metadata=1.2", *PLAIN, "--level=raid4", "--chunk=64", SIZE, "--bitmap=none")
        + ("--data-offset=1024K", "--force", "--raid-devices=3")
        + ("/dev/sda", "/dev/sdb", "/dev/sdc"),
    ),
    "raid5-out-of-order-spare": (
        array(MdLevel.RAID5, members(2, 0, 1, None), chunk_bytes=CHUNK, layout="right-asymmetric"),
        ("--metadata=1.2", *PLAIN, "--level=raid5", "--layout=right-asymmetric", "--chunk=64")
        + (SIZE, "--bitmap=none", "--data-offset=1024K", "--force", "--raid-devices=3")
        + ("--spare-devices=1", "/dev/sdb", "/dev/sdc", "/dev/sda", "/dev/sdd"),
    ),
    "raid6-two-missing": (
        array(MdLevel.RAID6, members(0, 3), slots=4, chunk_bytes=CHUNK, layout="left-symmetric"),
        ("--metadata=1.2", *PLAIN, "--level=raid6", "--layout=left-symmetric", "--chunk=64")
        + (SIZE, "--bitmap=none", "--data-offset=1024K", "--raid-devices=4")
        + ("/dev/sda", "missing", "missing", "/dev/sdb"),
    ),
    "raid10": (
        array(
            MdLevel.RAID10,
            members(0, 1, 2),
            chunk_bytes=8 * CHUNK,
            layout="f2",
            bitmap=MdBitmap.INTERNAL,
        ),
        ("--metadata=1.2", *PLAIN, "--level=raid10", "--layout=f2", "--chunk=512", SIZE)
        + ("--bitmap=internal", "--data-offset=1024K", "--raid-devices=3")
        + ("/dev/sda", "/dev/sdb", "/dev/sdc"),
    ),
    "offsets-that-differ": (
        array(
            MdLevel.RAID1,
            (MdMember("disk:sda", 0, 2048), MdMember("disk:sdb", 1, 4097)),
        ),
        ("--metadata=1.2", *PLAIN, "--level=raid1", SIZE, "--bitmap=none")
        + ("--data-offset=variable", "--raid-devices=2", "/dev/sda:1024K", "/dev/sdb:4097s"),
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_an_array_is_made_as_the_manual_has_it(case: str) -> None:
    one, expected = CASES[case]
    assert argv(one) == (*ALWAYS, *expected)
    assert words(one) == []


def parsed(command: tuple[str, ...]) -> str:
    """Return what mdadm says of an array on what is no device; it looks at that last."""
    argv = [str(require_tool("mdadm")), *command[1:]]
    for number, word in enumerate(argv):
        if word.startswith("/dev/sd"):
            argv[number] = "/dev/null" + word[8:]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr


# The first is what root is told, the second what others are.
LOOKED_AT = ("is not a block device", "must be super-user")


@pytest.mark.parametrize("case", list(CASES))
def test_mdadm_takes_every_option(case: str) -> None:
    said = parsed(argv(CASES[case][0]))
    assert any(text in said for text in LOOKED_AT), said


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--data-offset=1024x", "invalid data-offset"),
        ("--metadata=1.3", "unrecognised metadata"),
        ("--layout=f2", "not understood"),
        ("--bogus", "unrecognized option"),
    ],
)
def test_mdadm_tells_of_an_option_that_it_does_not_take(option: str, complaint: str) -> None:
    command = argv(CASES["raid5-out-of-order-spare"][0])
    name = option.split("=")[0]
    changed = [option if word.split("=")[0] == name else word for word in command]
    if option not in changed:
        changed.insert(3, option)
    said = parsed(tuple(changed))
    assert complaint in said
    assert not any(text in said for text in LOOKED_AT)


def test_the_recorded_mirrors_come_back() -> None:
    held = layout("raid")
    system, boot = held.all(MdArray)
    always = ("--run", "--config=none", "--homehost=<none>")
    assert argv(system, held) == (
        *("mdadm", "--create", "/dev/md126", *always, "--metadata=1.2"),
        *("--uuid=774c9ad9:40dfd17e:e755da25:eae61b15", "--name=server:system", "--level=raid1"),
        *("--size=323584", "--bitmap=internal", "--data-offset=1024K", "--raid-devices=2"),
        *("/dev/vda3", "/dev/vdb3"),
    )
    assert argv(boot, held) == (
        *("mdadm", "--create", "/dev/md127", *always, "--metadata=1.0"),
        *("--uuid=cb5f9ad8:62423538:78d4f5df:b701f40d", "--name=server:boot", "--level=raid1"),
        *("--size=65472", "--bitmap=none", "--raid-devices=2", "/dev/vda2", "/dev/vdb2"),
    )


def test_the_recorded_array_with_a_spare_comes_back() -> None:
    held = layout("nested")
    (one,) = held.all(MdArray)
    assert argv(one, held) == (
        *("mdadm", "--create", "/dev/md127", "--run", "--config=none", "--homehost=<none>"),
        *("--metadata=1.2", "--uuid=7a29821d:153dd938:4da5a58b:cf838ebb", "--name=any:five"),
        *("--level=raid5", "--layout=left-symmetric", "--chunk=64", "--size=261120"),
        *("--bitmap=none", "--data-offset=1024K", "--force", "--raid-devices=3"),
        *("--spare-devices=1", "/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/vdd"),
    )


@pytest.mark.parametrize("machine", ["raid", "nested"])
def test_the_recorded_arrays_are_not_refused(machine: str) -> None:
    held = layout(machine)
    assert [array_refusals(held, one) for one in held.all(MdArray)] == [
        () for _ in held.all(MdArray)
    ]


@pytest.mark.parametrize("case", list(CASES))
def test_no_array_is_taken_for_clean(case: str) -> None:
    assert "--assume-clean" not in argv(CASES[case][0])


def test_a_step_says_what_it_does() -> None:
    made = action(CASES["raid1-missing"][0])
    assert made.words == (
        "make the array /dev/md0: raid1 of /dev/sda, 1 missing as it was when it was saved"
    )
    assert (made.id, made.phase, made.node) == ("array:md:md0", Phase.STORAGE, "md:md0")
    assert made.destroys == ("/dev/sda",)


MIRROR = array(MdLevel.RAID1, members(0, 1))
FIVE = array(MdLevel.RAID5, members(0, 1, 2), chunk_bytes=CHUNK, layout="left-symmetric")

REFUSED = {
    "name": (replace(MIRROR, kernel_name="md_home"), "is called by a name"),
    "long": (replace(MIRROR, name="h" * 33), "a name of more than 32 bytes"),
    "surrogate": (replace(MIRROR, name="host:\ud800"), "characters that no program writes"),
    "control": (replace(MIRROR, name="host:\x1b[2J"), "characters that no program writes"),
    "layout": (replace(FIVE, layout="f2"), "is laid out as f2"),
    "layout-10": (
        array(MdLevel.RAID10, members(0, 1), chunk_bytes=CHUNK, layout="left-symmetric"),
        "is laid out as left-symmetric",
    ),
    "chunk": (replace(FIVE, chunk_bytes=512), "a geometry that mdadm cannot be told"),
    "raid5": (replace(FIVE, members=members(0), slots=3), "lacks 2 of its 3 members"),
    "raid0": (
        array(MdLevel.RAID0, members(0), slots=2, chunk_bytes=CHUNK),
        "lacks 1 of its 2 members",
    ),
    "raid1": (replace(MIRROR, members=members(None)), "lacks 2 of its 2 members"),
}
NOT_REFUSED = {
    "name": replace(MIRROR, kernel_name="md1048575"),
    "long": replace(MIRROR, name="h" * 32),
    "spaces": replace(MIRROR, name="host:a b ä"),
    "layout": replace(FIVE, layout="parity-first"),
    "raid5": replace(FIVE, members=members(0, 2)),
    "raid1": replace(MIRROR, members=members(1)),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_mdadm_cannot_make_is_refused(case: str) -> None:
    one, text = REFUSED[case]
    (said,) = words(one)
    assert text in said
    assert "/dev/md" in said


@pytest.mark.parametrize("case", list(NOT_REFUSED))
def test_what_mdadm_can_make_is_not_refused(case: str) -> None:
    assert words(NOT_REFUSED[case]) == []


def test_a_member_that_cannot_be_made_is_refused() -> None:
    strange = Opaque(id="opaque:bcache0", on=("disk:sda",), what="bcache", size_bytes=90 * MIB)
    one = replace(MIRROR, members=(MdMember(strange.id, 0, 2048), MdMember("disk:sdb", 1, 2048)))
    assert words(one, strange) == [
        "/dev/md0 has a member, opaque:bcache0, that cannot be made: bcache"
    ]


@pytest.mark.parametrize(("offset", "refused"), [(4096, True), (2048, False)])
def test_a_name_with_a_colon_is_refused_where_offsets_differ(offset: int, refused: bool) -> None:
    strange = replace(disk("a:b"), id="disk:a:b")
    one = replace(MIRROR, members=(MdMember("disk:a:b", 0, 2048), MdMember("disk:sdb", 1, offset)))
    assert bool(words(one, strange)) is refused
