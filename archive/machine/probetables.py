"""Partition tables as ``sfdisk -J`` tells them, and signatures as ``blkid -p -o udev`` does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from archive.errors import CannotRead
from archive.machine.layoutnodes import Partition, PartitionKind, PartitionTable, TableKind

_GPT_ENTRIES = 128
_EXTENDED = frozenset({"5", "f", "85"})
# UEFI 2.10, 5.3.3, and the words of sfdisk(8) for them.
_ATTRIBUTE_BITS = {"RequiredPartition": 0, "NoBlockIOProtocol": 1, "LegacyBIOSBootable": 2}
_ENCODED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def parse_sfdisk(
    text: str, *, on: str, tail: str, shown: Mapping[int, str]
) -> tuple[PartitionTable, tuple[Partition, ...]]:
    """Return a table that lies on the node ``on``, and its partitions.

    ``tail`` makes the table's id; ``shown`` are the ids of the partitions that are devices, by
    number. Raises CannotRead.
    """
    try:
        told = json.loads(text)["partitiontable"]
        kind = TableKind(told["label"])
        is_gpt = kind is TableKind.GPT
        sector = int(told.get("sectorsize", 512))
        entries = told.get("table-length", told.get("tablelength", _GPT_ENTRIES))
        table = PartitionTable(
            id=f"table:{tail}",
            on=on,
            kind=kind,
            uuid=_upper(told["id"]) if is_gpt else f"0x{int(told['id'], 16):08x}",
            sector_bytes=sector,
            first_sector=int(told["firstlba"]) if is_gpt else None,
            last_sector=int(told["lastlba"]) if is_gpt else None,
            entries=int(entries) if is_gpt else None,
        )
        partitions = tuple(
            _partition(row, table, sector, shown) for row in told.get("partitions", [])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CannotRead(f"what sfdisk says of {on} makes no sense: {error!r}") from error
    return table, partitions


def _partition(
    row: dict[str, object], table: PartitionTable, sector: int, shown: Mapping[int, str]
) -> Partition:
    node, size = str(row["node"]), int(str(row["size"]))
    found = re.search(r"(\d+)$", node)
    number = int(found[1]) if found else 0
    is_gpt = table.kind is TableKind.GPT
    kind = PartitionKind.PRIMARY
    word = str(row["type"])
    if not is_gpt:
        word = word.lower()
        if number > 4:
            kind = PartitionKind.LOGICAL
        elif word in _EXTENDED:
            kind = PartitionKind.EXTENDED
    return Partition(
        id=shown.get(number) or f"part:{node.removeprefix('/dev/').replace('/', '!')}",
        table=table.id,
        number=number,
        start=int(str(row["start"])),
        size=size,
        size_bytes=size * sector,
        type=_upper(word) if is_gpt else word,
        kind=kind,
        uuid=_upper(row["uuid"]) if is_gpt else None,
        name=str(row.get("name") or "") or None,
        attributes=attribute_bits(str(row.get("attrs", ""))),
        active=row.get("bootable") is True,
    )


def attribute_bits(words: str) -> int:
    """Return the 64 bits for sfdisk's words, as ``RequiredPartition GUID:60,63``."""
    bits = 0
    for word in words.replace(",", " ").split():
        name = word.removeprefix("GUID:")
        number = _ATTRIBUTE_BITS[name] if name in _ATTRIBUTE_BITS else int(name)
        bits |= 1 << number
    return bits


def _upper(value: object) -> str:
    return str(value).upper()


@dataclass(frozen=True, slots=True)
class Signature:
    """What is written on a device: ``type`` of its content, ``table`` of its partitions."""

    type: str | None = None
    usage: str | None = None
    uuid: str | None = None
    uuid_sub: str | None = None
    label: str = ""
    version: str | None = None
    table: str | None = None
    ambivalent: tuple[str, ...] = ()
    """Where it may be one thing or another: what it may be."""


def parse_blkid(text: str) -> Signature:
    """Return the signature that ``blkid -p -o udev`` printed."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            values[name] = value
    return Signature(
        type=values.get("ID_FS_TYPE"),
        usage=values.get("ID_FS_USAGE"),
        uuid=_decoded(values.get("ID_FS_UUID_ENC")),
        uuid_sub=_decoded(values.get("ID_FS_UUID_SUB_ENC")),
        label=_decoded(values.get("ID_FS_LABEL_ENC")) or "",
        version=values.get("ID_FS_VERSION"),
        table=values.get("ID_PART_TABLE_TYPE"),
        ambivalent=tuple(values.get("ID_FS_AMBIVALENT", "").split()),
    )


def _decoded(value: str | None) -> str | None:
    if value is None:
        return None
    return os.fsdecode(_ENCODED.sub(lambda hit: bytes([int(hit[1], 16)]), os.fsencode(value)))
