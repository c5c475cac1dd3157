"""Small image trees and the initrds and ISOs made of them."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import subprocess
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from initramfs.closure import Because, ClosureBuilder, FileClosure
from initramfs.codec import Codec
from initramfs.cpio import CpioMember
from initramfs.pack import Packed, write_initrd
from initramfs.unpack import unpack
from mindi.bootfiles import find_boot_files
from mindi.iso import IsoSpec, write_iso
from mindi.isolayout import INITRD_PATH
from mindi.mediumfiles import medium_files
from mindi.menu import image_title, rescue_menu
from mindi.record import (
    AbsentFirmware,
    AbsentTool,
    MediumFile,
    ToolRecord,
    make_record,
    with_record,
)
from mindi.spec import Output, Selection
from tests.support.bootroot import boot_tree, made
from tests.support.tools import require_tool
from tests.support.tree import Tree

SEED = Because("asked for by the test")
TIMESTAMP_S = 1_700_000_000


def odd_tree(folder: Path) -> ClosureBuilder:
    """Return an image of all that is odd: names, sizes, modes, hard links, empty files."""
    tree = Tree(folder)
    builder = tree.builder()
    for size in range(6):
        builder.add(tree.file(f"/sizes/{size}", b"x" * size), SEED)
    builder.add(tree.file("/bin/su", b"setuid", mode=0o4755), SEED)
    builder.add(tree.file("/odd/with a\nnewline", b"newline"), SEED)
    builder.add(tree.file(f"/odd/{os.fsdecode(bytes([0xFF, 0xFE]))}", b"not UTF-8"), SEED)
    builder.add(tree.file("/odd/ünïcode", b"UTF-8"), SEED)
    builder.add(tree.file("/large", random.Random(1).randbytes(1_500_001)), SEED)  # noqa: S311
    tree.link("/odd/link", "../large")
    builder.add("/odd/link", SEED)
    for name in ("one", "two"):
        tree.file(f"/linked/{name}", name)
        os.link(tree.host(f"/linked/{name}"), tree.host(f"/linked/{name}-more"))
        builder.add(f"/linked/{name}", SEED)
        builder.add(f"/linked/{name}-more", SEED)
    builder.add_directory("/sticky", SEED, mode=0o1777)
    builder.add_content("/init", b"#!/bin/sh\n", SEED, mode=0o755)
    return builder


def library_tree(folder: Path, files: int, *, size_bytes: int = 300_000) -> ClosureBuilder:
    """Return an image of many files, enough for several frames."""
    tree = Tree(folder)
    builder = tree.builder()
    for number in range(files):
        content = random.Random(number).randbytes(size_bytes // 10) * 10  # noqa: S311
        builder.add(tree.file(f"/usr/lib/{number:04}", content), SEED)
    return builder


def settled(closure: FileClosure) -> FileClosure:
    """Wait until no file of ``closure`` changed in this tick of the clock, as caching asks."""
    import time

    time.sleep(0.05)
    return closure


def packed(
    closure: FileClosure,
    *,
    codec: Codec = Codec.ZSTD,
    level: int = 1,
    timestamp_s: int = TIMESTAMP_S,
    first: Collection[str] = (),
    last: Collection[str] = (),
    early: bytes | None = None,
    cache: Path | None = None,
    jobs: int = 2,
) -> tuple[bytes, Packed]:
    """Return the initrd of ``closure`` and what is told of it."""
    out = io.BytesIO()
    told = write_initrd(
        closure,
        out,
        codec=codec,
        level=level,
        timestamp_s=timestamp_s,
        first=first,
        last=last,
        early=early,
        cache=cache,
        jobs=jobs,
    )
    return out.getvalue(), told


def recorded(
    closure: FileClosure,
    *,
    created_s: int = TIMESTAMP_S,
    architecture: str = "x86_64",
    medium: Mapping[str, MediumFile] = MappingProxyType({}),
) -> FileClosure:
    """Return ``closure`` with a record of some facts."""
    record = make_record(
        closure,
        mindi_version="0.1.0",
        created_s=created_s,
        architecture=architecture,
        kernel_version="6.1.0-1-amd64",
        selection=Selection.GENERIC,
        output=Output.INITRAMFS,
        codec=Codec.ZSTD,
        level=1,
        label="TEST",
        tools=[ToolRecord("lvm", "/usr/sbin/lvm", ("lvm", "version"))],
        tools_absent=[AbsentTool("nvme", "nvme-cli")],
        firmware_absent=[AbsentFirmware("lost.bin", "e1000")],
        modules=["nvme", "dm_mod"],
        medium=medium,
    )
    return with_record(closure, record)


def image_file(path: Path, closure: FileClosure, *, codec: Codec = Codec.ZSTD) -> Path:
    """Write the initrd of ``closure`` with its record to ``path``."""
    path.write_bytes(packed(recorded(closure), codec=codec)[0])
    return path


def iso_file(path: Path, initrd: Path, folder: Path) -> Path:
    """Write an ISO with ``initrd`` in its place and two other files to ``path``, by xorriso."""
    (folder / "boot").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / INITRD_PATH.lstrip("/")).write_bytes(initrd.read_bytes())
    (folder / "boot/vmlinuz").write_bytes(b"kernel")
    argv = [str(require_tool("xorriso")), "-as", "mkisofs", "-R", "-J", "-quiet"]
    subprocess.run([*argv, "-o", str(path), str(folder)], check=True, capture_output=True)
    return path


def written_iso(
    folder: Path, closure: FileClosure, *, created_s: int = TIMESTAMP_S, words: tuple[str, ...] = ()
) -> Path:
    """Write the ISO of ``closure`` with its record as a build does, into the new ``folder``."""
    boot = find_boot_files([boot_tree(folder / "boot").root()], architecture="x86_64")
    kernel, initrd, out = folder / "kernel", folder / "initrd", folder / "image.iso"
    kernel.write_bytes(made("kernel", 100_000))
    medium = medium_files(
        boot, kernel=str(kernel), initrd="the test", origin=lambda file, root: str(file)
    )
    initrd.write_bytes(packed(recorded(closure, created_s=created_s, medium=medium))[0])
    menu = rescue_menu(image_title("host", created_s), kernel_arguments=words)
    write_iso(IsoSpec(kernel, initrd, menu, boot, "TEST", created_s), out)
    return out


def flip(image: Path, offset: int) -> None:
    """Change one bit of the byte at ``offset`` of ``image``; from its end if negative."""
    data = bytearray(image.read_bytes())
    data[offset] ^= 0x10
    image.write_bytes(data)


def listed(initrd: bytes) -> dict[str, str]:
    """Return the paths of an initrd, each with mode and digest."""
    return described(unpack(io.BytesIO(initrd)))


def described(members: Iterable[CpioMember]) -> dict[str, str]:
    """Return the paths of ``members``, each with mode, target or digest of its data."""
    found: dict[str, str] = {}
    for member in members:
        digest = hashlib.sha256(b"".join(member.chunks)).hexdigest()[:16]
        what = member.target if stat.S_ISLNK(member.mode) else digest
        found[member.path] = f"{member.mode:o} {what}"
    return found
