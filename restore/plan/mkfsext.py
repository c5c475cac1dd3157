"""ext2, ext3 and ext4 as they were: mke2fs(8), and tune2fs(8) for what mke2fs cannot be told.

/etc/mke2fs.conf of the machine that runs them has no say: features begin with ``none``, and all
else that it could set is said. Not kept, as no layout has it and no file depends on it: the hash's
seed, where group descriptors may grow, how large an orphan file is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from archive.machine.layoutfiles import ExtSettings, Filesystem
from restore.plan.actions import Command

_MIB = 1 << 20
_FEATURES = frozenset(
    {
        *("has_journal", "resize_inode", "dir_index", "ext_attr", "sparse_super2", "fast_commit"),
        *("stable_inodes", "orphan_file", "filetype", "extent", "meta_bg", "flex_bg", "ea_inode"),
        *("mmp", "64bit", "inline_data", "encrypt", "casefold", "metadata_csum_seed", "large_dir"),
        *("large_file", "huge_file", "dir_nlink", "extra_isize", "uninit_bg", "sparse_super"),
        *("quota", "bigalloc", "project", "metadata_csum", "verity"),
    }
)
"""Those that mke2fs 1.47 can give a new filesystem."""

# Of the modes of data one is on: taking one away takes all.
_MOUNT_OPTIONS = (
    *("debug", "bsdgroups", "user_xattr", "acl", "uid16", "journal_data_writeback", "nobarrier"),
    *("block_validity", "discard", "nodelalloc", "journal_data", "journal_data_ordered"),
)
_JOURNAL_MODES = ("journal_data", "journal_data_ordered")
_HASHES = frozenset({"legacy", "half_md4", "tea"})
_ERRORS = frozenset({"continue", "remount-ro", "panic"})
_ENCODING = re.compile(r"utf8(-\d{1,2}\.\d{1,2})?")
# Of a journal with fast commits, 1/64 of the rest is for those, and counted in its size.
_FAST_COMMIT = (64, 65)


def lacking(settings: ExtSettings) -> Iterator[str]:
    """Yield why a filesystem with these settings cannot be made, in words."""
    if settings.journal_uuid is not None or "journal_dev" in settings.features:
        yield "its journal is on another device"
    unknown = sorted(set(settings.features) - _FEATURES - {"journal_dev"})
    if unknown:
        yield f"mke2fs does not make its features: {', '.join(unknown)}"
    strange = sorted(set(settings.mount_options) - set(_MOUNT_OPTIONS))
    if strange:
        yield f"tune2fs does not know its mount options: {', '.join(strange)}"
    if settings.hash is not None and settings.hash not in _HASHES:
        yield f"its directories have the hash {settings.hash}, which is not known"
    if settings.encoding is not None and _ENCODING.fullmatch(settings.encoding) is None:
        yield f"its names have the encoding {settings.encoding}, which is not known"
    if settings.errors not in _ERRORS:
        yield f"on errors it does what is not known: {settings.errors}"


def commands(filesystem: Filesystem, settings: ExtSettings, device: str) -> tuple[Command, ...]:
    """Return what makes it: the blocks that it had, however large the device is."""
    return (
        Command(argv=_mke2fs(filesystem, settings, device), timeout_s=3600),
        Command(argv=_tune2fs(settings, device)),
    )


def _mke2fs(filesystem: Filesystem, settings: ExtSettings, device: str) -> tuple[str, ...]:
    # The type is one that any mke2fs.conf has; what it says of it is overruled.
    argv = ["mke2fs", "-F", "-q", "-t", filesystem.family.value, "-T", "default"]
    argv += ["-O", ",".join(("none", *settings.features)), "-o", "Linux"]
    argv += ["-b", str(settings.block_bytes), "-I", str(settings.inode_bytes)]
    argv += ["-N", str(settings.inodes), "-m", "0"]
    per_group = settings.blocks_per_group
    if "bigalloc" in settings.features and settings.cluster_bytes is not None:
        argv += ["-C", str(settings.cluster_bytes)]
        # With bigalloc the option counts clusters.
        per_group //= max(1, settings.cluster_bytes // max(1, settings.block_bytes))
    argv += ["-g", str(per_group)]
    if settings.flex_group is not None:
        argv += ["-G", str(settings.flex_group)]
    if settings.journal_bytes is not None:
        argv += ["-J", f"size={_journal_mib(settings)}"]
    extended = _extended(settings)
    if extended:
        argv += ["-E", ",".join(extended)]
    if filesystem.uuid is not None:
        argv += ["-U", filesystem.uuid]
    argv += ["-L", filesystem.label, device, str(settings.blocks)]
    return tuple(argv)


def _journal_mib(settings: ExtSettings) -> int:
    """Return whole MiB, which is what mke2fs takes and what it made by itself."""
    size = settings.journal_bytes or 0
    if "fast_commit" in settings.features:
        size = size * _FAST_COMMIT[0] // _FAST_COMMIT[1]
    return -(-size // _MIB)


def _extended(settings: ExtSettings) -> list[str]:
    """Return what decides where mke2fs puts things; tune2fs says it again, with what is none."""
    found = []
    if settings.stride_blocks:
        found.append(f"stride={settings.stride_blocks}")
    if settings.stripe_width_blocks:
        found.append(f"stripe_width={settings.stripe_width_blocks}")
    if settings.encoding is not None:
        found.append(f"encoding={settings.encoding}")
    return found


def _tune2fs(settings: ExtSettings, device: str) -> tuple[str, ...]:
    stripes = (
        f"stride={settings.stride_blocks or 0},stripe_width={settings.stripe_width_blocks or 0}"
    )
    hashing = "" if settings.hash is None else f",hash_alg={settings.hash}"
    gone = [f"^{one}" for one in _MOUNT_OPTIONS if one not in _JOURNAL_MODES]
    return (
        *("tune2fs", "-r", str(settings.reserved_blocks)),
        *("-u", str(settings.reserved_uid), "-g", str(settings.reserved_gid)),
        *("-e", settings.errors, "-o", ",".join((*gone, *settings.mount_options))),
        *("-c", str(settings.max_mounts or -1), "-i", f"{settings.check_interval_s}s"),
        *("-E", stripes + hashing, device),
    )
