"""What images want of a kernel's modules: for one machine, for every machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.firmware import BuiltinDriver
from initramfs.hostneeds import HostNeed
from initramfs.kmod import ModuleTree, resolve_modules
from initramfs.modselect import (
    BASIC,
    GENERIC,
    UNWANTED,
    lacking_needs,
    select_builtin,
    select_generic,
    select_host,
)
from initramfs.rootfs import Root
from tests.support.modules import VERSION, Ko, write_tree

KOS = (
    Ko("kernel/drivers/ata/ahci.ko", aliases=("pci:v00008086d00002922sv*",)),
    Ko("kernel/drivers/ata/pata_x.ko"),
    Ko("kernel/drivers/net/ethernet/intel/e1000/e1000.ko", aliases=("pci:v00008086d0000100Esv*",)),
    Ko("kernel/drivers/net/ethernet/mellanox/mlxsw/mlxsw_core.ko"),
    Ko("kernel/drivers/net/wireless/w/wifi.ko", aliases=("pci:v00008086d00000001sv*",)),
    Ko("kernel/drivers/gpu/drm/tiny/bochs.ko"),
    Ko("kernel/drivers/gpu/drm/big/big.ko", aliases=("pci:v00008086d00000002sv*",)),
    Ko("kernel/drivers/misc/odd.ko"),
    Ko("kernel/drivers/scsi/scsi_debug.ko"),
    Ko("kernel/drivers/watchdog/dog.ko"),
    Ko("kernel/arch/x86/crypto/aesni-intel.ko"),
    Ko("kernel/arch/x86/kvm/kvm.ko"),
    Ko("kernel/sound/snd.ko"),
    Ko("kernel/fs/isofs/isofs.ko"),
    Ko("kernel/fs/xfs/xfs.ko", aliases=("fs-xfs",)),
    Ko("updates/dkms/own.ko"),
)


@pytest.fixture
def tree(tmp_path: Path) -> ModuleTree:
    write_tree(tmp_path, KOS, builtin=["kernel/fs/ext4/ext4.ko"])
    return ModuleTree(Root(tmp_path), VERSION)


def test_generic_takes_by_folder_and_leaves_out_by_deeper_folder(tree: ModuleTree) -> None:
    names = {want.name for want in select_generic(tree)} - tree.builtin

    assert names == {"ahci", "pata_x", "e1000", "bochs", "aesni_intel", "isofs", "xfs"}


def test_every_wanted_module_has_a_reason(tree: ModuleTree) -> None:
    reasons = {want.name: str(want.because) for want in select_generic(tree)}

    assert reasons["isofs"] == "of every image: media of the rescue image"
    assert reasons["e1000"] == "of every machine: network cards"


def test_a_newer_build_of_a_module_is_judged_as_the_old_one(tmp_path: Path) -> None:
    top = write_tree(tmp_path, [Ko("updates/e1000.ko"), Ko("updates/snd.ko")])
    (top / "modules.order").write_text(
        "kernel/drivers/net/ethernet/e1000.ko\nkernel/sound/snd.ko\n"
    )

    wanted = select_generic(ModuleTree(Root(tmp_path), VERSION))

    assert [want.name for want in wanted] == ["e1000"]


def test_host_takes_drivers_of_its_devices(tree: ModuleTree) -> None:
    wanted = select_host(tree, modaliases=["pci:v00008086d0000100Esv0"], loaded=[])

    reasons = {want.name: str(want.because) for want in wanted}
    expected = "driver of a device of this machine: pci:v00008086d0000100Esv0"
    assert reasons["e1000"] == expected
    assert "pata_x" not in reasons


def test_host_takes_what_is_loaded(tree: ModuleTree) -> None:
    names = [want.name for want in select_host(tree, modaliases=[], loaded=["odd", "own"])]

    assert {"odd", "own"} <= set(names)


@pytest.mark.parametrize("name", ["wifi", "big", "dog", "kvm", "snd"])
def test_host_leaves_out_what_no_rescue_needs(name: str, tree: ModuleTree) -> None:
    aliases = ["pci:v00008086d00000001sv0", "pci:v00008086d00000002sv0"]

    wanted = select_host(tree, modaliases=aliases, loaded=[name])

    assert name not in [want.name for want in wanted]


@pytest.mark.parametrize(("mounted", "is_taken"), [(["xfs"], True), (["ext4", "proc"], False)])
def test_host_takes_the_file_systems_that_it_mounts(
    mounted: list[str], is_taken: bool, tree: ModuleTree
) -> None:
    wanted = select_host(tree, modaliases=[], loaded=[], filesystems=mounted)

    assert ("xfs" in [want.name for want in wanted]) is is_taken


def test_host_passes_over_loaded_modules_of_another_kernel(tree: ModuleTree) -> None:
    wanted = select_host(tree, modaliases=[], loaded=["foreign"])

    assert "foreign" not in [want.name for want in wanted]


@pytest.mark.parametrize("select", ["host", "generic"])
def test_every_image_reads_its_own_media(select: str, tree: ModuleTree) -> None:
    if select == "host":
        wanted = select_host(tree, modaliases=[], loaded=[])
    else:
        wanted = select_generic(tree)

    # ahci and isofs are modules here, ext4 is built in.
    assert {"isofs", "ahci", "ext4"} <= {want.name for want in wanted}


def test_what_is_selected_resolves(tree: ModuleTree) -> None:
    chosen = resolve_modules(tree, select_generic(tree))

    assert "isofs" in [choice.module.name for choice in chosen]


def test_no_row_is_said_twice() -> None:
    said = [place for row in (*GENERIC, *UNWANTED) for place in (*row.folders, *row.names)]

    assert sorted(said) == sorted(set(said))


def test_names_in_the_rows_are_normalised() -> None:
    names = [name for row in (*BASIC, *GENERIC, *UNWANTED) for name in row.names]

    assert [name for name in names if "-" in name] == []


def _reasons(tree: ModuleTree, *needs: HostNeed) -> dict[str, str]:
    wanted = select_host(tree, modaliases=[], loaded=[], needs=needs)
    return {want.name: str(want.because) for want in wanted}


def test_host_takes_what_its_layout_needs_and_says_so(tree: ModuleTree) -> None:
    reasons = _reasons(tree, HostNeed(("fs-xfs", "nobody"), "md0 is raid1"))

    assert reasons["xfs"] == "md0 is raid1"


def test_the_layout_is_a_better_reason_than_that_every_image_has_it(tree: ModuleTree) -> None:
    assert _reasons(tree)["isofs"] == "of every image: media of the rescue image"
    assert _reasons(tree, HostNeed(("isofs",), "sr0 is it"))["isofs"] == "sr0 is it"


@pytest.mark.parametrize("is_of_layout", [True, False])
def test_a_layout_takes_what_no_rescue_needs_and_a_driver_does_not(
    is_of_layout: bool, tree: ModuleTree
) -> None:
    need = HostNeed(("scsi_debug",), "sda is it", is_of_layout=is_of_layout)

    assert ("scsi_debug" in _reasons(tree, need)) is is_of_layout


def test_what_is_built_in_comes_for_what_it_may_ask_for(tree: ModuleTree) -> None:
    assert _reasons(tree, HostNeed(("ext4",), "it is ext4"))["ext4"] == "it is ext4"


def test_what_the_kernel_has_nothing_for_is_told(tree: ModuleTree) -> None:
    lacking = HostNeed(("dm_vdo", "kvdo"), "dm-0 is of a VDO pool")
    guess = HostNeed(("sd",), "sda is driven by sd", is_of_layout=False)
    needs = [lacking, guess, HostNeed(("nobody", "xfs"), "x"), HostNeed(("ext4",), "y")]

    assert lacking_needs(tree, needs) == (lacking,)
    assert "kvdo" not in _reasons(tree, *needs)


INFO = (
    "nic.alias=pci:v00008086d0000100Esv*",
    "nic.firmware=nic/a.bin",
    "nic.firmware=nic/b.bin",
    "scsi.alias=pci:v00001000*",
    "scsi.firmware=scsi.bin",
    "snd.alias=pci:v00001000*",
    "snd.firmware=snd.bin",
    "quiet.alias=pci:v00008086d0000100Esv*",
)
BUILTIN = (
    *("kernel/drivers/net/ethernet/nic.ko", "kernel/drivers/scsi/scsi.ko", "kernel/sound/snd.ko"),
    "kernel/drivers/misc/quiet.ko",
)


@pytest.mark.parametrize(
    ("modaliases", "names"),
    [
        (None, ["nic", "scsi"]),
        (["pci:v00001000d1"], ["scsi"]),
        (["pci:v00008086d0000100Esv0"], ["nic"]),
        ([], []),
    ],
    ids=["every machine", "scsi", "nic", "nothing"],
)
def test_built_in_drivers_that_want_firmware(
    modaliases: list[str] | None, names: list[str], tmp_path: Path
) -> None:
    write_tree(tmp_path, KOS, builtin=BUILTIN, builtin_info=INFO)
    tree = ModuleTree(Root(tmp_path), VERSION)

    drivers = select_builtin(tree, modaliases)

    assert [driver.name for driver in drivers] == names


def test_built_in_drivers_name_all_their_firmware(tmp_path: Path) -> None:
    write_tree(tmp_path, KOS, builtin=BUILTIN, builtin_info=INFO)

    nic = select_builtin(ModuleTree(Root(tmp_path), VERSION))[0]

    assert nic == BuiltinDriver("nic", ("nic/a.bin", "nic/b.bin"))
