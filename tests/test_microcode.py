"""initramfs/microcode.py: which files go in, and an archive as the kernel looks for it."""

from __future__ import annotations

import io
import lzma
import subprocess
from pathlib import Path

import pytest

from initramfs.cpio import read_cpio
from initramfs.microcode import Cpu, Vendor, early_cpio, is_early, parse_cpuinfo
from initramfs.rootfs import Root
from tests.support.tools import require_tool
from tests.support.tree import Tree

INTEL = "/kernel/x86/microcode/GenuineIntel.bin"
AMD = "/kernel/x86/microcode/AuthenticAMD.bin"

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R)
stepping\t: 4

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R)
stepping\t: 4

"""
SKYLAKE = Cpu(Vendor.INTEL, 6, 0x55, 4)
ZEN = Cpu(Vendor.AMD, 0x17, 1, 2)
K10 = Cpu(Vendor.AMD, 0x10, 4, 2)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    tree = Tree(tmp_path)
    tree.link("/lib", "usr/lib")
    for name, content in {
        "intel-ucode/06-55-04": b"skylake.",
        "intel-ucode/06-8e-09": b"kabylake",
        "intel-ucode/06-4f-01.initramfs": b"not for us",
        "intel-ucode-with-caveats/06-4f-01": b"not for us",
        "amd-ucode/microcode_amd.bin": b"families before 15h",
        "amd-ucode/microcode_amd_fam17h.bin": b"zen",
        "amd-ucode/microcode_amd_fam17h.bin.asc": b"a signature",
        "amd-ucode/README": b"words",
    }.items():
        tree.file(f"/usr/lib/firmware/{name}", content)
    return tree.root()


def contents(archive: bytes | None) -> dict[str, bytes]:
    assert archive is not None
    members = {m.path: b"".join(m.chunks) for m in read_cpio(io.BytesIO(archive))}
    return {path: data for path, data in members.items() if path.endswith(".bin")}


def test_all_of_both_makers_without_processors(root: Root) -> None:
    assert contents(early_cpio(root, cpus=None)) == {
        INTEL: b"skylake.kabylake",
        AMD: b"families before 15hzen",
    }


@pytest.mark.parametrize(
    ("cpu", "found"),
    [(SKYLAKE, {INTEL: b"skylake."}), (ZEN, {AMD: b"zen"}), (K10, {AMD: b"families before 15h"})],
    ids=["intel", "amd", "old-amd"],
)
def test_only_what_a_processor_takes(cpu: Cpu, found: dict[str, bytes], root: Root) -> None:
    assert contents(early_cpio(root, cpus=[cpu])) == found


def test_nothing_for_an_unknown_processor(root: Root) -> None:
    assert early_cpio(root, cpus=[Cpu(Vendor.INTEL, 6, 1, 1)]) is None


def test_nothing_for_no_x86_processor(root: Root) -> None:
    assert early_cpio(root, cpus=[]) is None


def test_nothing_from_a_root_without_microcode(tmp_path: Path) -> None:
    assert early_cpio(Root(tmp_path), cpus=None) is None


def test_compressed_files_are_undone(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.file("/lib/firmware/amd-ucode/microcode_amd_fam19h.bin.xz", lzma.compress(b"zen 3"))
    assert contents(early_cpio(tree.root(), cpus=None)) == {AMD: b"zen 3"}


def test_data_are_aligned_for_old_kernels(root: Root) -> None:
    archive = early_cpio(root, cpus=None)
    assert archive is not None
    offsets = {m.path: m.offset for m in read_cpio(io.BytesIO(archive))}
    assert [offsets[INTEL] % 16, offsets[AMD] % 16] == [0, 0]


def test_what_follows_is_aligned(root: Root) -> None:
    archive = early_cpio(root, cpus=None)
    assert archive is not None
    assert len(archive) % 512 == 0


def test_cpio_extracts_it(root: Root, tmp_path: Path) -> None:
    target = tmp_path / "extracted"
    target.mkdir()
    argv = [str(require_tool("cpio")), "-idm", "--quiet"]
    subprocess.run(argv, input=early_cpio(root, cpus=None), cwd=target, check=True)
    assert (target / INTEL.lstrip("/")).read_bytes() == b"skylake.kabylake"


def test_cpuinfo_is_read() -> None:
    assert parse_cpuinfo(CPUINFO) == {SKYLAKE}


def test_cpuinfo_of_another_architecture_has_none() -> None:
    assert parse_cpuinfo("processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd08\n") == frozenset()


@pytest.mark.parametrize(
    ("path", "early"),
    [
        ("/kernel", True),
        ("/kernel/x86", True),
        (INTEL, True),
        ("/kernels", False),
        ("/init", False),
    ],
)
def test_paths_of_the_early_archive_are_known(path: str, early: bool) -> None:
    assert is_early(path) is early
