"""The digests on an ISO: sha256sum reads them, and nothing that is damaged passes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from initramfs.errors import InputError
from mindi.image import open_image
from mindi.isosums import SUMS_PATH, check_medium, read_sums, sums_text
from tests.support.initrds import SEED, flip, image_file, iso_file, written_iso
from tests.support.tools import require_tool
from tests.support.tree import Tree

NAMES = ("/plain", "/a folder/a name", "/back\\slash", "/new\nline", "/odd\udcff", "/ü")
DIGESTS = {name: f"{number:064x}" for number, name in enumerate(NAMES)}


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    builder = Tree(tmp_path / "root").builder()
    builder.add_content("/init", b"x", SEED)
    return written_iso(tmp_path / "iso", builder.build())


def extracted(iso: Path, folder: Path) -> Path:
    """Return a folder with the files of ``iso``, by xorriso."""
    argv = [str(require_tool("xorriso")), "-osirrox", "on", "-indev", str(iso), "-extract", "/"]
    subprocess.run([*argv, str(folder)], check=True, capture_output=True)
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    return folder


def test_sha256sum_finds_all_files_as_they_should_be(iso: Path, tmp_path: Path) -> None:
    folder = extracted(iso, tmp_path / "x")
    argv = ["sha256sum", "--check", "--strict", "mindi/sha256sums"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    files = {f"{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()}
    named = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    assert files - named == {"mindi/sha256sums"}
    assert named <= files


def test_sha256sum_writes_odd_names_as_we_do(tmp_path: Path) -> None:
    for name in NAMES:
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.fsencode(name))
    names = [os.fsencode(name.lstrip("/")) for name in sorted(NAMES)]
    argv = [b"sha256sum", *names]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True).stdout
    assert sums_text(read_sums(said, where="it")) == said


def test_digests_come_back() -> None:
    assert read_sums(sums_text(DIGESTS), where="it") == DIGESTS


@pytest.mark.parametrize("data", [b"", b"x\n", b"0" * 64 + b"  a", b"0" * 63 + b"  a\n"], ids=repr)
def test_what_are_no_digests_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="it"):
        read_sums(data, where="it")


def test_a_whole_medium_passes(iso: Path) -> None:
    image = open_image(iso)
    assert check_medium(image) == len(image.files) - 1


def test_a_medium_on_a_larger_disk_passes(iso: Path) -> None:
    with iso.open("ab") as stream:
        stream.write(b"what was on the stick before" * 100)
    assert check_medium(open_image(iso))


@pytest.mark.parametrize(
    "path",
    [
        "/boot/vmlinuz",
        "/boot/initrd.img",
        "/efi.img",
        "/isolinux/isolinux.bin",
        "/isolinux/isohdpfx.bin",
        "/EFI/BOOT/BOOTX64.EFI",
        "/boot/grub/grub.cfg",
        "/boot.cat",
        "/.disk/info",
    ],
)
def test_a_flipped_bit_in_a_file_is_found(path: str, iso: Path) -> None:
    image = open_image(iso)
    extent = image.files[path]
    flip(iso, extent.offset + min(40, extent.size_bytes - 1))
    with pytest.raises(InputError, match=f"{path} on .* is damaged"):
        check_medium(image)


def test_a_flipped_bit_in_the_digests_is_found(iso: Path) -> None:
    image = open_image(iso)
    flip(iso, image.files[SUMS_PATH].offset + 5)
    with pytest.raises(InputError, match=r"line 1 is none of sha256sum|another SHA-256"):
        check_medium(image)


@pytest.mark.parametrize(
    ("offset", "what"),
    [
        (100, "boot code or partition table"),
        (450, "boot code or partition table"),
        (512 + 80, "boot code or partition table"),
        (1024 + 8, "boot code or partition table"),
        (-500, "backup partition table"),
        (-33 * 512, "backup partition table"),
    ],
    ids=["boot code", "MBR", "GPT", "GPT entry", "backup GPT", "backup GPT entry"],
)
def test_a_flipped_bit_in_what_makes_it_a_disk_is_found(offset: int, what: str, iso: Path) -> None:
    flip(iso, offset)
    with pytest.raises(InputError, match=what):
        check_medium(open_image(iso))


def test_a_lost_end_is_found(iso: Path) -> None:
    os.truncate(iso, iso.stat().st_size - 512)
    with pytest.raises(InputError, match="backup partition table"):
        check_medium(open_image(iso))


def test_a_renamed_file_is_found(iso: Path) -> None:
    iso.write_bytes(iso.read_bytes().replace(b"grubx64.efi", b"grubx65.efi", 1))
    with pytest.raises(InputError, match=r"grubx6[45].efi (is missing from|does not belong on)"):
        check_medium(open_image(iso))


def test_an_iso_without_digests_is_not_called_whole(tmp_path: Path) -> None:
    builder = Tree(tmp_path / "root").builder()
    builder.add_content("/init", b"x", SEED)
    initrd = image_file(tmp_path / "initrd", builder.build())
    iso = iso_file(tmp_path / "image", initrd, tmp_path / "iso")
    with pytest.raises(InputError, match="has no /mindi/sha256sums"):
        check_medium(open_image(iso))
