"""Writes a FAT12 file system image in one go: what an EFI system partition needs, no more.

The format is Microsoft's FAT specification 1.03 (2000); UEFI (2.10, section 13.3) demands that
firmware reads it. Names are 8.3, dates are given, nothing is random: equal input, equal bytes.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

SECTOR_BYTES = 512
RESERVED_SECTORS = 4
ROOT_ENTRIES = 256
ENTRY_BYTES = 32
MEDIA_FIXED_DISK = 0xF8
END_OF_CHAIN = 0xFFF
# A file system with 4085 clusters or more *is* FAT16, whatever it says of itself.
MAX_CLUSTERS = 4084
EARLIEST_S = 315_532_800  # 1980-01-01, where FAT's time begins

_SHORT_NAME = re.compile(r"[A-Z0-9_-]{1,8}(\.[A-Z0-9_-]{1,3})?")


class _Attribute:
    VOLUME_LABEL = 0x08
    DIRECTORY = 0x10
    ARCHIVE = 0x20


@dataclass(slots=True)
class _Folder:
    folders: dict[str, _Folder] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def fat_image(files: Mapping[str, bytes], label: str, *, serial: int, timestamp_s: int) -> bytes:
    """Return a FAT12 image that holds ``files`` (absolute 8.3 path, in capitals -> content).

    ``label`` has at most 11 characters, ``serial`` 32 bits; every date is ``timestamp_s``
    (seconds since 1970, UTC). Raises ValueError for a name or an amount that FAT12 cannot hold.
    """
    tree = _tree(files)
    sectors_per_cluster = 4
    while _clusters(tree, sectors_per_cluster * SECTOR_BYTES, is_root=True) > MAX_CLUSTERS:
        sectors_per_cluster *= 2
        if sectors_per_cluster > 64:
            raise ValueError("too much for a FAT12 file system")
    return _Writer(label, timestamp_s, sectors_per_cluster * SECTOR_BYTES).image(tree, serial)


def _tree(files: Mapping[str, bytes]) -> _Folder:
    top = _Folder()
    for path, content in sorted(files.items()):
        *parents, name = path.strip("/").split("/")
        for part in (*parents, name):
            if not _SHORT_NAME.fullmatch(part):
                raise ValueError(f"{path}: {part!r} is no 8.3 name in capitals")
        folder = top
        for part in parents:
            folder = folder.folders.setdefault(part, _Folder())
        folder.files[name] = content
    if len(top.files) + len(top.folders) >= ROOT_ENTRIES:
        raise ValueError("too many entries for the root directory of a FAT12 file system")
    return top


def _clusters(folder: _Folder, cluster_bytes: int, *, is_root: bool = False) -> int:
    own = 0 if is_root else -(-_directory_bytes(folder) // cluster_bytes)
    below = sum(_clusters(child, cluster_bytes) for child in folder.folders.values())
    return own + below + sum(-(-len(data) // cluster_bytes) for data in folder.files.values())


def _directory_bytes(folder: _Folder) -> int:
    return (2 + len(folder.folders) + len(folder.files)) * ENTRY_BYTES


class _Writer:
    def __init__(self, label: str, timestamp_s: int, cluster_bytes: int) -> None:
        self._label = label.upper().encode("ascii").ljust(11)
        if len(self._label) > 11:
            raise ValueError(f"{label!r} is longer than 11 characters")
        self._stamp = _stamp(timestamp_s)
        self._cluster_bytes = cluster_bytes
        self._data = bytearray()
        self._chain = [0xF00 | MEDIA_FIXED_DISK, END_OF_CHAIN]

    def image(self, tree: _Folder, serial: int) -> bytes:
        root = self._entry(self._label, _Attribute.VOLUME_LABEL, 0, 0) + self._entries(tree, 0)
        clusters = len(self._chain) - 2
        fat = self._packed_chain()
        boot = self._boot_sector(clusters, len(fat) // SECTOR_BYTES, serial)
        reserved = boot.ljust(RESERVED_SECTORS * SECTOR_BYTES, b"\0")
        return b"".join(
            (reserved, fat, fat, root.ljust(ROOT_ENTRIES * ENTRY_BYTES, b"\0"), bytes(self._data))
        )

    def _entries(self, folder: _Folder, own_cluster: int) -> bytes:
        made = bytearray()
        for name, child in sorted(folder.folders.items()):
            cluster = self._add_folder(child, own_cluster)
            made += self._entry(_padded(name), _Attribute.DIRECTORY, cluster, 0)
        for name, content in sorted(folder.files.items()):
            cluster = self._allocate(len(content), content)
            made += self._entry(_padded(name), _Attribute.ARCHIVE, cluster, len(content))
        return bytes(made)

    def _add_folder(self, folder: _Folder, parent_cluster: int) -> int:
        size = _directory_bytes(folder)
        cluster = self._allocate(size, b"")
        start = (cluster - 2) * self._cluster_bytes
        content = (
            self._entry(b".".ljust(11), _Attribute.DIRECTORY, cluster, 0)
            + self._entry(b"..".ljust(11), _Attribute.DIRECTORY, parent_cluster, 0)
            + self._entries(folder, cluster)
        )
        self._data[start : start + len(content)] = content
        return cluster

    def _allocate(self, size: int, content: bytes) -> int:
        """Lay ``content`` into contiguous clusters, room for ``size`` bytes; return the first."""
        if size == 0:
            return 0
        first = len(self._chain)
        count = -(-size // self._cluster_bytes)
        self._chain.extend(range(first + 1, first + count))
        self._chain.append(END_OF_CHAIN)
        self._data += content
        self._data += bytes(count * self._cluster_bytes - len(content))
        return first

    def _entry(self, name: bytes, attribute: int, cluster: int, size: int) -> bytes:
        clock, day = self._stamp
        return struct.pack(
            "<11sBBBHHHHHHHI",
            name,
            attribute,
            0,
            0,
            clock,
            day,
            day,
            0,
            clock,
            day,
            cluster,
            size,
        )

    def _packed_chain(self) -> bytes:
        """Pack the chain, two entries in three bytes, so that the data begin at a cluster."""
        chain = self._chain + [0] * (len(self._chain) % 2)
        packed = bytearray()
        for low, high in zip(chain[::2], chain[1::2], strict=True):
            packed += (low | high << 12).to_bytes(3, "little")
        # Two copies of a multiple of half a cluster: all before the data is whole clusters, as
        # the reserved sectors and the root directory are.
        unit = self._cluster_bytes // 2
        return bytes(packed).ljust(-(-len(packed) // unit) * unit, b"\0")

    def _boot_sector(self, clusters: int, fat_sectors: int, serial: int) -> bytes:
        sectors = (
            RESERVED_SECTORS
            + 2 * fat_sectors
            + ROOT_ENTRIES * ENTRY_BYTES // SECTOR_BYTES
            + clusters * self._cluster_bytes // SECTOR_BYTES
        )
        head = struct.pack(
            "<3s8sHBHBHHBHHHIIBBBI11s8s",
            b"\xeb\x3c\x90",
            b"MSWIN4.1",  # the name that the specification recommends for compatibility
            SECTOR_BYTES,
            self._cluster_bytes // SECTOR_BYTES,
            RESERVED_SECTORS,
            2,
            ROOT_ENTRIES,
            sectors if sectors < 0x10000 else 0,
            MEDIA_FIXED_DISK,
            fat_sectors,
            32,
            64,
            0,
            0 if sectors < 0x10000 else sectors,
            0x80,
            0,
            0x29,
            serial & 0xFFFFFFFF,
            self._label,
            b"FAT12   ",
        )
        # Whoever starts it as a boot sector gets a halted processor, not a wild one.
        return head + b"\xf4\xeb\xfd".ljust(510 - len(head), b"\0") + b"\x55\xaa"


def _padded(name: str) -> bytes:
    stem, _, suffix = name.partition(".")
    return stem.encode("ascii").ljust(8) + suffix.encode("ascii").ljust(3)


def _stamp(timestamp_s: int) -> tuple[int, int]:
    """Return FAT's time (two seconds a unit) and date words."""
    when = time.gmtime(max(timestamp_s, EARLIEST_S))
    clock = when.tm_hour << 11 | when.tm_min << 5 | when.tm_sec // 2
    return clock, (when.tm_year - 1980) << 9 | when.tm_mon << 5 | when.tm_mday
