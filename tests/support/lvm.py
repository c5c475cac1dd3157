"""LVM at work on files: with loop devices, in a directory of its own, without device-mapper."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from archive.machine.layout import Layout
from archive.machine.layoutlvm import LogicalVolume, PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import Disk
from archive.machine.probelvm import (
    COMMANDS,
    LvmReport,
    logical_volumes,
    parse_report,
    physical_volume,
    volume_group,
)
from restore.plan.actions import Action, Command
from restore.plan.devices import Devices
from tests.support.groups import devices_of
from tests.support.tools import lacking, require_tool

_ACTIVATE = ("lvchange", "vgmknodes")


class Lvm:
    """Runs commands of plans where LVM sees the disks of one layout and no other device."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            lacking("only root may make loop devices")
        require_tool("lvm", package="lvm2")
        self.scratch = f"{folder}/scratch"
        self.device_folder = f"{folder}/dev"
        self._folder = folder
        self._loops: list[str] = []
        (folder / "dev").mkdir()
        (folder / "lvm.conf").write_text(
            f'devices {{ dir="{folder}/dev" scan=["{folder}/dev"] }}\n'
            f'global {{ activation=0 locking_dir="{folder}/lock" }}\n'
        )

    def attach(self, layout: Layout) -> Devices:
        """Make the disks of a layout."""
        losetup = require_tool("losetup", package="util-linux")
        for disk in layout.all(Disk):
            image = self.image(disk)
            image.touch()
            os.truncate(image, disk.size_bytes)
            argv = [str(losetup), "--find", "--show", str(image)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                lacking(f"no loop device: {done.stderr}")
            self._loops.append(done.stdout.strip())
            (self._folder / "dev" / disk.kernel_name).symlink_to(self._loops[-1])
        return devices_of(layout, self.device_folder)

    def detach(self) -> None:
        for loop in self._loops:
            subprocess.run(["losetup", "--detach", loop], check=True)
        shutil.rmtree(self._folder)

    def image(self, disk: Disk) -> Path:
        return self._folder / f"{disk.kernel_name}.img"

    def run(self, command: Command) -> subprocess.CompletedProcess[str]:
        environment = {
            "LVM_SYSTEM_DIR": str(self._folder),
            "LVM_SUPPRESS_FD_WARNINGS": "1",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
        }
        return subprocess.run(
            command.argv,
            input=command.given,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    def apply(self, action: Action) -> None:
        """Run what of a step needs no device-mapper."""
        for command in action.commands:
            if command.argv[1] not in _ACTIVATE and command.argv[0] != "thin_restore":
                done = self.run(command)
                assert done.returncode == 0, (command.argv, done.stdout, done.stderr)

    def report(self) -> LvmReport:
        rows = {}
        for kind, argv in COMMANDS.items():
            done = self.run(Command(argv=argv))
            assert done.returncode == 0, done.stderr
            rows[kind] = parse_report(json.dumps(json.loads(done.stdout)), kind)
        return LvmReport(rows["pv"], rows["vg"], rows["seg"])

    def seen(self, devices: Devices) -> Layout:
        """Return what LVM sees, on the disks of the layout that was attached."""
        layout, report = devices.layout, self.report()
        disks = {devices.path(one.id): one for one in layout.all(Disk)}
        known = {one.uuid: one.id for one in layout.all(PhysicalVolume)}
        physical = [
            replace(physical_volume(row, on=disks[row["pv_name"]].id, tail="x"), id=known[uuid])
            for row in report.physical
            for uuid in [row["pv_uuid"]]
        ]
        places = {row["pv_name"]: known[row["pv_uuid"]] for row in report.physical}
        groups: list[VolumeGroup] = []
        volumes: list[LogicalVolume] = []
        for row in report.groups:
            held = [one for one in layout.all(VolumeGroup) if one.name == row["vg_name"]]
            group = volume_group(row, volumes=held[0].volumes)
            groups.append(group)
            volumes += logical_volumes(report, group, places)
        return Layout.of([*layout.all(Disk), *physical, *groups, *volumes])
