"""A machine as a backup remembers it: what it is made of, how it boots, and its storage layout."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from archive import strictjson
from archive.errors import SetDamaged
from archive.machine.efivars import EfiEntry
from archive.machine.layout import Layout

VERSION = 1
_MAX_BYTES = 16 << 20


class Firmware(enum.StrEnum):
    """What started the machine."""

    BIOS = "bios"
    UEFI = "uefi"


class LoaderKind(enum.StrEnum):
    """Boot loaders that are known."""

    GRUB_BIOS = "grub-bios"
    GRUB_UEFI = "grub-uefi"
    SYSTEMD_BOOT = "systemd-boot"
    EXTLINUX = "extlinux"
    UEFI = "uefi"
    """Any other program that the firmware starts."""


@dataclass(frozen=True, slots=True)
class Loader:
    """A boot loader that was found: ``on`` is a node of the layout."""

    kind: LoaderKind
    on: str
    """The disk or partition with its boot sector; of UEFI the filesystem."""
    path: str | None = None
    """Of UEFI: from the filesystem's top, with slashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dmi:
    """What the firmware says of the machine (SMBIOS); None is what it does not."""

    system_vendor: str | None
    product_name: str | None
    product_version: str | None
    product_serial: str | None
    product_uuid: str | None
    board_vendor: str | None
    board_name: str | None
    board_serial: str | None
    chassis_serial: str | None
    firmware_vendor: str | None
    firmware_version: str | None


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card: ``slot`` is where it sits, as ``0000:00:02.0``."""

    name: str
    address: str
    driver: str | None
    slot: str | None
    modalias: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What a machine is, storage aside."""

    architecture: str
    """As uname(2) calls it."""
    firmware: Firmware
    secure_boot: bool | None
    """None where the firmware has no such thing."""
    memory_bytes: int
    kernel_release: str
    kernel_cmdline: str
    modules: tuple[str, ...]
    """Loaded ones, sorted."""
    dmi: Dmi
    nics: tuple[Nic, ...]
    loaders: tuple[Loader, ...]
    efi_entries: tuple[EfiEntry, ...] = ()
    efi_order: tuple[int, ...] = ()
    efi_current: int | None = None
    """The entry that was booted."""


@dataclass(frozen=True, slots=True)
class MachineProfile:
    """A machine: its facts and its storage layout."""

    facts: MachineFacts
    layout: Layout
    version: int = VERSION

    def to_object(self) -> dict[str, object]:
        """Return the profile as ``json.dumps`` takes it."""
        return {
            "version": self.version,
            "facts": strictjson.dump(self.facts),
            "layout": self.layout.to_object(),
        }

    @classmethod
    def from_object(cls, held: object, *, where: str = "profile") -> MachineProfile:
        """Return the profile that parsed JSON holds. Raises SetDamaged."""
        if not isinstance(held, dict) or set(held) != {"version", "facts", "layout"}:
            raise SetDamaged(f"{where} does not have the fields it should have")
        if held["version"] != VERSION or type(held["version"]) is not int:
            raise SetDamaged(
                f"{where} is of version {str(held['version'])[:20]}, "
                f"this program knows versions up to {VERSION}",
                hint="use the program that wrote it",
            )
        facts = strictjson.load(MachineFacts, held["facts"], where=where, place="facts")
        return cls(facts, Layout.from_object(held["layout"], where=where))

    def to_json(self) -> bytes:
        """Return the profile as a file's bytes."""
        return json.dumps(self.to_object(), sort_keys=True, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, where: str = "profile") -> MachineProfile:
        """Read what ``to_json`` wrote. Raises SetDamaged."""
        held = strictjson.parse(data, where=where, most_bytes=_MAX_BYTES)
        return cls.from_object(held, where=where)
