"""Finds the boot loaders of an image in root trees; copies them, never runs them.

Where distributions keep them: Debian and Ubuntu (isolinux, syslinux-common, shim-signed,
grub-efi-*-signed, grub-efi-*-bin), Fedora and its kin (syslinux-nonlinux, shim-x64,
grub2-efi-x64-cdboot), openSUSE (shim), Arch (syslinux, grub).
"""

from __future__ import annotations

import enum
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import InputError, MissingDependency
from initramfs.rootfs import Root

BIOS_FOLDERS = ("/usr/lib/ISOLINUX", "/usr/share/syslinux", "/usr/lib/syslinux/bios")
BIOS_MODULE_FOLDERS = ("/usr/lib/syslinux/modules/bios", *BIOS_FOLDERS[1:])
# menu.c32 draws the menu, chain.c32 starts a disk; the two libraries are what they are linked with.
BIOS_MODULES = ("ldlinux.c32", "libcom32.c32", "libutil.c32", "menu.c32", "chain.c32")
PACKAGES_BIOS = "isolinux and syslinux-common"


class Machine(enum.Enum):
    """A kind of UEFI firmware; the value is how file names of the removable-media path end."""

    X64 = "x64"
    IA32 = "ia32"
    AA64 = "aa64"

    @property
    def platform(self) -> str:
        """GRUB's name of it."""
        return {"x64": "x86_64-efi", "ia32": "i386-efi", "aa64": "arm64-efi"}[self.value]

    @property
    def packages(self) -> str:
        """The Debian packages that have its boot loaders, the better choice first."""
        debian = {"x64": "amd64", "ia32": "ia32", "aa64": "arm64"}[self.value]
        return f"shim-signed and grub-efi-{debian}-signed (or grub-efi-{debian}-bin)"


# By the kernel's name of an architecture and Debian's; without the first machine there is no UEFI
# boot to speak of.
MACHINES = {
    "x86_64": (Machine.X64, Machine.IA32),
    "amd64": (Machine.X64, Machine.IA32),
    "i386": (Machine.IA32, Machine.X64),
    "i686": (Machine.IA32, Machine.X64),
    "aarch64": (Machine.AA64,),
    "arm64": (Machine.AA64,),
}


class UefiKind(enum.IntEnum):
    """How good a find is, the best first."""

    SIGNED = 1
    """A signed shim and the signed GRUB that it starts: Secure Boot works."""

    COMPLETE = 2
    """A GRUB binary that is made for media, with no shim: boots where Secure Boot is off."""

    MODULES = 3
    """GRUB's modules, of which grub-mkimage makes a binary."""


@dataclass(frozen=True, slots=True)
class BiosFiles:
    """isolinux: its image, the MBR code for disks, and the modules of the menu; ``root`` is whose.

    All are paths of the build host. ``mbr`` is None where the root has none: no boot as a disk.
    """

    isolinux_bin: Path
    mbr: Path | None
    modules: tuple[Path, ...]
    root: Path


@dataclass(frozen=True, slots=True)
class UefiFiles:
    """The loaders for one kind of UEFI firmware; ``root`` is whose, the rest depends on ``kind``.

    SIGNED has ``shim`` and ``grub`` and mostly ``mok_manager``; COMPLETE has ``grub``; MODULES has
    the directory ``modules`` and the build host's ``mkimage``.
    """

    kind: UefiKind
    machine: Machine
    root: Path
    shim: Path | None = None
    mok_manager: Path | None = None
    grub: Path | None = None
    modules: Path | None = None
    mkimage: Path | None = None


@dataclass(frozen=True, slots=True)
class BootFiles:
    """The boot loaders of one image; at least one half is there.

    ``lacking`` says in a line each what will not boot, and which packages would change that.
    """

    architecture: str
    bios: BiosFiles | None
    uefi: tuple[UefiFiles, ...]
    lacking: tuple[str, ...] = ()

    def files(self) -> tuple[Path, ...]:
        """Return all files that boot the image; GRUB's kernel stands for its modules."""
        paths: list[Path | None] = []
        if self.bios is not None:
            paths += [self.bios.isolinux_bin, self.bios.mbr, *self.bios.modules]
        for loader in self.uefi:
            paths += [loader.shim, loader.mok_manager, loader.grub]
            if loader.modules is not None:
                paths.append(loader.modules / "kernel.img")
        return tuple(path for path in paths if path is not None)

    @property
    def has_secure_boot(self) -> bool:
        """Tell whether the image will start under Secure Boot."""
        return any(files.kind is UefiKind.SIGNED for files in self.uefi)


def find_boot_files(
    roots: Sequence[Root], *, architecture: str, mkimage: Path | None = None
) -> BootFiles:
    """Return the boot loaders for ``architecture`` (as the kernel or Debian calls it).

    Each root is looked at in turn, and a set is never mixed from two; for UEFI, signed loaders in
    a later root are better than others in an earlier one. What may not be read (an ordinary user's
    EFI system partition) is as if it were not there. ``mkimage`` is the build host's
    grub-mkimage, looked for on PATH by default. Raises MissingDependency, naming the packages,
    where neither BIOS nor UEFI would boot.
    """
    machines = MACHINES.get(architecture, ())
    bios_roots = roots if Machine.X64 in machines else ()
    bios = next((files for root in bios_roots if (files := _find_bios(root))), None)
    found = [_find_uefi(roots, machine, mkimage) for machine in machines]
    uefi = tuple(files for files in found if files is not None)
    lacking = _lacking(machines, bios, uefi, roots)
    if bios is None and not uefi:
        raise MissingDependency(
            "\n".join(lacking) or f"no boot loader is known for the architecture {architecture}",
            hint="install the packages there, use --kernel failsafe, "
            "or build with --output initramfs",
        )
    return BootFiles(architecture, bios, uefi, lacking)


def _lacking(
    machines: Sequence[Machine],
    bios: BiosFiles | None,
    uefi: Sequence[UefiFiles],
    roots: Sequence[Root],
) -> tuple[str, ...]:
    where = ", ".join(str(root.path) for root in roots)
    lines = []
    if Machine.X64 in machines and bios is None:
        lines.append(f"no BIOS boot: isolinux is not in {where} (packages {PACKAGES_BIOS})")
    elif bios is not None and bios.mbr is None:
        lines.append(f"no BIOS boot from USB or disk: isohdpfx.bin is not in {bios.root}")
    first = machines[0] if machines else None
    if first is not None and first not in {files.machine for files in uefi}:
        on = f" on {first.value} firmware" if uefi else ""
        lines.append(f"no UEFI boot{on}: GRUB is not in {where} (packages {first.packages})")
    return tuple(lines)


def _find_bios(root: Root) -> BiosFiles | None:
    isolinux = _first(root, [f"{folder}/isolinux.bin" for folder in BIOS_FOLDERS])
    if isolinux is None:
        return None
    modules = []
    for name in BIOS_MODULES:
        module = _first(root, [f"{folder}/{name}" for folder in BIOS_MODULE_FOLDERS])
        if module is None:
            return None
        modules.append(module)
    mbr = _first(root, [f"{folder}/isohdpfx.bin" for folder in BIOS_FOLDERS])
    return BiosFiles(isolinux, mbr, tuple(modules), root.path)


def _find_uefi(roots: Sequence[Root], machine: Machine, mkimage: Path | None) -> UefiFiles | None:
    for search in (_find_signed, _find_complete):
        for root in roots:
            files = search(root, machine)
            if files is not None:
                return files
    mkimage = mkimage or _host_mkimage()
    if mkimage is None:
        return None
    for root in roots:
        for folder in (f"/usr/lib/grub/{machine.platform}", f"/usr/share/grub2/{machine.platform}"):
            listed = _first(root, [f"{folder}/moddep.lst"])
            if listed is not None:
                return UefiFiles(
                    UefiKind.MODULES, machine, root.path, modules=listed.parent, mkimage=mkimage
                )
    return None


def _find_signed(root: Root, machine: Machine) -> UefiFiles | None:
    name = machine.value
    vendors = [f"/boot/efi/EFI/{vendor}" for vendor in _names(root, "/boot/efi/EFI")]
    # Ubuntu keeps two signed versions and links the one in use.
    shim = _first(
        root,
        [
            f"/usr/lib/shim/shim{name}.efi.signed",
            f"/usr/lib/shim/shim{name}.efi.signed.latest",
            *(f"{folder}/shim{name}.efi" for folder in vendors),
        ],
    )
    grub = _first(
        root,
        [
            f"/usr/lib/grub/{machine.platform}-signed/gcd{name}.efi.signed",
            *(f"{folder}/gcd{name}.efi" for folder in vendors),
        ],
    )
    if shim is None or grub is None:
        return None
    mok_manager = _first(
        root,
        [
            f"/usr/lib/shim/mm{name}.efi.signed",
            f"/usr/lib/shim/mm{name}.efi",
            *(f"{folder}/mm{name}.efi" for folder in vendors),
        ],
    )
    return UefiFiles(
        UefiKind.SIGNED, machine, root.path, shim=shim, mok_manager=mok_manager, grub=grub
    )


def _find_complete(root: Root, machine: Machine) -> UefiFiles | None:
    name = machine.value
    grub = _first(
        root,
        [
            f"/usr/lib/grub/{machine.platform}-signed/gcd{name}.efi.signed",
            f"/usr/lib/grub/{machine.platform}/monolithic/gcd{name}.efi",
        ],
    )
    if grub is None:
        return None
    return UefiFiles(UefiKind.COMPLETE, machine, root.path, grub=grub)


def _first(root: Root, paths: Sequence[str]) -> Path | None:
    for path in paths:
        try:
            found = root.locate(path)
        except InputError:
            continue
        if found is not None and stat.S_ISREG(found.status.st_mode):
            return root.host(found.path)
    return None


def _names(root: Root, folder: str) -> tuple[str, ...]:
    try:
        return root.list(folder)
    except InputError:
        return ()


def _host_mkimage() -> Path | None:
    for name in ("grub-mkimage", "grub2-mkimage"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    return None
