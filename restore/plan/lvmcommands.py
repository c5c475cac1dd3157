"""LVM's commands as a plan has them, and those that write what they read.

None depends on udev, on dmeventd, or on the filters, device files and activation lists of the
machine's lvm.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutlvm import LogicalVolume, PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import Node
from restore.plan.actions import Command

SYSTEM_ID = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*")
"""The name of a machine that a group belongs to, lvmsystemid(7)."""

_MOST_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class LvmCommands:
    """Makes commands for a group, or for what is in none."""

    group: VolumeGroup | None
    on_volumes: bool
    """Its physical volumes lie on logical ones, where LVM does not look by itself."""

    @classmethod
    def of(
        cls, layout: Layout, volumes: Iterable[PhysicalVolume], group: VolumeGroup | None = None
    ) -> LvmCommands:
        """Return what makes commands for physical volumes and the group that they are of."""
        below = [layout.get(volume.on, Node) for volume in volumes]
        return cls(group, any(isinstance(one, LogicalVolume) for one in below))

    def lvm(self, verb: str, *rest: str) -> Command:
        """Return a command of LVM. Raises LayoutInvalid."""
        return Command(argv=("lvm", verb, "--config", self._config(), *rest))

    def physical_volume(self, volume: PhysicalVolume, path: str, file: str) -> Command:
        """Return what makes a physical volume; where its data begins is in the text ``file``."""
        room = ("--metadatasize", f"{volume.metadata_bytes}b")
        return self.lvm(
            *("pvcreate", "-ff", "--yes", "--zero", "y"),
            *("--uuid", volume.uuid, "--restorefile", file),
            *("--pvmetadatacopies", str(volume.metadata_copies)),
            *(room if volume.metadata_copies else ()),
            path,
        )

    def restored(self, file: str) -> tuple[Command, ...]:
        """Return what makes the group of the text ``file``.

        Without --force vgcfgrestore refuses thin volumes, whose pools it knows nothing of.
        """
        group = self._named()
        return (
            self.stopped(),
            self.lvm("vgcfgrestore", "--yes", "--force", "--file", file, group.name),
        )

    def started(self, verb: str, name: str) -> Command:
        """Return what starts a group (``vgchange``) or a volume (``lvchange``)."""
        return self.lvm(verb, "--activate", "y", "--ignoreactivationskip", "--monitor", "n", name)

    def stopped(self) -> Command:
        """Return what stops the group, if an earlier run has made it.

        Another of its name is left alone.
        """
        uuid = self._named().uuid
        return self.lvm("vgchange", "--activate", "n", "--select", f"vg_uuid={uuid}")

    def _named(self) -> VolumeGroup:
        if self.group is None:
            raise LayoutInvalid("what is in no volume group cannot be started or stopped")
        return self.group

    def _config(self) -> str:
        """Return settings that all devices are seen with, and groups that are of one machine."""
        devices = [
            'filter=["a|.*|"] global_filter=["a|.*|"] use_devicesfile=0 hints="none"',
            "obtain_device_list_from_udev=0",
            *(["scan_lvs=1"] if self.on_volumes else []),
        ]
        parts = [f"devices{{{' '.join(devices)}}}", "backup{backup=0 archive=0}"]
        if self.group is None:
            return " ".join((*parts, "activation{monitoring=0}"))
        parts.append(f'activation{{monitoring=0 volume_list=["{self.group.name}"]}}')
        if self.group.system_id:
            if not SYSTEM_ID.fullmatch(self.group.system_id):
                raise LayoutInvalid(f"{self.group.system_id[:80]!r} cannot be a system's id")
            parts.append(f'local{{system_id="{self.group.system_id}"}}')
            parts.append('global{system_id_source="lvmlocal"}')
        return " ".join(parts)


def written(file: str, text: str) -> tuple[Command, ...]:
    """Return what writes a file for other commands: LVM reads no pipes.

    With tee(1) the text would be in the log.
    """
    folder = file.rpartition("/")[0]
    return (
        Command(argv=("mkdir", "-p", folder)),
        Command(argv=("dd", f"of={file}", "status=none"), given=text),
    )


def zeroes(
    path: str, volume: PhysicalVolume, group: VolumeGroup, start: int, extents: int
) -> Command:
    """Return what zeroes extents of a physical volume, in blocks as large as their place allows."""
    offset = volume.data_start + start * group.extent_bytes
    size_bytes = extents * group.extent_bytes
    both = offset | size_bytes
    block = min(both & -both, _MOST_BLOCK)
    return Command(
        argv=(
            *("dd", "if=/dev/zero", f"of={path}", f"bs={block}", f"seek={offset // block}"),
            *(f"count={size_bytes // block}", "conv=notrunc,fsync", "status=none"),
        )
    )
