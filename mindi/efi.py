"""The EFI side of an image: which loader goes under which name, and the partition that holds it.

Firmware starts ``/EFI/BOOT/BOOT<machine>.EFI`` (UEFI 2.10, 3.5.1.1). With Secure Boot that is
shim, which starts ``grub<machine>.efi`` beside it; that GRUB takes its menu from
``/boot/grub/grub.cfg`` of the device it came from. From a CD-ROM that device is the image itself;
from a disk it is the EFI system partition, whose grub.cfg therefore leads back to the image.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from initramfs.errors import InputError
from mindi import programs
from mindi.bootfiles import BootFiles, UefiFiles, UefiKind
from mindi.fat import fat_image
from mindi.isolayout import ID_FOLDER
from mindi.render import render

ESP_LABEL = "MINDI"
ESP_MARK = "/MINDI.ID"
"""On our EFI system partition only, so that the menu knows it from those of installed systems."""

# What the menu, the search for the medium and starting a kernel need, and what finds other disks.
_GRUB_MODULES = (
    *("all_video", "serial", "iso9660", "fat", "part_gpt", "part_msdos", "linux", "chain"),
    *("boot", "configfile", "echo", "efifwsetup", "halt", "ls", "minicmd", "normal", "probe"),
    *("reboot", "regexp", "search", "search_fs_file", "sleep", "test", "true"),
)


def id_path(identity: uuid.UUID) -> str:
    """Return the path of the file by which GRUB knows the image from any other medium."""
    return f"{ID_FOLDER}{identity}"


def efi_files(boot: BootFiles, identity: uuid.UUID) -> dict[str, bytes]:
    """Return what goes in /EFI/BOOT (path -> content); nothing without UEFI loaders.

    Raises InputError for a loader that cannot be read, ToolError where grub-mkimage fails.
    """
    files: dict[str, bytes] = {}
    for loader in boot.uefi:
        name = loader.machine.value
        parts = {
            f"BOOT{name.upper()}.EFI": loader.shim or loader.grub,
            f"grub{name}.efi": loader.grub if loader.shim is not None else None,
            f"mm{name}.efi": loader.mok_manager,
        }
        for part, source in parts.items():
            if source is not None:
                files[f"/EFI/BOOT/{part}"] = read_loader(source)
        if loader.kind is UefiKind.MODULES:
            files[f"/EFI/BOOT/BOOT{name.upper()}.EFI"] = _made_grub(loader, identity)
    return files


def system_partition(files: Mapping[str, bytes], identity: uuid.UUID, *, timestamp_s: int) -> bytes:
    """Return the image of an EFI system partition with ``files`` and the way to the medium."""
    content = {path.upper(): data for path, data in files.items()}
    content["/BOOT/GRUB/GRUB.CFG"] = way_to_medium(identity).encode()
    content[ESP_MARK] = f"{identity}\n".encode()
    return fat_image(content, ESP_LABEL, serial=identity.fields[0], timestamp_s=timestamp_s)


def way_to_medium(identity: uuid.UUID) -> str:
    """Return the GRUB configuration that finds the image and hands over to its menu."""
    return render("esp.cfg.j2", mark=id_path(identity))


def read_loader(path: Path) -> bytes:
    """Return the content of a boot loader's file; raise InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the boot loader {path}: {error.strerror}",
            hint="building an image needs the right to read it; try as root",
        ) from error


def _made_grub(loader: UefiFiles, identity: uuid.UUID) -> bytes:
    """Make a GRUB binary of a root's modules with the build host's grub-mkimage."""
    with TemporaryDirectory(prefix="mindi-grub-") as folder:
        early, made = Path(folder, "early.cfg"), Path(folder, "grub.efi")
        early.write_text(way_to_medium(identity))
        programs.run(
            str(loader.mkimage),
            f"--directory={loader.modules}",
            f"--format={loader.machine.platform}",
            "--prefix=/boot/grub",
            f"--config={early}",
            f"--output={made}",
            *_GRUB_MODULES,
            hint=f"it read GRUB's modules in {loader.modules}; "
            f"or install {loader.machine.packages}",
        )
        return made.read_bytes()
