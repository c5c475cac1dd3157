"""On a real kernel's modules: our answers are those of modprobe and depmod."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from initramfs.closure import Because
from initramfs.errors import MissingDependency
from initramfs.hostmodules import gather_host
from initramfs.kmod import Chosen, ModuleTree, Wanted, resolve_modules
from initramfs.kmodindex import index_files
from initramfs.modselect import lacking_needs, select_generic, select_host
from initramfs.modsettings import read_soft_settings
from initramfs.rootfs import Root
from tests.support.kernels import DEPMOD_FILES, RealKernel, real_kernel
from tests.support.sysfs import (
    Machine,
    bonded_server,
    encrypted_server,
    iscsi_server,
    thin_server,
)
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

BECAUSE = Because("for the test")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> RealKernel:
    """A kernel as its package brings it, and the same after depmod."""
    return real_kernel(tmp_path_factory.mktemp("kernel"))


@pytest.fixture(scope="module")
def indexed(kernel: RealKernel) -> ModuleTree:
    """The tree that depmod was at."""
    return kernel.tree(kernel.indexed)


@pytest.fixture(scope="module")
def bare(kernel: RealKernel) -> ModuleTree:
    """The tree that depmod was never at."""
    return kernel.tree(kernel.bare)


@pytest.fixture(scope="module")
def generic(bare: ModuleTree) -> tuple[Chosen, ...]:
    """The modules of a generic image."""
    return resolve_modules(bare, select_generic(bare))


def _image(folder: Path, tree: ModuleTree, chosen: Iterable[Chosen]) -> Path:
    """Make an image tree of ``chosen`` without index files; return the version's folder."""
    top = folder / "lib/modules" / tree.version
    for choice in chosen:
        file = top / choice.module.relative
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(tree.root.host(choice.module.path), file)
    return top


@pytest.fixture(scope="module")
def image(
    bare: ModuleTree, generic: tuple[Chosen, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tree of a generic image, with our index files."""
    folder = tmp_path_factory.mktemp("image")
    top = _image(folder, bare, generic)
    for name, content in index_files(bare, generic).items():
        (top / name).write_bytes(content)
    return folder


def _modprobe(
    root: Path, version: str, *words: str, settings: Path = Path(os.devnull)
) -> list[str]:
    """Return what modprobe says, as names of modules; the host's configuration is not read."""
    modprobe = require_tool("modprobe", package="kmod")
    argv = [str(modprobe), "-d", str(root), "-C", str(settings), "-S", version, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    said = [line.split() for line in done.stdout.splitlines()]
    names = [words[1] for words in said if words[0] == "insmod"] or [words[0] for words in said]
    return [Path(name).name.removesuffix(".ko").replace("-", "_") for name in names]


def test_for_every_module_our_order_satisfies_modprobe(
    kernel: RealKernel, indexed: ModuleTree
) -> None:
    for name in indexed.modules:
        theirs = _modprobe(kernel.indexed, kernel.version, "--show-depends", name)
        ours = [choice.module.name for choice in resolve_modules(indexed, [_want(name)])]
        place = {module: at for at, module in enumerate(ours)}
        assert set(theirs) <= set(ours), name
        # What modprobe takes for soft dependencies may be in any order among themselves.
        needed = [module for module in theirs if module in indexed.listed(name)]
        assert all(place[module] < place[name] for module in needed), name
    assert len(indexed.modules) > 500


def _want(name: str) -> Wanted:
    return Wanted(name, BECAUSE)


def test_in_every_order_dependencies_come_first(indexed: ModuleTree) -> None:
    chosen = resolve_modules(indexed, map(_want, indexed.modules))

    place = {choice.module.name: at for at, choice in enumerate(chosen)}
    assert len(place) == len(chosen) == len(indexed.modules)
    for name, at in place.items():
        assert all(place[need] < at for need in indexed.listed(name)), name


def test_without_modules_dep_the_answer_is_the_same(indexed: ModuleTree, bare: ModuleTree) -> None:
    for name in ("relative", "depends", "needed_by", "info"):
        one, other = (
            [
                getattr(choice, name, choice.module.relative)
                for choice in resolve_modules(tree, map(_want, sorted(tree.modules)))
            ]
            for tree in (indexed, bare)
        )
        assert one == other, name


def test_without_modules_dep_the_selection_is_the_same(
    indexed: ModuleTree, bare: ModuleTree
) -> None:
    modaliases = ["pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "virtio:d00000002v*"]

    def selected(tree: ModuleTree) -> list[Wanted]:
        return [
            *select_generic(tree),
            *select_host(tree, modaliases=modaliases, loaded=["xfs", "sd_mod"]),
        ]

    assert selected(indexed) == selected(bare)


def test_without_depmod_the_index_is_the_same(indexed: ModuleTree, bare: ModuleTree) -> None:
    one, other = (
        index_files(tree, resolve_modules(tree, select_generic(tree))) for tree in (indexed, bare)
    )

    assert sorted(one) == sorted(other)
    for name in one:
        assert sorted(one[name].splitlines()) == sorted(other[name].splitlines()), name


def test_depmod_writes_the_same_index(
    bare: ModuleTree, generic: tuple[Chosen, ...], image: Path, tmp_path: Path
) -> None:
    depmod = require_tool("depmod", package="kmod")
    top = _image(tmp_path, bare, generic)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        (top / name).write_bytes((image / "lib/modules" / bare.version / name).read_bytes())
    subprocess.run([depmod, "-b", tmp_path, bare.version], check=True)

    ours = image / "lib/modules" / bare.version
    assert sorted(f.name for f in ours.iterdir()) == sorted(f.name for f in top.iterdir())
    for name in DEPMOD_FILES:
        one, other = (ours / name).read_bytes(), (top / name).read_bytes()
        if name == "modules.dep":
            assert _needs(one) == _needs(other)
        elif name.endswith(".bin") and name != "modules.dep.bin":
            assert one == other, name
        elif name != "modules.dep.bin":  # asked by way of modprobe
            assert sorted(one.splitlines()) == sorted(other.splitlines()), name


def _needs(modules_dep: bytes) -> dict[str, frozenset[str]]:
    lines = (line.partition(":") for line in modules_dep.decode().splitlines())
    return {path: frozenset(needs.split()) for path, _, needs in lines}


def test_modprobe_in_the_image_inserts_all_that_is_needed(
    bare: ModuleTree, generic: tuple[Chosen, ...], image: Path
) -> None:
    needs = {choice.module.name: choice.depends for choice in generic}
    for name in needs:
        names = _modprobe(image, bare.version, "--show-depends", name)
        seen: set[str] = set()
        for module in names:
            assert seen.issuperset(needs[module]), f"{module} for {name}"
            seen.add(module)
        assert name in seen


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "virtio_pci"),
        ("virtio:d00000008v00001AF4", "virtio_scsi"),
        ("fs-btrfs", "btrfs"),
        ("crypto-xts", "xts"),
        ("md-level-5", "raid456"),
        ("nls_utf8", "nls_utf8"),
    ],
)
def test_modprobe_in_the_image_answers_as_in_the_tree(
    alias: str, name: str, kernel: RealKernel, image: Path
) -> None:
    theirs = _modprobe(kernel.indexed, kernel.version, "-R", alias)
    ours = _modprobe(image, kernel.version, "-R", alias)

    assert name in ours
    assert ours == theirs


def test_our_matches_are_those_of_modprobe(kernel: RealKernel, indexed: ModuleTree) -> None:
    for alias in (
        "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
        "pci:v00001D0Fd0000EC20sv00000000sd00000000bc02sc00i00",
        "cpu:type:x86,ven0000fam0006mod0055:feature:,0019,0081,",
        "hid:b0003g0001v0000046Dp0000C52B",
        "crypto-aes",
    ):
        theirs = _modprobe(kernel.indexed, kernel.version, "-R", alias)
        assert sorted(indexed.matching(alias)) == sorted(set(theirs)), alias


def test_the_twin_that_lost_a_module_is_refused(
    bare: ModuleTree, generic: tuple[Chosen, ...], tmp_path: Path
) -> None:
    top = _image(tmp_path, bare, generic)
    (top / "kernel/crypto/xor.ko").unlink()
    twin = ModuleTree(Root(tmp_path), bare.version)

    with pytest.raises(MissingDependency, match="btrfs needs xor .*: btrfs <- for the test"):
        resolve_modules(twin, [_want("btrfs")])


SETTINGS = """\
softdep raid1 pre: xfs post: dm-crypt
softdep dm-* pre: nbd
softdep xfs pre: crypto-xts nobody
blacklist xfs
"""


def test_with_settings_our_order_satisfies_modprobe(
    kernel: RealKernel, indexed: ModuleTree, tmp_path: Path
) -> None:
    folder = tmp_path / "etc/modprobe.d"
    folder.mkdir(parents=True)
    (folder / "x.conf").write_text(SETTINGS)
    settings = read_soft_settings(Root(tmp_path))
    asked = ("--show-depends", "raid1")
    theirs = _modprobe(kernel.indexed, kernel.version, *asked, settings=folder)

    ours = [
        choice.module.name
        for choice in resolve_modules(indexed, [_want("raid1")], settings=settings)
    ]

    assert "xfs" in theirs and "xfs" not in _modprobe(kernel.indexed, kernel.version, *asked)
    assert set(theirs) <= set(ours)
    assert {"xfs", "nbd", "dm_crypt", "xts"} <= set(ours)
    before = [module for module in theirs[: theirs.index("raid1")] if module != "raid1"]
    assert all(ours.index(module) < ours.index("raid1") for module in before)


def _reasons_of(tree: ModuleTree, machine: Machine) -> dict[str, str]:
    """Return why each module is in an image for ``machine`` alone."""
    host = gather_host(machine.sys, machine.proc, machine.fstab)
    wanted = select_host(
        tree,
        modaliases=host.modaliases,
        loaded=host.loaded,
        filesystems=host.filesystems,
        needs=host.needs,
    )
    assert lacking_needs(tree, host.needs) == ()
    return {c.module.name: str(c.because) for c in resolve_modules(tree, wanted)}


@pytest.mark.parametrize(
    ("make", "part", "module", "reason"),
    [
        (encrypted_server, "array", "raid1", "storage of this machine: md127 is raid1"),
        (encrypted_server, "luks", "dm_crypt", "storage of this machine: dm-0 (luks) is encrypted"),
        (
            *(thin_server, "pool", "dm_thin_pool"),
            "storage of this machine: dm-2 (data-pool_tdata_corig) is of a thin pool",
        ),
        (
            *(thin_server, "cache", "dm_cache"),
            "storage of this machine: dm-0 (data-cpool_cpool_cdata) is of a cached volume",
        ),
        (
            *(bonded_server, "bond", "bonding"),
            "network of this machine: bond0 is a link of the kind bond",
        ),
        (
            *(bonded_server, "bridge", "bridge"),
            "network of this machine: br0 is a link of the kind bridge",
        ),
        (
            *(bonded_server, "vlan", "8021q"),
            "network of this machine: br0.42 is a link of the kind vlan",
        ),
        (
            *(iscsi_server, "iscsi", "iscsi_tcp"),
            "storage of this machine: session1 is of iSCSI, over iscsi_tcp",
        ),
    ],
    ids=["raid", "luks", "thin", "cache", "bond", "bridge", "vlan", "iscsi"],
)
def test_a_layout_brings_its_modules_though_nothing_is_loaded(
    make: Callable[..., Machine],
    part: str,
    module: str,
    reason: str,
    indexed: ModuleTree,
    tmp_path: Path,
) -> None:
    whole = _reasons_of(indexed, make(tmp_path / "whole"))
    twin = _reasons_of(indexed, make(tmp_path / "twin", without={part}))

    assert whole[module] == reason
    # Some are of every image, for its other disks, and then say so.
    assert twin.get(module, "of every image").startswith("of every image")


@pytest.mark.parametrize("module", ["bonding", "bridge", "iscsi_tcp"])
def test_without_the_layout_its_modules_stay_out(
    module: str, indexed: ModuleTree, tmp_path: Path
) -> None:
    assert module not in _reasons_of(indexed, encrypted_server(tmp_path))
