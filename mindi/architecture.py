"""Which architecture a root tree is of, read from a program in it."""

from __future__ import annotations

from initramfs.elf import read_elf_file
from initramfs.errors import InputError
from initramfs.rootfs import Root

# e_machine (ELF gABI, chapter 4, and its registry) to what uname(2) calls the machine.
_MACHINES = {
    3: "i686",
    20: "ppc",
    21: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
# One of these is in any tree from which a rescue image could be made.
_PROGRAMS = ("/bin/busybox", "/usr/bin/busybox", "/bin/sh", "/bin/bash", "/usr/bin/python3")


def architecture_of(root: Root) -> str:
    """Return the architecture as uname(2) calls it; raise InputError where nothing tells it."""
    for path in _PROGRAMS:
        found = root.locate(path)
        elf = read_elf_file(root.host(found.path)) if found is not None else None
        if elf is not None:
            machine = elf.abi.machine
            return _MACHINES.get(machine, f"elf-{machine}")
    raise InputError(
        f"{root.path} is no root tree: it has none of {', '.join(_PROGRAMS)}",
        hint="give --root the top directory of an unpacked Linux system",
    )
