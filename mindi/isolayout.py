"""Where things are on an image, for those who write it and those who read it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pycdlib import PyCdlib

ISO_BLOCK_BYTES = 2048
FILE_MODE = stat.S_IFREG | 0o444
DIRECTORY_MODE = stat.S_IFDIR | 0o555
LABEL_CHARACTERS = 32
"""What there is room for in a volume identifier (ECMA-119, 8.4.7)."""

KERNEL_PATH = "/boot/vmlinuz"
INITRD_PATH = "/boot/initrd.img"
GRUB_MENU_PATH = "/boot/grub/grub.cfg"
ISOLINUX_PATH = "/isolinux/isolinux.bin"
ISOLINUX_MENU_PATH = "/isolinux/isolinux.cfg"
MBR_CODE_PATH = "/isolinux/isohdpfx.bin"
"""The boot code that is in the image's first sector, as a file, so that it can be checked."""

ESP_PATH = "/efi.img"
CATALOG_PATH = "/boot.cat"
INFO_PATH = "/.disk/info"
ID_FOLDER = "/.disk/id/"
"""Holds one file, named after the image's identity."""

# isolinux finds itself by this table in its image: El Torito's de facto extension, as in
# mkisofs(8) -boot-info-table: volume descriptor, own block, size, sum of the words from 64 on.
BOOT_INFO_START, BOOT_INFO_END = 8, 64


def extents_of(iso: PyCdlib, path: str) -> list[tuple[int, int]]:
    """Return where the data of the file at the Rock Ridge ``path`` lies: byte, length, in order."""
    # By its Rock Ridge path pycdlib 1.22 finds the last extent of a file over 4 GiB, not the first.
    record = iso.get_record(rr_path=path)
    if record.inode is None and record.get_data_length():
        # The boot catalog, which pycdlib keeps as a thing of its own.
        return [(record.extent_location() * ISO_BLOCK_BYTES, record.get_data_length())]
    return iso.get_file_byte_extents(iso_path=iso.full_path_from_dirrecord(record))
