"""Finds the kernel that boots an image, and reads what it is from its own bytes.

x86 kernels are bzImages (Documentation/arch/x86/boot.rst); others are a raw or gzipped
Image that carries its banner ``Linux version ...``.
"""

from __future__ import annotations

import os
import platform
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from initramfs.codec import Codec
from initramfs.decompress import decompress
from initramfs.errors import InputError, MissingDependency
from initramfs.rootfs import Root

# Best first: what an image is packed with when nobody says otherwise.
PREFERENCE = (Codec.ZSTD, Codec.XZ, Codec.GZIP, Codec.LZO)

_SETUP_SECTS = 0x1F1
_SYSSIZE = 0x1F4
_HEADER_MAGIC = 0x202
_KERNEL_VERSION = 0x20E
_PE_POINTER = 0x3C
_PE32_PLUS = 0x20B
_SECTOR_BYTES = 512
_HEAD_BYTES = 0x10000
# No kernel is larger; what is, is something else, and is not read whole to find out.
_LIMIT_BYTES = 256 << 20
_BANNER = re.compile(rb"Linux version (\S+)")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: its image file, its release (``uname -r``), the root that has its modules.

    ``codecs`` is what it can undo of an initrd; empty where its configuration is not at hand.
    """

    image: Path
    version: str
    root: Root
    codecs: frozenset[Codec]

    @property
    def best_codec(self) -> Codec:
        """The best codec that the kernel surely knows; gzip where nothing is known."""
        return next((codec for codec in PREFERENCE if codec in self.codecs), Codec.GZIP)


def read_version(image: Path) -> str:
    """Return the release of a kernel image; raise InputError if it is none or is cut short."""
    try:
        with image.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InputError(f"{image} is no kernel: it is no regular file")
            head = stream.read(_HEAD_BYTES)
            if len(head) > _KERNEL_VERSION + 2 and head[_HEADER_MAGIC:][:4] == b"HdrS":
                return _read_bzimage(image, head)
            data = head + stream.read(_LIMIT_BYTES)
    except OSError as error:
        raise InputError(f"cannot read the kernel {image}: {error.strerror}") from error
    banner = _BANNER.search(decompress(data, origin=f"the kernel {image}"))
    if banner is None:
        raise InputError(
            f"{image} is no kernel: it has neither an x86 boot header nor a Linux banner",
            hint="give --kernel the path of a vmlinuz",
        )
    return banner[1].decode("ascii", "replace")


def _read_bzimage(image: Path, head: bytes) -> str:
    sectors = head[_SETUP_SECTS] or 4
    (paragraphs,) = struct.unpack_from("<I", head, _SYSSIZE)
    whole = max((sectors + 1) * _SECTOR_BYTES + paragraphs * 16, _signature_end(head))
    size = image.stat().st_size
    if size < whole:
        raise InputError(
            f"the kernel {image} is cut short: {size} bytes of {whole}",
            hint="install the kernel package again",
        )
    (offset,) = struct.unpack_from("<H", head, _KERNEL_VERSION)
    text = head[offset + 0x200 :].split(b"\0", 1)[0].decode("ascii", "replace")
    version = text.split(" ", 1)[0]
    if not offset or not version:
        raise InputError(f"the kernel {image} does not say its version")
    return version


def _signature_end(head: bytes) -> int:
    """Return where the signature for Secure Boot ends, which follows the kernel; 0 without one.

    It is the certificate table of the PE header that a kernel with an EFI stub has (PE/COFF
    specification, optional header data directories).
    """
    if head[:2] != b"MZ":
        return 0
    (pe,) = struct.unpack_from("<I", head, _PE_POINTER)
    optional = pe + 24
    if head[pe : pe + 4] != b"PE\0\0" or len(head) < optional + 152:
        return 0
    (magic,) = struct.unpack_from("<H", head, optional)
    directories = optional + (112 if magic == _PE32_PLUS else 96)
    offset, size = struct.unpack_from("<II", head, directories + 4 * 8)
    return int(offset + size) if size else 0


def is_signed(image: Path) -> bool:
    """Tell whether a kernel bears a signature, without which Secure Boot does not start it."""
    try:
        with image.open("rb") as stream:
            return _signature_end(stream.read(_HEAD_BYTES)) > 0
    except OSError as error:
        raise InputError(f"cannot read the kernel {image}: {error.strerror}") from error


def find_image(root: Root, version: str) -> Path | None:
    """Return the image of the kernel release ``version`` in a root, where distributions put it."""
    machine = platform.machine()
    for name in (
        f"/boot/vmlinuz-{version}",
        f"/lib/modules/{version}/vmlinuz",
        f"/usr/lib/modules/{version}/vmlinuz",
        f"/boot/vmlinux-{version}",
        f"/boot/kernel-{version}",
        f"/boot/Image-{version}",
        f"/boot/kernel-genkernel-{machine}-{version}",
    ):
        found = root.locate(name)
        if found is not None:
            return root.host(found.path)
    return None


def has_modules(root: Root, version: str) -> bool:
    """Tell whether a root holds loadable modules of the kernel release ``version``."""
    return root.is_dir(f"/lib/modules/{version}/kernel")


def kernel_of_root(root: Root) -> Kernel:
    """Return the newest kernel that a root tree has with its modules; raise MissingDependency."""
    versions = [v for v in root.list("/lib/modules") if has_modules(root, v)]
    for version in sorted(versions, key=version_key, reverse=True):
        image = find_image(root, version)
        if image is not None:
            return kernel_at(image, root)
    raise MissingDependency(
        f"{root.path} has no kernel with modules (/boot/vmlinuz-V with /lib/modules/V)",
        hint="unpack a kernel package into the tree, or name a kernel with --kernel PATH",
    )


def kernel_at(image: Path, root: Root) -> Kernel:
    """Return the kernel at ``image``, with its modules in ``root``; raise MissingDependency."""
    version = read_version(image)
    if not has_modules(root, version):
        raise MissingDependency(
            f"the kernel {image} is release {version}, and {root.path} has no modules for it",
            hint=f"unpack them as lib/modules/{version} there, or use --kernel failsafe",
        )
    return Kernel(image, version, root, codecs_of(root, version))


def codecs_of(root: Root, version: str) -> frozenset[Codec]:
    """Return what the kernel's configuration says of RD_*; empty where it is not there."""
    from initramfs.compress import kernel_supports

    for name in (f"/boot/config-{version}", f"/lib/modules/{version}/config"):
        if root.is_file(name):
            return kernel_supports(root.read(name).decode("utf-8", "replace"))
    return frozenset()


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Order releases as people do: numbers by value, words by letter."""
    parts = re.findall(r"\d+|[a-z]+", version)
    return tuple((int(p), "") if p.isdigit() else (-1, p) for p in parts)
