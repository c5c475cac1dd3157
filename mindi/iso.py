"""Writes the bootable ISO image, reads it back, and gives it its name only when all is right.

ISO 9660 level 3 with Rock Ridge and Joliet (pycdlib), El Torito for BIOS (isolinux) and UEFI (an
EFI system partition), and MBR and GPT over it (mindi/hybrid.py), so that one file boots as
CD-ROM, USB stick and plain disk. The same input gives the same bytes.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from initramfs.errors import OutputError, UsageError
from mindi.bootfiles import BootFiles, UefiKind
from mindi.efi import efi_files, id_path, read_loader, system_partition
from mindi.hybrid import Hybrid, check_hybrid, make_hybrid, padded_size
from mindi.isocheck import check_files
from mindi.isodates import date_descriptors, date_records
from mindi.isonames import IsoNames
from mindi.isosource import Content, content_size, open_content, sha256_of
from mindi.menu import Menu, render_grub, render_isolinux
from mindi.output import written_whole

if TYPE_CHECKING:
    from pycdlib import PyCdlib

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all; the bytes count twice, once written, once read."""

ISOLINUX_PATH = "/isolinux/isolinux.bin"
ESP_PATH = "/efi.img"
CATALOG_PATH = "/boot.cat"
FILE_MODE = stat.S_IFREG | 0o444
DIRECTORY_MODE = stat.S_IFDIR | 0o555
COPY_BYTES = 4 * 1024 * 1024
ISO_BLOCK_BYTES = 2048
# isolinux.bin loads the rest of itself (El Torito's load size, in 512-byte sectors).
ISOLINUX_LOAD_SECTORS = 4
UEFI_PLATFORM = 0xEF
# ECMA-119, 8.4.7.
LABEL_CHARACTERS = 32
# Joliet's volume identifier: 32 bytes of UCS-2.
JOLIET_LABEL_CHARACTERS = 16
_NAMESPACE = uuid.UUID("6d2f29d2-0f0b-5a51-8f0e-6b1c7f6f9a11")


@dataclass(frozen=True, slots=True)
class IsoSpec:
    """What goes on the image.

    ``extra`` maps absolute paths on the image to files of the build host. ``label`` is the volume
    label, at most 32 ASCII characters. ``timestamp_s`` is every date on it, seconds since 1970.
    """

    kernel: Path
    initrd: Path
    menu: Menu
    boot: BootFiles
    label: str
    timestamp_s: int
    extra: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class IsoReport:
    """What was written: all of it was read back and found equal to its sources."""

    path: Path
    size_bytes: int
    files: int
    identity: uuid.UUID
    kernel_sha256: str
    initrd_sha256: str
    boots: tuple[str, ...]


def write_iso(spec: IsoSpec, out: Path, *, progress: Progress | None = None) -> IsoReport:
    """Write the image to ``out``, whole or not at all.

    Raises InputError for a source that cannot be read, OutputError where the image cannot be
    written or reads back different (a source changed meanwhile); nothing is left behind then.
    """
    _check_label(spec.label)
    digests = sha256_of(spec.kernel), sha256_of(spec.initrd)
    identity = _identity(spec, digests)
    contents = _contents(spec, identity)
    total = sum(content_size(content) for content in contents.values())

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, 2 * total)

    with written_whole(out) as temporary, temporary.open("wb+") as image:
        if spec.extra:
            # A backup holds what only root may read, /etc/shadow first of all.
            os.fchmod(image.fileno(), 0o600)
        # What pycdlib counts as done holds directories and padding as well.
        hybrid = _write(
            spec, contents, image, identity=identity, told=lambda done: tell(min(done, total))
        )
        _forget(image)
        check_hybrid(image, hybrid)
        check_files(
            image,
            contents,
            boot_info=ISOLINUX_PATH if spec.boot.bios is not None else None,
            besides=CATALOG_PATH,
            told=lambda done: tell(total + done),
        )
    return IsoReport(
        path=out,
        size_bytes=hybrid.size_bytes,
        files=len(contents),
        identity=identity,
        kernel_sha256=digests[0],
        initrd_sha256=digests[1],
        boots=_boots(spec.boot),
    )


def _check_label(label: str) -> None:
    if not 1 <= len(label) <= LABEL_CHARACTERS or not (label.isascii() and label.isprintable()):
        raise UsageError(
            f"{label!r} is no volume label: 1 to {LABEL_CHARACTERS} printable ASCII characters"
        )


def _identity(spec: IsoSpec, digests: tuple[str, str]) -> uuid.UUID:
    """Return what tells this image from any other: a name made of what it holds."""
    words = [spec.label, str(spec.timestamp_s), *digests, render_grub(spec.menu)]
    words += [sha256_of(path) for path in spec.boot.files()]
    words += [f"{path} {content_size(source)}" for path, source in sorted(spec.extra.items())]
    return uuid.uuid5(_NAMESPACE, "\n".join(words))


def _contents(spec: IsoSpec, identity: uuid.UUID) -> dict[str, Content]:
    """Return all files of the image, in the order in which their data lies on it."""
    mark = id_path(identity)
    contents: dict[str, Content] = {
        "/.disk/info": f"{spec.menu.title}\n".encode(),
        mark: f"{identity}\n".encode(),
    }
    if spec.boot.bios is not None:
        contents[ISOLINUX_PATH] = spec.boot.bios.isolinux_bin
        for module in spec.boot.bios.modules:
            contents[f"/isolinux/{module.name}"] = module
        contents["/isolinux/isolinux.cfg"] = render_isolinux(spec.menu).encode()
    if spec.boot.uefi:
        loaders = efi_files(spec.boot, identity)
        contents[ESP_PATH] = system_partition(loaders, identity, timestamp_s=spec.timestamp_s)
        contents.update(loaders)
        contents["/boot/grub/grub.cfg"] = render_grub(spec.menu, mark=mark).encode()
    contents[spec.menu.kernel] = spec.kernel
    contents[spec.menu.initrd] = spec.initrd
    for path, source in sorted(spec.extra.items()):
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
            raise UsageError(f"{path!r} is no absolute path of a file on the image")
        if path in contents or path == CATALOG_PATH:
            raise UsageError(f"{path} is a file of the image's own; {source} cannot take its place")
        contents[path] = source
    return contents


def _write(
    spec: IsoSpec,
    contents: Mapping[str, Content],
    image: BinaryIO,
    *,
    identity: uuid.UUID,
    told: Callable[[int], None],
) -> Hybrid:
    """Write the whole of ``image``; return what makes it a disk."""
    from pycdlib.pycdlibexception import PyCdlibException

    iso = _new(spec.label)
    names = IsoNames()
    try:
        for path, content in contents.items():
            _add(iso, names, path, content)
        _add_el_torito(iso, names, spec.boot)
        date_records(iso, spec.timestamp_s)
        iso.write_fp(image, blocksize=COPY_BYTES, progress_cb=lambda done, _all, _its: told(done))
        plain_bytes = image.seek(0, os.SEEK_END)
        hybrid = _hybrid(iso, spec.boot, plain_bytes, identity)
    except PyCdlibException as error:
        raise OutputError(
            f"ISO 9660 cannot hold what is to go on the image: {error}",
            hint="shorten the paths of the files that were asked for",
        ) from error
    finally:
        iso.close()
    date_descriptors(image, spec.timestamp_s)
    make_hybrid(image, hybrid, content_bytes=plain_bytes)
    return hybrid


def _new(label: str) -> PyCdlib:
    import pycdlib

    iso = pycdlib.PyCdlib()
    iso.new(
        interchange_level=3,
        joliet=3,
        rock_ridge="1.09",
        vol_ident=label[:JOLIET_LABEL_CHARACTERS],
        app_ident_str="MINDI",
    )
    iso.pvd.volume_identifier = label.encode().ljust(LABEL_CHARACTERS)
    return iso


def _add(iso: PyCdlib, names: IsoNames, path: str, content: Content) -> None:
    parent = ""
    for part in path.split("/")[1:-1]:
        parent = f"{parent}/{part}"
        if not names.knows(parent):
            place = names.directory(parent)
            iso.add_directory(
                place.iso,
                rr_name=place.rock_ridge,
                joliet_path=place.joliet,
                file_mode=DIRECTORY_MODE,
            )
    place = names.file(path)
    iso.add_fp(
        open_content(content),
        content_size(content),
        place.iso,
        rr_name=place.rock_ridge,
        joliet_path=place.joliet,
        file_mode=FILE_MODE,
    )


def _add_el_torito(iso: PyCdlib, names: IsoNames, boot: BootFiles) -> None:
    """Name what the firmware starts from a CD-ROM, in the boot catalog."""
    catalog = names.file(CATALOG_PATH)
    add = partial(
        iso.add_eltorito,
        bootcatfile=catalog.iso,
        rr_bootcatname=catalog.rock_ridge,
        joliet_bootcatfile=catalog.joliet,
    )
    if boot.bios is not None:
        add(
            names.file(ISOLINUX_PATH).iso,
            boot_load_size=ISOLINUX_LOAD_SECTORS,
            boot_info_table=True,
        )
    if boot.uefi:
        add(names.file(ESP_PATH).iso, platform_id=UEFI_PLATFORM, efi=True)


def _hybrid(iso: PyCdlib, boot: BootFiles, plain_bytes: int, identity: uuid.UUID) -> Hybrid:
    mbr_code, isolinux_block, esp = None, None, None
    if boot.bios is not None and boot.bios.mbr is not None:
        mbr_code = read_loader(boot.bios.mbr)
        [(start, _)] = iso.get_file_byte_extents(rr_path=ISOLINUX_PATH)
        isolinux_block = start // ISO_BLOCK_BYTES
    if boot.uefi:
        [esp] = iso.get_file_byte_extents(rr_path=ESP_PATH)
    return Hybrid(
        size_bytes=padded_size(plain_bytes),
        mbr_code=mbr_code,
        isolinux_block=isolinux_block,
        esp=esp,
        disk=uuid.uuid5(identity, "disk"),
        partition=uuid.uuid5(identity, "EFI system partition"),
    )


def _forget(image: BinaryIO) -> None:
    """Bring ``image`` to the medium and out of memory, so that reading back reads the medium."""
    image.flush()
    os.fsync(image.fileno())
    os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _boots(boot: BootFiles) -> tuple[str, ...]:
    ways = ["BIOS"] if boot.bios is not None else []
    for loader in boot.uefi:
        secure = " with Secure Boot" if loader.kind is UefiKind.SIGNED else ""
        ways.append(f"UEFI {loader.machine.value}{secure}")
    return tuple(ways)
