"""What the files of an ISO outside of its initrd are, where they come from and what asks for them.

Told before the image is written, for the image's own record to hold it; the paths are those that
mindi/iso.py and mindi/efi.py write. ``by`` of a reason is a path on the medium.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from initramfs.entries import Because
from mindi.bootfiles import BiosFiles, BootFiles, UefiFiles, UefiKind
from mindi.isolayout import (
    CATALOG_PATH,
    ESP_PATH,
    GRUB_MENU_PATH,
    ID_FOLDER,
    INFO_PATH,
    INITRD_PATH,
    ISOLINUX_MENU_PATH,
    ISOLINUX_PATH,
    KERNEL_PATH,
    MBR_CODE_PATH,
)
from mindi.isosums import SUMS_PATH
from mindi.record import MediumFile

Origin = Callable[[Path, Path], str]
"""Says in words where a file of a root is from: file and root, both of the build host."""


def medium_files(
    boot: BootFiles, *, kernel: str, initrd: str, origin: Origin
) -> dict[str, MediumFile]:
    """Return what is on an ISO with these loaders, by path.

    ``kernel`` says where that is from, ``initrd`` what that is made of. The file whose name is the
    image's identity stands there as the folder that holds it.
    """
    menus = [ISOLINUX_MENU_PATH] if boot.bios is not None else []
    menus += [GRUB_MENU_PATH] if boot.uefi else []
    files = {
        KERNEL_PATH: MediumFile(kernel, tuple(Because("started by", menu) for menu in menus)),
        INITRD_PATH: MediumFile(
            initrd, (Because("the rescue environment, unpacked by", KERNEL_PATH),)
        ),
        INFO_PATH: _made(Because("tells people and programs what medium this is")),
        ID_FOLDER: _made(Because("tells this image from all others, for boot loaders to find it")),
        SUMS_PATH: _made(Because("SHA-256 of all files of the medium, to check them by")),
        CATALOG_PATH: _made(Because("El Torito boot catalog: names the loaders to the firmware")),
    }
    if boot.bios is not None:
        files.update(_bios(boot.bios, origin))
    if boot.uefi:
        files[ESP_PATH] = _made(Because("EFI system partition, from which UEFI firmware starts"))
        files[GRUB_MENU_PATH] = _made(*(Because("boot menu of", _grub(one)) for one in boot.uefi))
    for loader in boot.uefi:
        files.update(_uefi(loader, origin))
    return files


def _first(loader: UefiFiles) -> str:
    return f"/EFI/BOOT/BOOT{loader.machine.value.upper()}.EFI"


def _grub(loader: UefiFiles) -> str:
    if loader.shim is None:
        return _first(loader)
    return f"/EFI/BOOT/grub{loader.machine.value}.efi"


def _bios(bios: BiosFiles, origin: Origin) -> dict[str, MediumFile]:
    firmware = Because("started by BIOS firmware from a CD-ROM (El Torito)")
    files = {ISOLINUX_MENU_PATH: _made(Because("boot menu of", ISOLINUX_PATH))}
    starters = [firmware]
    if bios.mbr is not None:
        because = Because("started by BIOS firmware from a disk, out of its first sector")
        files[MBR_CODE_PATH] = MediumFile(origin(bios.mbr, bios.root), (because,))
        starters.append(Because("started by", MBR_CODE_PATH))
    files[ISOLINUX_PATH] = MediumFile(origin(bios.isolinux_bin, bios.root), tuple(starters))
    folder = ISOLINUX_PATH.rpartition("/")[0]
    for module in bios.modules:
        because = Because("module of", ISOLINUX_PATH)
        files[f"{folder}/{module.name}"] = MediumFile(origin(module, bios.root), (because,))
    return files


def _uefi(loader: UefiFiles, origin: Origin) -> dict[str, MediumFile]:
    """Return the loaders of one kind of firmware; the EFI system partition holds copies."""
    first, grub = _first(loader), _grub(loader)
    if loader.kind is UefiKind.MODULES and loader.modules is not None:
        made = f"made by grub-mkimage of {origin(loader.modules, loader.root)}"
        return {first: MediumFile(made, (Because("GRUB, copied into", ESP_PATH),))}
    files: dict[str, MediumFile] = {}

    def add(path: str, source: Path | None, because: Because) -> None:
        if source is not None:
            files[path] = MediumFile(origin(source, loader.root), (because,))

    add(first, loader.shim, Because("shim, for Secure Boot, copied into", ESP_PATH))
    started = Because("GRUB, copied into", ESP_PATH)
    add(grub, loader.grub, started if grub == first else Because("GRUB, started by", first))
    key_manager = f"/EFI/BOOT/mm{loader.machine.value}.efi"
    add(key_manager, loader.mok_manager, Because("key manager of", first))
    return files


def _made(*because: Because) -> MediumFile:
    return MediumFile(None, because)
