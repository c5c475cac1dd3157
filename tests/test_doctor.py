"""The doctor finds what is missing, tells what matters, and names the package that has it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mindi.doctor import (
    DoctorReport,
    Facts,
    Finding,
    Purpose,
    State,
    examine,
    mounted_filesystems,
    stacked_storage,
)
from tests.support.bootroot import boot_tree
from tests.support.rights import run_bound
from tests.support.tools import lacking, require_tool

RELEASE = "6.1.0-1-amd64"


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Return a machine with a kernel, BusyBox, boot loaders, mkfs.ext4 and sfdisk."""
    root = boot_tree(tmp_path / "root").path
    for path in (
        f"boot/vmlinuz-{RELEASE}",
        f"lib/modules/{RELEASE}/kernel/README",
        f"lib/modules/{RELEASE}/modules.dep",
        "bin/busybox",
        "sbin/mkfs.ext4",
        "sbin/sfdisk",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    (root / f"lib/modules/{RELEASE}/modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("apt-get", "dpkg-deb", "tar", "depmod"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    return Facts(
        root=root,
        cache=tmp_path / "cache",
        release=RELEASE,
        machine="x86_64",
        loaded=(),
        filesystems=frozenset({"ext4"}),
        storage=frozenset(),
        search=str(programs),
        is_superuser=True,
    )


def states(report: DoctorReport, purpose: Purpose, subject: str) -> list[State]:
    return [
        finding.state
        for finding in report.findings
        if finding.purpose is purpose and finding.subject.startswith(subject)
    ]


def missing(report: DoctorReport, purpose: Purpose) -> list[tuple[str, str | None]]:
    return [
        (finding.subject, finding.package)
        for finding in report.findings
        if finding.purpose is purpose and finding.state is State.MISSING
    ]


def test_a_machine_that_has_all_lacks_nothing_to_build(facts: Facts) -> None:
    assert missing(examine(facts), Purpose.BUILD) == []


def test_a_missing_busybox_is_named_with_its_package(facts: Facts) -> None:
    (facts.root / "bin/busybox").unlink()
    report = examine(facts)
    assert missing(report, Purpose.BUILD) == [("BusyBox", "busybox-static")]
    assert "busybox-static" in report.packages


def test_a_kernel_without_modules_is_a_note(facts: Facts) -> None:
    report = examine(replace(facts, release="9.9.9"))
    assert states(report, Purpose.BUILD, "running kernel 9.9.9") == [State.NOTE]


def test_without_apt_there_must_be_modules(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "programs/apt-get").unlink()
    subject = "fail-safe"
    assert states(examine(facts), Purpose.BUILD, subject) == [State.NOTE]
    bare = replace(facts, release="9.9.9")
    assert states(examine(bare), Purpose.BUILD, subject) == [State.MISSING]


def test_missing_boot_loaders_are_missing(facts: Facts) -> None:
    (facts.root / "usr/lib/ISOLINUX/isolinux.bin").unlink()
    (facts.root / "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed").unlink()
    assert State.MISSING in states(examine(facts), Purpose.BUILD, "boot loaders")


def test_half_of_the_boot_loaders_is_a_note(facts: Facts) -> None:
    assert states(examine(facts), Purpose.BUILD, "boot loaders") == [State.FINE]
    (facts.root / "usr/lib/ISOLINUX/isolinux.bin").unlink()
    found = states(examine(facts), Purpose.BUILD, "boot loaders")
    assert found == [State.NOTE, State.FINE]


def test_a_missing_qemu_is_named_with_its_package(facts: Facts) -> None:
    found = missing(examine(facts), Purpose.BOOT)
    assert ("qemu-system-x86_64", "qemu-system-x86") in found


def test_partitions_need_their_tool(facts: Facts) -> None:
    (facts.root / "sbin/sfdisk").unlink()
    assert missing(examine(facts), Purpose.RESTORE) == [("sfdisk", "fdisk")]


def test_a_filesystem_in_use_needs_its_mkfs(facts: Facts) -> None:
    report = examine(replace(facts, filesystems=frozenset({"ext4", "xfs"})))
    assert missing(report, Purpose.RESTORE) == [("mkfs.xfs", "xfsprogs")]


def test_storage_in_use_needs_its_tool(facts: Facts) -> None:
    report = examine(replace(facts, storage=frozenset({"lvm", "mdadm"})))
    assert missing(report, Purpose.RESTORE) == [("lvm", "lvm2"), ("mdadm", "mdadm")]


def test_a_tool_that_nothing_here_uses_is_a_note(facts: Facts) -> None:
    assert states(examine(facts), Purpose.RESTORE, "btrfs-progs") == [State.NOTE]


def test_an_ordinary_user_is_told_of_root(facts: Facts) -> None:
    report = examine(replace(facts, is_superuser=False))
    assert states(report, Purpose.BUILD, "rights") == [State.NOTE]


def test_a_loaded_module_that_is_not_on_disk_is_missing(facts: Facts) -> None:
    report = examine(replace(facts, loaded=("of_nobody",)))
    assert missing(report, Purpose.RESTORE) == [("modules", None)]


def test_what_cannot_be_read_is_a_finding(facts: Facts) -> None:
    """And all the rest is looked at nevertheless."""
    program = (
        "import sys; from pathlib import Path; from mindi.doctor import Facts, examine;"
        "root, cache = map(Path, sys.argv[1:]);"
        "none = frozenset();"
        f"facts = Facts(root, cache, {RELEASE!r}, 'x86_64', (), none, none, '', True);"
        "print(examine(facts).to_text())"
    )
    closed = facts.root / "lib/modules"
    closed.chmod(0)
    try:
        said = run_bound(program, facts.root, facts.cache)
    finally:
        closed.chmod(0o755)
    assert "MISSING  kernel: cannot read /lib/modules" in said
    assert "boot loaders: for BIOS, UEFI, Secure Boot" in said


def test_a_cache_out_of_reach_is_missing(facts: Facts) -> None:
    program = (
        "import sys; from pathlib import Path; from mindi.doctor import Facts, examine;"
        "root, cache = map(Path, sys.argv[1:]);"
        "none = frozenset();"
        f"facts = Facts(root, cache, {RELEASE!r}, 'x86_64', (), none, none, '', True);"
        "print(examine(facts).to_text())"
    )
    facts.cache.mkdir(mode=0)
    try:
        said = run_bound(program, facts.root, facts.cache / "below")
    finally:
        facts.cache.chmod(0o755)
    assert f"MISSING  cache folder {facts.cache / 'below'}: cannot be reached" in said


def test_looking_changes_nothing(facts: Facts) -> None:
    examine(facts)
    assert not facts.cache.exists()


def test_a_report_is_json_and_text() -> None:
    finding = Finding(Purpose.BUILD, State.MISSING, "BusyBox", "none", "busybox-static")
    report = DoctorReport((finding,))
    assert json.loads(json.dumps(report.to_json()))["packages"] == ["busybox-static"]
    assert "apt install busybox-static" in report.to_text()


def test_mounts_of_block_devices_count(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(
        "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/mapper/a /mnt\\040x xfs rw 0 0\n"
    )
    assert mounted_filesystems(tmp_path / "mounts") == {"ext4", "xfs"}


def test_storage_is_told_by_the_kernel_s_names(tmp_path: Path) -> None:
    (tmp_path / "sda").mkdir()
    (tmp_path / "md0/md").mkdir(parents=True)
    for name, uuid in (("dm-0", "LVM-abc"), ("dm-1", "CRYPT-LUKS2-def"), ("dm-2", "other")):
        (tmp_path / name / "dm").mkdir(parents=True)
        (tmp_path / name / "dm/uuid").write_text(uuid + "\n")
    assert stacked_storage(tmp_path) == {"mdadm", "lvm", "cryptsetup"}


def test_the_doctor_agrees_with_the_package_manager(facts: Facts) -> None:
    """The packages that are named exist: apt knows them (where it has any lists)."""
    require_tool("apt-cache", package="apt")
    from mindi.programs import run

    names = {finding.package for finding in examine(facts).findings if finding.package}
    words = {word for name in names for word in name.split()} - {"grub-efi"}
    known = set(run("apt-cache", "pkgnames").split())
    if "busybox-static" not in known:
        lacking("this machine's apt has no lists")
    assert words <= known


def test_a_cache_that_others_may_write_to_is_missing_trust(facts: Facts) -> None:
    facts.cache.mkdir()
    facts.cache.chmod(0o777)
    assert missing(examine(facts), Purpose.BUILD) == [("cache folder", None)]
