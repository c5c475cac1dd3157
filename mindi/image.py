"""Opens an image that mindi made, ISO or initrd, told apart by content and read without root."""

from __future__ import annotations

import enum
import io
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from initramfs.compress import detect
from initramfs.cpio import TRAILER, CpioMember, header
from initramfs.errors import InputError
from initramfs.microcode import is_early
from initramfs.unpack import InitrdReader, Limits
from mindi.isolayout import INITRD_PATH, ISO_BLOCK_BYTES, extents_of
from mindi.record import ImageRecord
from restore.contract import IMAGE_RECORD

if TYPE_CHECKING:
    from pycdlib import PyCdlib

RECORD_LIMIT_BYTES = 64 << 20
ON_MEDIUM = "iso:"
"""Stands before the paths of files that are on the ISO, outside the initrd."""

# The last frame of an initrd holds little more than the trailer (initramfs.pack).
_LAST_FRAME_BYTES = 4096
_LAST_FRAME_LIMITS = Limits(unpacked_bytes=64 << 10)
_MAGIC_BYTES = 6
_FOREIGN = "mindi did not make it"
# ECMA-119, 8.4.1 and 8.4.2: the standard identifier of the first volume descriptor.
_ISO_MARK, _ISO_MARK_AT = b"CD001", 16 * ISO_BLOCK_BYTES + 1
# ECMA-119, 8.4.8: the number of blocks of the volume.
_ISO_BLOCKS_AT = 16 * ISO_BLOCK_BYTES + 80


class ForeignImageError(InputError):
    """A whole image that somebody else made: it has no record."""


class Medium(enum.StrEnum):
    """What kind of file an image is."""

    ISO = "iso"
    INITRD = "initrd"


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes in a file."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the build host: its kind, its record, and where in the file the initrd is.

    ``files`` are those on the medium (ISO only), by path, the initrd among them; ``microcode``
    those of the early archive, with their sizes. ``volume_bytes`` is how much the ISO file system
    takes, 0 for an initrd.
    """

    path: Path
    medium: Medium
    size_bytes: int
    volume_bytes: int
    initrd: Extent
    files: Mapping[str, Extent]
    microcode: tuple[tuple[str, int], ...]
    record: ImageRecord

    def members(self, *, limits: Limits | None = None) -> Iterator[CpioMember]:
        """Yield all that is in the initrd, reading all of it; raise InputError for damage."""
        with _opened(self.path) as file:
            yield from self.reader(file, limits=limits)

    def reader(self, file: BinaryIO, *, limits: Limits | None = None) -> InitrdReader:
        """Return a reader of the initrd in ``file``, which is this image opened."""
        return InitrdReader(
            _Part(file, self.initrd), name=f"the initrd of {self.path}", limits=limits
        )

    def chunks(self, extent: Extent) -> Iterator[bytes]:
        """Yield the bytes of one part of the file."""
        with _opened(self.path) as file:
            part = _Part(file, extent)
            while chunk := part.read(1 << 20):
                yield chunk


def open_image(path: Path) -> Image:
    """Open the image at ``path`` and read its record, which comes first; raise InputError.

    That the initrd has its end is looked at too, what is between is not.
    """
    with _opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(_ISO_MARK_AT)
        medium = Medium.ISO if file.read(len(_ISO_MARK)) == _ISO_MARK else Medium.INITRD
        files: Mapping[str, Extent] = {}
        initrd, volume_bytes = Extent(0, size), 0
        if medium is Medium.ISO:
            file.seek(_ISO_BLOCKS_AT)
            volume_bytes = int.from_bytes(file.read(4), "little") * ISO_BLOCK_BYTES
            if volume_bytes > size:
                raise _truncated(path, f"its {volume_bytes} bytes")
            files = _iso_files(path, size)
            if INITRD_PATH not in files:
                raise ForeignImageError(f"{path} is an ISO without {INITRD_PATH}", hint=_FOREIGN)
            initrd = files[INITRD_PATH]
        microcode, record = _read_record(_Part(file, initrd), path)
        _check_end(file, initrd, path)
    return Image(
        path=path,
        medium=medium,
        size_bytes=size,
        volume_bytes=volume_bytes,
        initrd=initrd,
        files=MappingProxyType(dict(files)),
        microcode=microcode,
        record=record,
    )


def _read_record(initrd: _Part, path: Path) -> tuple[tuple[tuple[str, int], ...], ImageRecord]:
    early: list[tuple[str, int]] = []
    for member in InitrdReader(initrd, name=f"the initrd of {path}"):
        if member.path == IMAGE_RECORD:
            return tuple(early), ImageRecord.from_json(member.read(RECORD_LIMIT_BYTES))
        if is_early(member.path) and stat.S_ISREG(member.mode):
            early.append((member.path, member.size_bytes))
    raise ForeignImageError(f"{path} is an initrd without {IMAGE_RECORD}", hint=_FOREIGN)


def _check_end(file: BinaryIO, initrd: Extent, path: Path) -> None:
    """Raise InputError, naming the byte, for an initrd that is cut off behind its record.

    Only one that does not end as ours do is read whole, to tell where it ends.
    """
    size = min(initrd.size_bytes, _LAST_FRAME_BYTES)
    tail = _Part(file, Extent(initrd.offset + initrd.size_bytes - size, size)).read(size)
    if _has_trailer(tail):
        return
    try:
        for _ in InitrdReader(_Part(file, initrd), name=f"the initrd of {path}"):
            pass
    except InputError as error:
        raise InputError(
            error.message, hint="the image is cut off or damaged; copy or build it again"
        ) from error


def _has_trailer(tail: bytes) -> bool:
    """Tell whether the last bytes of an initrd are a trailer, plain or in a frame of their own."""
    if tail.endswith(header(TRAILER)):
        return True
    for start in range(len(tail) - 1, -1, -1):
        if detect(tail[start : start + _MAGIC_BYTES]) is None:
            continue
        try:
            for _ in InitrdReader(io.BytesIO(tail[start:]), limits=_LAST_FRAME_LIMITS):
                pass
        except InputError:
            continue  # the magic was in the middle of something
        return True
    return False


def _iso_files(path: Path, size: int) -> dict[str, Extent]:
    """Return where the files of an ISO are; raise InputError if it is damaged."""
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    iso = pycdlib.PyCdlib()
    try:
        iso.open(str(path))
        found = dict(_walk(iso))
        iso.close()
    # pycdlib meets a damaged image with whatever its parsers run into.
    except (PyCdlibException, struct.error, LookupError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is a damaged ISO image: {error}", hint="copy or build it again"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    for name, extent in found.items():
        # pycdlib cuts what does not fit the file, even to less than nothing.
        if extent.size_bytes < 0 or extent.offset + extent.size_bytes > size:
            raise _truncated(path, name)
    return found


def _truncated(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} is an ISO image that ends before the end of {what}",
        hint="the image is truncated; copy or build it again",
    )


def _walk(iso: PyCdlib) -> Iterator[tuple[str, Extent]]:
    for folder, _, names in iso.walk(rr_path="/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            record = iso.get_record(rr_path=path)
            rock_ridge = getattr(record, "rock_ridge", None)
            if record.is_file() and rock_ridge is not None and not rock_ridge.is_symlink():
                # The extents of a file follow each other, as pycdlib writes them.
                extents = extents_of(iso, path)
                start = extents[0][0] if extents else 0  # an empty file is nowhere
                yield path, Extent(start, sum(length for _, length in extents))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


class _Part:
    """The bytes of one extent of an open file, as a file of their own."""

    def __init__(self, file: BinaryIO, extent: Extent) -> None:
        self._file = file
        self._next = extent.offset
        self._end = extent.offset + extent.size_bytes

    def read(self, size: int, /) -> bytes:
        self._file.seek(self._next)
        data = self._file.read(min(size, self._end - self._next))
        self._next += len(data)
        return data
