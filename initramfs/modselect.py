"""Which kernel modules a rescue image wants: those of this machine, or of every machine.

A module is judged by its name, else by the folder of the kernel's source tree that it was
built from: the longest folder named below decides. What a kernel does not have is not wanted;
what else the wanted ones need is for ``resolve_modules`` to find.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from initramfs.closure import Because
from initramfs.firmware import BuiltinDriver
from initramfs.hostneeds import HostNeed
from initramfs.kmod import Module, ModuleTree, Wanted
from initramfs.modinfo import name_of, normalise

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """``why`` (or why not) modules of ``folders`` (below kernel/, "arch/*") and ``names``."""

    why: str
    folders: tuple[str, ...]
    names: tuple[str, ...]


def _row(why: str, *, folders: str = "", names: str = "") -> Row:
    return Row(why, tuple(folders.split()), tuple(names.split()))


BASIC = (
    _row("media of the rescue image", names="loop isofs udf squashfs overlay"),
    _row("disks and optical drives", names="sd_mod sr_mod sg usb_storage uas"),
    _row("disks and optical drives", names="ahci ata_piix ata_generic nvme"),
    _row("USB controllers", names="xhci_pci xhci_hcd ehci_pci ohci_pci uhci_hcd"),
    _row("keyboards", names="hid hid_generic usbhid atkbd i8042 evdev button"),
    _row("file systems of disks", names="ext4 vfat exfat fuse efivarfs"),
    _row("character sets", names="nls_cp437 nls_iso8859_1 nls_ascii nls_utf8"),
    _row("device mapper", names="dm_mod dm_crypt dm_mirror dm_raid dm_snapshot dm_thin_pool"),
    _row("device mapper", names="dm_cache dm_integrity dm_multipath dm_verity dm_writecache"),
    _row("RAID arrays", names="md_mod raid0 raid1 raid10 raid456 linear"),
    _row("network", names="nfs nfsv3 nfsv4 af_packet ipv6 8021q"),
    _row("hypervisors", names="virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_net"),
    _row("hypervisors", names="virtio_console virtio_rng qemu_fw_cfg 9p 9pnet_virtio virtiofs"),
)
"""What every image wants, whatever its machine: it must read its own media, and others' disks."""

GENERIC = (
    _row("disk controllers", folders="drivers/ata drivers/scsi drivers/message drivers/nvme/host"),
    _row("disk controllers", folders="drivers/ufs drivers/block drivers/mmc drivers/memstick"),
    _row("disk controllers", folders="drivers/misc/cardreader drivers/nvdimm drivers/acpi/nfit"),
    _row("disk controllers", folders="drivers/usb/storage", names="vmd iscsi_ibft dax_pmem"),
    _row("disk controllers", names="firewire_ohci firewire_sbp2 cdrom"),
    _row("RAID and device mapper", folders="drivers/md crypto/async_tx"),
    _row("ciphers and checksums", folders="crypto arch/*/crypto lib/crypto"),
    _row("file systems of disks", folders="fs/ext2 fs/ext4 fs/xfs fs/btrfs fs/bcachefs fs/f2fs"),
    _row("file systems of disks", folders="fs/jfs fs/reiserfs fs/nilfs2 fs/zonefs fs/minix fs/ufs"),
    _row("file systems of disks", folders="fs/fat fs/exfat fs/ntfs fs/ntfs3 fs/hfs fs/hfsplus"),
    _row("file systems of disks", folders="fs/isofs fs/udf fs/squashfs fs/erofs fs/cramfs"),
    _row("file systems of disks", folders="fs/overlayfs fs/fuse fs/quota fs/nls", names="zfs spl"),
    _row("file systems of the network", folders="fs/nfs fs/smb/client fs/smb/common fs/cifs"),
    _row("file systems of the network", folders="fs/9p net/9p net/sunrpc fs/vboxsf"),
    _row("network cards", folders="drivers/net/ethernet drivers/net/phy drivers/net/mdio"),
    _row("network cards", folders="drivers/net/pcs drivers/net/usb", names="vmxnet3 fjes"),
    _row("network links", folders="drivers/net/bonding net/8021q"),
    _row("USB controllers", folders="drivers/usb/host drivers/usb/core drivers/usb/common"),
    _row("USB controllers", folders="drivers/usb/dwc2 drivers/usb/dwc3 drivers/usb/chipidea"),
    _row("USB controllers", folders="drivers/usb/musb drivers/usb/phy drivers/usb/roles"),
    _row("keyboards", folders="drivers/hid drivers/input/serio", names="psmouse applespi"),
    _row("keyboards", names="surface_aggregator_registry intel_lpss_pci intel_lpss_acpi 8250_dw"),
    _row("serial consoles", names="usbserial pl2303 ftdi_sio cp210x ch341 8250_exar"),
    _row("screens", folders="drivers/gpu/drm/tiny drivers/gpu/drm/virtio drivers/gpu/drm/hyperv"),
    _row("screens", names="ast mgag200"),
    _row("hypervisors", folders="drivers/virtio drivers/hv drivers/pci/controller"),
    _row("hypervisors", names="hv_netvsc hyperv_keyboard xen_blkfront xen_netfront xen_scsifront"),
    _row("hypervisors", names="xen_pcifront vmw_balloon vboxguest pvpanic_pci pvpanic_mmio"),
    _row("buses of boards", folders="drivers/bus drivers/clk drivers/phy drivers/reset"),
    _row("buses of boards", folders="drivers/regulator drivers/soc drivers/pmdomain drivers/mfd"),
    _row("buses of boards", folders="drivers/pinctrl drivers/gpio drivers/i2c/busses drivers/spi"),
    _row("buses of boards", folders="drivers/mailbox drivers/hwspinlock drivers/interconnect"),
    _row("buses of boards", folders="drivers/iommu drivers/nvmem"),
)
"""What an image for any machine wants besides."""

UNWANTED = (
    _row("sound, pictures, sensors", folders="sound drivers/media drivers/iio drivers/hwmon"),
    _row("sound, pictures, sensors", folders="drivers/gpu drivers/video drivers/leds"),
    _row("sound, pictures, sensors", folders="drivers/comedi drivers/accessibility"),
    _row("sound, pictures, sensors", folders="drivers/hid/intel-ish-hid drivers/hid/amd-sfh-hid"),
    _row("radio", folders="drivers/net/wireless drivers/net/wwan drivers/bluetooth net/bluetooth"),
    _row(
        "radio", folders="net/wireless net/mac80211 net/rfkill drivers/nfc net/nfc drivers/bus/mhi"
    ),
    _row("firewalls and guests", folders="net/netfilter net/ipv4/netfilter net/ipv6/netfilter"),
    _row("firewalls and guests", folders="net/bridge/netfilter net/sched arch/*/kvm drivers/vhost"),
    _row("firewalls and guests", folders="drivers/vfio", names="xen_blkback xen_netback"),
    _row("would reset the machine", folders="drivers/watchdog", names="ipmi_watchdog"),
    _row("switches, targets, clusters", folders="drivers/net/ethernet/mellanox/mlxsw"),
    _row("switches, targets, clusters", folders="drivers/target drivers/nvme/target"),
    _row("switches, targets, clusters", names="drbd rbd md_cluster tcm_qla2xxx rnbd_server"),
    _row("switches, targets, clusters", names="nvme_rdma rpcrdma 9pnet_rdma rnbd_client"),
    _row("modems and phones", names="hso qmi_wwan cdc_mbim cdc_phonet huawei_cdc_ncm sierra_net"),
    _row("tests", names="scsi_debug null_blk tcrypt brd zram floppy crypto_user pcrypt mptctl"),
    _row("gadgets", names="wacom hid_wiimote hid_picolcd hid_sony hid_nintendo hid_playstation"),
    _row("gadgets", names="hid_steam hid_uclogic hid_cp2112 hid_mcp2221 hid_ft260 hid_led"),
    _row("gadgets", names="hid_sensor_hub hid_sensor_custom hid_prodikeys hid_asus cuse"),
    _row("gadgets", names="u132_hcd sl811_hcd pata_pcmcia"),
    _row("drivers of closed screens", names="nvidia nvidia_drm nvidia_modeset nvidia_uvm"),
)
"""What no rescue needs, though a machine may have it; to be had by name all the same."""

# PCMCIA cards: their sockets' drivers are not in an image.
_UNWANTED_SUFFIX = "_cs"


@dataclass(frozen=True, slots=True)
class _Judgement:
    rank: int
    row: Row
    is_wanted: bool


class _Table:
    """The rows above, by folder and by name."""

    def __init__(self) -> None:
        self._folders: dict[str, _Judgement] = {}
        self._names: dict[str, _Judgement] = {}
        rows = [(row, True) for row in (*BASIC, *GENERIC)] + [(row, False) for row in UNWANTED]
        for rank, (row, is_wanted) in enumerate(rows):
            judgement = _Judgement(rank, row, is_wanted)
            for folder in row.folders:
                self._folders.setdefault(f"kernel/{folder}", judgement)
            for name in row.names:
                self._names.setdefault(name, judgement)

    def judge(self, tree: ModuleTree, module: Module) -> _Judgement | None:
        """Return what the rows say of a module, None where they do not know it."""
        by_name = self._names.get(module.name)
        if by_name is not None or module.name.endswith(_UNWANTED_SUFFIX):
            return by_name
        path = module.relative
        if not path.startswith("kernel/"):
            # A newer build of one of the kernel's own (updates/): judged as that.
            path = tree.order_paths.get(module.name, path)
        return self._of_folder(path.rpartition("/")[0])

    def is_useful(self, tree: ModuleTree, module: Module) -> bool:
        """Tell whether no row says that no rescue needs it."""
        judgement = self.judge(tree, module)
        return judgement is None or judgement.is_wanted

    def _of_folder(self, folder: str) -> _Judgement | None:
        place = folder
        if place.startswith("kernel/arch/"):
            place = "/".join(["kernel/arch/*", *place.split("/")[3:]])
        while place:
            found = self._folders.get(place)
            if found is not None:
                return found
            place = place.rpartition("/")[0]
        return None


@cache
def _table() -> _Table:
    return _Table()


def select_generic(tree: ModuleTree) -> tuple[Wanted, ...]:
    """Return what an image for any machine wants of the kernel's modules."""
    wanted: list[tuple[int, str, Row]] = []
    table = _table()
    for module in tree.modules.values():
        judgement = table.judge(tree, module)
        if judgement is not None and judgement.is_wanted:
            wanted.append((judgement.rank, module.relative, judgement.row))
    names = {module.relative: module.name for module in tree.modules.values()}
    wanted.sort(key=lambda item: item[:2])
    folders = (
        Wanted(names[path], Because(f"of every machine: {row.why}")) for _, path, row in wanted
    )
    return tuple(_unique([*_basic(tree), *folders]))


def select_host(
    tree: ModuleTree,
    *,
    modaliases: Iterable[str],
    loaded: Iterable[str],
    filesystems: Iterable[str] = (),
    needs: Iterable[HostNeed] = (),
) -> tuple[Wanted, ...]:
    """Return what an image for one machine wants.

    ``modaliases`` are of its devices, ``loaded`` the names of its loaded modules, ``filesystems``
    the types that it mounts, ``needs`` those of its layout (see initramfs/hostmodules.py).
    """
    table = _table()

    def is_useful(name: str) -> bool:
        return table.is_useful(tree, tree.modules[name])

    # First, for the first reason is the one that is told: "md0 is raid1" says most.
    wanted = list(_needed(tree, needs, is_useful))
    wanted += _basic(tree)
    for modalias in dict.fromkeys(modaliases):
        because = Because(f"driver of a device of this machine: {modalias}")
        wanted += [Wanted(name, because) for name in tree.matching(modalias) if is_useful(name)]
    for kind in dict.fromkeys(filesystems):
        because = Because(f"file system of this machine: {kind}")
        wanted += [Wanted(name, because) for name in tree.matching(f"fs-{kind}")]
    for name in map(normalise, loaded):
        if name in tree.modules:
            if is_useful(name):
                wanted.append(Wanted(name, Because("loaded on this machine")))
        elif name not in tree.builtin:
            _log.info("%s is loaded, but the kernel %s has no such module", name, tree.version)
    return tuple(_unique(wanted))


def lacking_needs(tree: ModuleTree, needs: Iterable[HostNeed]) -> tuple[HostNeed, ...]:
    """Return what of a machine's layout the kernel has nothing for, neither module nor built in."""
    return tuple(
        need
        for need in needs
        if need.is_of_layout
        and not any(tree.lookup(word) or tree.is_builtin(word) for word in need.words)
    )


def select_builtin(
    tree: ModuleTree, modaliases: Iterable[str] | None = None
) -> tuple[BuiltinDriver, ...]:
    """Return the built-in drivers that ask for firmware, of use to a rescue.

    ``modaliases`` are of the one machine's devices; None takes the drivers of every machine.
    """
    asking = {name: info.firmware for name, info in tree.builtin_info.items() if info.firmware}
    if asking and modaliases is not None:
        used = {name for modalias in modaliases for name in tree.builtin_matching(modalias)}
        asking = {name: firmware for name, firmware in asking.items() if name in used}
    if not asking:
        return ()
    paths = (tree.read_index("modules.builtin") or b"").decode("utf-8", "surrogateescape")
    places = {name_of(path): path for path in paths.splitlines()}
    drivers = ((Module(n, places.get(n, n), places.get(n, n)), asking[n]) for n in sorted(asking))
    table = _table()
    return tuple(
        BuiltinDriver(module.name, firmware)
        for module, firmware in drivers
        if table.is_useful(tree, module)
    )


def _needed(
    tree: ModuleTree, needs: Iterable[HostNeed], is_useful: Callable[[str], bool]
) -> Iterator[Wanted]:
    for need in needs:
        for word in need.words:
            # As with the basic ones, what is built in may ask for modules.
            names = tree.lookup(word) or ((word,) if word in tree.builtin else ())
            for name in names:
                if need.is_of_layout or name not in tree.modules or is_useful(name):
                    yield Wanted(name, Because(need.why))


def _basic(tree: ModuleTree) -> list[Wanted]:
    # Built-in ones stay: what they ask for at run time may be modules all the same.
    return [
        Wanted(name, Because(f"of every image: {row.why}"))
        for row in BASIC
        for name in row.names
        if name in tree.modules or name in tree.builtin
    ]


def _unique(wanted: Iterable[Wanted]) -> Iterator[Wanted]:
    seen: set[str] = set()
    for want in wanted:
        if want.name not in seen:
            seen.add(want.name)
            yield want
