"""The FAT image against those who know: fsck.fat and mtools."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mindi.fat import EARLIEST_S, MAX_CLUSTERS, fat_image
from tests.support.bootroot import made
from tests.support.tools import require_tool

WHEN_S = 1_714_567_890  # 2024-05-01 12:51:30 UTC

FILES = {
    "/EFI/BOOT/BOOTX64.EFI": made("loader", 700_001),
    "/EFI/BOOT/MMX64.EFI": made("manager", 2048),
    "/BOOT/GRUB/GRUB.CFG": b"search\n",
    "/EMPTY": b"",
}
SIZES = {
    "small": FILES,
    "larger clusters": {"/A.BIN": made("large", 9_000_000), **FILES},
    "many in a directory": {f"/DIR/F{number:03}.BIN": b"x" for number in range(200)},
}


def written(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """Write an image of ``files``; return where."""
    image = tmp_path / "fat.img"
    image.write_bytes(fat_image(files, "MINDI", serial=0x12345678, timestamp_s=WHEN_S))
    return image


def said(*argv: str | Path) -> str:
    """Run a tool that must succeed; return what it said."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"TZ": "UTC", "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("files", SIZES.values(), ids=SIZES.keys())
def test_fsck_finds_no_fault(tmp_path: Path, files: dict[str, bytes]) -> None:
    fsck = require_tool("fsck.fat", package="dosfstools")
    assert "12 bit entries" in said(fsck, "-nv", written(tmp_path, files))


def test_fsck_finds_a_fault_where_there_is_one(tmp_path: Path) -> None:
    fsck = require_tool("fsck.fat", package="dosfstools")
    image = written(tmp_path, FILES)
    data = bytearray(image.read_bytes())
    data[4 * 512 + 9] ^= 0x55
    image.write_bytes(data)
    assert subprocess.run([fsck, "-n", image], capture_output=True, check=False).returncode


@pytest.mark.parametrize("files", SIZES.values(), ids=SIZES.keys())
def test_mtools_reads_every_file_back(tmp_path: Path, files: dict[str, bytes]) -> None:
    mcopy = require_tool("mcopy", package="mtools")
    image = written(tmp_path, files)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([mcopy, "-s", "-n", "-i", image, "::*", out], check=True)
    found = {f"/{path.relative_to(out)}": path.read_bytes() for path in out.rglob("*.*")}
    assert found == {path: data for path, data in files.items() if "." in path}


def test_the_date_is_the_one_given(tmp_path: Path) -> None:
    mdir = require_tool("mdir", package="mtools")
    listed = said(mdir, "-i", written(tmp_path, FILES), "::/EFI/BOOT")
    assert "2024-05-01  12:51" in listed


def test_the_label_and_serial_are_those_given(tmp_path: Path) -> None:
    mdir = require_tool("mdir", package="mtools")
    listed = said(mdir, "-i", written(tmp_path, FILES), "::")
    assert "is MINDI" in listed
    assert "1234-5678" in listed


def test_dates_before_fats_own_time_become_its_first() -> None:
    early = fat_image(FILES, "MINDI", serial=1, timestamp_s=0)
    assert early == fat_image(FILES, "MINDI", serial=1, timestamp_s=EARLIEST_S)


def test_the_order_of_the_files_does_not_matter() -> None:
    turned = dict(reversed(FILES.items()))
    images = [fat_image(files, "A", serial=1, timestamp_s=WHEN_S) for files in (FILES, turned)]
    assert images[0] == images[1]


@pytest.mark.parametrize("path", ["/lower.cfg", "/TOOLONGNAME", "/A.EFIX", "/.DISK", "/A B"])
def test_a_name_that_needs_long_names_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"8\.3"):
        fat_image({path: b""}, "MINDI", serial=1, timestamp_s=WHEN_S)


def test_more_than_fat12_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="too much"):
        fat_image({"/A": bytes(MAX_CLUSTERS * 32_768 + 1)}, "A", serial=1, timestamp_s=WHEN_S)
