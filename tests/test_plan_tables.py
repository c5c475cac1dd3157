"""Partition tables as a restore makes them: sfdisk makes what was saved, sgdisk finds no fault."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutnodes import (
    Disk,
    Luks,
    Partition,
    PartitionKind,
    PartitionTable,
    TableKind,
)
from archive.machine.probetables import parse_sfdisk
from restore.plan.actions import Action, Phase
from restore.plan.devices import Devices
from restore.plan.tables import attribute_words, table_action, table_refusals
from tests.support.layouts import MIB, SECTOR, disk, ext4, partition, table
from tests.support.tools import lacking, require_tool
from tests.test_probe import MACHINES, layout

TABLES = [(machine, one.id) for machine in MACHINES for one in layout(machine).all(PartitionTable)]
DISK_BYTES = 100 * MIB
PACKAGES = {
    "blkid": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "sfdisk": "fdisk",
    "sgdisk": "gdisk",
    "partx": "util-linux",
}
_PROPERTY = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def run(*argv: str, given: str = "") -> str:
    argv = (str(require_tool(argv[0], package=PACKAGES[argv[0]])), *argv[1:])
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def action(held: Layout, held_table: PartitionTable) -> Action:
    """Return the step for one table of a layout, on disks called as they were."""
    return table_action(held, held_table, devices(held))


def devices(held: Layout) -> Devices:
    return Devices(held, {one.id: f"/dev/{one.kernel_name}" for one in held.all(Disk)})


def image(folder: Path, size_bytes: int) -> Path:
    path = folder / "disk.img"
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.truncate(size_bytes)
    return path


def make(held: Layout, held_table: PartitionTable, path: Path, *more: str) -> None:
    """Run sfdisk as the step has it; ``more`` are options that only save time."""
    command = action(held, held_table).commands[0]
    run(command.argv[0], *more, *command.argv[1:-1], str(path), given=command.given)


def read(held_table: PartitionTable, path: Path) -> tuple[PartitionTable, set[Partition]]:
    found, partitions = parse_sfdisk(
        run("sfdisk", "--json", str(path)), on=held_table.on, tail="x", shown={}
    )
    nameless = {replace(one, id="part:x", table=held_table.id) for one in partitions}
    return replace(found, id=held_table.id), nameless


def expected(held: Layout, held_table: PartitionTable) -> set[Partition]:
    return {replace(one, id="part:x") for one in held.all(Partition) if one.table == held_table.id}


def check(held: Layout, held_table: PartitionTable, path: Path) -> None:
    found, partitions = read(held_table, path)
    assert found == held_table
    assert partitions == expected(held, held_table)


@contextmanager
def loop(path: Path, sector_bytes: int) -> Iterator[Path]:
    """Give a file as a device with sectors of that size."""
    argv = [require_tool("losetup", package="mount"), "--find", "--show"]
    argv += ["--sector-size", str(sector_bytes), str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"no loop device: {done.stderr}")
    try:
        yield Path(done.stdout.strip())
    finally:
        subprocess.run([argv[0], "--detach", done.stdout.strip()], check=True)


@pytest.mark.parametrize(("machine", "name"), TABLES)
def test_a_machines_table_comes_back_exactly(machine: str, name: str, tmp_path: Path) -> None:
    held = layout(machine)
    held_table = held.get(name, PartitionTable)
    size_bytes = held.size_of(held.below(held_table)[0])
    assert size_bytes is not None
    path = image(tmp_path, size_bytes)
    if held_table.sector_bytes == SECTOR:
        make(held, held_table, path)
        check(held, held_table, path)
        return
    with loop(path, held_table.sector_bytes) as device:
        make(held, held_table, device)
        check(held, held_table, device)


@pytest.mark.parametrize("machine", ["families", "luks-lvm", "raid"])
def test_sgdisk_finds_no_fault(machine: str, tmp_path: Path) -> None:
    held = layout(machine)
    held_table = held.all(PartitionTable)[0]
    path = image(tmp_path, held.all(Disk)[0].size_bytes)
    make(held, held_table, path)
    assert "No problems found" in run("sgdisk", "--verify", str(path))


def test_a_table_that_differs_is_seen(tmp_path: Path) -> None:
    held = layout("mbr")
    held_table = held.all(PartitionTable)[0]
    path = image(tmp_path, held.all(Disk)[0].size_bytes)
    make(held, held_table, path)
    run("sfdisk", "--part-type", str(path), "2", "82")
    with pytest.raises(AssertionError):
        check(held, held_table, path)


def test_what_lay_where_a_partition_begins_is_gone(tmp_path: Path) -> None:
    held = Layout.of([disk(), table(), partition(size=20480)])
    path = image(tmp_path, DISK_BYTES)
    run("mkfs.ext4", "-q", "-F", "-E", f"offset={MIB}", str(path), "10M")
    probe = ("blkid", "--probe", "--offset", str(MIB), "--output", "value")
    assert "ext4" in run(*probe, str(path))
    make(held, held.all(PartitionTable)[0], path)
    blkid = str(require_tool("blkid"))
    done = subprocess.run([blkid, *probe[1:], str(path)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


NAMES = st.text(
    st.characters(
        min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"], include_characters='"\\,`'
    ),
    max_size=36,
)
ATTRIBUTES = st.sets(st.sampled_from([0, 1, 2, *range(48, 64)])).map(
    lambda bits: sum(1 << bit for bit in bits)
)


@st.composite
def gpts(draw: st.DrawFn) -> Layout:
    entries = draw(st.sampled_from([128, 4, 130, 256]))
    last = DISK_BYTES // SECTOR - 2 - -(-entries * 128 // SECTOR)
    first = 2 + -(-entries * 128 // SECTOR) + draw(st.integers(0, 2048))
    made = replace(
        table(), first_sector=first, entries=entries, last_sector=last - draw(st.integers(0, 3000))
    )
    count = draw(st.integers(0, min(entries, 128)))
    numbers = draw(st.permutations(range(1, entries + 1)))[:count]
    lucky = draw(st.randoms(use_true_random=True))
    room = range(first, last - 3000)
    edges = sorted(lucky.sample(room, 2 * count))
    nodes: list[AnyNode] = [disk(), made]
    for place, number in enumerate(numbers):
        start, end = edges[2 * place : 2 * place + 2]
        made_one = partition(number, start=start, size=end - start, of=made)
        # Names and attributes of a few: they cost hypothesis the most.
        if place < 6:
            made_one = replace(made_one, name=draw(NAMES) or None, attributes=draw(ATTRIBUTES))
        nodes.append(made_one)
    return Layout.of(nodes)


@st.composite
def dos_tables(draw: st.DrawFn) -> Layout:
    made = table(kind=TableKind.DOS)
    types = st.integers(1, 255).map(lambda one: f"{one:x}").filter(lambda one: one not in "5f85")
    edges = draw(st.lists(st.integers(2, 2000), min_size=8, max_size=8, unique=True).map(sorted))
    numbers = draw(st.permutations(range(1, 5)))[: draw(st.integers(0, 4))]
    outer = draw(st.integers(0, 4))
    nodes: list[AnyNode] = [disk(), made]
    for place, number in enumerate(numbers):
        start, end = (edge * 100 for edge in edges[2 * place : 2 * place + 2])
        one = partition(number, start=start, size=end - start, of=made)
        if place != outer:
            active = draw(st.booleans())
            nodes.append(replace(one, type=draw(types), active=active))
            continue
        word = draw(st.sampled_from(["5", "f", "85"]))
        nodes.append(replace(one, type=word, kind=PartitionKind.EXTENDED))
        count = draw(st.integers(0, 8))
        lucky = draw(st.randoms(use_true_random=True))
        inner = sorted(lucky.sample(range(start + 2, end, 2), 2 * count))
        for at, logical in enumerate(draw(st.permutations(range(5, 5 + count)))):
            begin, stop = inner[2 * at], inner[2 * at + 1]
            held = partition(logical, start=begin, size=stop - begin, of=made)
            nodes.append(replace(held, type=draw(types), kind=PartitionKind.LOGICAL))
    return Layout.of(nodes)


@pytest.mark.slow
@_PROPERTY
@given(held=gpts())
def test_any_gpt_comes_back_exactly(held: Layout, tmp_path: Path) -> None:
    (held_table,) = held.all(PartitionTable)
    assert table_refusals(held, held_table) == ()
    path = image(tmp_path, DISK_BYTES)
    make(held, held_table, path, "--no-tell-kernel")
    check(held, held_table, path)
    assert "No problems found" in run("sgdisk", "--verify", str(path))


@pytest.mark.slow
@_PROPERTY
@given(held=dos_tables())
def test_any_dos_table_comes_back_exactly(held: Layout, tmp_path: Path) -> None:
    (held_table,) = held.all(PartitionTable)
    assume(not table_refusals(held, held_table))
    path = image(tmp_path, DISK_BYTES)
    make(held, held_table, path, "--no-tell-kernel")
    check(held, held_table, path)


def logical(number: int, start: int, size: int, of: PartitionTable) -> Partition:
    made = partition(number, start=start, size=size, of=of)
    return replace(made, kind=PartitionKind.LOGICAL)


def extended(*inner: tuple[int, int, int]) -> Layout:
    made = table(kind=TableKind.DOS)
    outer = partition(1, start=100, size=5000, of=made)
    outer = replace(outer, type="5", kind=PartitionKind.EXTENDED)
    return Layout.of([disk(), made, outer, *(logical(*one, made) for one in inner)])


def words(held: Layout) -> list[str]:
    return [one.words for one in table_refusals(held, held.all(PartitionTable)[0])]


def test_a_logical_partition_without_room_for_its_record_is_refused(tmp_path: Path) -> None:
    held = extended((5, 102, 10), (6, 112, 10))
    assert "partition 6 of /dev/sda lies so close to others" in words(held)[0]
    # The reason: sfdisk makes another table than it was told, or none.
    path = image(tmp_path, DISK_BYTES)
    command = action(held, held.all(PartitionTable)[0]).commands[0]
    argv = [str(require_tool("sfdisk", package="fdisk")), *command.argv[1:-1], str(path)]
    done = subprocess.run(argv, input=command.given, capture_output=True, text=True, check=False)
    found = read(held.all(PartitionTable)[0], path)[1] if done.returncode == 0 else set()
    assert found != expected(held, held.all(PartitionTable)[0])


def test_a_logical_partition_with_room_for_it_is_not_refused() -> None:
    assert words(extended((5, 102, 10), (6, 113, 10))) == []


def test_numbers_that_the_kernel_would_not_give_are_refused() -> None:
    assert "not counted from 5 on" in words(extended((5, 102, 10), (7, 200, 10)))[0]


@pytest.mark.parametrize("name", ["😀", "\ud800", "x" * 37, "a\U00010000"])
def test_a_name_that_sfdisk_cannot_write_is_refused(name: str) -> None:
    held = Layout.of([disk(), table(), replace(partition(), name=name)])
    assert "partition 1 of /dev/sda has a name that sfdisk cannot write" in words(held)[0]


def test_a_name_that_sfdisk_can_write_is_not_refused() -> None:
    assert words(Layout.of([disk(), table(), replace(partition(), name="\uffff" * 36)])) == []


def test_a_table_with_more_entries_than_room_is_refused() -> None:
    held = Layout.of([disk(), replace(table(), entries=129)])
    assert "129 entries, which do not fit" in words(held)[0]


def test_a_number_that_the_table_has_no_entry_for_is_refused() -> None:
    assert "no room for its partition 129" in words(Layout.of([disk(), table(), partition(129)]))[0]


def test_sectors_of_another_size_than_the_disks_are_refused() -> None:
    held = Layout.of([disk(), replace(table(), sector_bytes=4096, last_sector=25000)])
    assert "counts in sectors of 4 KiB, its disk in sectors of 512 bytes" in words(held)[0]


def on_luks(*above: AnyNode) -> Layout:
    volume = Luks(
        id="luks:outer",
        on="disk:sda",
        version=2,
        uuid="5941d8bc-7d19-44dd-b314-2b828f138df1",
        cipher="aes-xts-plain64",
        key_bits=512,
        hash="sha256",
        sector_bytes=512,
        offset_bytes=16 * MIB,
        mapper="outer",
        size_bytes=84 * MIB,
    )
    made = replace(table("luks:outer"), last_sector=84 * MIB // SECTOR - 34)
    return Layout.of([disk(), volume, made, partition(of=made), *above])


def test_content_on_partitions_of_a_mapping_is_refused() -> None:
    assert "exist only where a program maps them" in words(on_luks(ext4("part:outer1")))[0]


def test_a_table_on_a_mapping_with_nothing_in_it_is_made() -> None:
    held = on_luks()
    assert words(held) == []
    made = action(held, held.all(PartitionTable)[0])
    (command,) = made.commands
    assert command.argv[-4:] == ("--no-reread", "--no-tell-kernel", "--", "/dev/mapper/outer")


def test_the_recorded_tables_are_refused_where_they_lie_on_a_mapping() -> None:
    refused = {
        (machine, name)
        for machine, name in TABLES
        if table_refusals(layout(machine), layout(machine).get(name, PartitionTable))
    }
    assert refused == {("nested", "table:outer")}


def test_the_kernel_is_told_of_partitions() -> None:
    held = layout("mbr")
    made = action(held, held.all(PartitionTable)[0])
    assert made.commands[0].argv == (
        *("sfdisk", "--wipe", "always", "--wipe-partitions", "always", "--lock=yes"),
        *("--", "/dev/vda"),
    )
    assert made.commands[-1].argv == ("partx", "--update", "--nr", "1:6", "--", "/dev/vda")
    assert [one.may_fail for one in made.commands] == [False, True, False]


def known(device: Path) -> dict[str, tuple[int, int]]:
    """Return starts and sizes of the partitions that the kernel knows, in sectors of 512 bytes."""
    places = Path("/sys/class/block", device.name).glob(f"{device.name}p*")
    return {
        one.name.removeprefix(f"{device.name}p"): (
            int((one / "start").read_text()),
            int((one / "size").read_text()),
        )
        for one in places
    }


@pytest.mark.parametrize("is_told", [True, False])
def test_the_kernel_knows_partitions_with_gaps_in_their_numbers(
    is_told: bool, tmp_path: Path
) -> None:
    held = layout("mbr")
    held_table = held.all(PartitionTable)[0]
    commands = action(held, held_table).commands
    with loop(image(tmp_path, held.all(Disk)[0].size_bytes), SECTOR) as device:
        # A loop device reads no tables by itself.
        for command in (commands[0], commands[-1]) if is_told else commands[:1]:
            argv = [
                str(require_tool(command.argv[0], package=PACKAGES[command.argv[0]])),
                *command.argv[1:-1],
                str(device),
            ]
            subprocess.run(argv, input=command.given, text=True, capture_output=True, check=True)
        found = known(device)
        partx = require_tool("partx", package="util-linux")
        subprocess.run([partx, "--delete", device], capture_output=True, check=False)
    sizes = {str(one.number): (one.start, one.size) for one in held.all(Partition)}
    # Of an extended partition the kernel shows no more than its boot record.
    sizes["3"] = (sizes["3"][0], 2)
    assert found == (sizes if is_told else {})


def test_a_step_says_what_it_does() -> None:
    held = layout("mbr")
    made = action(held, held.all(PartitionTable)[0])
    assert made.words == "make the partition table of /dev/vda: dos, 5 partitions"
    assert (made.id, made.phase, made.node) == ("table:table:vda", Phase.STORAGE, "table:vda")
    assert made.destroys == ("/dev/vda",)


def test_a_table_without_partitions_is_made(tmp_path: Path) -> None:
    held = Layout.of([disk(), table()])
    held_table = held.all(PartitionTable)[0]
    assert len(action(held, held_table).commands) == 1
    path = image(tmp_path, DISK_BYTES)
    make(held, held_table, path)
    check(held, held_table, path)


def test_the_last_sector_leaves_room_for_the_second_table(tmp_path: Path) -> None:
    held_table = replace(table(), last_sector=DISK_BYTES // SECTOR - 1)
    held = Layout.of([disk(), held_table])
    path = image(tmp_path, DISK_BYTES)
    make(held, held_table, path)
    assert read(held_table, path)[0].last_sector == DISK_BYTES // SECTOR - 34


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, ""),
        (1, "RequiredPartition"),
        (7, "RequiredPartition NoBlockIOProtocol LegacyBIOSBootable"),
        (1 << 63 | 1 << 48 | 4, "LegacyBIOSBootable GUID:48,63"),
        (1 << 40, ""),
    ],
)
def test_attributes_are_told_in_sfdisks_words(bits: int, text: str) -> None:
    assert attribute_words(bits) == text


def test_what_looks_like_script_in_a_name_stays_a_name(tmp_path: Path) -> None:
    name = '", start=1\n2 : size=5, name="x\\x22'
    held = Layout.of([disk(), table(), replace(partition(), name=name)])
    held_table = held.all(PartitionTable)[0]
    path = image(tmp_path, DISK_BYTES)
    make(held, held_table, path)
    check(held, held_table, path)


@pytest.mark.parametrize(
    ("outer", "gap"),
    [(2048, 2048), (63, 63), (2, 2), (2, 2048)],
    ids=["fdisk", "cylinders", "parted", "installer"],
)
def test_logical_partitions_as_others_lay_them_out_come_back(
    outer: int, gap: int, tmp_path: Path
) -> None:
    made = table(kind=TableKind.DOS)
    size = 10_000
    starts = [4096 + outer + number * (size + gap) for number in range(4)]
    extended_one = partition(2, start=4096, size=starts[-1] + size - 4096, of=made)
    extended_one = replace(extended_one, type="f", kind=PartitionKind.EXTENDED)
    inner = [logical(5 + number, start, size, made) for number, start in enumerate(starts)]
    held = Layout.of([disk(), made, partition(1, of=made), extended_one, *inner])
    assert words(held) == []
    path = image(tmp_path, DISK_BYTES)
    make(held, made, path, "--no-tell-kernel")
    check(held, made, path)
