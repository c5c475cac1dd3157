"""Settings of filesystems read off their super blocks, where no tool tells them everywhere.

FAT and NTFS: their boot sectors (ECMA-107; Microsoft's FAT and exFAT specifications). F2FS, JFS and
NILFS2: f2fs_fs.h, jfs_superblock.h and nilfs2_ondisk.h of the kernel. All are little-endian here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from archive.errors import CannotRead
from archive.machine.layoutfiles import (
    ClusterSettings,
    F2fsSettings,
    Family,
    FatSettings,
    JfsSettings,
    NilfsSettings,
    Settings,
)

_JFS_OS2 = 0x40000000
_SWAP_PAGES = (4096, 8192, 16384, 65536)


def _fat(data: bytes) -> FatSettings:
    sector, per_cluster, reserved, tables, roots, small, media, short = struct.unpack_from(
        "<HBHBHHBH", data, 11
    )
    hidden, large, long = struct.unpack_from("<III", data, 28)
    total = small or large
    per_table = short or long
    root_sectors = (roots * 32 + sector - 1) // sector
    clusters = (total - reserved - tables * per_table - root_sectors) // per_cluster
    bits = 32 if short == 0 else (12 if clusters < 4085 else 16)
    return FatSettings(
        bits=bits,
        sector_bytes=sector,
        cluster_bytes=sector * per_cluster,
        reserved_sectors=reserved,
        tables=tables,
        root_entries=roots,
        media=media,
        hidden_sectors=hidden,
    )


def _exfat(data: bytes) -> ClusterSettings:
    sector, cluster = data[108], data[109]
    if not 9 <= sector <= 12 or sector + cluster > 25:
        raise ValueError("shifts")
    return ClusterSettings(sector_bytes=1 << sector, cluster_bytes=1 << (sector + cluster))


def _ntfs(data: bytes) -> ClusterSettings:
    sector, per_cluster = struct.unpack_from("<HB", data, 11)
    # Above 128 it is the negative exponent of two.
    count = per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster)
    return ClusterSettings(sector_bytes=sector, cluster_bytes=sector * count)


def _f2fs(data: bytes) -> F2fsSettings:
    log_sector, _, _, log_segment, section, zone = struct.unpack_from("<IIIIII", data, 8)
    del log_segment
    # Behind the names of file types (count and 64 of 8) and cp_payload: version, init_version.
    (features,) = struct.unpack_from("<I", data, 2180)
    (encoding,) = struct.unpack_from("<H", data, 2758)
    return F2fsSettings(
        sector_bytes=1 << log_sector,
        features=features,
        section_segments=section,
        zone_sections=zone,
        encoding=encoding if features & 0x1000 else 0,
    )


def _jfs(data: bytes) -> JfsSettings:
    (flag,) = struct.unpack_from("<I", data, 36)
    (block,) = struct.unpack_from("<I", data, 16)
    # An inline log: a physical extent of 24 bits of length and 40 of address.
    (words,) = struct.unpack_from("<I", data, 72)
    return JfsSettings(
        block_bytes=block,
        log_bytes=(words & 0xFFFFFF) * block,
        case_insensitive=bool(flag & _JFS_OS2),
    )


def _nilfs(data: bytes) -> NilfsSettings:
    (log_block,) = struct.unpack_from("<I", data, 20)
    (blocks,) = struct.unpack_from("<I", data, 48)
    (reserved,) = struct.unpack_from("<I", data, 52)
    (features,) = struct.unpack_from("<Q", data, 264)
    return NilfsSettings(
        block_bytes=1024 << log_block,
        segment_blocks=blocks,
        reserved_percent=reserved,
        features=features,
    )


_READERS: dict[Family, tuple[int, int, Callable[[bytes], Settings]]] = {
    Family.VFAT: (0, 512, _fat),
    Family.EXFAT: (0, 512, _exfat),
    Family.NTFS: (0, 512, _ntfs),
    Family.F2FS: (1024, 3072, _f2fs),
    Family.JFS: (32768, 512, _jfs),
    Family.NILFS2: (1024, 1024, _nilfs),
}


def place(family: Family) -> tuple[int, int] | None:
    """Return offset and size of a family's super block; None where a tool tells it."""
    found = _READERS.get(family)
    return None if found is None else found[:2]


def read_settings(family: Family, data: bytes, *, where: str) -> Settings:
    """Return the settings in the bytes of ``place``. Raises CannotRead."""
    try:
        return _READERS[family][2](data)
    except (struct.error, ValueError, ZeroDivisionError, IndexError) as error:
        raise CannotRead(f"the super block of {where} makes no sense: {error!r}") from error


def read_swap(read: Callable[[int, int], bytes | None]) -> tuple[int, int] | None:
    """Return page size and size of a swap area; None for none.

    ``read`` gives bytes of it: offset, size. See mkswap(8) and include/linux/swap.h: the first
    page ends with a signature.
    """
    for page in _SWAP_PAGES:
        if read(page - 10, 10) == b"SWAPSPACE2":
            version, last = struct.unpack("<II", read(1024, 8) or bytes(8))
            # Written by a machine of the other byte order: the kernel swaps it too.
            if version != 1:
                last = int.from_bytes(last.to_bytes(4, "little"), "big")
            return page, (last + 1) * page
    return None
