"""Firmware of chosen modules is found where the kernel would find it, and else reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.closure import Because, ClosureBuilder
from initramfs.firmware import (
    AbsentFirmware,
    BuiltinDriver,
    FirmwareReport,
    FoundFirmware,
    find_firmware,
)
from initramfs.kmod import ModuleTree, Wanted, resolve_modules
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from tests.support.modules import VERSION, Ko, write_tree


def _blob(root: Path, name: str, folder: str = "lib/firmware") -> Path:
    file = root / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"blob")
    return file


def _find(root: Path, *kos: Ko) -> FirmwareReport:
    write_tree(root, kos)
    tree = Root(root)
    modules = ModuleTree(tree, VERSION)
    chosen = resolve_modules(modules, [Wanted(name, Because("test")) for name in modules.modules])
    return find_firmware(tree, chosen)


NIC = Ko("kernel/nic.ko", firmware=("nic/a.bin", "nic/b.bin"))


@pytest.mark.parametrize("suffix", ["", ".zst", ".xz"])
def test_finds_plain_and_compressed_files(suffix: str, tmp_path: Path) -> None:
    _blob(tmp_path, f"nic/a.bin{suffix}")

    report = _find(tmp_path, NIC)

    assert report.found == (FoundFirmware(f"/lib/firmware/nic/a.bin{suffix}", "nic"),)
    assert report.absent == (AbsentFirmware("nic/b.bin", "nic"),)


@pytest.mark.parametrize(
    "folders",
    [
        (f"updates/{VERSION}/", "updates/"),
        ("updates/", f"{VERSION}/"),
        (f"{VERSION}/", ""),
    ],
    ids=["updates of the version", "updates", "the version"],
)
def test_searches_in_the_order_of_the_kernel(folders: tuple[str, str], tmp_path: Path) -> None:
    for folder in folders:
        _blob(tmp_path, f"{folder}nic/a.bin")

    assert _find(tmp_path, NIC).found[0].path == f"/lib/firmware/{folders[0]}nic/a.bin"


def test_a_tree_of_merged_usr_without_a_lib_link_is_searched(tmp_path: Path) -> None:
    _blob(tmp_path, "nic/a.bin", "usr/lib/firmware")

    assert _find(tmp_path, NIC).found[0].path == "/usr/lib/firmware/nic/a.bin"


def test_links_stay_links_in_the_image(tmp_path: Path) -> None:
    file = _blob(tmp_path, "nic/real.bin")
    (file.parent / "a.bin").symlink_to("real.bin")

    report = _find(tmp_path, NIC)
    root = Root(tmp_path)
    builder = ClosureBuilder(root, Libraries(root))
    for blob in report.found:
        builder.add(blob.path, Because("firmware"))

    closure = builder.build()
    assert closure.entries["/lib/firmware/nic/a.bin"].target == "real.bin"
    assert closure.entries["/lib/firmware/nic/real.bin"].content is None


def test_wildcards_give_all_files_that_match(tmp_path: Path) -> None:
    for name in ("brcm/fw43-sdio.a.bin", "brcm/fw43-sdio.b.bin.xz", "brcm/fw43-pcie.bin"):
        _blob(tmp_path, name)

    report = _find(tmp_path, Ko("kernel/brcm.ko", firmware=("brcm/fw*-sdio.*.bin",)))

    assert [blob.path for blob in report.found] == [
        "/lib/firmware/brcm/fw43-sdio.a.bin",
        "/lib/firmware/brcm/fw43-sdio.b.bin.xz",
    ]


def test_a_file_for_several_modules_is_named_once(tmp_path: Path) -> None:
    _blob(tmp_path, "nic/a.bin")

    report = _find(tmp_path, NIC, Ko("kernel/twin.ko", firmware=("nic/a.bin", "nic/b.bin")))

    assert [blob.module for blob in report.found] == ["nic"]
    assert [blob.module for blob in report.absent] == ["nic"]


def test_a_root_without_firmware_reports_all_as_absent(tmp_path: Path) -> None:
    report = _find(tmp_path, NIC)

    assert report.found == ()
    assert [blob.name for blob in report.absent] == ["nic/a.bin", "nic/b.bin"]


def test_built_in_drivers_ask_as_modules_do(tmp_path: Path) -> None:
    _blob(tmp_path, "own/a.bin")
    driver = BuiltinDriver("own", ("own/a.bin", "own/b.bin"))

    report = find_firmware(Root(tmp_path), (), builtin=[driver])

    assert report.found == (FoundFirmware("/lib/firmware/own/a.bin", "own"),)
    assert report.absent == (AbsentFirmware("own/b.bin", "own"),)


def test_built_in_drivers_have_the_folder_of_their_version(tmp_path: Path) -> None:
    _blob(tmp_path, f"{VERSION}/own/a.bin")
    driver = BuiltinDriver("own", ("own/a.bin",))

    report = find_firmware(Root(tmp_path), (), builtin=[driver], version=VERSION)

    assert [blob.path for blob in report.found] == [f"/lib/firmware/{VERSION}/own/a.bin"]


def test_what_is_not_asked_about_is_neither_found_nor_absent(tmp_path: Path) -> None:
    _blob(tmp_path, "own/a.bin")
    driver = BuiltinDriver("own", ("own/a.bin", "own/b.bin"))

    report = find_firmware(Root(tmp_path), (), builtin=[driver], only={"own/b.bin"})

    assert (report.found, report.absent) == ((), (AbsentFirmware("own/b.bin", "own"),))
