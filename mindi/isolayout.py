"""Where things are on an image, for those who write it and those who read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pycdlib import PyCdlib

KERNEL_PATH = "/boot/vmlinuz"
INITRD_PATH = "/boot/initrd.img"


def extents_of(iso: PyCdlib, path: str) -> list[tuple[int, int]]:
    """Return where the data of the file at the Rock Ridge ``path`` lies: byte, length, in order."""
    # By its Rock Ridge path pycdlib 1.22 finds the last extent of a file over 4 GiB, not the first.
    record = iso.get_record(rr_path=path)
    return iso.get_file_byte_extents(iso_path=iso.full_path_from_dirrecord(record))
