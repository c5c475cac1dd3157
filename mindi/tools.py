"""The full tools that a rescue environment carries where its root tree has them.

A table and nothing else: each row names a Debian package, for the report of what is absent,
and its tools; where a tool is found and how it gets into an image is in mindi/toolbox.py.
Each tool has a harmless way to be started, as a proof that it does start: an argv, and the exit
statuses that it then ends with.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Family(enum.StrEnum):
    """What a tool is for."""

    SHELL = "shell"
    SYSTEM = "system"
    PARTITIONS = "partitions"
    FILESYSTEMS = "filesystems"
    STORAGE = "storage"
    BOOT = "boot"
    NETWORK = "network"
    ARCHIVES = "archives"
    HARDWARE = "hardware"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: ``name`` in a directory of programs, or an absolute path.

    ``start`` are the arguments of its harmless start, which ends with one of ``statuses``; a
    status above 125 means that it did not run (or was killed) and is never accepted.
    """

    name: str
    start: tuple[str, ...] = ("--version",)
    statuses: tuple[int, ...] = (0,)


class BootFirmware(enum.StrEnum):
    """What starts a machine."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class Kit:
    """Tools of one package, and ``data``: patterns of what they need besides libraries.

    With ``links`` all links to the first tool in the directories of programs come along (its
    applets: lvcreate is a link to lvm). A directory that a pattern names comes whole. Paths
    begin with /usr where the tree of today has them there; older trees have them without it.
    Where ``firmware`` is given, machines with another have no use for it.
    """

    family: Family
    package: str
    tools: tuple[Tool, ...]
    data: tuple[str, ...] = ()
    links: bool = False
    firmware: BootFirmware | None = None


def _tools(names: str, *start: str, statuses: tuple[int, ...] = (0,)) -> tuple[Tool, ...]:
    arguments = start or ("--version",)
    return tuple(Tool(name, arguments, statuses) for name in names.split())


KITS: tuple[Kit, ...] = (
    # --- the shell and its comforts
    Kit(Family.SHELL, "bash", _tools("bash")),
    Kit(Family.SHELL, "dash", _tools("sh", "-c", ":")),
    Kit(Family.SHELL, "less", _tools("less")),
    Kit(Family.SHELL, "nano", _tools("nano"), ("/etc/nanorc",)),
    Kit(Family.SHELL, "vim-tiny", _tools("vim.tiny")),
    Kit(
        Family.SHELL,
        "ncurses-base",
        (),
        tuple(
            f"/{place}/terminfo/{entry}"
            for place in ("lib", "usr/lib", "usr/share", "etc")
            for entry in (
                "a/ansi",
                "d/dumb",
                "l/linux",
                "s/screen",
                "s/screen-256color",
                "t/tmux",
                "t/tmux-256color",
                "v/vt100",
                "v/vt102",
                "v/vt220",
                "x/xterm",
                "x/xterm-256color",
            )
        ),
    ),
    # --- modules, devices, mounts, attributes
    Kit(
        Family.SYSTEM,
        "kmod",
        (
            *_tools("kmod modprobe modinfo depmod insmod rmmod"),
            *_tools("lsmod", "-?", statuses=(1,)),
        ),
    ),
    Kit(
        Family.SYSTEM,
        "mount",
        _tools("mount umount losetup swapon swapoff"),
    ),
    Kit(
        Family.SYSTEM,
        "util-linux",
        _tools("findmnt lsblk blkid blockdev wipefs partx mkswap swaplabel blkdiscard fstrim"),
    ),
    Kit(Family.SYSTEM, "attr", _tools("getfattr setfattr"), ("/etc/xattr.conf",)),
    Kit(Family.SYSTEM, "acl", _tools("getfacl setfacl")),
    Kit(Family.SYSTEM, "libcap2-bin", _tools("setcap getcap", "-h")),
    Kit(Family.SYSTEM, "coreutils", _tools("cp dd du mv stat split sha256sum b2sum")),
    Kit(Family.SYSTEM, "psmisc", _tools("fuser")),
    # --- partitions
    Kit(Family.PARTITIONS, "fdisk", _tools("sfdisk fdisk cfdisk")),
    Kit(Family.PARTITIONS, "gdisk", _tools("sgdisk gdisk")),
    Kit(Family.PARTITIONS, "parted", _tools("parted partprobe")),
    # --- filesystems
    Kit(
        Family.FILESYSTEMS,
        "e2fsprogs",
        (
            *_tools("mke2fs mkfs.ext2 mkfs.ext3 mkfs.ext4 dumpe2fs debugfs lsattr", "-V"),
            *_tools("e2fsck fsck.ext2 fsck.ext3 fsck.ext4", "-V"),
            *_tools("tune2fs resize2fs e2label e2image badblocks chattr", statuses=(1,)),
        ),
        ("/etc/mke2fs.conf", "/etc/e2fsck.conf"),
    ),
    Kit(
        Family.FILESYSTEMS,
        "xfsprogs",
        _tools(
            "mkfs.xfs xfs_repair xfs_admin xfs_growfs xfs_db xfs_info xfs_io xfs_copy xfs_spaceman "
            "xfs_metadump xfs_mdrestore",
            "-V",
        ),
    ),
    Kit(Family.FILESYSTEMS, "xfsprogs", _tools("fsck.xfs", statuses=(8,))),
    Kit(Family.FILESYSTEMS, "xfsdump", _tools("xfsdump xfsrestore", "-J", statuses=(0, 1))),
    Kit(
        Family.FILESYSTEMS,
        "btrfs-progs",
        (*_tools("btrfs mkfs.btrfs fsck.btrfs"), *_tools("btrfstune", "--help")),
    ),
    Kit(
        Family.FILESYSTEMS,
        "dosfstools",
        (
            *_tools("mkfs.fat mkfs.vfat fsck.fat fsck.vfat", "--help"),
            *_tools("fatlabel"),
        ),
    ),
    Kit(
        Family.FILESYSTEMS,
        "exfatprogs",
        (
            *_tools("mkfs.exfat exfatlabel tune.exfat", "-V", statuses=(0, 1)),
            *_tools("fsck.exfat", "-V", statuses=(0, 16)),
        ),
    ),
    Kit(Family.FILESYSTEMS, "f2fs-tools", _tools("mkfs.f2fs fsck.f2fs resize.f2fs", "-V")),
    Kit(
        Family.FILESYSTEMS,
        "util-linux",
        _tools("mkfs fsck mkfs.minix fsck.minix mkfs.cramfs fsck.cramfs mkfs.bfs"),
    ),
    Kit(Family.FILESYSTEMS, "udftools", _tools("mkudffs mkfs.udf udflabel", "-h", statuses=(1,))),
    Kit(Family.FILESYSTEMS, "squashfs-tools", _tools("mksquashfs unsquashfs", "-h")),
    Kit(Family.FILESYSTEMS, "quota", _tools("quotacheck quotaon setquota repquota", "-V")),
    Kit(
        Family.FILESYSTEMS,
        "partclone",
        _tools("partclone.dd partclone.extfs partclone.fat partclone.xfs partclone.btrfs")
        + _tools("partclone.ntfs partclone.restore"),
    ),
    Kit(Family.FILESYSTEMS, "jfsutils", _tools("mkfs.jfs fsck.jfs jfs_tune", "-V")),
    Kit(
        Family.FILESYSTEMS,
        "nilfs-tools",
        (
            *_tools("mkfs.nilfs2 mount.nilfs2 umount.nilfs2", "-V"),
            *_tools("nilfs-tune", "-h"),
            *_tools("nilfs-resize", "-V"),
            *_tools("/usr/sbin/nilfs_cleanerd", "-V"),
        ),
        ("/etc/nilfs_cleanerd.conf",),
    ),
    Kit(
        Family.FILESYSTEMS,
        "ntfs-3g",
        _tools("mkntfs mkfs.ntfs ntfsfix ntfslabel ntfsresize ntfsclone ntfs-3g mount.ntfs"),
    ),
    Kit(
        Family.FILESYSTEMS,
        "reiserfsprogs",
        _tools("mkfs.reiserfs reiserfsck reiserfstune resize_reiserfs fsck.reiserfs", "-V"),
    ),
    # --- storage
    # Without dmeventd and its plug-ins: nothing is monitored here (see mindi/rescue.py).
    Kit(
        Family.STORAGE,
        "lvm2",
        (*_tools("lvm", "version"), *_tools("fsadm", "--help")),
        (
            "/etc/lvm/lvm.conf",
            "/etc/lvm/profile",
        ),
        links=True,
    ),
    Kit(Family.STORAGE, "dmsetup", _tools("dmsetup", "--version")),
    Kit(
        Family.STORAGE,
        "thin-provisioning-tools",
        _tools("thin_check thin_repair thin_restore thin_dump cache_check cache_repair", "-V"),
    ),
    Kit(
        Family.STORAGE,
        "mdadm",
        (*_tools("mdadm"), *_tools("mdmon", "--help", statuses=(0, 2))),
        ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"),
    ),
    Kit(
        Family.STORAGE,
        "cryptsetup-bin",
        _tools("cryptsetup integritysetup veritysetup"),
        ("/usr/lib*/ossl-modules/legacy.so", "/usr/lib/*/ossl-modules/legacy.so"),
    ),
    Kit(Family.STORAGE, "dmraid", _tools("dmraid")),
    Kit(
        Family.STORAGE,
        "multipath-tools",
        (*_tools("multipath", "-h"), *_tools("multipathd", "-h", statuses=(0, 1))),
        (
            "/etc/multipath.conf",
            "/etc/multipath/conf.d/*.conf",
            "/usr/lib*/multipath/*.so",
            "/usr/lib/*/multipath/*.so",
        ),
    ),
    Kit(Family.STORAGE, "bcache-tools", _tools("make-bcache", "-h", statuses=(1,))),
    Kit(Family.STORAGE, "open-iscsi", _tools("iscsiadm")),
    Kit(Family.STORAGE, "testdisk", _tools("testdisk photorec")),
    Kit(Family.STORAGE, "kpartx", _tools("kpartx", "-h", statuses=(0, 1))),
    # --- boot loaders
    Kit(
        Family.BOOT,
        "grub2-common",
        _tools("grub-install grub-reboot grub-set-default"),
    ),
    Kit(
        Family.BOOT,
        "grub-common",
        _tools(
            "grub-probe grub-mkimage grub-editenv grub-mkrelpath grub-mkdevicemap grub-mkconfig"
        ),
        ("/usr/lib/grub/grub-mkconfig_lib", "/usr/share/grub/grub-mkconfig_lib"),
    ),
    Kit(
        Family.BOOT,
        "grub-pc-bin",
        _tools("/usr/lib/grub/i386-pc/grub-bios-setup"),
        tuple(f"/usr/lib/grub/i386-pc/*.{kind}" for kind in ("mod", "lst", "img", "sh")),
        firmware=BootFirmware.BIOS,
    ),
    Kit(
        Family.BOOT,
        "grub-efi",
        (),
        (
            *(f"/usr/lib/grub/*-efi/*.{kind}" for kind in ("mod", "lst", "img", "sh")),
            "/usr/lib/grub/*-signed/grub[xai][a6]*.efi.signed",
            "/usr/lib/shim/shim*.efi.signed",
            "/usr/lib/shim/mm*.efi.signed",
            "/usr/lib/shim/BOOT*.CSV",
        ),
        firmware=BootFirmware.UEFI,
    ),
    Kit(Family.BOOT, "efibootmgr", _tools("efibootmgr"), firmware=BootFirmware.UEFI),
    Kit(
        Family.BOOT,
        "mokutil",
        _tools("mokutil", statuses=(0, 1, 255)),
        firmware=BootFirmware.UEFI,
    ),
    Kit(Family.BOOT, "extlinux", _tools("extlinux"), ("/usr/lib/EXTLINUX/*.bin",)),
    # --- network and transport
    Kit(Family.NETWORK, "iproute2", _tools("ip ss", "-V")),
    Kit(Family.NETWORK, "ethtool", _tools("ethtool")),
    Kit(
        Family.NETWORK,
        "nfs-common",
        (
            *_tools("mount.nfs mount.nfs4", "-V"),
            *_tools("umount.nfs umount.nfs4", "-V", statuses=(0, 1)),
            *_tools("showmount"),
        ),
        # The client asks them for the numbers of "tcp" and "nfs", and finds no server without.
        ("/etc/netconfig", "/etc/protocols", "/etc/services", "/etc/rpc", "/etc/nfsmount.conf"),
    ),
    Kit(Family.NETWORK, "cifs-utils", _tools("mount.cifs", "-V")),
    Kit(
        Family.NETWORK,
        "openssh-client",
        (
            *_tools("ssh", "-V"),
            *_tools("scp", "-h", statuses=(1,)),
            *_tools("sftp", "-h", statuses=(1,)),
            *_tools("ssh-keygen", "-?", statuses=(1,)),
        ),
        ("/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d/*.conf"),
    ),
    Kit(Family.NETWORK, "rsync", _tools("rsync")),
    Kit(
        Family.NETWORK,
        "curl",
        _tools("curl"),
        ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"),
    ),
    Kit(Family.NETWORK, "wget", _tools("wget"), ("/etc/wgetrc",)),
    # --- archives
    Kit(Family.ARCHIVES, "tar", _tools("tar")),
    Kit(Family.ARCHIVES, "gzip", _tools("gzip")),
    Kit(Family.ARCHIVES, "pigz", _tools("pigz")),
    Kit(Family.ARCHIVES, "bzip2", _tools("bzip2", "--help")),
    Kit(Family.ARCHIVES, "xz-utils", _tools("xz")),
    Kit(Family.ARCHIVES, "zstd", _tools("zstd")),
    Kit(Family.ARCHIVES, "lzop", _tools("lzop")),
    Kit(Family.ARCHIVES, "cpio", _tools("cpio")),
    Kit(Family.ARCHIVES, "afio", _tools("afio", "-V")),
    # --- hardware
    Kit(Family.HARDWARE, "smartmontools", _tools("smartctl"), ("/var/lib/smartmontools/drivedb",)),
    Kit(Family.HARDWARE, "nvme-cli", _tools("nvme", "version")),
    Kit(Family.HARDWARE, "hdparm", _tools("hdparm", "-V")),
    Kit(Family.HARDWARE, "pciutils", _tools("lspci"), ("/usr/share/misc/pci.ids",)),
    Kit(Family.HARDWARE, "usbutils", _tools("lsusb")),
    Kit(Family.HARDWARE, "dmidecode", _tools("dmidecode")),
    Kit(
        Family.HARDWARE,
        "sg3-utils",
        _tools("sg_inq sg_map sg_scan sg_reset sg_turs sg_readcap", "-V"),
    ),
    Kit(Family.HARDWARE, "lsscsi", _tools("lsscsi")),
    Kit(Family.HARDWARE, "sdparm", _tools("sdparm")),
    Kit(Family.HARDWARE, "eject", _tools("eject")),
    Kit(Family.HARDWARE, "gddrescue", _tools("ddrescue")),
    Kit(Family.HARDWARE, "mt-st", _tools("mt")),
)

# Started by the environment's own scripts; sshd only comes with a key.
UDEV = Kit(
    Family.SYSTEM,
    "udev",
    _tools("udevadm /usr/lib/systemd/systemd-udevd"),
    (
        "/etc/udev/udev.conf",
        "/usr/lib/udev/*_id",
        "/etc/systemd/network/*.link",
        "/usr/lib/systemd/network/*.link",
    ),
)

SSHD = Kit(
    Family.NETWORK,
    "openssh-server",
    (*_tools("sshd", "-V", statuses=(0, 1)),),
    (
        "/usr/lib/openssh/sftp-server",
        "/usr/lib/openssh/sshd-*",
        "/usr/libexec/openssh/sftp-server",
        "/usr/libexec/openssh/sshd-*",
    ),
)

KEYBOARD = Kit(Family.SHELL, "kbd", _tools("loadkeys"))
