"""The early archive of an initrd: microcode for the processors, which the kernel loads first.

An uncompressed cpio with one file for each maker, as in the kernel's
Documentation/arch/x86/microcode.rst. Intel's files are named by family, model and stepping
(06-55-04), AMD's by family (microcode_amd_fam17h.bin; all before 15h in microcode_amd.bin).
"""

from __future__ import annotations

import enum
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from initramfs.cpio import TRAILER, header
from initramfs.decompress import decompress
from initramfs.rootfs import Root

EARLY_FOLDER = "/kernel/x86/microcode"
"""Where the kernel looks for microcode in the early archive; it unpacks it there as well."""

_FOLDER = "/lib/firmware"
_INTEL_FILE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{2})-([0-9a-f]{2})(\.xz|\.zst)?")
_AMD_FILE = re.compile(r"microcode_amd(?:_fam([0-9a-f]{2})h)?\.bin(\.xz|\.zst)?")
_AMD_FIRST_OWN_FAMILY = 0x15
# WRMSR 79h wants the data at a multiple of 16 (Intel SDM 3A, 9.11.6), and old kernels load
# them from where they are.
_DATA_ALIGNMENT = 16
_ARCHIVE_ALIGNMENT = 512


class Vendor(enum.StrEnum):
    """A maker of x86 processors, as the processor says it in CPUID."""

    INTEL = "GenuineIntel"
    AMD = "AuthenticAMD"


@dataclass(frozen=True, slots=True)
class Cpu:
    """What microcode is chosen by."""

    vendor: Vendor
    family: int
    model: int
    stepping: int


def parse_cpuinfo(text: str) -> frozenset[Cpu]:
    """Return the x86 processors that the text of /proc/cpuinfo lists; empty for others."""
    found: set[Cpu] = set()
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        facts = {key.strip(): value.strip() for key, _, value in pairs}
        numbers = [facts.get(key, "") for key in ("cpu family", "model", "stepping")]
        for vendor in Vendor:
            if facts.get("vendor_id") == vendor and all(map(str.isdecimal, numbers)):
                found.add(Cpu(vendor, *map(int, numbers)))
    return frozenset(found)


def is_early(path: str) -> bool:
    """Tell whether the ``path`` of an image comes of its early archive."""
    return f"{EARLY_FOLDER}/".startswith(f"{path}/") or path.startswith(f"{EARLY_FOLDER}/")


def early_cpio(root: Root, *, cpus: Iterable[Cpu] | None) -> bytes | None:
    """Return the early archive with what ``root`` has of microcode; None if it has none.

    ``cpus`` are the processors to serve, None all there are. The size is a multiple of 512.
    Raises InputError if a file cannot be read.
    """
    wanted = None if cpus is None else frozenset(cpus)
    parts = {
        Vendor.AMD: _amd_files(root, wanted),
        Vendor.INTEL: _intel_files(root, wanted),
    }
    blobs = {
        vendor: b"".join(decompress(root.read(path), origin=path) for path in paths)
        for vendor, paths in parts.items()
    }
    if not any(blobs.values()):
        return None
    archive = b"".join(
        header(name, mode=stat.S_IFDIR | 0o755, inode=number, links=2)
        for number, name in enumerate(
            (b"kernel", b"kernel/x86", EARLY_FOLDER[1:].encode()), start=1
        )
    )
    for number, (vendor, blob) in enumerate(blobs.items(), start=4):
        if blob:
            archive += _file(f"{EARLY_FOLDER}/{vendor}.bin"[1:].encode(), blob, number, archive)
    archive += header(TRAILER)
    return archive + b"\0" * (-len(archive) % _ARCHIVE_ALIGNMENT)


def _file(name: bytes, data: bytes, inode: int, before: bytes) -> bytes:
    """Return the entry, its name padded with NULs so that the data are aligned (iucode_tool)."""
    mode = stat.S_IFREG | 0o644
    head = header(name, mode=mode, inode=inode, size_bytes=len(data))
    while (len(before) + len(head)) % _DATA_ALIGNMENT:
        name += b"\0"
        head = header(name, mode=mode, inode=inode, size_bytes=len(data))
    return head + data + b"\0" * (-len(data) % 4)


def _intel_files(root: Root, cpus: frozenset[Cpu] | None) -> list[str]:
    folder = f"{_FOLDER}/intel-ucode"
    names = {
        f"{cpu.family:02x}-{cpu.model:02x}-{cpu.stepping:02x}"
        for cpu in cpus or ()
        if cpu.vendor is Vendor.INTEL
    }
    found: list[str] = []
    for name in root.list(folder):
        match = _INTEL_FILE.fullmatch(name)
        if match and (cpus is None or name[:8] in names):
            found.append(f"{folder}/{name}")
    return found


def _amd_files(root: Root, cpus: frozenset[Cpu] | None) -> list[str]:
    folder = f"{_FOLDER}/amd-ucode"
    families = {
        cpu.family if cpu.family >= _AMD_FIRST_OWN_FAMILY else 0
        for cpu in cpus or ()
        if cpu.vendor is Vendor.AMD
    }
    found: list[str] = []
    for name in root.list(folder):
        match = _AMD_FILE.fullmatch(name)
        if match and (cpus is None or int(match[1] or "0", 16) in families):
            found.append(f"{folder}/{name}")
    return found
