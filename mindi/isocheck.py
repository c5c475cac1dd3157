"""Reads an image back and compares every file on it with its source."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from initramfs.errors import OutputError
from mindi.isolayout import extents_of
from mindi.isosource import Content, content_size, open_content

if TYPE_CHECKING:
    from pycdlib import PyCdlib

READ_BYTES = 4 * 1024 * 1024
ISO_BLOCK_BYTES = 2048
# isolinux finds itself by this table in its image: El Torito's de facto extension, as in
# mkisofs(8) -boot-info-table: volume descriptor, own block, size, sum of the words from 64 on.
BOOT_INFO_START, BOOT_INFO_END = 8, 64
VOLUME_DESCRIPTOR_BLOCK = 16


def check_files(
    image: BinaryIO,
    contents: Mapping[str, Content],
    *,
    boot_info: str | None,
    besides: str,
    told: Callable[[int], None],
) -> None:
    """Raise OutputError unless ``image`` holds the files ``contents``, byte for byte, and no other.

    ``boot_info`` is the file that has got a boot information table, ``besides`` one that the image
    has of its own (the boot catalog). ``told`` hears the bytes compared so far.
    """
    iso = _opened(image)
    try:
        found = set(_paths(iso))
        expected = {*contents, besides}
        if found != expected:
            odd = ", ".join(sorted(found ^ expected))
            raise _different(f"these files are not as they should be: {odd}")
        done = 0
        for path, content in contents.items():
            extents = extents_of(iso, path)
            size = sum(length for _, length in extents)
            if size != content_size(content):
                raise _different(f"{path} has {size} bytes, {_origin(content)} has another size")
            table = _boot_info(content, extents[0][0]) if path == boot_info else None
            for count in _compare(image, path, content, extents=extents, table=table):
                done += count
                told(done)
    finally:
        iso.close()


def _opened(image: BinaryIO) -> PyCdlib:
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    iso = pycdlib.PyCdlib()
    try:
        iso.open_fp(image)
    except PyCdlibException as error:
        raise _different(f"it is no ISO image: {error}") from error
    return iso


def _paths(iso: PyCdlib) -> Iterator[str]:
    for folder, _, names in iso.walk(rr_path="/"):
        for name in names:
            yield f"{folder.rstrip('/')}/{name}"


def _compare(
    image: BinaryIO,
    path: str,
    content: Content,
    *,
    extents: list[tuple[int, int]],
    table: bytes | None,
) -> Iterator[int]:
    """Compare one file in large blocks; yield how many bytes each step compared."""
    source = open_content(content)
    place = 0
    for start, length in extents:
        image.seek(start)
        left = length
        while left:
            count = min(left, READ_BYTES)
            expected = source.read(count)
            if table is not None and place == 0:
                expected = expected[:BOOT_INFO_START] + table + expected[BOOT_INFO_END:]
            if image.read(count) != expected:
                raise _different(
                    f"{path} differs from {_origin(content)} in the {count} bytes from {place} on"
                )
            place += count
            left -= count
            yield count


def _boot_info(content: Content, start: int) -> bytes:
    """Return the boot information table that the file at byte ``start`` must have."""
    data = open_content(content).read()
    padded = data[BOOT_INFO_END:] + bytes(-len(data) % 4)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    table = struct.pack(
        "<IIII",
        VOLUME_DESCRIPTOR_BLOCK,
        start // ISO_BLOCK_BYTES,
        len(data),
        sum(words) & 0xFFFFFFFF,
    )
    return table.ljust(BOOT_INFO_END - BOOT_INFO_START, b"\0")


def _origin(content: Content) -> str:
    return "what was made for it" if isinstance(content, bytes) else str(content)


def _different(words: str) -> OutputError:
    return OutputError(
        f"the image reads back different from what was written: {words}",
        hint="try again; if no file changed meanwhile, suspect the medium or the memory",
    )
