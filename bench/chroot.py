"""A Debian 12 tree with a kernel and the peers installed, and a way to run programs in it.

dracut and initramfs-tools exclude each other on one system, ReaR wants a system of its own, and
the kernel that runs may have no modules: so all of them, and ours, run in one and the same tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import MissingDependency, ToolError, UsageError

_GENERATION = "1"

# Where nothing is kept: builds that are measured without a cache are given this one.
NO_CACHE = "/tmp/bench/none"  # noqa: S108 in a root tree of our own

# The peers and what they ask for; then what a rescue image of such a machine should carry.
_PACKAGES = """
    linux-image-cloud-amd64 dracut initramfs-tools-core rear zstd cpio xorriso isolinux syslinux
    syslinux-common genisoimage file procps less nano isc-dhcp-client iproute2 kmod udev
    systemd-sysv python3 liblzo2-2 busybox-static grub-common grub2-common grub-pc-bin
    grub-efi-amd64-bin grub-efi-amd64-signed shim-signed lvm2 mdadm cryptsetup dosfstools
    e2fsprogs xfsprogs
    btrfs-progs openssh-client parted gdisk fdisk efibootmgr nfs-common rsync
"""

# ReaR asks the first disk of a running system for its boot loader; there is none to ask here.
_REAR = """\
OUTPUT=ISO
BACKUP=REQUESTRESTORE
BOOTLOADER=GRUB
KERNEL_FILE=/boot/vmlinuz-{release}
KERNEL_VERSION={release}
"""

# Mounts vanish with the mount namespace, whatever happens.
_ENTER = """\
set -e
root=$1 house=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root$house"
mount --bind "$house" "$root$house"
exec chroot "$root" "$@"
"""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
}


@dataclass(frozen=True, slots=True)
class Chroot:
    """The tree at ``path``; ``release`` is that of its kernel, ``house`` our checkout."""

    path: Path
    release: str
    house: Path

    def run(self, argv: Sequence[str], *, log: Path, cache: str = NO_CACHE) -> float:
        """Run a program in the tree; return the seconds it took. Raises ToolError, naming log."""
        inside = [*_unshared(), "sh", "-c", _ENTER, "sh", str(self.path), str(self.house), *argv]
        start = time.perf_counter()
        with log.open("wb") as stream:
            done = subprocess.run(
                inside,
                env={**_ENVIRONMENT, "MINDI_CACHE": cache},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        taken_s = time.perf_counter() - start
        if done.returncode:
            last = log.read_text(errors="replace").splitlines()[-5:]
            raise ToolError(
                f"{' '.join(argv[:3])} ended with {done.returncode} in {self.path}:\n"
                + "\n".join(last),
                hint=f"its output is in {log}",
            )
        return taken_s

    def versions(self, *packages: str) -> dict[str, str]:
        """Return the versions of packages of the tree, by name."""
        said = subprocess.run(
            [_found("dpkg-query"), f"--admindir={self.path}/var/lib/dpkg", "--show", *packages],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(line.split("\t", 1) for line in said.splitlines())


def _unshared() -> list[str]:
    return [_found("unshare"), "--mount", "--propagation", "private"]


def _found(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingDependency(f"the program {name} is not here", hint="run scripts/setup bench")
    return found


def prepare(cache: Path, house: Path, *, log: Path) -> Chroot:
    """Return the tree in the cache folder; made by mmdebstrap the first time."""
    if os.geteuid() != 0:
        raise UsageError(
            "measuring against the peers needs root: they run in a root tree of their own",
            hint="run `make bench` as root",
        )
    tree = cache / "bench" / f"bookworm-{_GENERATION}"
    if not tree.is_dir():
        _make(tree, log)
    (release,) = (path.name for path in (tree / "lib/modules").iterdir())
    (tree / "etc/rear/local.conf").write_text(_REAR.format(release=release))
    return Chroot(tree, release, house)


def _make(tree: Path, log: Path) -> None:
    beside = tree.with_name(f".{tree.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    tree.parent.mkdir(parents=True, exist_ok=True)
    argv = [
        _found("mmdebstrap"),
        "--variant=minbase",
        f"--include={','.join(_PACKAGES.split())}",
        "bookworm",
        str(beside),
    ]
    with log.open("wb") as stream:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise ToolError(
            f"mmdebstrap ended with {done.returncode}",
            hint=f"see {log}; the first run needs a network",
        )
    beside.replace(tree)
