"""Partition tables made anew by ``sfdisk``: sfdisk(8), "Input formats", named-fields format.

One script makes a whole table, each sector, number and UUID as it was. What is in no layout
does not come back: the boot code in front of a table (a boot loader's installation writes that),
the partitions that a hybrid table shows the BIOS, and where a dos table has its chain of logical
partitions between them. The bits 3 to 47 of a GPT partition's attributes, which UEFI 2.10 (5.3.3)
wants to be zero, can sfdisk neither show nor set.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

from archive.machine.layout import Layout, partitions_of
from archive.machine.layoutnodes import (
    Disk,
    MdArray,
    Node,
    Partition,
    PartitionKind,
    PartitionTable,
    TableKind,
)
from archive.machine.layoutview import device_path, size_words
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices
from restore.words import count_words

_PLAIN = frozenset(string.ascii_letters + string.digits)
_NAME_UNITS = 36
"""Of UTF-16, in a GPT's entry."""
_ATTRIBUTES = ("RequiredPartition", "NoBlockIOProtocol", "LegacyBIOSBootable")
_FREE_ATTRIBUTES = range(48, 64)
_EXTENDED = frozenset({"5", "05", "f", "0f", "85"})
_SETTLE_S = 30
_MIB = 1 << 20


def table_action(layout: Layout, table: PartitionTable, devices: Devices) -> Action:
    """Return the step that makes a table and lets the kernel know its partitions."""
    path = devices.path(table.on)
    held = partitions_of(layout, table)
    shown = _has_devices(layout, table)
    # What sfdisk finds at a partition's place would be found there again: it wipes without asking.
    # Its look at whether the disk is in use stays on: nothing that is mounted is overwritten.
    options = ["--wipe", "always", "--wipe-partitions", "always", "--lock=yes"]
    if not shown:
        options += ["--no-reread", "--no-tell-kernel"]
    commands = [Command(argv=("sfdisk", *options, "--", path), given=table_script(layout, table))]
    if shown and held:
        # sfdisk asks the kernel to read the table and ends well even where the kernel did not. By
        # then udev may ask the same, and two that do so at a time fail: it is waited for.
        settle = ("udevadm", "settle", f"--timeout={_SETTLE_S}")
        commands.append(Command(argv=settle, may_fail=True))
        # Without a range it stops at as many numbers as there are partitions, gaps or not.
        numbers = f"1:{max(one.number for one in held)}"
        commands.append(Command(argv=("partx", "--update", "--nr", numbers, "--", path)))
    count = count_words(len(held), "partition")
    return Action.of(
        "table",
        table,
        phase=Phase.STORAGE,
        words=f"make the partition table of {path}: {table.kind}, {count}",
        commands=tuple(commands),
        destroys=(path,),
    )


def table_refusals(layout: Layout, table: PartitionTable) -> tuple[Refusal, ...]:
    """Return why a table cannot be made as it was."""
    return tuple(Refusal(table.id, words) for words in _faults(layout, table))


def table_script(layout: Layout, table: PartitionTable) -> str:
    """Return what sfdisk reads to make a table and its partitions."""
    lines = [f"label: {table.kind}", f"label-id: {table.uuid}", "unit: sectors"]
    # Partitions may lie anywhere: with the grain of 1 MiB that it has otherwise, sfdisk moves
    # some, and leaves no room for the chain of logical partitions that lie closer together.
    lines.append(f"grain: {table.sector_bytes}")
    if table.kind is TableKind.GPT:
        lines.append(f"first-lba: {table.first_sector}")
        lines.append(f"last-lba: {_last_sector(layout, table)}")
        lines.append(f"table-length: {table.room}")
    lines.append("")
    lines += [_line(one) for one in partitions_of(layout, table)]
    return "\n".join(lines) + "\n"


def _line(partition: Partition) -> str:
    fields = [f"start={partition.start}", f"size={partition.size}", f"type={partition.type}"]
    if partition.uuid is not None:
        fields.append(f"uuid={partition.uuid}")
    if partition.name:
        fields.append(f'name="{_escaped(partition.name)}"')
    words = attribute_words(partition.attributes)
    if words:
        fields.append(f'attrs="{words}"')
    if partition.active:
        fields.append("bootable")
    return f"{partition.number} : {', '.join(fields)}"


def _escaped(name: str) -> str:
    """Return a name as sfdisk's scripts have it: nothing in it ends the field or the line."""
    return "".join(
        char
        if char in _PLAIN
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))
        for char in name
    )


def attribute_words(attributes: int) -> str:
    """Return sfdisk's words for a GPT partition's attributes: ``RequiredPartition GUID:60,63``."""
    words = [word for bit, word in enumerate(_ATTRIBUTES) if attributes >> bit & 1]
    free = [str(bit) for bit in _FREE_ATTRIBUTES if attributes >> bit & 1]
    if free:
        words.append(f"GUID:{','.join(free)}")
    return " ".join(words)


def _last_sector(layout: Layout, table: PartitionTable) -> int | None:
    """Return the last sector for partitions, which leaves room for the second table behind it."""
    size_bytes = layout.size_of(layout.get(table.on, Node))
    if table.last_sector is None or size_bytes is None:
        return table.last_sector
    return min(table.last_sector, size_bytes // table.sector_bytes - table.entry_sectors - 2)


def _has_devices(layout: Layout, table: PartitionTable) -> bool:
    """Tell whether the kernel makes devices of a table's partitions."""
    return isinstance(layout.get(table.on, Node), (Disk, MdArray))


def _faults(layout: Layout, table: PartitionTable) -> Iterator[str]:
    on = layout.get(table.on, Node)
    held = partitions_of(layout, table)
    if not _has_devices(layout, table):
        # The disk of a virtual machine on a volume has a table too; it is made, and no more.
        used = [one for one in held if layout.above(one)]
        if used:
            yield (
                f"{device_path(on)} has a partition table, and partitions on such a device exist "
                f"only where a program maps them, which no restore does; {len(used)} of them "
                "hold something: leave them out of the backup"
            )
    if isinstance(on, Disk) and on.logical_sector != table.sector_bytes:
        yield (
            f"the partition table of {device_path(on)} counts in sectors of "
            f"{size_words(table.sector_bytes)}, its disk in sectors of "
            f"{size_words(on.logical_sector)}: sfdisk cannot make such a table"
        )
    if table.kind is TableKind.GPT:
        yield from _gpt_faults(layout, table, held)
    else:
        yield from _dos_faults(layout, table, held)


def _gpt_faults(
    layout: Layout, table: PartitionTable, held: tuple[Partition, ...]
) -> Iterator[str]:
    path = device_path(layout.get(table.on, Node))
    last = _last_sector(layout, table)
    if table.first_sector is not None and table.first_sector < 2 + table.entry_sectors:
        yield (
            f"the GPT of {path} has {table.room} entries, which do not fit in front of its "
            f"first sector for partitions ({table.first_sector})"
        )
    for one in held:
        if one.number > table.room or (last is not None and one.end > last + 1):
            yield f"the GPT of {path} has no room for its partition {one.number}"
        if one.name is not None and not _is_writable(one.name):
            yield (
                f"partition {one.number} of {path} has a name that sfdisk cannot write: "
                "give it another on the machine that is saved, with sgdisk --change-name"
            )


def _is_writable(name: str) -> bool:
    return len(name) <= _NAME_UNITS and all(
        ord(char) <= 0xFFFF and not 0xD800 <= ord(char) <= 0xDFFF and char != "\0" for char in name
    )


def _dos_faults(
    layout: Layout, table: PartitionTable, held: tuple[Partition, ...]
) -> Iterator[str]:
    path = device_path(layout.get(table.on, Node))
    logical = [one for one in held if one.kind is PartitionKind.LOGICAL]
    if [one.number for one in logical] != list(range(5, 5 + len(logical))):
        yield f"the logical partitions of {path} are not counted from 5 on without a gap"
    for one in logical:
        if one.type in _EXTENDED:
            yield f"partition {one.number} of {path} is an extended partition in another"
    for number in _unplaceable(table, held):
        yield (
            f"partition {number} of {path} lies so close to others that sfdisk has no place for "
            "its boot record, and would make it elsewhere"
        )


def _unplaceable(table: PartitionTable, held: tuple[Partition, ...]) -> Iterator[int]:
    """Yield the numbers of logical partitions that sfdisk would move, or not make at all.

    As add_partition() of libfdisk's dos.c does it: the boot record of each but the first lies
    1 MiB in front of it. Once a partition has begun within 1 MiB of the disk's or of the extended
    partition's start, that of the following ones lies in the sector in front.
    """
    distance = max(_MIB // table.sector_bytes, 1)
    records: list[tuple[int, Partition]] = []
    outer = 0
    for one in held:
        if one.start < (outer if one.kind is PartitionKind.LOGICAL else 0) + distance:
            distance = 1
        if one.kind is PartitionKind.EXTENDED:
            outer = one.start
        if one.kind is not PartitionKind.LOGICAL:
            continue
        record = one.start - distance if records else outer
        for other_record, other in records:
            is_close = one.start < other.end + distance and other.start < one.end + distance
            if is_close or one.start <= other_record < one.end or record in (other_record, outer):
                yield one.number
                break
        records.append((record, one))
