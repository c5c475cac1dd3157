"""What a storage layout needs is read off sysfs, and nothing is asked for that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.hoststorage import cipher_needs, storage_needs
from tests.support.sysfs import (
    LVM,
    Machine,
    empty_machine,
    encrypted_server,
    iscsi_server,
    thin_server,
)


def reasons(machine: Machine) -> dict[str, str]:
    """Return why each word is needed, by the word."""
    return {word: need.why for need in storage_needs(machine.sys) for word in need.words}


def layout(machine: Machine) -> set[str]:
    """Return what the layout itself needs, drivers of hardware aside."""
    needs = storage_needs(machine.sys)
    return {word for need in needs if need.is_of_layout for word in need.words}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return empty_machine(tmp_path)


def test_a_stack_is_read_layer_by_layer(tmp_path: Path) -> None:
    assert reasons(encrypted_server(tmp_path)) == {
        "md-raid1": "storage of this machine: md127 is raid1",
        "dm_crypt": "storage of this machine: dm-0 (luks) is encrypted",
        "dm_mod": "storage of this machine: dm-1 (vg-root--fs) is a volume of LVM",
        "nvme": "storage of this machine: nvme0n1 is driven by nvme",
    }


@pytest.mark.parametrize(
    ("layer", "word"), [("array", "md-raid1"), ("luks", "dm_crypt"), ("lvm", "dm_mod")]
)
def test_without_a_layer_its_module_is_not_needed(layer: str, word: str, tmp_path: Path) -> None:
    whole = layout(encrypted_server(tmp_path / "whole"))
    twin = layout(encrypted_server(tmp_path / "twin", without={layer}))

    assert whole - twin == {word}


def test_a_thin_pool_and_its_cache_are_known_by_their_hidden_layers(tmp_path: Path) -> None:
    assert layout(thin_server(tmp_path)) == {"dm_thin_pool", "dm_cache", "dm_mod"}


@pytest.mark.parametrize(("part", "word"), [("cache", "dm_cache"), ("pool", "dm_thin_pool")])
def test_without_pool_or_cache_their_module_is_not_needed(
    part: str, word: str, tmp_path: Path
) -> None:
    assert layout(thin_server(tmp_path, without={part})) == (
        {"dm_thin_pool", "dm_cache", "dm_mod"} - {word}
    )


def test_a_disk_on_iscsi_needs_its_transport(tmp_path: Path) -> None:
    found = reasons(iscsi_server(tmp_path))

    assert found["iscsi_tcp"] == "storage of this machine: session1 is of iSCSI, over iscsi_tcp"
    assert found["sd_mod"] == "storage of this machine: sda is driven by sd_mod"


def test_without_a_session_no_transport_is_needed(tmp_path: Path) -> None:
    assert reasons(iscsi_server(tmp_path, without={"iscsi"})) == {}


def test_iser_is_known_by_the_name_of_its_host(tmp_path: Path) -> None:
    machine = iscsi_server(tmp_path)
    machine.file("devices/platform/host7/scsi_host/host7/proc_name", "iscsi_iser")

    assert "ib_iser" in layout(machine)


@pytest.mark.parametrize(
    ("called", "suffix", "words"),
    [
        ("data-r1_rimage_0", "", {"dm_raid"}),
        ("data-r5_rmeta_2", "", {"dm_raid"}),
        ("data-mir_mimage_1", "", {"dm_mirror"}),
        ("data-mir_mlog", "", {"dm_mirror"}),
        ("data-snap-cow", "-cow", {"dm_snapshot"}),
        ("data-orig-real", "-real", set()),
        ("data-wb_wcorig", "-real", {"dm_writecache"}),
        ("data-cv_corig", "-real", {"dm_cache"}),
        ("data-fast_cvol", "-cvol", set()),
        ("data-cvf_cvol-cdata", "-cdata", {"dm_cache"}),
        ("data-ri_rimage_0_imeta", "", {"dm_raid", "dm_integrity"}),
        ("data-vpool0-vpool", "-vpool", {"dm_vdo", "kvdo"}),
        # The user's own names, of a group and of a volume.
        ("my_tdata-root", "", set()),
        ("my--rimage-root", "", set()),
        ("data-my--cow", "", set()),
    ],
)
def test_layers_of_lvm(called: str, suffix: str, words: set[str], machine: Machine) -> None:
    machine.mapper("dm-0", called, LVM + suffix)

    assert layout(machine) == {"dm_mod"} | words


@pytest.mark.parametrize(
    ("uuid", "words"),
    [
        ("CRYPT-LUKS1-773d407f6f494ba08c20ab376f41ede7-x", {"dm_crypt"}),
        ("CRYPT-PLAIN-x", {"dm_crypt"}),
        ("CRYPT-INTEGRITY-x", {"dm_integrity"}),
        ("CRYPT-VERITY-9e6ad1972b424a69acd8793d9011df06-x", {"dm_verity"}),
        ("mpath-36001405", {"dm_multipath"}),
        ("part1-mpath-36001405", set()),
        ("stratis-1-private-0a-flex-thindata", {"dm_thin_pool", "dm_cache"}),
        ("", set()),
    ],
)
def test_makers_of_mapped_devices(uuid: str, words: set[str], machine: Machine) -> None:
    machine.mapper("dm-0", "x", uuid)

    assert layout(machine) == words


@pytest.mark.parametrize("level", ["raid0", "raid5", "raid6", "raid10", "linear", "multipath"])
def test_levels_of_arrays_are_asked_for_as_the_kernel_does(level: str, machine: Machine) -> None:
    machine.array("md0", level)

    assert layout(machine) == {f"md-{level}"}


def test_a_container_of_arrays_has_no_level(machine: Machine) -> None:
    machine.array("md127", "")

    assert layout(machine) == set()


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("bcache0", "bcache"),
        ("drbd1", "drbd"),
        ("loop7", "loop"),
        ("mmcblk0", "mmc_block"),
        ("nbd0", "nbd"),
        ("rbd0", "rbd"),
        ("zram0", "zram"),
    ],
)
def test_devices_known_by_their_name(name: str, word: str, machine: Machine) -> None:
    machine.block(name)

    assert layout(machine) == {word}


@pytest.mark.parametrize("name", ["loop0", "nbd15", "zram0"])
def test_an_empty_device_is_not_in_use(name: str, machine: Machine) -> None:
    machine.block(name, size=0)

    assert layout(machine) == set()


@pytest.mark.parametrize(
    ("transport", "words"),
    [("tcp", {"nvme_tcp"}), ("rdma", {"nvme_rdma"}), ("fc", {"nvme_fc"}), ("pcie", set())],
)
def test_transports_of_nvme(transport: str, words: set[str], machine: Machine) -> None:
    machine.file("devices/virtual/nvme-fabrics/ctl/nvme2/transport", transport)
    machine.link("class/nvme/nvme2", "devices/virtual/nvme-fabrics/ctl/nvme2")
    machine.block("nvme2n1", "virtual/nvme-subsystem/nvme-subsys2")

    assert layout(machine) == words


def test_the_driver_of_a_controller_counts_where_its_disk_lies_elsewhere(machine: Machine) -> None:
    machine.nvme(0)
    (machine.sys / "block/nvme0n1").unlink()
    machine.block("nvme0n1", "virtual/nvme-subsystem/nvme-subsys0")

    assert reasons(machine) == {"nvme": "storage of this machine: nvme0 is driven by nvme"}


def test_all_that_a_disk_hangs_on_is_driven(machine: Machine) -> None:
    pci = machine.device("pci0000:00/0000:00:14.0", driver="pci/xhci_hcd", module="xhci_pci")
    port = machine.device(f"{pci}/usb1/1-1/1-1:1.0", driver="usb/uas", module="uas")
    machine.file(f"devices/{port}/host4/scsi_host/host4/proc_name", "uas")
    disk = machine.device(f"{port}/host4/target4:0:0/4:0:0:0", driver="scsi/sd", module="sd_mod")
    machine.block("sda", f"{disk}/block")

    assert list(reasons(machine)) == ["sd_mod", "uas", "xhci_pci"]


def test_a_kernel_without_modules_gives_the_names_of_drivers(machine: Machine) -> None:
    pci = machine.device("pci0000:00/0000:00:02.0", driver="pci/virtio-pci")
    disk = machine.device(f"{pci}/virtio1", driver="virtio/virtio_blk")
    machine.block("vda", f"{disk}/block")

    assert list(reasons(machine)) == ["virtio_blk", "virtio_pci"]


def test_a_link_out_of_the_tree_is_not_walked(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere/sda"
    elsewhere.mkdir(parents=True)
    (elsewhere / "driver").symlink_to("/bus/pci/drivers/evil")
    (machine.sys / "block").mkdir()
    (machine.sys / "block/sda").symlink_to(elsewhere)

    assert reasons(machine) == {}


def test_a_machine_without_disks_needs_nothing(machine: Machine) -> None:
    assert storage_needs(machine.sys) == ()


def test_firmware_that_boots_from_iscsi_is_seen(machine: Machine) -> None:
    machine.file("firmware/ibft/initiator/initiator-name", "iqn.2000-01.org.example:me")

    assert list(reasons(machine)) == ["iscsi_ibft"]


CRYPTO = """\
name         : xts(serpent)
driver       : xts(ecb-serpent-avx2)
refcnt       : 2
internal     : no

name         : authenc(hmac(sha256),xts(aes))
driver       : authenc(hmac(sha256-avx2),xts-aes-aesni)
refcnt       : 3
internal     : no

name         : __xts(aes)
driver       : __xts-aes-aesni
refcnt       : 3
internal     : yes

name         : cbc(camellia)
driver       : cbc-camellia-aesni
refcnt       : 1
internal     : no

"""


def test_ciphers_in_use_are_asked_for_part_by_part(machine: Machine) -> None:
    (machine.proc / "crypto").write_text(CRYPTO)

    assert [(need.words, need.why) for need in cipher_needs(machine.proc)] == [
        (("crypto-xts", "crypto-serpent"), "cipher in use on this machine: xts(serpent)"),
        (
            ("crypto-authenc", "crypto-hmac", "crypto-sha256", "crypto-xts", "crypto-aes"),
            "cipher in use on this machine: authenc(hmac(sha256),xts(aes))",
        ),
    ]


def test_a_kernel_without_ciphers_has_none_in_use(machine: Machine) -> None:
    assert cipher_needs(machine.proc) == ()
