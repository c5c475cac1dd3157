"""Reading kernels: their release, whether they are whole, and what they can undo."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from initramfs.errors import InputError, MissingDependency
from initramfs.rootfs import Root
from mindi.kernel import is_signed, kernel_at, kernel_of_root, read_version, version_key


def bzimage(version: str, *, setup_sectors: int = 3, payload_bytes: int = 4096) -> bytes:
    """Build the smallest thing that is a bzImage by its header (boot protocol 2.0)."""
    setup = bytearray((setup_sectors + 1) * 512)
    setup[0x1F1] = setup_sectors
    struct.pack_into("<I", setup, 0x1F4, payload_bytes // 16)
    setup[0x202:0x206] = b"HdrS"
    text = f"{version} (builder@host) #1 SMP\0".encode()
    struct.pack_into("<H", setup, 0x20E, 0x300)
    setup[0x500 : 0x500 + len(text)] = text
    return bytes(setup) + b"\x90" * payload_bytes


def signed_bzimage(version: str) -> bytes:
    """Build one with a PE header (32+) that names a signature of 8 bytes, at its end."""
    image = bytearray(bzimage(version))
    image[0:2], image[0x40:0x44], image[0x58:0x5A] = b"MZ", b"PE\0\0", b"\x0b\x02"
    struct.pack_into("<I", image, 0x3C, 0x40)
    struct.pack_into("<II", image, 0x58 + 112 + 32, len(image), 8)
    return bytes(image) + b"12345678"


def kernel_tree(top: Path, *versions: str) -> Root:
    for version in versions:
        (top / "lib/modules" / version / "kernel").mkdir(parents=True)
        (top / "boot").mkdir(exist_ok=True)
        (top / "boot" / f"vmlinuz-{version}").write_bytes(bzimage(version))
    return Root(top)


def test_a_bzimage_says_its_release(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(bzimage("6.1.0-56-amd64"))
    assert read_version(image) == "6.1.0-56-amd64"


@pytest.mark.parametrize("lost_bytes", [1, 512, 4096], ids=str)
def test_a_truncated_bzimage_is_refused(tmp_path: Path, lost_bytes: int) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(bzimage("6.1.0")[:-lost_bytes])
    with pytest.raises(InputError, match="cut short"):
        read_version(image)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_another_architecture_is_known_by_its_banner(tmp_path: Path, pack: type[bytes]) -> None:
    image = tmp_path / "Image"
    image.write_bytes(pack(b"\0" * 4096 + b"Linux version 6.1.0-56-arm64 (b@h)\n" + b"\0" * 64))
    assert read_version(image) == "6.1.0-56-arm64"


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x1f\x8b\x08 cut"], ids=["empty", "script", "gzip"]
)
def test_what_is_no_kernel_is_refused(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(content)
    with pytest.raises(InputError):
        read_version(image)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_kernel(device: str) -> None:
    with pytest.raises(InputError, match="no regular file"):
        read_version(Path(device))


def test_a_kernel_without_a_signature_is_told_apart(tmp_path: Path) -> None:
    unsigned, signed = tmp_path / "unsigned", tmp_path / "signed"
    unsigned.write_bytes(bzimage("6.1.0"))
    signed.write_bytes(signed_bzimage("6.1.0"))
    assert not is_signed(unsigned)
    assert is_signed(signed)
    assert read_version(signed) == "6.1.0"


def test_a_cut_signature_is_noticed(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(signed_bzimage("6.1.0")[:-1])
    with pytest.raises(InputError, match="cut short"):
        read_version(kernel)


def test_the_newest_kernel_of_a_root_is_taken(tmp_path: Path) -> None:
    root = kernel_tree(tmp_path, "6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-30-amd64")
    assert kernel_of_root(root).version == "6.1.0-56-amd64"


def test_a_root_without_kernel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="no kernel with modules"):
        kernel_of_root(Root(tmp_path))


def test_a_kernel_without_its_modules_is_an_error(tmp_path: Path) -> None:
    root = kernel_tree(tmp_path / "tree", "6.1.0-56-amd64")
    other = tmp_path / "vmlinuz"
    other.write_bytes(bzimage("6.6.6"))
    with pytest.raises(MissingDependency, match=r"release 6\.6\.6, and .* has no modules"):
        kernel_at(other, root)


def test_releases_are_ordered_as_people_do() -> None:
    releases = ["6.1.0-9", "6.1.0-56", "6.1.0-rc2", "6.10.1", "6.9.12"]
    assert sorted(releases, key=version_key) == [
        "6.1.0-rc2",
        "6.1.0-9",
        "6.1.0-56",
        "6.9.12",
        "6.10.1",
    ]
