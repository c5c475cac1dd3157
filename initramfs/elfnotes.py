"""The libraries that a file says it will dlopen: ``.note.dlopen`` in a PT_NOTE segment.

Format: https://uapi-group.org/specifications/specs/elf_dlopen_metadata
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_OWNER = b"FDO\0"
_NT_FDO_DLOPEN = 0x407C0C0A


class Priority(enum.StrEnum):
    """How much a file wants a library that it dlopens."""

    REQUIRED = "required"
    RECOMMENDED = "recommended"
    SUGGESTED = "suggested"


@dataclass(frozen=True, slots=True)
class DlopenNote:
    """One feature that a file loads at run time; ``sonames`` are alternatives, best first."""

    feature: str
    description: str
    priority: Priority
    sonames: tuple[str, ...]


def dlopen_notes(data: bytes, byte_order: str, *, alignment: int) -> Iterator[DlopenNote]:
    """Yield what the dlopen notes among the notes of one segment say.

    ``byte_order`` is that of ``struct``, ``alignment`` the segment's p_align. Raises
    ValueError for a dlopen note that is not as specified; other notes may hold anything.
    """
    if _OWNER not in data:
        return
    header = struct.Struct(byte_order + "III")
    # Notes are aligned to 4 bytes in either class, but for those of a segment that says 8.
    step = 8 if alignment == 8 else 4
    at = 0
    while at + header.size <= len(data):
        name_bytes, content_bytes, kind = header.unpack_from(data, at)
        name_at = at + header.size
        content_at = _aligned(name_at + name_bytes, step)
        end = content_at + content_bytes
        if end > len(data):
            return
        if kind == _NT_FDO_DLOPEN and data[name_at : name_at + name_bytes] == _OWNER:
            yield from _decode(data[content_at:end])
        at = _aligned(end, step)


def _aligned(value: int, step: int) -> int:
    return (value + step - 1) // step * step


def _decode(content: bytes) -> Iterator[DlopenNote]:
    try:
        entries = json.loads(content.rstrip(b"\0"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # Drafts of the specification had a single object, and one soname instead of an array.
    for entry in entries if isinstance(entries, list) else [entries]:
        sonames = entry.get("soname") if isinstance(entry, dict) else None
        if isinstance(sonames, str):
            sonames = [sonames]
        if not isinstance(sonames, list):
            raise ValueError("an entry of it has no sonames")
        yield DlopenNote(
            str(entry.get("feature", "")),
            str(entry.get("description", "")),
            Priority(entry.get("priority", Priority.RECOMMENDED)),
            tuple(str(name) for name in sonames),
        )
