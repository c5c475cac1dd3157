"""The image's own record: what it was made of, from what, and why; JSON inside the image.

The builder writes it at restore.contract.IMAGE_RECORD, and ``mindi inspect``, ``why`` and
``diff`` read it: they need neither the build directory nor the tree it was made from.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from initramfs.closure import Because, Entry, FileClosure, Kind
from initramfs.codec import Codec
from initramfs.errors import InputError
from mindi.recordjson import Fields
from mindi.spec import Output, Selection
from restore.contract import IMAGE_RECORD

RECORD_VERSION = 1
_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")
_BECAUSE = Because("the image's own record")


@dataclass(frozen=True, slots=True)
class ToolRecord:
    """A tool in the image: its name, its path, and the argv that asks for its version."""

    name: str
    path: str
    version_argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AbsentTool:
    """A tool that the root tree did not have, and the package that has it."""

    name: str
    package: str


@dataclass(frozen=True, slots=True)
class AbsentFirmware:
    """A firmware file that a module of the image names and that the root tree did not have."""

    name: str
    module: str


@dataclass(frozen=True, slots=True)
class RecordedEntry:
    """One path of the image: st_mode, bytes of content, link target, and all its reasons."""

    mode: int
    size_bytes: int
    target: str | None
    because: tuple[Because, ...]


@dataclass(frozen=True, slots=True)
class MediumFile:
    """A file of an ISO outside of its initrd: where it was taken from, and all its reasons.

    ``source`` is for people to read, None where the build made the file.
    """

    source: str | None
    because: tuple[Because, ...]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """All that an image tells of itself.

    ``entries`` are by path, in the order of the tree; the record's own is among them, its size
    given as 0. ``medium`` are the files of an ISO, see mindi/mediumfiles.py. ``created_s`` is in
    seconds since 1970, ``level`` 0 to 9.
    """

    mindi_version: str
    created_s: int
    architecture: str
    kernel_version: str
    selection: Selection
    output: Output
    codec: Codec
    level: int
    label: str
    tools: tuple[ToolRecord, ...]
    tools_absent: tuple[AbsentTool, ...]
    firmware_absent: tuple[AbsentFirmware, ...]
    modules: tuple[str, ...]
    entries: Mapping[str, RecordedEntry]
    medium: Mapping[str, MediumFile] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def libraries(self) -> int:
        """Number of shared libraries (files, not the links to them)."""
        return sum(
            stat.S_ISREG(entry.mode) and _LIBRARY.search(path) is not None
            for path, entry in self.entries.items()
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of content in all files."""
        return sum(entry.size_bytes for entry in self.entries.values())

    def to_json(self) -> bytes:
        """Return the record as it is stored: ASCII, one line for each entry of the image."""
        head = {
            "version": RECORD_VERSION,
            "mindi_version": self.mindi_version,
            "created_s": self.created_s,
            "architecture": self.architecture,
            "kernel_version": self.kernel_version,
            "selection": self.selection.value,
            "output": self.output.value,
            "codec": self.codec.value,
            "level": self.level,
            "label": self.label,
            "libraries": self.libraries,
            "size_bytes": self.size_bytes,
            "tools": [[tool.name, tool.path, list(tool.version_argv)] for tool in self.tools],
            "tools_absent": [[tool.name, tool.package] for tool in self.tools_absent],
            "firmware_absent": [[blob.name, blob.module] for blob in self.firmware_absent],
            "modules": list(self.modules),
            "medium": {
                path: [_reasons_json(file.because), *([file.source] if file.source else [])]
                for path, file in self.medium.items()
            },
        }
        lines = [
            f"{json.dumps(path)}:{json.dumps(_entry_json(entry), separators=(',', ':'))}"
            for path, entry in self.entries.items()
        ]
        start = json.dumps(head, indent=1)[:-2]
        return (start + ',\n "entries": {\n' + ",\n".join(lines) + "\n }\n}\n").encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> ImageRecord:
        """Read what ``to_json`` wrote; raise InputError for anything else, or a newer version."""
        fields = Fields.parse(data, "the image's record")
        version = fields.number("version")
        if version > RECORD_VERSION:
            raise InputError(
                f"the image's record has version {version}; this mindi reads {RECORD_VERSION}",
                hint="use the version of mindi that made the image, or a newer one",
            )
        return cls(
            mindi_version=fields.text("mindi_version"),
            created_s=fields.number("created_s"),
            architecture=fields.text("architecture"),
            kernel_version=fields.text("kernel_version"),
            selection=fields.choice("selection", Selection),
            output=fields.choice("output", Output),
            codec=fields.choice("codec", Codec),
            level=fields.number("level"),
            label=fields.text("label"),
            tools=tuple(
                ToolRecord(row.text(0), row.text(1), row.texts(2)) for row in fields.rows("tools")
            ),
            tools_absent=tuple(
                AbsentTool(row.text(0), row.text(1)) for row in fields.rows("tools_absent")
            ),
            firmware_absent=tuple(
                AbsentFirmware(row.text(0), row.text(1)) for row in fields.rows("firmware_absent")
            ),
            modules=fields.texts("modules"),
            entries=MappingProxyType(
                {path: _read_entry(row) for path, row in fields.named_rows("entries")}
            ),
            medium=MappingProxyType(
                {path: _read_file(row) for path, row in fields.named_rows("medium")}
                if fields.has("medium")
                else {}
            ),
        )


def make_record(
    closure: FileClosure,
    *,
    mindi_version: str,
    created_s: int,
    architecture: str,
    kernel_version: str,
    selection: Selection,
    output: Output,
    codec: Codec,
    level: int,
    label: str,
    tools: Iterable[ToolRecord],
    tools_absent: Iterable[AbsentTool],
    firmware_absent: Iterable[AbsentFirmware],
    modules: Iterable[str],
    medium: Mapping[str, MediumFile] = MappingProxyType({}),
) -> ImageRecord:
    """Return the record of an image that holds ``closure`` and the record itself."""
    whole = _placed(closure, b"")
    return ImageRecord(
        mindi_version=mindi_version,
        created_s=created_s,
        architecture=architecture,
        kernel_version=kernel_version,
        selection=selection,
        output=output,
        codec=codec,
        level=level,
        label=label,
        tools=tuple(tools),
        tools_absent=tuple(tools_absent),
        firmware_absent=tuple(firmware_absent),
        modules=tuple(modules),
        entries=MappingProxyType(
            {
                entry.path: RecordedEntry(entry.mode, entry.size_bytes, entry.target, entry.because)
                for entry in whole
            }
        ),
        medium=MappingProxyType(dict(medium)),
    )


def with_record(closure: FileClosure, record: ImageRecord) -> FileClosure:
    """Return ``closure`` with ``record`` in its place, which is in the initrd's first frame."""
    return _placed(closure, record.to_json())


def _placed(closure: FileClosure, content: bytes) -> FileClosure:
    entries = dict(closure.entries)
    parent = IMAGE_RECORD
    while (parent := parent.rpartition("/")[0]) and parent not in entries:
        because = (Because("holds", IMAGE_RECORD),)
        entries[parent] = Entry(parent, Kind.DIRECTORY, stat.S_IFDIR | 0o755, because)
    entries[IMAGE_RECORD] = Entry(
        IMAGE_RECORD, Kind.FILE, stat.S_IFREG | 0o644, (_BECAUSE,), content=content
    )
    ordered = sorted(entries.items(), key=lambda item: item[0].split("/"))
    return FileClosure(MappingProxyType(dict(ordered)))


def _entry_json(entry: RecordedEntry) -> list[object]:
    row: list[object] = [entry.mode, entry.size_bytes, _reasons_json(entry.because)]
    return row if entry.target is None else [*row, entry.target]


def _reasons_json(reasons: Iterable[Because]) -> list[list[str]]:
    return [[reason.what, reason.by] if reason.by else [reason.what] for reason in reasons]


def _read_entry(row: Fields) -> RecordedEntry:
    return RecordedEntry(
        mode=row.number(0),
        size_bytes=row.number(1),
        target=row.text(3) if len(row) > 3 else None,
        because=_read_reasons(row, 2),
    )


def _read_file(row: Fields) -> MediumFile:
    return MediumFile(row.text(1) if len(row) > 1 else None, _read_reasons(row, 0))


def _read_reasons(row: Fields, key: int) -> tuple[Because, ...]:
    return tuple(
        Because(reason.text(0), reason.text(1) if len(reason) > 1 else None)
        for reason in row.rows(key)
    )
