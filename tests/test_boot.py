"""What `mindi boot` makes of the file that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.errors import InputError, UsageError
from mindi.boot import boot_source
from mindi.qemu import DirectBoot, Medium


def write(file: Path, data: bytes, *, offset: int = 0) -> Path:
    """Write ``data`` at ``offset`` of a new file."""
    file.write_bytes(bytes(offset) + data)
    return file


def test_an_iso_boots_from_the_medium_asked_for(tmp_path: Path) -> None:
    iso = write(tmp_path / "x", b"CD001", offset=32769)
    assert boot_source(iso, medium=Medium.USB, kernel=None) == (iso, Medium.USB)


def test_a_disk_image_boots(tmp_path: Path) -> None:
    disk = write(tmp_path / "x", b"\x55\xaa", offset=510)
    assert boot_source(disk, medium=Medium.DISK, kernel=None) == (disk, Medium.DISK)


@pytest.mark.parametrize(
    "magic",
    [b"070701", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x89LZO\0"],
    ids=["cpio", "gzip", "xz", "zstd", "lzo"],
)
def test_an_initrd_boots_with_its_kernel(magic: bytes, tmp_path: Path) -> None:
    initrd = write(tmp_path / "x", magic)
    source, medium = boot_source(initrd, medium=Medium.CDROM, kernel=Path("/k"))
    assert isinstance(source, DirectBoot)
    assert (source.kernel, source.initrd, medium) == (Path("/k"), initrd, Medium.KERNEL)


def test_an_initrd_without_a_kernel_is_refused(tmp_path: Path) -> None:
    initrd = write(tmp_path / "x", b"070701")
    with pytest.raises(UsageError, match="only with a kernel") as caught:
        boot_source(initrd, medium=Medium.CDROM, kernel=None)
    assert "--kernel" in str(caught.value.hint)


def test_an_iso_with_a_kernel_is_refused(tmp_path: Path) -> None:
    iso = write(tmp_path / "x", b"CD001", offset=32769)
    with pytest.raises(UsageError, match="its own kernel"):
        boot_source(iso, medium=Medium.CDROM, kernel=Path("/k"))


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "x", b"#!/bin/sh\n")
    with pytest.raises(InputError, match="no ISO"):
        boot_source(other, medium=Medium.CDROM, kernel=None)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        boot_source(tmp_path / "missing", medium=Medium.CDROM, kernel=None)
