"""The ISO image: what is on it, by xorriso's word; that it is whole, or not there at all."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pycdlib
import pytest

from initramfs.errors import InputError, OutputError, UsageError
from initramfs.rootfs import Root
from mindi.bootfiles import BootFiles, find_boot_files
from mindi.efi import id_path
from mindi.iso import IsoReport, IsoSpec, write_iso
from mindi.menu import rescue_menu
from tests.support.bootroot import add_bios, add_signed, boot_tree, made
from tests.support.tools import require_file, require_tool
from tests.support.tree import Tree

WHEN_S = 1_714_567_890  # 2024-05-01 12:51:30 UTC
KERNEL, INITRD = made("kernel", 3_000_001), made("initrd", 5_000_007)


def spec_of(folder: Path, boot: BootFiles) -> IsoSpec:
    """Return what makes a small image; kernel and initrd are in ``folder``."""
    kernel, initrd = folder / "kernel", folder / "initrd"
    kernel.write_bytes(KERNEL)
    initrd.write_bytes(INITRD)
    return IsoSpec(kernel, initrd, rescue_menu("title"), boot, "MINDI_TEST", WHEN_S)


@pytest.fixture
def spec(tmp_path: Path) -> IsoSpec:
    """What makes a small image with made boot loaders."""
    boot = find_boot_files([boot_tree(tmp_path / "root").root()], architecture="x86_64")
    return spec_of(tmp_path, boot)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the image goes: a folder with nothing else in it."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "rescue.iso"


def xorriso(image: Path, *arguments: str, tree: str = "any") -> str:
    """Return what xorriso says of an image; it must find nothing to complain of.

    ``tree`` is what it reads: ``any`` (Rock Ridge) or ``norock`` (Joliet).
    """
    program = require_tool("xorriso")
    argv = [program, "-abort_on", "WARNING", "-read_fs", tree, "-indev", f"stdio:{image}"]
    argv += arguments
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def extracted(image: Path, to: Path, *, tree: str = "any") -> dict[str, bytes]:
    """Return all files of an image as xorriso reads them: path to content."""
    xorriso(image, "-osirrox", "on", "-extract", "/", str(to), tree=tree)
    subprocess.run(["chmod", "-R", "u+w", str(to)], check=True)
    return {
        f"/{path.relative_to(to)}": path.read_bytes() for path in to.rglob("*") if path.is_file()
    }


def interfering(act: Callable[[], object], *, at: float) -> Callable[[int, int], None]:
    """Return a progress that acts once, when the given part of the work is done."""
    acted = False

    def progress(done: int, total: int) -> None:
        nonlocal acted
        if not acted and done >= at * total:
            acted = True
            act()

    return progress


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow past 6 MiB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_file_is_where_it_should_be(spec: IsoSpec, out: Path, tmp_path: Path) -> None:
    report = write_iso(spec, out)
    found = extracted(out, tmp_path / "x")
    assert set(found) == {
        "/.disk/info",
        id_path(report.identity),
        "/EFI/BOOT/BOOTX64.EFI",
        "/EFI/BOOT/grubx64.efi",
        "/EFI/BOOT/mmx64.efi",
        "/boot.cat",
        "/boot/grub/grub.cfg",
        "/boot/initrd.img",
        "/boot/vmlinuz",
        "/efi.img",
        "/isolinux/chain.c32",
        "/isolinux/isohdpfx.bin",
        "/isolinux/isolinux.bin",
        "/isolinux/isolinux.cfg",
        "/isolinux/ldlinux.c32",
        "/isolinux/libcom32.c32",
        "/isolinux/libutil.c32",
        "/isolinux/menu.c32",
        "/mindi/sha256sums",
    }
    assert found["/boot/vmlinuz"] == KERNEL
    assert found["/boot/initrd.img"] == INITRD


def test_isolinux_finds_its_files_by_their_plain_names(spec: IsoSpec, out: Path) -> None:
    write_iso(spec, out)
    iso = pycdlib.PyCdlib()
    iso.open(str(out))
    names = {f"{folder}/{name}" for folder, _, files in iso.walk(iso_path="/") for name in files}
    iso.close()
    assert names > {
        "/BOOT/VMLINUZ.;1",
        "/BOOT/INITRD.IMG;1",
        "/ISOLINUX/ISOLINUX.CFG;1",
        "/ISOLINUX/LDLINUX.C32;1",
    }


def test_joliet_holds_the_same_files(spec: IsoSpec, out: Path, tmp_path: Path) -> None:
    write_iso(spec, out)
    joliet = extracted(out, tmp_path / "joliet", tree="norock")
    assert joliet == extracted(out, tmp_path / "rockridge")


def test_both_firmwares_find_their_loader_from_cdrom(spec: IsoSpec, out: Path) -> None:
    write_iso(spec, out)
    said = xorriso(out, "-report_el_torito", "plain")
    assert "El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4" in said
    assert "El Torito img path :   1  /isolinux/isolinux.bin" in said
    assert "El Torito img opts :   1  boot-info-table" in said
    assert "El Torito boot img :   2  UEFI  y   none" in said
    assert "El Torito img path :   2  /efi.img" in said


def test_both_firmwares_find_their_loader_on_disk(spec: IsoSpec, out: Path) -> None:
    write_iso(spec, out)
    said = xorriso(out, "-report_system_area", "plain")
    assert "System area summary: MBR cyl-align-off GPT" in said
    assert "MBR partition path :   3  /efi.img" in said
    assert "GPT partition path :   1  /efi.img" in said


def test_sgdisk_finds_no_problem(spec: IsoSpec, out: Path) -> None:
    sgdisk = require_tool("sgdisk", package="gdisk")
    write_iso(spec, out)
    done = subprocess.run([sgdisk, "-v", out], capture_output=True, text=True, check=True)
    assert "No problems found" in done.stdout


def test_the_loaders_of_this_machine_make_a_sound_image(out: Path, tmp_path: Path) -> None:
    require_file("/usr/lib/ISOLINUX/isolinux.bin", package="isolinux")
    require_file(
        "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", package="grub-efi-amd64-signed"
    )
    boot = find_boot_files([Root(Path("/"))], architecture="x86_64")
    report = write_iso(spec_of(tmp_path, boot), out)
    said = xorriso(out, "-report_el_torito", "plain")
    assert "El Torito img opts :   1  boot-info-table isohybrid-suitable" in said
    said = xorriso(out, "-report_system_area", "plain")
    assert "System area summary: MBR isohybrid cyl-align-off GPT" in said
    assert report.boots[0] == "BIOS"
    assert report.boots[1].startswith("UEFI x64")


def test_the_report_is_of_what_was_written(spec: IsoSpec, out: Path) -> None:
    report = write_iso(spec, out)
    assert report.path == out
    assert report.size_bytes == out.stat().st_size
    assert report.boots == ("BIOS", "UEFI x64 with Secure Boot")
    said = subprocess.run(["sha256sum", spec.kernel], capture_output=True, text=True, check=True)
    assert report.kernel_sha256 == said.stdout.split()[0]


@pytest.mark.parametrize("label", ["A", "mindi rescue 2024", "X" * 32])
def test_the_label_is_the_one_given(spec: IsoSpec, out: Path, label: str) -> None:
    write_iso(replace(spec, label=label), out)
    assert f"Volume Id    : {label}\n" in xorriso(out, "-pvd_info")


def test_an_image_without_bios_is_sound(out: Path, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "root")
    add_signed(tree, machine="aa64", platform="arm64-efi")
    boot = find_boot_files([tree.root()], architecture="aarch64")
    report = write_iso(spec_of(tmp_path, boot), out)
    assert report.boots == ("UEFI aa64 with Secure Boot",)
    assert "El Torito boot img :   1  UEFI  y   none" in xorriso(out, "-report_el_torito", "plain")
    assert "/EFI/BOOT/BOOTAA64.EFI" in extracted(out, tmp_path / "x")


def test_an_image_without_uefi_is_sound(out: Path, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "root")
    add_bios(tree)
    nothing = Path("/nowhere/grub-mkimage")
    boot = find_boot_files([tree.root()], architecture="x86_64", mkimage=nothing)
    report = write_iso(spec_of(tmp_path, boot), out)
    assert report.boots == ("BIOS",)
    assert "/efi.img" not in extracted(out, tmp_path / "x")
    assert "System area summary: MBR" in xorriso(out, "-report_system_area", "plain")


def test_extra_files_of_any_name_come_along(spec: IsoSpec, out: Path, tmp_path: Path) -> None:
    sources = {
        "/set/manifest.json": b"{}",
        "/set/slices/0000001.afio.zst": made("slice", 2048),
        "/set/slices/a name that is much too long for the plain names of ISO 9660.txt": b"long",
        "/set/slices/A Name That Is Much Too Long For The Plain Names of ISO 9660.txt": b"LONG",
        "/set/empty": b"",
        "/1/2/3/4/5/6/7/8/9/deep": b"deep",
    }
    extra = {}
    for number, (path, content) in enumerate(sources.items()):
        extra[path] = tmp_path / f"source{number}"
        extra[path].write_bytes(content)
    write_iso(replace(spec, extra=extra), out)
    found = extracted(out, tmp_path / "x")
    assert {path: found.get(path) for path in sources} == sources


def test_an_image_with_a_backup_in_it_is_for_its_owner_alone(
    spec: IsoSpec, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "slice").write_bytes(b"root:secret")
    write_iso(replace(spec, extra={"/set/slice": tmp_path / "slice"}), out)
    assert out.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", ["a", "", "/", "/a/../b", "/a//b", "/a/", "/./a"])
def test_an_extra_path_that_is_none_is_refused(spec: IsoSpec, out: Path, path: str) -> None:
    with pytest.raises(UsageError, match="absolute path"):
        write_iso(replace(spec, extra={path: spec.kernel}), out)


@pytest.mark.parametrize("path", ["/boot/vmlinuz", "/boot.cat", "/mindi/sha256sums"])
def test_an_extra_file_does_not_take_a_place_of_the_image(
    spec: IsoSpec, out: Path, path: str
) -> None:
    with pytest.raises(UsageError, match="cannot take its place"):
        write_iso(replace(spec, extra={path: spec.kernel}), out)


def build_elsewhere(spec: IsoSpec, out: Path, environment: Mapping[str, str]) -> bytes:
    """Build in another process with its own time zone and hash seed; return the image."""
    program = (
        "import sys; from pathlib import Path; from mindi.bootfiles import find_boot_files\n"
        "from mindi.iso import IsoSpec, write_iso; from mindi.menu import rescue_menu\n"
        "from initramfs.rootfs import Root\n"
        "kernel, initrd, root, out = map(Path, sys.argv[1:5])\n"
        "boot = find_boot_files([Root(root)], architecture='x86_64')\n"
        "menu = rescue_menu('title')\n"
        "spec = IsoSpec(kernel, initrd, menu, boot, 'MINDI_TEST', int(sys.argv[5]))\n"
        "write_iso(spec, out)\n"
    )
    assert spec.boot.bios is not None
    argv = [sys.executable, "-c", program, spec.kernel, spec.initrd, spec.boot.bios.root, out]
    subprocess.run([*argv, str(WHEN_S)], check=True, env={**os.environ, **environment})
    return out.read_bytes()


def test_the_same_input_gives_the_same_bytes_anywhere_at_any_time(spec: IsoSpec, out: Path) -> None:
    one = build_elsewhere(spec, out, {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "1"})
    for source in (spec.kernel, spec.initrd):
        os.utime(source, (1, 1))
    other = build_elsewhere(spec, out, {"TZ": "America/St_Johns", "PYTHONHASHSEED": "2"})
    assert one == other


def test_every_date_is_the_one_given(spec: IsoSpec, out: Path) -> None:
    write_iso(spec, out)
    said = xorriso(out, "-pvd_info")
    for kind in ("Creation Time", "Modif. Time  ", "Eff. Time    "):
        assert f"{kind}: 2024050112513000\n" in said
    dates = xorriso(out, "-find", "/", "-exec", "lsdl").splitlines()
    assert len(dates) > 15
    assert all("May  1  2024" in line for line in dates)


def test_another_time_makes_another_image(spec: IsoSpec, out: Path) -> None:
    one = write_iso(spec, out)
    other = write_iso(replace(spec, timestamp_s=WHEN_S + 1), out)
    assert one.identity != other.identity


def test_another_initrd_makes_another_image(spec: IsoSpec, out: Path) -> None:
    one = write_iso(spec, out)
    spec.initrd.write_bytes(INITRD[:-1] + b"\0")
    assert write_iso(spec, out).identity != one.identity


def test_progress_goes_from_start_to_end(spec: IsoSpec, out: Path) -> None:
    told: list[tuple[int, int]] = []
    write_iso(spec, out, progress=lambda done, total: told.append((done, total)))
    done = [step for step, _ in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1]


def left_in(out: Path) -> list[Path]:
    """Return what is in the folder of the image."""
    return list(out.parent.iterdir())


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_nothing_behind(spec: IsoSpec, out: Path) -> None:
    with pytest.raises(OutputError, match=f"cannot write {out}: File too large") as caught:
        write_iso(spec, out)
    assert str(out.parent) in (caught.value.hint or "")
    assert left_in(out) == []


def test_a_full_file_system_leaves_nothing_behind(spec: IsoSpec, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            write_iso(spec, small / "rescue.iso")
        assert left_in(small / "rescue.iso") == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_failure_keeps_the_image_that_was_there(spec: IsoSpec, out: Path) -> None:
    out.write_bytes(b"old")
    spec.kernel.unlink()
    with pytest.raises(InputError, match=str(spec.kernel)):
        write_iso(spec, out)
    assert out.read_bytes() == b"old"
    assert left_in(out) == [out]


@pytest.mark.parametrize("at", [0.2, 0.9], ids=["writing", "reading back"])
def test_an_interruption_leaves_nothing_behind(spec: IsoSpec, out: Path, at: float) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_iso(spec, out, progress=interfering(interrupt, at=at))
    assert left_in(out) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(KERNEL[:-1] + bytes([KERNEL[-1] ^ 1])),
        lambda path: path.write_bytes(KERNEL + b"more"),
        lambda path: path.write_bytes(KERNEL[:1000]),
    ],
    ids=["a byte", "longer", "shorter"],
)
def test_a_source_that_changes_meanwhile_is_found(
    spec: IsoSpec, out: Path, change: Callable[[Path], int]
) -> None:
    changing = interfering(lambda: change(spec.kernel), at=0.5)
    with pytest.raises(OutputError, match=r"reads back different.*/boot/vmlinuz"):
        write_iso(spec, out, progress=changing)
    assert left_in(out) == []


def test_a_source_that_vanishes_meanwhile_is_named(spec: IsoSpec, out: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read {spec.initrd}"):
        write_iso(spec, out, progress=interfering(spec.initrd.unlink, at=0))
    assert left_in(out) == []


def test_a_damaged_image_is_found_when_it_is_read_back(spec: IsoSpec, out: Path) -> None:
    def damage() -> None:
        [part] = left_in(out)
        with part.open("rb+") as stream:
            place = stream.read().index(INITRD[-64:])
            stream.seek(place + 17)
            stream.write(bytes([INITRD[-64 + 17] ^ 0x40]))

    with pytest.raises(OutputError, match=r"/boot/initrd.img differs from .*initrd"):
        write_iso(spec, out, progress=interfering(damage, at=0.501))
    assert left_in(out) == []


def test_a_folder_that_is_not_there_is_told(spec: IsoSpec, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_iso(spec, tmp_path / "none" / "rescue.iso")


def test_a_report_is_a_value(spec: IsoSpec, out: Path) -> None:
    report = write_iso(spec, out)
    assert isinstance(report, IsoReport)
    assert write_iso(spec, out) == report
