"""The mounted filesystems: /proc/self/mountinfo (proc_pid_mountinfo(5)), and what each one is.

Which mount is seen at a path follows from mountinfo alone: a mount at the root of another hides
that one, and a mount on a directory hides what its parent has mounted further below.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from archive.errors import CannotRead


class Nature(enum.Enum):
    """What a filesystem holds, as far as a backup cares."""

    LOCAL = "local"
    USER = "user"
    """FUSE: a view of something, perhaps closed to all but who mounted it, root included."""
    NETWORK = "network"
    PSEUDO = "pseudo"
    MEMORY = "memory"
    IMAGE = "image"
    """Read-only by design: what it holds is in a file (a snap) or on a medium (a CD)."""
    VIEW = "view"
    """Overlays: they show directories that lie elsewhere."""


_NATURES = {
    Nature.PSEUDO: """
        autofs bdev binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts efivarfs
        functionfs fuse.gvfs-fuse-daemon fuse.gvfsd-fuse fuse.lxcfs fuse.portal
        fuse.vmware-vmblock fusectl hugetlbfs mqueue nfsd nsfs openpromfs pipefs proc pstore
        resctrl rpc_pipefs secretmem securityfs selinuxfs smackfs sockfs spufs sysfs tracefs
        usbfs xenfs""",
    Nature.MEMORY: "devtmpfs ramfs rootfs tmpfs",
    Nature.NETWORK: """
        9p acfs afs beegfs ceph cifs coda cvmfs davfs fhgfs fuse.ceph fuse.ceph-fuse fuse.cephfs
        fuse.curlftpfs fuse.cvmfs fuse.cvmfs2 fuse.davfs fuse.gcsfuse fuse.glusterfs fuse.goofys
        fuse.juicefs fuse.mfs fuse.moosefs fuse.rclone fuse.s3fs fuse.s3ql fuse.seaweedfs
        fuse.smbnetfs fuse.sshfs fuse.vmhgfs-fuse gpfs kafs lustre ncp ncpfs nfs nfs4 orangefs
        prl_fs pvfs2 smb3 smbfs vboxsf virtiofs vmhgfs""",
    Nature.IMAGE: "cramfs erofs iso9660 romfs squashfs udf",
    Nature.VIEW: "aufs overlay overlayfs unionfs",
}
_NATURE_OF = {kind: nature for nature, kinds in _NATURES.items() for kind in kinds.split()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of mountinfo."""

    number: int
    parent: int
    device: int
    """st_dev of its files (of btrfs: of none of them)."""
    root: bytes
    """The directory of the filesystem that is seen at ``point``."""
    point: bytes
    """Absolute."""
    kind: str
    """The type: ``ext4``, ``fuse.sshfs``, ..."""
    source: bytes
    options: bytes = b""
    """Those of the filesystem, not of the mount."""
    read_only: bool = False
    uuid: str | None = None

    @property
    def nature(self) -> Nature:
        """What it holds."""
        known = _NATURE_OF.get(self.kind)
        if self.kind == "udf" and not self.read_only:
            return Nature.LOCAL
        if known is not None:
            return known
        if self.kind != "fuse" and not self.kind.startswith("fuse."):
            return Nature.LOCAL
        remote = rb"[\w.@-]*[\w\]]:.*|//.+|\w+://.*"
        return Nature.NETWORK if re.fullmatch(remote, self.source) else Nature.USER

    @property
    def subvolume(self) -> bytes | None:
        """Of btrfs: the subvolume, as a path in the filesystem."""
        if self.kind != "btrfs":
            return None
        _, found, name = self.options.rpartition(b"subvol=")
        return unescaped(name) if found else self.root

    @property
    def identity(self) -> str:
        """A name of the filesystem that survives a reboot, as far as there is one."""
        subvolume = self.subvolume
        return self.name if subvolume is None else self.identity_of(subvolume)

    def identity_of(self, subvolume: bytes) -> str:
        """Return the identity of a subvolume of the same filesystem."""
        return f"{self.name}:{os.fsdecode(subvolume)}"

    @property
    def name(self) -> str:
        """The identity without the subvolume."""
        if self.uuid is not None:
            return self.uuid
        if self.nature is Nature.NETWORK or self.kind == "zfs":
            return f"{self.kind} {os.fsdecode(self.source)}"
        return f"{os.major(self.device)}:{os.minor(self.device)}"


def unescaped(field: bytes) -> bytes:
    r"""Return a field of /proc/self/mountinfo or /proc/swaps without its ``\040`` escapes."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 255]), field)


def parse_mountinfo(content: bytes) -> tuple[Mount, ...]:
    """Return the mounts in their order. Raises CannotRead for what is no mountinfo."""
    mounts = []
    for line in content.split(b"\n"):
        if not line:
            continue
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        rest = after.split(b" ")
        try:
            major, minor = fields[2].split(b":")
            mounts.append(
                Mount(
                    number=int(fields[0]),
                    parent=int(fields[1]),
                    device=os.makedev(int(major), int(minor)),
                    root=unescaped(fields[3]),
                    point=unescaped(fields[4]),
                    kind=os.fsdecode(unescaped(rest[0])),
                    source=unescaped(rest[1]),
                    options=rest[2] if len(rest) > 2 else b"",
                    read_only=b"ro" in fields[5].split(b","),
                )
            )
        except (ValueError, IndexError, OverflowError) as error:
            raise CannotRead(f"A line of mountinfo makes no sense: {line!r}") from error
    return tuple(mounts)


def read_mounts(
    mountinfo: Path = Path("/proc/self/mountinfo"),
    *,
    by_uuid: Path = Path("/dev/disk/by-uuid"),
) -> tuple[Mount, ...]:
    """Return the mounts of this machine with the UUIDs that udev knows. Raises CannotRead."""
    try:
        content = mountinfo.read_bytes()
    except OSError as error:
        raise CannotRead(
            f"Cannot tell what is mounted: {mountinfo}: {error.strerror}",
            hint="Mount /proc.",
        ) from error
    return with_uuids(parse_mountinfo(content), uuids=_uuids(by_uuid))


def with_uuids(mounts: tuple[Mount, ...], *, uuids: Mapping[int, str]) -> tuple[Mount, ...]:
    """Return the mounts with their filesystems' UUIDs; ``uuids``: of each block device's number.

    The source is asked, too: btrfs has a number of its own that is no device's.
    """
    return tuple(
        replace(mount, uuid=uuids.get(mount.device) or uuids.get(_device_of(mount.source)))
        for mount in mounts
    )


def _uuids(by_uuid: Path) -> dict[int, str]:
    try:
        links = sorted(by_uuid.iterdir())
    except OSError:
        return {}
    return {number: link.name for link in links if (number := _device_of(os.fsencode(link)))}


def _device_of(source: bytes) -> int:
    """Return the number of a device node, 0 if there is none."""
    if not source.startswith(b"/"):
        return 0
    try:
        return os.stat(source).st_rdev  # noqa: PTH116 (Path knows no bytes)
    except OSError:
        return 0


def visible(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Return the mounts that paths lead to, in the order given."""
    children: dict[int, list[Mount]] = {}
    numbers = {mount.number for mount in mounts}
    for mount in mounts:
        top = mount.parent not in numbers or mount.parent == mount.number
        children.setdefault(-1 if top else mount.parent, []).append(mount)
    seen: set[int] = set()
    waiting = children.get(-1, [])
    while waiting:
        following: list[Mount] = []
        for mount in waiting:
            below = children.get(mount.number, [])
            covers = [child for child in below if child.point == mount.point]
            if covers:
                following += covers
                continue
            seen.add(mount.number)
            points = {child.point for child in below}
            following += [child for child in below if not _hidden(child.point, points)]
        waiting = following
    return tuple(mount for mount in mounts if mount.number in seen)


def _hidden(point: bytes, points: set[bytes]) -> bool:
    """Say whether one of the points lies above a point."""
    end = point.rfind(b"/")
    while end > 0:
        if point[:end] in points:
            return True
        end = point.rfind(b"/", 0, end)
    return False


def lies_in(path: bytes, folder: bytes) -> bool:
    """Say whether an absolute path is a folder or lies below it."""
    return path == folder or path.startswith(folder if folder == b"/" else folder + b"/")


def ancestors(path: bytes) -> Iterator[bytes]:
    """Give an absolute path, then all above it, up to the root."""
    while len(path) > 1:
        yield path
        path = path[: path.rfind(b"/")]
    yield b"/"


class MountTable:
    """The mounts that paths lead to, found by path."""

    def __init__(self, mounts: tuple[Mount, ...]) -> None:
        self.mounts = visible(mounts)
        self._at = {mount.point: mount for mount in self.mounts}

    def holder(self, path: bytes) -> Mount | None:
        """Return the mount that an absolute path without links lies in."""
        for above in ancestors(path):
            mount = self._at.get(above)
            if mount is not None:
                return mount
        return None
