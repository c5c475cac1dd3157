"""Builds a rescue image: from what was asked for to a medium that was read back and checked."""

from __future__ import annotations

import hashlib
import os
import platform
import textwrap
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archive.version import VERSION
from initramfs.codec import Codec
from initramfs.compress import default_level
from initramfs.errors import OutputError, UsageError
from initramfs.hostmodules import HostModules, gather_host
from initramfs.microcode import early_cpio, parse_cpuinfo
from initramfs.pack import Packed, write_initrd
from mindi.architecture import architecture_of
from mindi.compose import Composition, compose
from mindi.kernel import Kernel, is_signed
from mindi.output import check_writable, part_file, written_whole
from mindi.progress import Narrator
from mindi.record import (
    AbsentFirmware,
    AbsentTool,
    ImageRecord,
    MediumFile,
    ToolRecord,
    make_record,
    with_record,
)
from mindi.sources import Sources, find_sources
from mindi.spec import ImageSpec, Output, Selection
from mindi.tools import BootFirmware
from restore.contract import Mode

if TYPE_CHECKING:
    from mindi.bootfiles import BootFiles

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was built: sizes in bytes, time in seconds; ``absent`` tools with their packages."""

    file: Path
    output: Output
    size_bytes: int
    initrd_bytes: int
    initrd_sha256: str
    unpacked_bytes: int
    kernel: Path
    kernel_version: str
    kernel_package: str | None
    selection: Selection
    codec: Codec
    level: int
    entries: int
    modules: int
    libraries: int
    tools: int
    tools_absent: tuple[AbsentTool, ...]
    firmware: int
    firmware_absent: int
    frames: int
    frames_from_cache: int
    boots: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON values."""
        values = asdict(self)
        values["file"], values["kernel"] = str(self.file), str(self.kernel)
        return values

    def to_text(self) -> str:
        """Return the report as lines for a person."""
        selection = "this machine" if self.selection is Selection.HOST_ONLY else "any machine"
        lines = [
            f"{self.file}: {_mib(self.size_bytes)}, for {selection}",
            f"  kernel       Linux {self.kernel_version} ({self.kernel_package or self.kernel})",
            f"  initrd       {_mib(self.initrd_bytes)} {self.codec} -{self.level}, "
            f"{_mib(self.unpacked_bytes)} in memory, {self.entries} entries",
            f"  modules      {self.modules}, with {self.firmware} firmware files"
            + (f" ({self.firmware_absent} named but not here)" if self.firmware_absent else ""),
            f"  libraries    {self.libraries}",
            f"  tools        {self.tools}",
        ]
        if self.boots:
            lines.append(f"  boots        {'; '.join(self.boots)}")
        if self.tools_absent:
            names = ", ".join(tool.name for tool in self.tools_absent)
            packages = " ".join(sorted({tool.package for tool in self.tools_absent}))
            lines += [_wrapped("without", names), _wrapped("packages", packages)]
        lines.append(f"  built in     {self.seconds:.1f} s")
        return "\n".join(lines)


def build(spec: ImageSpec, teller: Narrator) -> BuildReport:
    """Build what ``spec`` asks for; the file is there whole afterwards, or not at all.

    Raises ImageError of the kind that fits: see docs/commands.md.
    """
    start = time.monotonic()
    check_writable(spec.file)
    sources = find_sources(spec, teller, running=platform.release())
    codec = choose_codec(spec, sources.kernel)
    level = default_level(codec) if spec.level is None else spec.level
    is_host_only = spec.selection is Selection.HOST_ONLY
    if is_host_only:
        check_host_only(architecture_of(sources.root), platform.machine())
    with teller.step("root tree") as step:
        if is_host_only:
            composition = compose(spec, sources, gather_host(), firmware=_host_firmware())
        else:
            composition = compose(spec, sources, HostModules())
        step.note(f"{len(composition.closure)} entries, {len(composition.modules)} modules")
    for need in composition.lacking:
        teller.say(f"{need.why}: Linux {sources.kernel.version} has no driver for that")
    record = _record(spec, sources, composition, codec=codec, level=level)
    if spec.output is Output.INITRAMFS:
        packed = _write_initramfs(spec, sources, composition, record, teller)
        boots: tuple[str, ...] = ()
    else:
        boot = _boot_files(sources, record.architecture, teller)
        record = replace(record, medium=_medium_files(sources, boot))
        packed, boots = _write_iso(spec, sources, composition, record, boot, teller)
    return BuildReport(
        file=spec.file,
        output=spec.output,
        size_bytes=spec.file.stat().st_size,
        initrd_bytes=packed.size_bytes,
        initrd_sha256=packed.sha256,
        unpacked_bytes=packed.unpacked_bytes,
        kernel=sources.kernel.image,
        kernel_version=sources.kernel.version,
        kernel_package=sources.kernel_package,
        selection=spec.selection,
        codec=codec,
        level=level,
        entries=packed.entries,
        modules=len(composition.modules),
        libraries=record.libraries,
        tools=len(record.tools),
        tools_absent=record.tools_absent,
        firmware=len(composition.firmware.found),
        firmware_absent=len(composition.firmware.absent),
        frames=packed.frames,
        frames_from_cache=packed.frames_from_cache,
        boots=boots,
        seconds=time.monotonic() - start,
    )


def _host_firmware() -> BootFirmware:
    """Return what started this machine (Documentation/ABI/testing/sysfs-firmware-efi)."""
    return BootFirmware.UEFI if Path("/sys/firmware/efi").is_dir() else BootFirmware.BIOS


def check_host_only(architecture: str, machine: str) -> None:
    """Raise UsageError where an image of ``architecture`` cannot be for this ``machine``."""
    family = {"i686": "x86_64"}
    if family.get(architecture, architecture) != family.get(machine, machine):
        raise UsageError(
            f"--host-only is for this {machine} machine, and the root tree is of {architecture}",
            hint="build it with --generic",
        )


def choose_codec(spec: ImageSpec, kernel: Kernel) -> Codec:
    """Return the codec asked for, or the kernel's best; raise UsageError if it cannot undo it."""
    codec = spec.codec
    if codec is None:
        return kernel.best_codec
    if codec is not Codec.NONE and kernel.codecs and codec not in kernel.codecs:
        known = ", ".join(sorted(kernel.codecs))
        raise UsageError(
            f"the kernel {kernel.version} cannot read an initrd compressed with {codec}",
            hint=f"its configuration names {known}; choose one with --codec, or leave it out",
        )
    return codec


def _record(
    spec: ImageSpec, sources: Sources, composition: Composition, *, codec: Codec, level: int
) -> ImageRecord:
    return make_record(
        composition.closure,
        mindi_version=VERSION,
        created_s=spec.timestamp_s,
        architecture=composition.architecture,
        kernel_version=sources.kernel.version,
        selection=spec.selection,
        output=spec.output,
        codec=codec,
        level=level,
        label=spec.label,
        tools=(
            ToolRecord(tool.name, tool.path, tool.version_argv) for tool in composition.rescue.found
        ),
        tools_absent=(AbsentTool(tool.name, tool.package) for tool in composition.rescue.absent),
        firmware_absent=(
            AbsentFirmware(blob.name, blob.module) for blob in composition.firmware.absent
        ),
        modules=sorted(choice.module.name for choice in composition.modules),
    )


def _write_initramfs(
    spec: ImageSpec,
    sources: Sources,
    composition: Composition,
    record: ImageRecord,
    teller: Narrator,
) -> Packed:
    with written_whole(spec.file, private=composition.closure.is_private) as part:
        packed = _pack(spec, sources, composition, record, part, teller)
        _check_digest(_digest_on_disk(part), packed.sha256, part)
    return packed


def _pack(
    spec: ImageSpec,
    sources: Sources,
    composition: Composition,
    record: ImageRecord,
    out: Path,
    teller: Narrator,
) -> Packed:
    """Write the initrd into the file ``out``."""
    cpus = None
    if spec.selection is Selection.HOST_ONLY:
        cpus = parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))
    microcode = next(
        filter(None, (early_cpio(root, cpus=cpus) for root in sources.firmware_roots)), None
    )
    with teller.step("initrd") as step:
        with out.open("wb") as stream:
            packed = write_initrd(
                with_record(composition.closure, record),
                stream,
                codec=record.codec,
                level=record.level,
                timestamp_s=spec.timestamp_s,
                first=composition.first,
                last=composition.last,
                early=microcode,
                cache=spec.cache if spec.use_cache else None,
                jobs=spec.jobs,
                progress=step.update,
            )
        step.note(
            f"{_mib(packed.size_bytes)}, {packed.frames_from_cache} of {packed.frames} cached"
        )
    return packed


def _digest_on_disk(file: Path) -> str:
    """Return the SHA-256 of what the disk gives back, not of what memory still holds of it."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_digest(found: str, expected: str, file: Path) -> None:
    if found != expected:
        raise OutputError(
            f"{file} reads back different from what was written",
            hint="the disk or the memory of this machine is not to be trusted: check both",
        )


def _boot_files(sources: Sources, architecture: str, teller: Narrator) -> BootFiles:
    from mindi.bootfiles import find_boot_files

    boot = find_boot_files(sources.boot_roots, architecture=architecture)
    for line in boot.lacking:
        teller.say(line)
    return boot


def _medium_files(sources: Sources, boot: BootFiles) -> Mapping[str, MediumFile]:
    from mindi.mediumfiles import medium_files

    return medium_files(
        boot,
        kernel=sources.kernel_origin,
        initrd=sources.words(sources.root.path),
        origin=sources.origin,
    )


def _write_iso(
    spec: ImageSpec,
    sources: Sources,
    composition: Composition,
    record: ImageRecord,
    boot: BootFiles,
    teller: Narrator,
) -> tuple[Packed, tuple[str, ...]]:
    from mindi.iso import IsoSpec, write_iso
    from mindi.menu import image_title, rescue_menu

    host = spec.host_name if spec.selection is Selection.HOST_ONLY else "any machine"
    menu = rescue_menu(
        image_title(host, spec.timestamp_s),
        modes=(Mode.EXPERT, Mode.SELFCHECK),
        kernel_arguments=spec.kernel_arguments,
        architecture=record.architecture,
    )
    signed = is_signed(sources.kernel.image)
    if boot.has_secure_boot and not signed:
        teller.say("the kernel is not signed: a machine with Secure Boot will not start it")
    with part_file(spec.file) as initrd:
        packed = _pack(spec, sources, composition, record, initrd, teller)
        with teller.step("ISO") as step:
            report = write_iso(
                IsoSpec(
                    kernel=sources.kernel.image,
                    initrd=initrd,
                    menu=menu,
                    boot=boot,
                    label=spec.label,
                    timestamp_s=spec.timestamp_s,
                    signed=signed,
                    private=composition.closure.is_private,
                ),
                spec.file,
                progress=step.update,
            )
            # The ISO was compared with the initrd as it was read for it.
            _check_digest(report.initrd_sha256, packed.sha256, initrd)
            step.note(f"{_mib(report.size_bytes)}, read back and compared")
    return packed, report.boots


def _wrapped(title: str, words: str) -> str:
    return textwrap.fill(
        words,
        100,
        initial_indent=f"  {title:<13}",
        subsequent_indent=" " * 15,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
