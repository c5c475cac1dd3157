"""From a machine to its profile: sysfs, procfs, the variables of UEFI, and its boot sectors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from archive.machine.efivars import GLOBAL, EfiEntry, parse_entry, parse_order
from archive.machine.layout import Layout, files_of
from archive.machine.layoutfiles import Family, Filesystem
from archive.machine.layoutnodes import Disk, Partition
from archive.machine.layoutview import device_path
from archive.machine.probe import probe_layout
from archive.machine.probesystem import System
from archive.machine.profile import (
    Dmi,
    Firmware,
    Loader,
    LoaderKind,
    MachineFacts,
    MachineProfile,
    Nic,
)

_EFI = "/sys/firmware/efi"
_VARIABLES = f"{_EFI}/efivars"
_DMI = "/sys/class/dmi/id"
_NET = "/sys/class/net"
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ENTRY = re.compile(rf"Boot([0-9A-F]{{4}})-{GLOBAL}")
_SECTOR = 512
_BOOT_CODE = 440
_MOST_VARIABLE = 64 << 10


def probe_machine(system: System) -> MachineProfile:
    """Return the profile of a machine, its layout included. Raises CannotRead."""
    layout = probe_layout(system)
    return MachineProfile(probe_facts(system, layout), layout)


def probe_facts(system: System, layout: Layout) -> MachineFacts:
    """Return what a machine with that layout is."""
    is_uefi = bool(system.names(_EFI))
    secure = _variable(system, "SecureBoot")
    current = parse_order(_variable(system, "BootCurrent") or b"")
    return MachineFacts(
        architecture=system.run("uname", "-m").output.strip(),
        firmware=Firmware.UEFI if is_uefi else Firmware.BIOS,
        secure_boot=None if secure is None or len(secure) < 5 else secure[4] == 1,
        memory_bytes=parse_memory(system.read("/proc/meminfo") or ""),
        kernel_release=system.read("/proc/sys/kernel/osrelease") or "",
        kernel_cmdline=system.read("/proc/cmdline") or "",
        modules=parse_modules(system.read("/proc/modules") or ""),
        dmi=_dmi(system),
        nics=tuple(_nics(system)),
        loaders=(*_boot_sectors(system, layout), *_efi_loaders(system, layout)),
        efi_entries=tuple(_entries(system)),
        efi_order=parse_order(_variable(system, "BootOrder") or b""),
        efi_current=current[0] if current else None,
    )


def parse_memory(meminfo: str) -> int:
    """Return the memory in the text of /proc/meminfo."""
    found = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def parse_modules(text: str) -> tuple[str, ...]:
    """Return the names in the text of /proc/modules, sorted."""
    return tuple(sorted(line.split(" ")[0] for line in text.splitlines() if line))


def _variable(system: System, name: str) -> bytes | None:
    return system.block(f"{_VARIABLES}/{name}-{GLOBAL}", 0, _MOST_VARIABLE)


def _entries(system: System) -> Iterator[EfiEntry]:
    for name in system.names(_VARIABLES):
        found = _ENTRY.fullmatch(name)
        data = system.block(f"{_VARIABLES}/{name}", 0, _MOST_VARIABLE) if found else None
        if found is None or data is None:
            continue
        try:
            yield parse_entry(int(found[1], 16), data)
        except ValueError:
            continue  # the firmware itself passes such an entry over


def _dmi(system: System) -> Dmi:
    def value(name: str) -> str | None:
        return (system.read(f"{_DMI}/{name}") or "").strip() or None

    return Dmi(
        system_vendor=value("sys_vendor"),
        product_name=value("product_name"),
        product_version=value("product_version"),
        product_serial=value("product_serial"),
        product_uuid=value("product_uuid"),
        board_vendor=value("board_vendor"),
        board_name=value("board_name"),
        board_serial=value("board_serial"),
        chassis_serial=value("chassis_serial"),
        firmware_vendor=value("bios_vendor"),
        firmware_version=value("bios_version"),
    )


def _nics(system: System) -> Iterator[Nic]:
    """Yield the cards that are hardware: bridges, bonds and the like have no device."""
    for name in system.names(_NET):
        device = f"{_NET}/{name}/device"
        address = system.read(f"{_NET}/{name}/address")
        # A bonding_masters file is among them.
        if not system.names(device) or address is None:
            continue
        # virtio's device is a child of the one in the slot.
        event = system.read(f"{device}/uevent") or ""
        values = dict(line.split("=", 1) for line in event.splitlines() if "=" in line)
        parent = system.read(f"{device}/../uevent") or ""
        slot = re.search(r"^PCI_SLOT_NAME=(.*)$", f"{event}\n{parent}", re.MULTILINE)
        yield Nic(
            name=name,
            address=address,
            driver=values.get("DRIVER"),
            slot=slot[1] if slot else None,
            modalias=values.get("MODALIAS"),
        )


def _boot_sectors(system: System, layout: Layout) -> Iterator[Loader]:
    for node in (*layout.all(Disk), *layout.all(Partition)):
        sector = system.block(device_path(node), 0, _SECTOR) or b""
        if b"GRUB" in sector[:_BOOT_CODE]:
            yield Loader(LoaderKind.GRUB_BIOS, node.id)
        elif sector[3:11] in (b"SYSLINUX", b"EXTLINUX"):
            yield Loader(LoaderKind.EXTLINUX, node.id)


def _efi_loaders(system: System, layout: Layout) -> Iterator[Loader]:
    """Yield the programs for UEFI on mounted EFI system partitions."""
    for node in layout.all(Filesystem):
        on = layout.below(node)[0]
        is_system = isinstance(on, Partition) and on.type in (_ESP, "ef")
        point = next((one.point for one in files_of(layout, node) if one.root == "/"), None)
        if point is None or not (is_system and node.family is Family.VFAT):
            continue
        for folder in system.names(f"{point}/EFI"):
            for name in system.names(f"{point}/EFI/{folder}"):
                if name.lower().endswith(".efi"):
                    kind = _efi_kind(folder.lower(), name.lower())
                    yield Loader(kind, node.id, f"/EFI/{folder}/{name}")


def _efi_kind(folder: str, name: str) -> LoaderKind:
    if name.startswith("grub"):
        return LoaderKind.GRUB_UEFI
    if folder == "systemd" or name.startswith("systemd-boot"):
        return LoaderKind.SYSTEMD_BOOT
    return LoaderKind.UEFI
