"""Small storage layouts for tests."""

from __future__ import annotations

from archive.machine.layout import AnyNode
from archive.machine.layoutfiles import ExtSettings, Family, Filesystem, Mount
from archive.machine.layoutnodes import Disk, Partition, PartitionKind, PartitionTable, TableKind

SECTOR = 512
MIB = 1 << 20
GUID = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
TABLE_GUID = "C3F45A56-7E0A-E948-960F-1ABCD81F5A7B"


def disk(name: str = "sda", *, size_mib: int = 100) -> Disk:
    return Disk(
        id=f"disk:{name}",
        kernel_name=name,
        size_bytes=size_mib * MIB,
        logical_sector=SECTOR,
        physical_sector=4096,
        serial=f"serial of {name}",
    )


def table(on: str = "disk:sda", *, kind: TableKind = TableKind.GPT) -> PartitionTable:
    is_gpt = kind is TableKind.GPT
    return PartitionTable(
        id=f"table:{on.partition(':')[2]}",
        on=on,
        kind=kind,
        uuid=TABLE_GUID if is_gpt else "0x1badcafe",
        sector_bytes=SECTOR,
        first_sector=34 if is_gpt else None,
        last_sector=100 * MIB // SECTOR - 34 if is_gpt else None,
        entries=128 if is_gpt else None,
    )


def partition(
    number: int = 1, *, start: int = 2048, size: int = 2048, of: PartitionTable | None = None
) -> Partition:
    held = of or table()
    return Partition(
        id=f"part:{held.on.partition(':')[2]}{number}",
        table=held.id,
        number=number,
        start=start,
        size=size,
        size_bytes=size * SECTOR,
        type=GUID if held.kind is TableKind.GPT else "83",
        uuid=f"C3F45A56-7E0A-E948-960F-{number:012X}" if held.kind is TableKind.GPT else None,
        kind=PartitionKind.PRIMARY,
    )


def ext4(on: str = "part:sda1", *, label: str = "root") -> Filesystem:
    settings = ExtSettings(
        features=("has_journal", "extent"),
        block_bytes=4096,
        blocks=256,
        inode_bytes=256,
        inodes=64,
        reserved_blocks=12,
        reserved_uid=0,
        reserved_gid=0,
        blocks_per_group=32768,
        flex_group=16,
        cluster_bytes=None,
        stride_blocks=None,
        stripe_width_blocks=None,
        journal_bytes=1 << 20,
        journal_uuid=None,
        mount_options=("user_xattr", "acl"),
        errors="continue",
        hash="half_md4",
        encoding=None,
        max_mounts=None,
        check_interval_s=0,
    )
    return Filesystem(
        id=f"fs:{on.partition(':')[2]}",
        devices=(on,),
        family=Family.EXT4,
        uuid="45881994-12a6-4b28-951b-4f538218e8f5",
        label=label,
        settings=settings,
        size_bytes=1 << 20,
    )


def mount(source: str = "fs:sda1", point: str = "/") -> Mount:
    return Mount(id=f"mount:{point}", source=source, point=point, options=("rw", "relatime"))


def simple() -> list[AnyNode]:
    """Return a disk with a GPT, a partition, ext4, and its mount, top first."""
    return [mount(), ext4(), partition(), table(), disk()]
