"""Writes the bootable ISO image, reads it back, and gives it its name only when all is right.

ISO 9660 level 3 with Rock Ridge and Joliet (pycdlib), El Torito for BIOS (isolinux) and UEFI (an
EFI system partition), and MBR and GPT over it (mindi/hybrid.py), so that one file boots as
CD-ROM, USB stick and plain disk. The same input gives the same bytes, and the image carries the
digests of its files (mindi/isosums.py).
"""

from __future__ import annotations

import io
import os
import struct
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
from mindi.isolayout import (
    BOOT_INFO_END,
    BOOT_INFO_START,
    CATALOG_PATH,
    DIRECTORY_MODE,
    ESP_PATH,
    FILE_MODE,
    GRUB_MENU_PATH,
    INFO_PATH,
    ISO_BLOCK_BYTES,
    ISOLINUX_MENU_PATH,
    ISOLINUX_PATH,
    LABEL_CHARACTERS,
    MBR_CODE_PATH,
    extents_of,
)
from mindi.isonames import IsoNames
from mindi.isosource import Content, content_size, digest_of, open_content, sha256_of
from mindi.isosums import SUMS_PATH, disk_ids, sums_text
from mindi.menu import Menu, render_grub, render_isolinux
from mindi.output import written_whole

if TYPE_CHECKING:
    from pycdlib import PyCdlib

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all; the bytes count twice, once written, once read."""

COPY_BYTES = 4 * 1024 * 1024
# isolinux.bin loads the rest of itself (El Torito's load size, in 512-byte sectors).
ISOLINUX_LOAD_SECTORS = 4
UEFI_PLATFORM = 0xEF
VOLUME_DESCRIPTOR_BLOCK = 16
# Joliet's volume identifier: 32 bytes of UCS-2.
JOLIET_LABEL_CHARACTERS = 16
_NAMESPACE = uuid.UUID("6d2f29d2-0f0b-5a51-8f0e-6b1c7f6f9a11")


@dataclass(frozen=True, slots=True)
class IsoSpec:
    """What goes on the image.

    ``extra`` maps absolute paths on the image to files of the build host. ``label`` is the volume
    label, 1 to LABEL_CHARACTERS of printable ASCII (mindi.config sees to that). ``timestamp_s`` is
    every date on it, seconds since 1970. A ``private`` image is for its owner's eyes alone.
    ``signed`` says whether the kernel bears a signature for Secure Boot.
    """

    kernel: Path
    initrd: Path
    menu: Menu
    boot: BootFiles
    label: str
    timestamp_s: int
    signed: bool = True
    private: bool = False
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
    digests = sha256_of(spec.kernel), sha256_of(spec.initrd)
    identity = _identity(spec, digests)
    contents = _contents(spec, identity)
    known = {spec.menu.kernel: digests[0], spec.menu.initrd: digests[1]}
    total = sum(content_size(content) for content in contents.values())

    # What is done holds more than the contents: digests, directories, padding.
    def tell(before: int, done: int) -> None:
        if progress is not None:
            progress(before + min(done, total), 2 * total)

    # A backup holds what only root may read, /etc/shadow first of all.
    private = spec.private or bool(spec.extra)
    with written_whole(out, private=private) as temporary, temporary.open("wb+") as image:
        hybrid, written = _write(
            spec, contents, image, identity=identity, known=known, told=partial(tell, 0)
        )
        _forget(image)
        check_hybrid(image, hybrid)
        check_files(image, written, told=partial(tell, total))
    return IsoReport(
        path=out,
        size_bytes=hybrid.size_bytes,
        files=len(written),
        identity=identity,
        kernel_sha256=digests[0],
        initrd_sha256=digests[1],
        boots=_boots(spec.boot, signed=spec.signed),
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
        INFO_PATH: f"{spec.menu.title}\n".encode(),
        mark: f"{identity}\n".encode(),
    }
    if spec.boot.bios is not None:
        contents[ISOLINUX_PATH] = spec.boot.bios.isolinux_bin
        for module in spec.boot.bios.modules:
            contents[f"/isolinux/{module.name}"] = module
        if spec.boot.bios.mbr is not None:
            contents[MBR_CODE_PATH] = read_loader(spec.boot.bios.mbr)
        contents[ISOLINUX_MENU_PATH] = render_isolinux(spec.menu).encode()
    if spec.boot.uefi:
        loaders = efi_files(spec.boot, identity)
        contents[ESP_PATH] = system_partition(loaders, identity, timestamp_s=spec.timestamp_s)
        contents.update(loaders)
        contents[GRUB_MENU_PATH] = render_grub(spec.menu, mark=mark).encode()
    contents[spec.menu.kernel] = spec.kernel
    contents[spec.menu.initrd] = spec.initrd
    for path, source in sorted(spec.extra.items()):
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
            raise UsageError(f"{path!r} is no absolute path of a file on the image")
        if path in contents or path in (CATALOG_PATH, SUMS_PATH):
            raise UsageError(f"{path} is a file of the image's own; {source} cannot take its place")
        contents[path] = source
    return contents


def _write(
    spec: IsoSpec,
    contents: Mapping[str, Content],
    image: BinaryIO,
    *,
    identity: uuid.UUID,
    known: Mapping[str, str],
    told: Callable[[int], None],
) -> tuple[Hybrid, Mapping[str, Content]]:
    """Write the whole of ``image``; return what makes it a disk, and all files as they are on it.

    ``known`` are the digests of ``contents`` that need not be taken again.
    """
    from pycdlib.pycdlibexception import PyCdlibException

    iso = _new(spec.label)
    names = IsoNames()
    # What the digests are is known when it is known where all files lie, their size before.
    sums = io.BytesIO(sums_text(dict.fromkeys((*contents, CATALOG_PATH), "0" * 64)))
    try:
        _add(iso, names, SUMS_PATH, sums, sums.getbuffer().nbytes)
        for path, content in contents.items():
            _add(iso, names, path, open_content(content), content_size(content))
        _add_el_torito(iso, names, spec.boot)
        date_records(iso, spec.timestamp_s)
        iso.force_consistency()
        placed = {**contents, **_placed(iso, spec.boot)}
        digests = {path: known.get(path) or digest_of(item) for path, item in placed.items()}
        sums.write(sums_text(digests))
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
    return hybrid, {**placed, SUMS_PATH: sums.getvalue()}


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


def _add(iso: PyCdlib, names: IsoNames, path: str, stream: BinaryIO, size_bytes: int) -> None:
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
        stream,
        size_bytes,
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


def _placed(iso: PyCdlib, boot: BootFiles) -> dict[str, bytes]:
    """Return the files whose content depends on where files lie, which is settled."""
    files: dict[str, bytes] = {}
    if iso.eltorito_boot_catalog is not None:
        files[CATALOG_PATH] = iso.eltorito_boot_catalog.record().ljust(ISO_BLOCK_BYTES, b"\0")
    if boot.bios is not None:
        [(start, _)] = extents_of(iso, ISOLINUX_PATH)
        data = read_loader(boot.bios.isolinux_bin)
        files[ISOLINUX_PATH] = _with_boot_info(data, start // ISO_BLOCK_BYTES)
    return files


def _with_boot_info(data: bytes, block: int) -> bytes:
    """Return isolinux.bin with the boot information table that it has at ``block``."""
    padded = data[BOOT_INFO_END:] + bytes(-len(data) % 4)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    table = struct.pack("<IIII", VOLUME_DESCRIPTOR_BLOCK, block, len(data), sum(words) & 0xFFFFFFFF)
    room = BOOT_INFO_END - BOOT_INFO_START
    return data[:BOOT_INFO_START] + table.ljust(room, b"\0") + data[BOOT_INFO_END:]


def _hybrid(iso: PyCdlib, boot: BootFiles, plain_bytes: int, identity: uuid.UUID) -> Hybrid:
    mbr_code, isolinux_block, esp = None, None, None
    if boot.bios is not None and boot.bios.mbr is not None:
        mbr_code = read_loader(boot.bios.mbr)
        [(start, _)] = iso.get_file_byte_extents(rr_path=ISOLINUX_PATH)
        isolinux_block = start // ISO_BLOCK_BYTES
    if boot.uefi:
        [esp] = iso.get_file_byte_extents(rr_path=ESP_PATH)
    disk, partition = disk_ids(identity)
    return Hybrid(
        size_bytes=padded_size(plain_bytes),
        mbr_code=mbr_code,
        isolinux_block=isolinux_block,
        esp=esp,
        disk=disk,
        partition=partition,
    )


def _forget(image: BinaryIO) -> None:
    """Bring ``image`` to the medium and out of memory, so that reading back reads the medium."""
    image.flush()
    os.fsync(image.fileno())
    os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _boots(boot: BootFiles, *, signed: bool) -> tuple[str, ...]:
    ways = ["BIOS"] if boot.bios is not None else []
    for loader in boot.uefi:
        secure = " with Secure Boot" if signed and loader.kind is UefiKind.SIGNED else ""
        ways.append(f"UEFI {loader.machine.value}{secure}")
    return tuple(ways)
