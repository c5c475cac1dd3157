"""Settings of filesystems as their own tools tell them: ext2/3/4, XFS, btrfs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archive.errors import CannotRead
from archive.machine.layoutfiles import BtrfsMember, BtrfsSettings, ExtSettings, XfsSettings

_FIELD = re.compile(r"^([A-Z][^:\n]*?):[ \t]*(.*)$", re.MULTILINE)
# Of ext4: what a state causes, and what stands for no feature at all.
_PASSING = frozenset({"needs_recovery", "orphan_present", "(none)"})
_UNITS = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_XFS_PAIR = re.compile(r"([a-z][a-z0-9-]*)=\s*(\d+)")
_XFS_FEATURES = (
    *("crc", "finobt", "sparse", "rmapbt", "reflink", "bigtime", "inobtcount", "nrext64"),
    *("projid32bit", "ascii-ci", "ftype", "lazy-count", "exchange", "parent", "metadir"),
)
_BTRFS_FIELD = re.compile(r"^([a-z_.]+)[ \t]+(.*)$", re.MULTILINE)
_SUBVOLUME = re.compile(r"^ID (\d+) .*?parent_uuid (\S+)\s.*?path (.*)$")
_PROFILE = re.compile(r"^(Data|Metadata|Data\+Metadata|System),\s*([A-Za-z0-9]+):", re.MULTILINE)
_FS_TREE = "<FS_TREE>/"


def parse_dumpe2fs(text: str, *, where: str) -> ExtSettings:
    """Return what ``dumpe2fs -h`` says. Raises CannotRead."""
    fields = dict(_FIELD.findall(text))

    def optional(name: str) -> int | None:
        value = fields.get(name, "").split(" ")[0]
        return int(value) if value.isdecimal() and int(value) else None

    def first(name: str) -> int:
        return int(fields[name].split(" ")[0])

    try:
        options = fields.get("Default mount options", "")
        mounts = fields.get("Maximum mount count", "-1")
        return ExtSettings(
            features=tuple(
                one for one in fields["Filesystem features"].split() if one not in _PASSING
            ),
            block_bytes=first("Block size"),
            blocks=first("Block count"),
            inode_bytes=first("Inode size") if "Inode size" in fields else 128,
            inodes=first("Inode count"),
            reserved_blocks=first("Reserved block count"),
            reserved_uid=first("Reserved blocks uid"),
            reserved_gid=first("Reserved blocks gid"),
            blocks_per_group=first("Blocks per group"),
            flex_group=optional("Flex block group size"),
            cluster_bytes=optional("Cluster size"),
            stride_blocks=optional("RAID stride"),
            stripe_width_blocks=optional("RAID stripe width"),
            journal_bytes=_size(fields.get("Total journal size") or fields.get("Journal size")),
            journal_uuid=fields.get("Journal UUID"),
            mount_options=() if options.startswith("(none") else tuple(options.split()),
            errors=_errors_word(fields.get("Errors behavior", "Continue")),
            hash=fields.get("Default directory hash"),
            encoding=fields.get("Character encoding"),
            max_mounts=int(mounts) if int(mounts) > 0 else None,
            check_interval_s=first("Check interval"),
        )
    except (KeyError, ValueError) as error:
        raise CannotRead(f"what dumpe2fs says of {where} makes no sense: {error!r}") from error


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([kKMG]?)", text.strip())
    if found is None:
        raise ValueError(f"a size of {text}")
    return int(found[1]) * _UNITS[found[2]]


def _errors_word(text: str) -> str:
    words = {"Continue": "continue", "Remount read-only": "remount-ro", "Panic": "panic"}
    if text not in words:
        raise ValueError(f"errors behavior {text}")
    return words[text]


def parse_xfs(text: str, *, where: str) -> XfsSettings:
    """Return what ``xfs_db -r -c info``, or xfs_info, says. Raises CannotRead."""
    parts: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        head, equals, rest = line.partition("=")
        name = head.strip() or name
        if equals:
            parts[name] = f"{parts.get(name, '')} {rest}"
    try:
        section = {one: dict(_XFS_PAIR.findall(words)) for one, words in parts.items()}
        meta, data, log = section["meta-data"], section["data"], section["log"]
        every = {key: value for one in section.values() for key, value in one.items()}
        return XfsSettings(
            block_bytes=int(data["bsize"]),
            sector_bytes=int(meta["sectsz"]),
            inode_bytes=int(meta["isize"]),
            blocks=int(data["blocks"]),
            group_count=int(meta["agcount"]),
            group_blocks=int(meta["agsize"]),
            stripe_unit_blocks=int(data["sunit"]),
            stripe_width_blocks=int(data["swidth"]),
            inode_percent=int(data["imaxpct"]),
            directory_block_bytes=int(section["naming"]["bsize"]),
            log_blocks=int(log["blocks"]),
            log_version=int(log["version"]),
            log_sector_bytes=int(log["sectsz"]),
            log_stripe_unit_blocks=int(log["sunit"]),
            internal_log=parts["log"].split()[0] == "internal",
            realtime=parts["realtime"].split()[0] != "none",
            features=tuple(one for one in _XFS_FEATURES if every.get(one, "0") != "0"),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise CannotRead(f"what XFS says of {where} makes no sense: {error!r}") from error


def parse_btrfs_super(text: str, *, where: str) -> tuple[BtrfsSettings, int]:
    """Return what ``btrfs inspect-internal dump-super`` says of one device, and how many it has.

    Raises CannotRead.
    """
    fields = dict(_BTRFS_FIELD.findall(text))
    try:
        member = BtrfsMember(int(fields["dev_item.devid"]), fields["dev_item.uuid"].split()[0])
        found = re.search(r"\(([\w-]+)\)", fields["csum_type"])
        settings = BtrfsSettings(
            sector_bytes=int(fields["sectorsize"]),
            node_bytes=int(fields["nodesize"]),
            checksum="crc32c" if found is None else found[1],
            incompat=int(fields["incompat_flags"], 16),
            compat_ro=int(fields["compat_ro_flags"], 16),
            members=(member,),
        )
        return settings, int(fields["num_devices"])
    except (KeyError, ValueError, IndexError) as error:
        raise CannotRead(f"what btrfs says of {where} makes no sense: {error!r}") from error


def parse_btrfs_usage(text: str) -> dict[str, str]:
    """Return the profiles that ``btrfs filesystem usage`` tells, as ``{"Data": "single"}``.

    Of several for one kind of block (a balance is not done) the last is taken: the new one.
    """
    found = {kind: word.lower() for kind, word in _PROFILE.findall(text)}
    if "Data+Metadata" in found:
        return {"Data": found["Data+Metadata"], "Metadata": found["Data+Metadata"]}
    return found


@dataclass(frozen=True, slots=True)
class ListedSubvolume:
    """A line of ``btrfs subvolume list``; ``path`` from the filesystem's top."""

    number: int
    path: str
    has_parent: bool


def parse_subvolumes(text: str, *, seen_at: str) -> tuple[ListedSubvolume, ...]:
    """Return what ``btrfs subvolume list -a -q`` says where ``seen_at`` is mounted.

    ``seen_at`` is a subvolume's path from the top, empty for the top itself: paths below it
    are told without it.
    """
    found = []
    for line in text.splitlines():
        hit = _SUBVOLUME.match(line)
        if hit is None:
            continue
        path = hit[3]
        if path.startswith(_FS_TREE):
            path = path.removeprefix(_FS_TREE)
        elif seen_at:
            path = f"{seen_at}/{path}"
        found.append(ListedSubvolume(int(hit[1]), path, hit[2] != "-"))
    return tuple(found)


def parse_default(text: str) -> int | None:
    """Return the number that ``btrfs subvolume get-default`` tells."""
    found = re.match(r"ID (\d+)", text)
    return int(found[1]) if found else None
