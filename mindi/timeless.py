"""What the files of an ISO hold, apart from when it was made, which one it is and where they lie.

Two images of one input at two times differ in their date and identity, and in all that names them:
the menus' title, the way from the EFI system partition to the medium, FAT's dates and serial.
"""

from __future__ import annotations

from collections.abc import Iterator

from mindi.fat import ENTRY_BYTES, SECTOR_BYTES
from mindi.image import Extent, Image
from mindi.isolayout import (
    BOOT_INFO_END,
    BOOT_INFO_START,
    CATALOG_PATH,
    ESP_PATH,
    ID_FOLDER,
    ISOLINUX_PATH,
)
from mindi.isosums import SUMS_PATH, identity_of
from mindi.menu import title_date

_MADE_FOLDERS = ("/.disk/", "/EFI/", "/boot/grub/", "/isolinux/")
_LIMIT_BYTES = 64 << 20
_SERIAL_AT = 39
_DIRECTORY, _VOLUME_LABEL = 0x10, 0x08
_MAX_DEPTH = 8


class Timeless:
    """Reads the files of one ISO without its date and identity."""

    def __init__(self, image: Image) -> None:
        """Take both from ``image``: from the name of its mark, and from its record."""
        self._image = image
        identity = identity_of(image)
        date = title_date(image.record.created_s)
        self._named = [
            (words.encode(), bytes(len(words)))
            for words in (str(identity) if identity else "", date)
            if words
        ]

    def files(self) -> Iterator[tuple[str, Extent]]:
        """Yield what is to be compared: all but the initrd, and what follows from other files."""
        for path, extent in self._image.files.items():
            follows = path in (SUMS_PATH, CATALOG_PATH) or path.startswith(ID_FOLDER)
            if extent != self._image.initrd and not follows:
                yield path, extent

    def chunks(self, path: str, extent: Extent) -> Iterator[bytes]:
        """Yield the content of one file; what is of one image alone is zeros in it."""
        is_made = path == ESP_PATH or path.startswith(_MADE_FOLDERS)
        if not is_made or extent.size_bytes > _LIMIT_BYTES:
            yield from self._image.chunks(extent)
            return
        data = b"".join(self._image.chunks(extent))
        for words, blank in self._named:
            data = data.replace(words, blank)
        if path == ESP_PATH:
            data = _undated(data)
        elif path == ISOLINUX_PATH:
            room = bytes(BOOT_INFO_END - BOOT_INFO_START)
            data = data[:BOOT_INFO_START] + room + data[BOOT_INFO_END:]
        yield data


def _undated(volume: bytes) -> bytes:
    """Return a FAT image as mindi/fat.py writes them without its serial number and dates.

    One that is not so, or is damaged, keeps what is not found: it is to differ.
    """
    blank = bytearray(volume)
    if len(volume) < SECTOR_BYTES:
        return volume
    blank[_SERIAL_AT : _SERIAL_AT + 4] = bytes(4)
    cluster_bytes = volume[13] * SECTOR_BYTES
    fat_sectors = int.from_bytes(volume[22:24], "little")
    root = (int.from_bytes(volume[14:16], "little") + volume[16] * fat_sectors) * SECTOR_BYTES
    data = root + int.from_bytes(volume[17:19], "little") * ENTRY_BYTES
    pending, seen = [(root, 0)], {root}
    while pending:
        at, depth = pending.pop()
        while at + ENTRY_BYTES <= len(volume) and volume[at]:
            # Creation, last access, last write (FAT specification 1.03, section 6).
            blank[at + 14 : at + 20] = bytes(6)
            blank[at + 22 : at + 26] = bytes(4)
            cluster = int.from_bytes(volume[at + 26 : at + 28], "little")
            below = data + (cluster - 2) * cluster_bytes
            is_folder = volume[at + 11] & (_DIRECTORY | _VOLUME_LABEL) == _DIRECTORY
            if is_folder and cluster >= 2 and below not in seen and depth < _MAX_DEPTH:
                seen.add(below)
                pending.append((below, depth + 1))
            at += ENTRY_BYTES
    return bytes(blank)
