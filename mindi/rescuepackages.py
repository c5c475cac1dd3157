"""Which packages of Debian make the fail-safe root, by what they are for."""

from __future__ import annotations

import enum


class Flavour(enum.StrEnum):
    """Which of the distribution's kernels: for any machine, or for virtual ones only."""

    GENERIC = "generic"
    CLOUD = "cloud"


# Architectures for which Debian's kernel packages are named otherwise (dpkg's name: kernel's).
_KERNEL_ARCHITECTURE = {"i386": "686-pae", "armhf": "armmp", "ppc64el": "powerpc64le"}


def kernel_package(flavour: Flavour, architecture: str) -> str:
    """Return the package that always depends on the newest kernel of a flavour."""
    machine = _KERNEL_ARCHITECTURE.get(architecture, architecture)
    if flavour is Flavour.CLOUD:
        return f"linux-image-cloud-{machine}"
    return f"linux-image-{machine}"


# A root tree without these cannot become a rescue environment.
REQUIRED = """
    base-files base-passwd bash busybox-static coreutils dash diffutils e2fsprogs fdisk findutils
    grep gzip hostname kmod libc-bin libgcc-s1 login lvm2 mawk mdadm mount ncurses-base
    ncurses-bin netbase procps python3 sed tar udev util-linux
"""

# What a rescuer may need; what the archive of an architecture or release lacks is left out.
RESCUE = {
    "the rescue code": "python3-lzo python3-urwid python3-zstandard",
    "devices": """
        dmidecode dmsetup eject hdparm kbd console-data lsscsi mt-st nvme-cli pciutils sdparm
        sg3-utils smartmontools usbutils
    """,
    "storage": """
        bcache-tools cryptsetup-bin dmraid kpartx multipath-tools open-iscsi thin-provisioning-tools
    """,
    "filesystems": """
        attr acl btrfs-progs dosfstools exfatprogs f2fs-tools jfsutils nilfs-tools
        ntfs-3g quota reiserfsprogs squashfs-tools udftools xfsdump xfsprogs
    """,
    "partitions": "gdisk parted",
    "boot loaders": "efibootmgr grub-common grub2-common mokutil shim-signed",
    "network": """
        ca-certificates cifs-utils curl ethtool iproute2 nfs-common openssh-client openssh-server
        rsync wget
    """,
    "archives": "afio bzip2 cpio lzop partclone pigz xz-utils zstd",
    "first aid": "gddrescue less libcap2-bin nano psmisc testdisk vim-tiny",
    "firmware": """
        amd64-microcode firmware-amd-graphics firmware-atheros firmware-bnx2 firmware-bnx2x
        firmware-brcm80211 firmware-cavium firmware-intel-sound firmware-iwlwifi
        firmware-linux-free firmware-misc-nonfree firmware-myricom firmware-netronome
        firmware-netxen firmware-qlogic firmware-realtek firmware-siano intel-microcode
    """,
}


# Boot loaders of one architecture alone (dpkg's name of it).
_OF_ARCHITECTURE = {
    "amd64": """
        extlinux grub-efi-amd64-bin grub-efi-amd64-signed grub-efi-ia32-bin grub-pc-bin isolinux
        syslinux-common
    """,
    "i386": "extlinux grub-efi-amd64-bin grub-efi-ia32-bin grub-pc-bin isolinux syslinux-common",
    "arm64": "grub-efi-arm64-bin grub-efi-arm64-signed",
}


def rescue_packages(architecture: str) -> tuple[str, ...]:
    """Return all of ``RESCUE`` and what the architecture has besides, in one sorted row."""
    rows = (*RESCUE.values(), _OF_ARCHITECTURE.get(architecture, ""))
    return tuple(sorted(name for names in rows for name in names.split()))


def required_packages() -> tuple[str, ...]:
    """Return ``REQUIRED`` in one row."""
    return tuple(REQUIRED.split())
