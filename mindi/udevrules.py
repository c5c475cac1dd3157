"""The rules of udev(7) that a rescue environment holds, of its root tree.

A distribution's rules come by name, an administrator's unless they are known to assemble: a
rescue environment writes to no disk unasked, and what assembles an array or a volume may do so.
"""

from __future__ import annotations

import fnmatch
import re

from initramfs.closure import Because, ClosureBuilder
from mindi.toolbox import expand

_OWN = "/etc/udev/rules.d"
_SHIPPED = "/usr/lib/udev/rules.d"

# Rules that name devices and load drivers; those for desktops are not among them.
_WANTED = (
    *("01-md-raid-creating", "10-dm", "11-dm-*", "13-dm-disk", "40-*", "41-*", "50-udev-default"),
    *("55-dm", "55-scsi-sg3_id", "56-dm-mpath", "56-dm-parts", "56-lvm", "58-scsi-sg3_symlink"),
    *("59-dasd", "60-block", "60-cdrom_id", "60-persistent-storage*", "60-serial", "61-*"),
    *("63-md-raid-arrays", "63-scsi-sg3_symlink", "64-btrfs*", "73-special-net-names"),
    *("75-net-description", "80-drivers", "80-net-setup-link", "80-net-name-slot"),
    *("95-dm-notify",),
)

# Those of distributions that assemble, by the number of one of them or of another.
_ASSEMBLING = (
    *("*-md-raid-assembly", "*-md-incremental*", "*-lvm", "*-lvm-metad", "*-dmraid", "*-kpartx"),
    *("*-multipath", "*-bcache", "*-nvmf-autoconnect", "*-zfs"),
)
_ASSEMBLES = re.compile(
    rb'^[^#\n]*\b(?:RUN|PROGRAM|IMPORT)\b[^"\n]*"[^"]*\b(?:mdadm|lvm|pvscan|vgscan|vgchange|lvchange'
    rb"|dmraid|kpartx|multipath|bcache-register|nvme|zpool|cryptsetup)\b",
    re.MULTILINE,
)


def add_rules(builder: ClosureBuilder, because: Because) -> None:
    """Add the rules of ``builder``'s root, the administrator's and the distribution's.

    What the administrator has put out of force, by a link to /dev/null, stays so.
    """
    root = builder.root
    shipped = {_name(path): path for path in expand(root, f"{_SHIPPED}/*.rules")}
    own = {_name(name): f"{_OWN}/{name}" for name in root.list(_OWN) if name.endswith(".rules")}
    for name, path in shipped.items():
        if _matches(name, _WANTED) and root.is_file(own.get(name, path)):
            builder.add(path, because)
    for name, path in own.items():
        is_left_out = name in shipped or _matches(name, _ASSEMBLING)
        if is_left_out and not _matches(name, _WANTED):
            continue
        if root.is_file(path) and not _ASSEMBLES.search(root.read(path)):
            builder.add(path, because)


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".rules")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
