"""Builder of sysfs trees, and of four machines that are of it.

Names are as Linux 6.1 has them: a guest with LVM 2.03.16, mdadm 4.2, cryptsetup 2.6 and iproute2
6.1 was given every kind of device below, and its sysfs was read. Seen there:

- A device-mapper device has dm/name and dm/uuid and nothing that tells its target. LVM's UUID is
  "LVM-" and 64 characters; hidden layers add "-tpool", "-tdata", "-tmeta", "-cdata", "-cmeta",
  "-cvol", "-real", "-cow"; parts of RAID and mirrors add nothing and are known by their names
  alone ("vg-lv_rimage_0", "vg-lv_mlog"). The origin of a cache and of a write cache both end in
  "-real": their names differ ("_corig", "_wcorig"). Hyphens of a name are doubled ("vg-root--fs").
- LUKS 2 with integrity is two devices: "CRYPT-INTEGRITY-UUID-NAME_dif" below
  "CRYPT-LUKS2-UUID-NAME".
- md/level of a container (DDF, IMSM) is empty; its volumes have theirs.
- Unused loop, nbd and zram devices are there with a size of 0.
- An NVMe namespace with several paths lies in virtual/nvme-subsystem, away from its controller.
- An iSCSI disk hangs on platform/hostN/sessionM; the host's proc_name is "iscsi_tcp".
- bond, bridge, vlan, vxlan, geneve, wireguard and macsec give a DEVTYPE; team, vrf, macvlan and
  ipvlan give none. ifindex and iflink of a macvlan or ipvlan link differ, of a team they do not.
- driver/module is a link for built-in drivers too, but not in a kernel without loadable modules.
- CPUs, auxiliary devices and MMC cards have their alias in uevent alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

_GROUP = "XsR1zDwlJI1CDmjkU5qXQFTh4FlUsmHS"
_VOLUME = "i8blNai1cpm8KlOzrE3T3Q2EfZJUJzVB"
LVM = f"LVM-{_GROUP}{_VOLUME}"
"""The UUID of a volume that is activated as itself."""

LUKS = "CRYPT-LUKS2-773d407f6f494ba08c20ab376f41ede7-luks"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's ``sys``, ``proc`` and ``fstab``, below ``path``; empty but for the folders."""

    path: Path

    @property
    def sys(self) -> Path:
        """Its sysfs."""
        return self.path / "sys"

    @property
    def proc(self) -> Path:
        """Its procfs."""
        return self.path / "proc"

    @property
    def fstab(self) -> Path:
        """Its fstab(5)."""
        return self.path / "fstab"

    def file(self, path: str, text: str = "") -> None:
        """Write an attribute below sys, its line ended."""
        file = self.sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def link(self, path: str, target: str) -> None:
        """Make a relative link at ``path``, both below sys."""
        file = self.sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # From where the parent really is: the class folders are links.
        file.symlink_to(os.path.relpath((self.sys / target).resolve(), file.parent.resolve()))

    def device(self, path: str, *, modalias: str = "", driver: str = "", module: str = "") -> str:
        """Make devices/``path``; ``driver`` is "BUS/NAME", ``module`` "" if it can have none."""
        place = f"devices/{path}"
        (self.sys / place).mkdir(parents=True, exist_ok=True)
        if modalias:
            self.file(f"{place}/modalias", modalias)
        if driver:
            bus, _, name = driver.partition("/")
            folder = f"bus/{bus}/drivers/{name}"
            (self.sys / folder).mkdir(parents=True, exist_ok=True)
            self.link(f"{place}/driver", folder)
            if module and not (self.sys / folder / "module").is_symlink():
                self.link(f"{folder}/module", f"module/{module}")
        return path

    def block(
        self, name: str, parent: str = "virtual/block", *, size: int = 2048, slaves: str = ""
    ) -> str:
        """Make a block device on ``parent`` (below devices), over ``slaves``; size in sectors."""
        place = f"devices/{parent}/{name}"
        self.file(f"{place}/size", str(size))
        self.file(f"{place}/uevent", f"DEVNAME={name}\nDEVTYPE=disk")
        for slave in slaves.split():
            self.link(f"{place}/slaves/{slave}", f"block/{slave}")
        self.link(f"block/{name}", place)
        return name

    def mapper(self, name: str, called: str, uuid: str, slaves: str = "") -> str:
        """Make a device-mapper device."""
        self.block(name, slaves=slaves)
        self.file(f"block/{name}/dm/name", called)
        self.file(f"block/{name}/dm/uuid", uuid)
        return name

    def array(self, name: str, level: str, slaves: str = "") -> str:
        """Make an md array."""
        self.block(name, slaves=slaves)
        self.file(f"block/{name}/md/level", level)
        return name

    def nvme(self, number: int) -> str:
        """Make a PCI NVMe controller with one namespace; return the namespace."""
        pci = f"pci0000:00/0000:00:{number + 2:02x}.0"
        alias = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"
        self.device(pci, modalias=alias, driver="pci/nvme", module="nvme")
        controller = f"{pci}/nvme/nvme{number}"
        self.file(f"devices/{controller}/transport", "pcie")
        self.link(f"class/nvme/nvme{number}", f"devices/{controller}")
        return self.block(f"nvme{number}n1", controller)

    def nic(self, name: str, pci: str, module: str) -> str:
        """Make a PCI network card."""
        path = self.device(f"pci0000:00/{pci}", driver=f"pci/{module}", module=module)
        self.interface(name, f"{path}/net")
        self.link(f"class/net/{name}/device", f"devices/{path}")
        return name

    def interface(
        self,
        name: str,
        parent: str = "virtual/net",
        *,
        kind: str = "",
        number: int = 2,
        on: int = 0,
        lower: Iterable[str] = (),
        flags: int = 0x1003,
        arp_type: int = 1,
    ) -> str:
        """Make a network link of DEVTYPE ``kind``; ``on`` is the iflink, its own if 0."""
        place = f"devices/{parent}/{name}"
        devtype = f"DEVTYPE={kind}\n" if kind else ""
        self.file(f"{place}/uevent", f"{devtype}INTERFACE={name}")
        self.file(f"{place}/type", str(arp_type))
        self.file(f"{place}/flags", f"{flags:#x}")
        self.file(f"{place}/ifindex", str(number))
        self.file(f"{place}/iflink", str(on or number))
        self.link(f"class/net/{name}", place)
        for other in lower:
            self.link(f"{place}/lower_{other}", f"class/net/{other}")
        return name


def empty_machine(path: Path) -> Machine:
    """Make a machine with a processor and nothing else."""
    machine = Machine(path)
    machine.file("devices/system/cpu/modalias", "cpu:type:x86")
    machine.proc.mkdir(parents=True)
    return machine


def encrypted_server(path: Path, *, without: Collection[str] = ()) -> Machine:
    """Make LVM on LUKS on md RAID 1 over two NVMe disks; ``without`` "array", "luks" or "lvm"."""
    machine = empty_machine(path)
    below = f"{machine.nvme(0)} {machine.nvme(1)}"
    if "array" not in without:
        below = machine.array("md127", "raid1", below)
    if "luks" not in without:
        below = machine.mapper("dm-0", "luks", LUKS, below)
    if "lvm" not in without:
        machine.mapper("dm-1", "vg-root--fs", LVM, below)
        machine.mapper("dm-2", "vg-swap", LVM, below)
    return machine


def thin_server(path: Path, *, without: Collection[str] = ()) -> Machine:
    """Make a thin pool on a cached volume of LVM; ``without`` "cache" or "pool"."""
    machine = empty_machine(path)
    pci = machine.device("pci0000:00/0000:00:07.0", driver="pci/virtio-pci", module="virtio_pci")
    disk = machine.device(f"{pci}/virtio2", driver="virtio/virtio_blk", module="virtio_blk")
    machine.block("vda", f"{disk}/block")
    data = "vda"
    if "cache" not in without:
        machine.mapper("dm-0", "data-cpool_cpool_cdata", f"{LVM}-cdata", "vda")
        machine.mapper("dm-1", "data-cpool_cpool_cmeta", f"{LVM}-cmeta", "vda")
        origin = "data-root_corig" if "pool" in without else "data-pool_tdata_corig"
        machine.mapper("dm-2", origin, f"{LVM}-real", "vda")
        data = "dm-0 dm-1 dm-2"
    if "pool" in without:
        machine.mapper("dm-3", "data-root", LVM, data)
        return machine
    machine.mapper("dm-3", "data-pool_tdata", f"{LVM}-tdata", data)
    machine.mapper("dm-4", "data-pool_tmeta", f"{LVM}-tmeta", "vda")
    machine.mapper("dm-5", "data-pool-tpool", f"{LVM}-tpool", "dm-3 dm-4")
    machine.mapper("dm-6", "data-root", LVM, "dm-5")
    return machine


def bonded_server(path: Path, *, without: Collection[str] = ()) -> Machine:
    """Make two cards in a bond, in a bridge with a VLAN; ``without`` "bond", "bridge", "vlan"."""
    machine = empty_machine(path)
    cards = [
        machine.nic("enp0s4", "0000:00:04.0", "virtio_net"),
        machine.nic("enp0s5", "0000:00:05.0", "e1000e"),
    ]
    if "bond" not in without:
        cards = [machine.interface("bond0", kind="bond", number=13, lower=cards)]
        machine.file("class/net/bond0/bonding/mode", "802.3ad 4")
    top = cards[0]
    if "bridge" not in without:
        top = machine.interface("br0", kind="bridge", number=14, lower=cards[:1])
        machine.file("class/net/br0/bridge/stp_state", "0")
    if "vlan" not in without:
        machine.interface(f"{top}.42", kind="vlan", number=15, on=14, lower=[top])
    return machine


def iscsi_server(path: Path, *, without: Collection[str] = ()) -> Machine:
    """Make a machine whose disk is on iSCSI, over one card; ``without`` "iscsi"."""
    machine = empty_machine(path)
    machine.nic("enp0s5", "0000:00:05.0", "e1000e")
    if "iscsi" in without:
        return machine
    host = "platform/host7"
    machine.file(f"devices/{host}/scsi_host/host7/proc_name", "iscsi_tcp")
    session = f"{host}/session1/iscsi_session/session1"
    machine.file(f"devices/{session}/targetname", "iqn.2000-01.org.example:root")
    machine.link("class/iscsi_session/session1", f"devices/{session}")
    disk = f"{host}/session1/target7:0:0/7:0:0:0"
    machine.device(disk, modalias="scsi:t-0x00", driver="scsi/sd", module="sd_mod")
    machine.block("sda", f"{disk}/block")
    return machine
