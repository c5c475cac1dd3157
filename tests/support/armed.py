"""A root tree of this machine's own kind in which nothing can run unnoticed."""

from __future__ import annotations

import shutil
import stat
import struct
import sysconfig
from pathlib import Path

from initramfs.busybox import find_busybox
from initramfs.closure import Because, ClosureBuilder
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from tests.support.modules import VERSION, Ko, write_tree
from tests.support.unpacked import unpack

_TOOLS = ("sh", "bash", "mount", "blkid", "modprobe", "mke2fs", "lvm", "mdadm", "cryptsetup")
_MODULES = [Ko("kernel/fs/fat/vfat.ko", depends=["fat"]), Ko("kernel/fs/fat/fat.ko")]
_LIBRARY = ("os.py", "stat.py", "this.py", "types.py")
_PT_LOAD = 1


def tree_of_this_machine(top: Path) -> Path:
    """Make a tree with tools, BusyBox and Python of this machine, and a made kernel."""
    root = Root(Path("/"))
    builder = ClosureBuilder(root, Libraries(root))
    because = Because("asked for by the test")
    builder.add(find_busybox(root).path, because)
    for name in _TOOLS:
        for folder in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"):
            builder.add(f"{folder}/{name}", because, optional=True)
    library = sysconfig.get_path("stdlib")
    builder.add("/usr/bin/python3", because)
    builder.add_tree(f"{library}/lib-dynload", because)
    top.mkdir()
    unpack(builder.build(), top)
    for name in _LIBRARY:
        shutil.copy(f"{library}/{name}", f"{top}{library}/{name}")
    write_tree(top, _MODULES)
    (top / "boot").mkdir()
    (top / f"boot/config-{VERSION}").write_text("CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_ZSTD=y\n")
    (top / f"boot/vmlinuz-{VERSION}").write_bytes(f"Linux version {VERSION} (made)\n".encode())
    return top


def arm(top: Path, mark: Path) -> list[Path]:
    """Have every program, script and Python module below ``top`` make the file ``mark`` if run.

    All else of a file is left as it was, so that it reads as before; x86-64 only. Returns what
    was armed.
    """
    armed = []
    for path in sorted(top.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        changed = None
        if path.suffix == ".py":
            changed = data + f"\nopen({str(mark)!r}, 'w').close()\n".encode()
        elif path.stat().st_mode & stat.S_IXUSR and data.startswith(b"#!"):
            changed = f"#!/bin/sh\n: > '{mark}'\n".encode()
        elif path.stat().st_mode & stat.S_IXUSR and data.startswith(b"\x7fELF"):
            changed = _armed_program(data, mark)
        if changed is not None:
            path.write_bytes(changed)
            armed.append(path)
    return armed


def _armed_program(data: bytes, mark: Path) -> bytes | None:
    """Put code where a program starts that opens ``mark`` for writing and exits; see syscalls(2).

    None for a file that starts nowhere.
    """
    code = bytes.fromhex(
        "488d3d1d000000"  # lea rdi, [rip + 29]: the name, behind the code
        "be41000000"  # mov esi, O_WRONLY | O_CREAT
        "baa4010000"  # mov edx, 0644
        "b802000000"  # mov eax, open
        "0f05"  # syscall
        "bf42000000"  # mov edi, 66
        "b83c000000"  # mov eax, exit
        "0f05"  # syscall
    )
    code += str(mark).encode() + b"\0"
    entry, headers = struct.unpack_from("<QQ", data, 24)
    size, count = struct.unpack_from("<HH", data, 54)
    for at in range(headers, headers + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, at)
        if kind == _PT_LOAD and address <= entry < address + length and entry:
            start = offset + entry - address
            return data[:start] + code + data[start + len(code) :]
    return None
