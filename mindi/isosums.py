"""The digests that an ISO carries of its own files, and the check by them.

They are on the medium in the format of sha256sum(1), relative to its root, so that whoever has it
mounted needs nothing of ours: ``cd /media/stick && sha256sum -c mindi/sha256sums``. The file names
every file of the medium but itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from initramfs.errors import InputError
from mindi.hybrid import SYSTEM_AREA_BYTES, Hybrid, backup_gpt, padded_size, system_area
from mindi.isolayout import ESP_PATH, ID_FOLDER, ISO_BLOCK_BYTES, ISOLINUX_PATH, MBR_CODE_PATH

if TYPE_CHECKING:
    from mindi.image import Image

SUMS_PATH = "/mindi/sha256sums"
SUMS_LIMIT_BYTES = 64 << 20

_HINT = "the medium is damaged or was changed; copy the image again, or build it again"
# What sha256sum writes of names that would break its lines; such a line begins with a backslash.
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_PLAIN = {escape: char for char, escape in _ESCAPES.items()}
_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *]([^\n]+)")


def sums_text(digests: Mapping[str, str]) -> bytes:
    """Return the file for ``digests``: absolute path on the medium to SHA-256 in hexadecimal."""
    lines = []
    for path, digest in sorted(digests.items()):
        name = "".join(_ESCAPES.get(char, char) for char in path.lstrip("/"))
        mark = "\\" if name != path.lstrip("/") else ""
        lines.append(f"{mark}{digest}  {name}\n")
    return os.fsencode("".join(lines))


def read_sums(data: bytes, *, where: str) -> dict[str, str]:
    """Return what ``sums_text`` was given; raise InputError, with ``where``, for anything else."""
    digests = {}
    for number, line in enumerate(os.fsdecode(data).split("\n")[:-1], start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{where}, line {number} is none of sha256sum", hint=_HINT)
        name = match[3]
        if match[1]:
            name = re.sub(r"\\.", lambda found: _PLAIN.get(found[0], found[0]), name)
        digests[f"/{name}"] = match[2]
    if not digests or not data.endswith(b"\n"):
        raise InputError(f"{where} is cut short", hint=_HINT)
    return digests


def check_medium(image: Image) -> int:
    """Read all files of an ISO; return how many are as its digests say.

    The boot code and the partition tables are checked as well. Raises InputError for the first
    thing that is wrong, and for an image that carries no digests.
    """
    place = image.files.get(SUMS_PATH)
    if place is None or place.size_bytes > SUMS_LIMIT_BYTES:
        raise InputError(f"{image.path} has no {SUMS_PATH} to check its files by", hint=_HINT)
    digests = read_sums(b"".join(image.chunks(place)), where=f"{SUMS_PATH} of {image.path}")
    odd = sorted(digests.keys() ^ (image.files.keys() - {SUMS_PATH}))
    if odd:
        state = "is missing from" if odd[0] in digests else "does not belong on"
        raise InputError(f"{odd[0]} {state} {image.path}, by its {SUMS_PATH}", hint=_HINT)
    for path, expected in digests.items():
        digest = hashlib.sha256()
        for chunk in image.chunks(image.files[path]):
            digest.update(chunk)
        if digest.hexdigest() != expected:
            raise InputError(
                f"{path} on {image.path} is damaged: it has another SHA-256", hint=_HINT
            )
    _check_system_area(image)
    return len(digests)


def identity_of(image: Image) -> uuid.UUID | None:
    """Return what tells an ISO of ours from any other; None where it does not say."""
    names = [path.rpartition("/")[2] for path in image.files if path.startswith(ID_FOLDER)]
    try:
        return uuid.UUID(names[0]) if len(names) == 1 else None
    except ValueError:
        return None


def disk_ids(identity: uuid.UUID) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the GUIDs of an image's disk and of its EFI system partition."""
    return uuid.uuid5(identity, "disk"), uuid.uuid5(identity, "EFI system partition")


def _check_system_area(image: Image) -> None:
    """Check what makes the ISO a disk: it follows from where the files are, all proved by now."""
    identity = identity_of(image)
    if identity is None:
        raise InputError(f"{image.path} does not say which image it is", hint=_HINT)
    files = image.files
    code, isolinux, esp = files.get(MBR_CODE_PATH), files.get(ISOLINUX_PATH), files.get(ESP_PATH)
    disk, partition = disk_ids(identity)
    hybrid = Hybrid(
        size_bytes=padded_size(image.volume_bytes),
        mbr_code=b"".join(image.chunks(code)) if code else None,
        isolinux_block=isolinux.offset // ISO_BLOCK_BYTES if code and isolinux else None,
        esp=(esp.offset, esp.size_bytes) if esp else None,
        disk=disk,
        partition=partition,
    )
    backup = backup_gpt(hybrid)
    if _read(image.path, 0, SYSTEM_AREA_BYTES) != system_area(hybrid):
        raise InputError(f"{image.path}: the boot code or partition table is damaged", hint=_HINT)
    if _read(image.path, hybrid.size_bytes - len(backup), len(backup)) != backup:
        raise InputError(f"{image.path}: the backup partition table is damaged", hint=_HINT)


def _read(path: Path, offset: int, size_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size_bytes)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
