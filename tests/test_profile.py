"""A machine's facts: firmware, boot entries and loaders, cards, kernel."""

from __future__ import annotations

import json
import struct
import uuid
from pathlib import Path

import pytest

from archive.errors import SetDamaged
from archive.machine.efivars import parse_entry, parse_order
from archive.machine.probeprofile import parse_memory, parse_modules, probe_machine
from archive.machine.profile import Firmware, Loader, LoaderKind, MachineProfile
from tests.support.recording import Recorded

RECORDED = Path(__file__).parent / "recorded"
MACHINES = sorted(file.stem for file in RECORDED.glob("*.json"))
GUID = uuid.UUID("09700b7d-68b1-c643-8852-9dcc5b23fc20")


def profile(name: str) -> MachineProfile:
    return probe_machine(Recorded(RECORDED / f"{name}.json"))


def device_path(kind: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, len(body) + 4) + body


def load_option(label: str, *paths: bytes) -> bytes:
    every = b"".join(paths) + device_path(0x7F, 0xFF, b"")
    attributes = struct.pack("<I", 7)
    return (
        attributes + struct.pack("<IH", 1, len(every)) + label.encode("utf-16-le") + b"\0\0" + every
    )


HARD_DRIVE = device_path(4, 1, struct.pack("<IQQ16sBB", 1, 2048, 204800, GUID.bytes_le, 2, 2))
FILE = device_path(4, 4, "\\EFI\\debian\\shimx64.efi\0".encode("utf-16-le"))


@pytest.mark.parametrize("name", MACHINES)
def test_json_gives_back_what_was_seen(name: str) -> None:
    found = profile(name)
    assert MachineProfile.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("name", "firmware"), [("mbr", Firmware.BIOS), ("luks-lvm", Firmware.UEFI)]
)
def test_firmware(name: str, firmware: Firmware) -> None:
    assert profile(name).facts.firmware is firmware


def test_secure_boot_is_off_where_the_firmware_says_so() -> None:
    assert profile("luks-lvm").facts.secure_boot is False


def test_a_bios_has_no_secure_boot() -> None:
    assert profile("mbr").facts.secure_boot is None


def test_the_machine_says_who_made_it() -> None:
    found = profile("mbr").facts
    assert (found.dmi.system_vendor, found.architecture) == ("QEMU", "x86_64")


def test_the_kernel_and_its_modules() -> None:
    found = profile("mbr").facts
    assert found.kernel_release.startswith("6.1.")
    assert "virtio_blk" in found.modules
    assert found.memory_bytes > 500 << 20


def test_grub_in_the_boot_sector_of_a_disk() -> None:
    assert profile("mbr").facts.loaders == (Loader(LoaderKind.GRUB_BIOS, "disk:vda"),)


def test_a_disk_without_boot_code_has_no_loader() -> None:
    assert profile("raid").facts.loaders == ()


def test_extlinux_in_the_boot_sector_of_a_partition() -> None:
    """As ``extlinux --install`` of version 6.04 writes it."""
    system = Recorded(RECORDED / "mbr.json")
    system.asked["block"]["/dev/vda 0 512"] = bytes(512).hex()
    system.asked["block"]["/dev/vda1 0 512"] = (b"\xeb\x58\x90SYSLINUX" + bytes(501)).hex()
    found = probe_machine(system).facts.loaders
    assert found == (Loader(LoaderKind.EXTLINUX, "part:vda1"),)


def test_loaders_on_the_efi_system_partition() -> None:
    assert profile("luks-lvm").facts.loaders == (
        Loader(LoaderKind.GRUB_UEFI, "fs:vda1", "/EFI/debian/grubx64.efi"),
        Loader(LoaderKind.UEFI, "fs:vda1", "/EFI/debian/shimx64.efi"),
    )


def test_the_boot_entry_that_efibootmgr_made() -> None:
    found = profile("luks-lvm")
    (entry,) = (one for one in found.facts.efi_entries if one.label == "debian")
    partitions = {one.id: getattr(one, "uuid", None) for one in found.layout.nodes}
    assert entry.active
    assert entry.path == "\\EFI\\debian\\shimx64.efi"
    assert entry.partition == partitions["part:vda1"]
    assert found.facts.efi_order[0] == entry.number


def test_a_load_option() -> None:
    found = parse_entry(1, load_option("Linux", HARD_DRIVE, FILE))
    assert (found.label, found.active) == ("Linux", True)
    assert (found.partition, found.path) == (str(GUID).upper(), "\\EFI\\debian\\shimx64.efi")


def test_an_entry_of_the_firmware_itself_names_no_file() -> None:
    found = parse_entry(0, load_option("UiApp", device_path(4, 7, bytes(16))))
    assert (found.partition, found.path) == (None, None)


@pytest.mark.parametrize("length", range(12))
def test_a_load_option_that_is_cut_off_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|without an end"):
        parse_entry(1, load_option("Linux", HARD_DRIVE)[:length])


def test_the_boot_order() -> None:
    assert parse_order(bytes(4) + struct.pack("<3H", 3, 0, 0xABCD)) == (3, 0, 0xABCD)


def test_a_machine_without_variables_has_no_order() -> None:
    assert parse_order(b"") == ()


def test_modules_are_sorted() -> None:
    assert parse_modules("xfs 1 0 - Live 0x0\next4 2 1 - Live 0x0\n") == ("ext4", "xfs")


def test_memory() -> None:
    assert parse_memory("MemTotal:        1024 kB\nMemFree: 1 kB") == 1 << 20


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"version": True}, {"more": 1}, {"facts": None}, {"layout": None}],
    ids=["newer", "no number", "a key more", "no facts", "no layout"],
)
def test_hostile_json_is_refused(change: dict[str, object]) -> None:
    held = profile("mbr").to_object() | change
    with pytest.raises(SetDamaged):
        MachineProfile.from_json(json.dumps(held).encode())
