"""Makes a plain ISO image a disk as well: MBR and GPT in its unused first 32 KiB.

ISO 9660 leaves the first 16 sectors (of 2 KiB) to the system; a BIOS that meets the image as a
disk starts the MBR's code, UEFI firmware finds the EFI system partition by MBR or GPT. Formats:
UEFI 2.10, chapter 5; the code is isolinux's isohdpfx.bin, which takes the place of isolinux.bin
from offset 432 (isohybrid(1)). Nothing here touches the ISO file system or its files: the backup
GPT lies in padding that ``padded_size`` makes room for.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from initramfs.errors import InputError, OutputError

SECTOR_BYTES = 512
ISO_BLOCK_BYTES = 2048
SYSTEM_AREA_BYTES = 16 * ISO_BLOCK_BYTES

MBR_CODE_BYTES = 432
ISOLINUX_OFFSET = 432
DISK_ID_OFFSET = 440
TABLE_OFFSET = 446
HEADS = 64
SECTORS_PER_TRACK = 32
# BIOSes guess the geometry from the table: whole cylinders of 64 heads and 32 sectors, 1 MiB.
CYLINDER_BYTES = HEADS * SECTORS_PER_TRACK * SECTOR_BYTES
MIN_PADDING_BYTES = 1024 * 1024

ESP_MBR_TYPE = 0xEF
PROTECTIVE_MBR_TYPE = 0xEE
ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
GPT_ENTRIES = 128
GPT_ENTRY_BYTES = 128
GPT_TABLE_SECTORS = GPT_ENTRIES * GPT_ENTRY_BYTES // SECTOR_BYTES
GPT_HEADER_BYTES = 92
GPT_FIRST_USABLE = 2 + GPT_TABLE_SECTORS
GPT_BACKUP_BYTES = (GPT_TABLE_SECTORS + 1) * SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Hybrid:
    """What makes the image a disk.

    ``size_bytes`` is the image with its padding; ``mbr_code`` (432 bytes) starts the isolinux
    image at ``isolinux_block`` (2 KiB blocks), both None without BIOS; ``esp`` is the EFI system
    partition as (first byte, bytes), None without UEFI.
    """

    size_bytes: int
    mbr_code: bytes | None
    isolinux_block: int | None
    esp: tuple[int, int] | None
    disk: uuid.UUID
    partition: uuid.UUID


def padded_size(size_bytes: int) -> int:
    """Return what an image of ``size_bytes`` grows to: at least 1 MiB more, whole cylinders."""
    return -(-(size_bytes + MIN_PADDING_BYTES) // CYLINDER_BYTES) * CYLINDER_BYTES


def system_area(hybrid: Hybrid) -> bytes:
    """Return the first 32 KiB of the image: MBR, primary GPT."""
    parts = [_mbr(hybrid)]
    if hybrid.esp is not None:
        table = _gpt_table(hybrid)
        header = _gpt_header(hybrid, table, own=1, other=_last(hybrid), table_at=2)
        parts += [header.ljust(SECTOR_BYTES, b"\0"), table]
    return b"".join(parts).ljust(SYSTEM_AREA_BYTES, b"\0")


def backup_gpt(hybrid: Hybrid) -> bytes:
    """Return the last 33 sectors of the image; nothing without an EFI system partition."""
    if hybrid.esp is None:
        return b""
    table = _gpt_table(hybrid)
    last = _last(hybrid)
    header = _gpt_header(hybrid, table, own=last, other=1, table_at=last - GPT_TABLE_SECTORS)
    return table + header.ljust(SECTOR_BYTES, b"\0")


def make_hybrid(image: BinaryIO, hybrid: Hybrid, *, content_bytes: int) -> None:
    """Pad ``image`` (a plain ISO of ``content_bytes``) and write the system area and backup GPT.

    Raises OutputError where the backup GPT would lie over content.
    """
    if content_bytes + GPT_BACKUP_BYTES > hybrid.size_bytes:
        raise OutputError("no room behind the ISO file system for the backup partition table")
    image.truncate(hybrid.size_bytes)
    image.seek(0)
    image.write(system_area(hybrid))
    image.seek(hybrid.size_bytes - len(backup_gpt(hybrid)))
    image.write(backup_gpt(hybrid))


def check_hybrid(image: BinaryIO, hybrid: Hybrid) -> None:
    """Raise OutputError unless ``image`` holds what ``hybrid`` says, and a sound GPT."""
    image.seek(0)
    found = image.read(SYSTEM_AREA_BYTES)
    backup = backup_gpt(hybrid)
    image.seek(hybrid.size_bytes - len(backup))
    if found != system_area(hybrid) or image.read() != backup:
        raise OutputError(
            "the partition tables of the image read back different from what they are"
        )


def _last(hybrid: Hybrid) -> int:
    return hybrid.size_bytes // SECTOR_BYTES - 1


def _mbr(hybrid: Hybrid) -> bytes:
    code = hybrid.mbr_code or b""
    if len(code) > MBR_CODE_BYTES:
        raise InputError(
            f"the isolinux MBR code has {len(code)} bytes, not {MBR_CODE_BYTES}",
            hint="is isohdpfx.bin that of the isolinux package?",
        )
    block = hybrid.isolinux_block or 0
    sector = bytearray(code.ljust(SECTOR_BYTES, b"\0"))
    struct.pack_into("<Q", sector, ISOLINUX_OFFSET, block * (ISO_BLOCK_BYTES // SECTOR_BYTES))
    struct.pack_into("<I", sector, DISK_ID_OFFSET, hybrid.disk.fields[0])
    # Some BIOSes start no disk without an active entry: this one says so of the MBR itself, which
    # no system takes for a partition. Over the whole image it would overlap the others.
    entries = [_mbr_entry(0, 1, kind=0, active=True)]
    if hybrid.esp is not None:
        first, count = _sectors(hybrid.esp)
        # Without a protective entry from sector 1 on, Linux, GRUB and EDK2 read no GPT at all;
        # it ends where the system partition begins, which firmware that knows no GPT finds here.
        entries.append(_mbr_entry(1, first - 1, kind=PROTECTIVE_MBR_TYPE, active=False))
        entries.append(_mbr_entry(first, count, kind=ESP_MBR_TYPE, active=False))
    table = b"".join(entries)
    sector[TABLE_OFFSET : TABLE_OFFSET + len(table)] = table
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def _mbr_entry(first: int, count: int, *, kind: int, active: bool) -> bytes:
    return struct.pack(
        "<B3sB3sII",
        0x80 if active else 0,
        _chs(first),
        kind,
        _chs(first + count - 1),
        first,
        min(count, 0xFFFFFFFF),
    )


def _chs(sector: int) -> bytes:
    cylinder, rest = divmod(sector, HEADS * SECTORS_PER_TRACK)
    head, index = divmod(rest, SECTORS_PER_TRACK)
    if cylinder > 1023:
        cylinder, head, index = 1023, HEADS - 1, SECTORS_PER_TRACK - 1
    return bytes((head, (index + 1) | (cylinder >> 8) << 6, cylinder & 0xFF))


def _sectors(extent: tuple[int, int]) -> tuple[int, int]:
    start, size = extent
    return start // SECTOR_BYTES, -(-size // SECTOR_BYTES)


def _gpt_table(hybrid: Hybrid) -> bytes:
    if hybrid.esp is None:
        return b""
    first, count = _sectors(hybrid.esp)
    entry = struct.pack(
        "<16s16sQQQ72s",
        ESP_TYPE.bytes_le,
        hybrid.partition.bytes_le,
        first,
        first + count - 1,
        0,
        "EFI system partition".encode("utf-16-le"),
    )
    return entry.ljust(GPT_ENTRIES * GPT_ENTRY_BYTES, b"\0")


def _gpt_header(hybrid: Hybrid, table: bytes, *, own: int, other: int, table_at: int) -> bytes:
    def packed(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x00010000,
            GPT_HEADER_BYTES,
            checksum,
            0,
            own,
            other,
            GPT_FIRST_USABLE,
            _last(hybrid) - GPT_TABLE_SECTORS - 1,
            hybrid.disk.bytes_le,
            table_at,
            GPT_ENTRIES,
            GPT_ENTRY_BYTES,
            zlib.crc32(table),
        )

    return packed(zlib.crc32(packed(0)))
