"""Reads an image back and compares every file on it with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from initramfs.errors import OutputError
from mindi.isolayout import extents_of
from mindi.isosource import Content, content_size, open_content

if TYPE_CHECKING:
    from pycdlib import PyCdlib

READ_BYTES = 4 * 1024 * 1024


def check_files(
    image: BinaryIO, contents: Mapping[str, Content], *, told: Callable[[int], None]
) -> None:
    """Raise OutputError unless ``image`` holds the files ``contents``, byte for byte, and no other.

    ``told`` hears the bytes compared so far.
    """
    iso = _opened(image)
    try:
        found = set(_paths(iso))
        if found != contents.keys():
            odd = ", ".join(sorted(found ^ contents.keys()))
            raise _different(f"these files are not as they should be: {odd}")
        done = 0
        for path, content in contents.items():
            extents = extents_of(iso, path)
            size = sum(length for _, length in extents)
            if size != content_size(content):
                raise _different(f"{path} has {size} bytes, {_origin(content)} has another size")
            for count in _compare(image, path, content, extents=extents):
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
            if image.read(count) != expected:
                raise _different(
                    f"{path} differs from {_origin(content)} in the {count} bytes from {place} on"
                )
            place += count
            left -= count
            yield count


def _origin(content: Content) -> str:
    return "what was made for it" if isinstance(content, bytes) else str(content)


def _different(words: str) -> OutputError:
    return OutputError(
        f"the image reads back different from what was written: {words}",
        hint="try again; if no file changed meanwhile, suspect the medium or the memory",
    )
