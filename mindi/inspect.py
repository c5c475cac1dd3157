"""What is in an image (``mindi inspect``); see mindi/why.py and mindi/diff.py for more questions.

The answer comes from the image's record, which is read in an instant; only with ``verify`` is
all of the image read. The keys of the JSON are interface; ``to_json`` documents them.
"""

from __future__ import annotations

import enum
import re
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import InputError
from initramfs.microcode import is_early
from mindi.image import Image, Medium, open_image
from mindi.isosums import check_medium
from mindi.record import ImageRecord
from restore.contract import IMAGE_RECORD
from restore.words import date_words, shown_text, size_words

BIGGEST = 15


class Group(enum.StrEnum):
    """What a file of an image is part of."""

    MODULES = "modules"
    FIRMWARE = "firmware"
    PYTHON = "python"
    LIBRARIES = "libraries"
    PROGRAMS = "programs"
    OTHER = "other"


_GROUPS = (
    (re.compile(r"(/usr)?/lib/modules/"), Group.MODULES),
    (re.compile(r"(/usr)?/lib/firmware/"), Group.FIRMWARE),
    (re.compile(r"(/usr)?(/local)?/lib(64)?/python[0-9.]*/|.*/site-packages/"), Group.PYTHON),
    (re.compile(r".*\.so(\.[0-9.]+)?$"), Group.LIBRARIES),
    (re.compile(r"(/usr)?(/local)?/(s?bin|libexec)/"), Group.PROGRAMS),
)


@dataclass(frozen=True, slots=True)
class GroupSize:
    """Number and bytes of the files of one group."""

    group: Group
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What reading all of an image found: nothing wrong.

    ``entries`` of the initrd are as its record says in type, mode, target and size. ``frames`` are
    its plain archives and compressed frames; of the latter each has its own checksum.
    ``files`` on the medium have the digest that it carries of them: 0 for an initrd alone.
    """

    entries: int
    frames: int
    unpacked_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """A summary of an image; ``verified`` only where all of it was read."""

    path: Path
    medium: Medium
    size_bytes: int
    initrd_bytes: int
    record: ImageRecord
    groups: tuple[GroupSize, ...]
    biggest: tuple[tuple[str, int], ...]
    microcode: tuple[tuple[str, int], ...]
    verified: Verified | None

    def to_text(self) -> str:
        """Return the summary for a terminal."""
        record = self.record
        lines = [
            f"{shown_text(str(self.path))}: {self.medium}, {size_words(self.size_bytes)}",
            f"  made      {date_words(record.created_s)}, mindi {shown_text(record.mindi_version)}",
            f"  label     {shown_text(record.label)}",
            f"  kernel    {shown_text(record.kernel_version)} ({shown_text(record.architecture)})",
            f"  selection {record.selection}, {len(record.modules)} modules",
            f"  initrd    {size_words(self.initrd_bytes)} {record.codec} (level {record.level}), "
            f"{size_words(record.size_bytes)} unpacked, {len(record.entries)} entries",
            f"  libraries {record.libraries}",
            f"  tools     {len(record.tools)}, {len(record.tools_absent)} absent",
        ]
        lines += [f"  microcode {shown_text(p)} {size_words(size)}" for p, size in self.microcode]
        if self.verified is not None:
            lines.append(
                f"  verified  {self.verified.entries} entries in {self.verified.frames} parts are "
                "whole and as recorded"
            )
            if self.verified.files:
                lines.append(
                    f"            {self.verified.files} files of the medium have their SHA-256; "
                    "boot code and partition tables are right"
                )
        lines += ["", "sizes:"]
        lines += [
            f"  {size.group:<10} {size.files:6} files {size_words(size.size_bytes):>10}"
            for size in self.groups
        ]
        lines += ["", "biggest:"]
        lines += [f"  {size_words(size):>10} {shown_text(path)}" for path, size in self.biggest]
        return "\n".join(lines + self._lists()) + "\n"

    def _lists(self) -> list[str]:
        record = self.record
        lines = ["", "tools:"]
        lines += [f"  {shown_text(tool.name):<20} {shown_text(tool.path)}" for tool in record.tools]
        if record.tools_absent:
            lines += ["", "absent tools (package):"]
            lines += [
                f"  {shown_text(tool.name):<20} {shown_text(tool.package)}"
                for tool in record.tools_absent
            ]
        if record.firmware_absent:
            lines += ["", "absent firmware (module):"]
            lines += [
                f"  {shown_text(blob.name)} ({shown_text(blob.module)})"
                for blob in record.firmware_absent
            ]
        return lines

    def to_json(self) -> dict[str, object]:
        """Return image, medium, sizes, what it was made of, tools, groups, biggest, verified.

        All sizes are in bytes, ``created_s`` in seconds since 1970; ``verified`` is null
        where the image was not read whole.
        """
        record, whole = self.record, self.verified
        return {
            "image": str(self.path),
            "medium": self.medium.value,
            "size_bytes": self.size_bytes,
            "initrd_bytes": self.initrd_bytes,
            "mindi_version": record.mindi_version,
            "created_s": record.created_s,
            "architecture": record.architecture,
            "kernel_version": record.kernel_version,
            "selection": record.selection.value,
            "codec": record.codec.value,
            "level": record.level,
            "label": record.label,
            "entries": len(record.entries),
            "unpacked_bytes": record.size_bytes,
            "libraries": record.libraries,
            "modules": list(record.modules),
            "tools": [
                {"name": tool.name, "path": tool.path, "version_argv": list(tool.version_argv)}
                for tool in record.tools
            ],
            "tools_absent": [
                {"name": tool.name, "package": tool.package} for tool in record.tools_absent
            ],
            "firmware_absent": [
                {"name": blob.name, "module": blob.module} for blob in record.firmware_absent
            ],
            "groups": [
                {"group": size.group.value, "files": size.files, "size_bytes": size.size_bytes}
                for size in self.groups
            ],
            "biggest": [{"path": path, "size_bytes": size} for path, size in self.biggest],
            "microcode": [{"path": path, "size_bytes": size} for path, size in self.microcode],
            "verified": whole
            and {
                "entries": whole.entries,
                "frames": whole.frames,
                "unpacked_bytes": whole.unpacked_bytes,
                "files": whole.files,
            },
        }


def inspect(path: Path, *, verify: bool = False) -> Inspection:
    """Summarize the image at ``path``; with ``verify`` read all of it.

    Raises InputError for what is no image of ours, is damaged, or is not what its record or its
    digests say.
    """
    image = open_image(path)
    record = image.record
    sizes = {
        path: entry.size_bytes for path, entry in record.entries.items() if stat.S_ISREG(entry.mode)
    }
    counts: dict[Group, list[int]] = defaultdict(list)
    for name, size in sizes.items():
        counts[group_of(name)].append(size)
    return Inspection(
        path=path,
        medium=image.medium,
        size_bytes=image.size_bytes,
        initrd_bytes=image.initrd.size_bytes,
        record=record,
        groups=tuple(
            GroupSize(group, len(counts[group]), sum(counts[group]))
            for group in Group
            if counts[group]
        ),
        biggest=tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:BIGGEST]),
        microcode=image.microcode,
        verified=_verify(image) if verify else None,
    )


def group_of(path: str) -> Group:
    """Return the group of the file at ``path`` of an image."""
    return next((group for pattern, group in _GROUPS if pattern.match(path)), Group.OTHER)


def _verify(image: Image) -> Verified:
    """Read all of ``image``; compare the medium with its digests, the initrd with its record."""
    files = check_medium(image) if image.medium is Medium.ISO else 0
    entries = image.record.entries
    sizes: dict[str, int] = {}
    linked: dict[tuple[int, tuple[int, int]], list[str]] = {}
    with image.path.open("rb") as file:
        reader = image.reader(file)
        for member in reader:
            if is_early(member.path):
                continue
            expected = entries.get(member.path)
            if expected is None:
                raise InputError(f"{member.path} is in the initrd of {image.path}, not its record")
            if (member.mode, member.target) != (expected.mode, expected.target):
                raise _differs(image, member.path)
            sizes[member.path] = member.size_bytes
            if member.links > 1 and stat.S_ISREG(member.mode):
                linked.setdefault((member.inode, member.filesystem), []).append(member.path)
    for names in linked.values():
        sizes.update(dict.fromkeys(names, max(sizes[name] for name in names)))
    for path, expected in entries.items():
        if path not in sizes:
            raise InputError(f"{path} is in the record of {image.path}, not its initrd")
        if path != IMAGE_RECORD and sizes[path] != expected.size_bytes:
            raise _differs(image, path)
    unpacked = sum(segment.unpacked_bytes for segment in reader.segments)
    return Verified(len(sizes), len(reader.segments), unpacked, files)


def _differs(image: Image, path: str) -> InputError:
    return InputError(
        f"{path} in the initrd of {image.path} is not what its record says",
        hint="the image was changed after it was made; build it again",
    )
