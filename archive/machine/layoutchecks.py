"""What values in a storage layout may be: they come from disks and sets that anyone may have made.

They end up in the argv of tools and as paths on the restored machine, so their form is checked
where a node is made, not where it is used.
"""

from __future__ import annotations

import re

from archive.errors import LayoutInvalid

ID = re.compile(r"[a-z]+:[^\x00-\x1f\x7f]{1,4200}")
"""A node's id: its kind, then what it is called on its machine."""

UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
DISK_UUID = re.compile(r"0x[0-9a-f]{8}|" + UUID.pattern)
"""Of a dos table, of a GPT."""
PARTITION_TYPE = re.compile(r"[0-9a-f]{1,2}|" + UUID.pattern)
LVM_UUID = re.compile(r"[0-9A-Za-z]{6}(-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}")
LVM_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,127}")
LVM_TAG = re.compile(r"[A-Za-z0-9_+.\-/=!:&#]{1,1024}")
MD_UUID = re.compile(r"[0-9a-f]{8}(:[0-9a-f]{8}){3}")
MD_METADATA = re.compile(r"0\.90|1\.[0-2]")
MAPPER_NAME = re.compile(r"[^\x00-\x20/\x7f]{1,127}")
KERNEL_NAME = re.compile(r"[A-Za-z0-9!_.:-]{1,64}")
VOLUME_ID = re.compile(r"[0-9A-F]{4}-[0-9A-F]{4}|[0-9A-F]{16}|" + UUID.pattern)
"""Of FAT and exFAT, of NTFS, of all others."""
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:=()\[\]+-]{0,255}")
"""What a tool calls a cipher, a feature, a policy: never an option of that tool."""

_NO_TEXT = re.compile(r"[\x00]")


def node_id(kind: str, name: str) -> str:
    """Return an id for what may be called anything: control characters in it are escaped."""
    plain = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", name)
    return f"{kind}:{plain}"


def fits(name: str, value: str | None, pattern: re.Pattern[str]) -> None:
    """Raise LayoutInvalid where ``value`` is there and has not the form of ``pattern``."""
    if value is not None and pattern.fullmatch(value) is None:
        raise LayoutInvalid(f"{value[:80]!r} cannot be {name}")


def words(name: str, values: tuple[str, ...], pattern: re.Pattern[str] = WORD) -> None:
    """Raise LayoutInvalid where one of ``values`` has not the form of ``pattern``."""
    for value in values:
        fits(name, value, pattern)


def plain(name: str, value: str | None, *, most: int = 4096) -> None:
    """Raise LayoutInvalid for text that no program takes as an argument."""
    if value is not None and (len(value) > most or _NO_TEXT.search(value)):
        raise LayoutInvalid(f"{value[:80]!r} cannot be {name}")


def power_of_two(name: str, value: int, *, least: int, most: int) -> None:
    """Raise LayoutInvalid for a size that is no power of two in that range."""
    if not least <= value <= most or value & (value - 1):
        raise LayoutInvalid(f"{value} cannot be {name}")


def at_least(name: str, value: int | None, least: int) -> None:
    """Raise LayoutInvalid for a number that is too small."""
    if value is not None and value < least:
        raise LayoutInvalid(f"{value} cannot be {name}")


def absolute(name: str, path: str) -> None:
    """Raise LayoutInvalid for what is no absolute path, or leads up or nowhere."""
    if path != "/" and (not path.startswith("/") or not _descends(path[1:])):
        raise LayoutInvalid(f"{path[:80]!r} cannot be {name}")


def relative(name: str, path: str) -> None:
    """Raise LayoutInvalid for what is no path below a directory."""
    if not _descends(path):
        raise LayoutInvalid(f"{path[:80]!r} cannot be {name}")


def _descends(path: str) -> bool:
    if len(path) > 4096 or "\0" in path:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))
