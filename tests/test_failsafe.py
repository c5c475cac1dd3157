"""A fail-safe root is made once, known for whole or damaged, and made again when it must be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.errors import InputError, MissingDependency, ToolError
from mindi.failsafe import FailsafeRoot, Recipe, _with_hint, package_root
from mindi.rescuepackages import Flavour, kernel_package, required_packages, rescue_packages
from mindi.settle import settle
from mindi.tools import KEYBOARD, KITS, SSHD, UDEV
from tests.support.archive import Archive
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

RELEASE = "6.1.0-1-amd64"
KERNEL = Recipe("kernel", "amd64", ("linux-image-amd64",), closed=False)
FULL = Recipe("full", "amd64", ("linux-image-amd64", "tool"), ("wish", "firmware-of-nobody"))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    require_tool("apt-get", package="apt")
    require_tool("depmod", package="kmod")
    made = Archive(tmp_path)
    made.add_kernel(RELEASE)
    made.add("tool", depends="library", files={"usr/bin/tool": b"tool"})
    made.add("library", files={"usr/lib/library.so.1": b"library"})
    made.add("wish", files={"usr/bin/wish": b"wish"})
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make(cache: Path, recipe: Recipe, archive: Archive, *, refresh: bool = False) -> FailsafeRoot:
    return package_root(cache, recipe, refresh=refresh, sources=archive.etc)


def test_a_kernel_root_holds_the_kernel_and_nothing_else(cache: Path, archive: Archive) -> None:
    root = make(cache, KERNEL, archive)
    assert root.version == RELEASE
    assert root.kernel == root.path / f"boot/vmlinuz-{RELEASE}"
    assert root.packages == ((f"linux-image-{RELEASE}", "1"),)


def test_modules_are_indexed(cache: Path, archive: Archive) -> None:
    root = make(cache, KERNEL, archive)
    assert (root.path / f"lib/modules/{RELEASE}/modules.dep.bin").is_file()


def test_a_full_root_holds_what_its_packages_depend_on(cache: Path, archive: Archive) -> None:
    root = make(cache, FULL, archive)
    assert (root.path / "usr/lib/library.so.1").is_file()
    assert (root.path / "usr/bin/wish").is_file()
    assert (root.path / "lib/firmware/small.bin").is_file()


def test_what_the_archive_lacks_is_told(cache: Path, archive: Archive) -> None:
    assert make(cache, FULL, archive).absent == ("firmware-of-nobody",)


def test_what_must_be_there_and_is_not_is_an_error(cache: Path, archive: Archive) -> None:
    recipe = replace(FULL, required=("linux-image-amd64", "lvm-of-nobody"))
    with pytest.raises(MissingDependency, match="lvm-of-nobody for amd64"):
        make(cache, recipe, archive)


def test_a_better_hint_than_the_network_is_kept() -> None:
    def fail() -> None:
        raise MissingDependency("the program apt-get is not here", hint="install apt-get")

    with pytest.raises(MissingDependency) as caught:
        _with_hint(fail)
    assert caught.value.hint == "install apt-get"


def test_the_second_use_needs_no_network(cache: Path, archive: Archive) -> None:
    first = make(cache, FULL, archive)
    archive.remove()
    assert make(cache, FULL, archive) == first


def test_the_second_use_makes_nothing(cache: Path, archive: Archive) -> None:
    first = make(cache, FULL, archive)
    inode = first.path.stat().st_ino
    assert make(cache, FULL, archive).path.stat().st_ino == inode


def test_nothing_cached_and_no_network_is_a_clear_error(cache: Path, archive: Archive) -> None:
    archive.remove()
    with pytest.raises(ToolError) as caught:
        make(cache, FULL, archive)
    assert "network" in (caught.value.hint or "")
    assert not (cache / "roots" / "full").exists()


def test_packages_that_cannot_be_fetched_are_a_clear_error(cache: Path, archive: Archive) -> None:
    make(cache, KERNEL, archive)
    for package in archive.folder.glob("*.deb"):
        package.unlink()
    with pytest.raises(ToolError) as caught:
        make(cache, FULL, archive)
    assert "network" in (caught.value.hint or "")
    assert "Failed to fetch" in caught.value.message


def test_a_root_that_lost_a_file_is_made_again(cache: Path, archive: Archive) -> None:
    lost = make(cache, FULL, archive).path / "usr/bin/tool"
    lost.unlink()
    assert make(cache, FULL, archive).path.joinpath("usr/bin/tool").is_file()


def test_a_damaged_root_is_made_again_without_network(cache: Path, archive: Archive) -> None:
    make(cache, FULL, archive).path.joinpath("usr/bin/tool").unlink()
    archive.remove()
    assert make(cache, FULL, archive).path.joinpath("usr/bin/tool").is_file()


def test_a_root_that_gained_a_file_is_made_again(cache: Path, archive: Archive) -> None:
    stray = make(cache, FULL, archive).path / "usr/bin/stray"
    stray.write_bytes(b"")
    assert not (make(cache, FULL, archive).path / "usr/bin/stray").exists()


@pytest.mark.parametrize("stamp", [b"", b"{", b"[]", b'{"recipe": 1}'], ids=repr)
def test_a_root_with_a_bad_stamp_is_made_again(cache: Path, archive: Archive, stamp: bytes) -> None:
    first = make(cache, FULL, archive)
    (cache / "roots/full/root.json").write_bytes(stamp)
    again = make(cache, FULL, archive)
    assert again.path != first.path
    assert again.packages == first.packages


def test_an_interrupted_root_is_no_root(cache: Path, archive: Archive) -> None:
    (cache / "roots/.full.begun/tree").mkdir(parents=True)
    root = make(cache, FULL, archive)
    names = {path.name for path in (cache / "roots").iterdir()}
    assert names == {".lock", "full", root.path.parent.name}


def test_a_root_in_the_place_of_the_link_is_used_and_replaced(
    cache: Path, archive: Archive
) -> None:
    made = make(cache, FULL, archive).path.parent
    (cache / "roots/full").unlink()
    made.rename(cache / "roots/full")
    first = make(cache, FULL, archive)
    assert first.path == cache / "roots/full/tree"
    assert make(cache, FULL, archive, refresh=True).path != first.path


def test_a_refresh_leaves_a_root_to_those_who_use_it(cache: Path, archive: Archive) -> None:
    program = (
        "import sys; from pathlib import Path; from mindi.failsafe import Recipe, package_root;"
        "r = Recipe('kernel', 'amd64', ('linux-image-amd64',), closed=False);"
        "print(package_root(Path(sys.argv[1]), r, sources=Path(sys.argv[2])).path, flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, cache, archive.etc],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        used = Path(reader.stdout.readline().strip())
        newer = make(cache, KERNEL, archive, refresh=True).path
        assert newer != used
        assert (used / f"boot/vmlinuz-{RELEASE}").is_file()
        reader.communicate("")
    make(cache, KERNEL, archive, refresh=True)
    assert not used.exists()


def test_another_recipe_of_the_same_name_is_another_root(cache: Path, archive: Archive) -> None:
    make(cache, FULL, archive)
    root = make(cache, replace(FULL, wished=()), archive)
    assert not (root.path / "usr/bin/wish").exists()


def test_a_newer_kernel_comes_with_refresh_only(cache: Path, archive: Archive) -> None:
    make(cache, KERNEL, archive)
    archive.add_kernel("6.1.0-2-amd64", "2")
    assert make(cache, KERNEL, archive).version == RELEASE
    assert make(cache, KERNEL, archive, refresh=True).version == "6.1.0-2-amd64"


def test_lists_that_are_stale_are_fetched_anew(cache: Path, archive: Archive) -> None:
    make(cache, KERNEL, archive)
    archive.remove()
    archive.add("tool", "2", files={"usr/bin/tool": b"newer"})
    archive.add_kernel(RELEASE)
    root = make(cache, replace(FULL, wished=()), archive)
    assert (root.path / "usr/bin/tool").read_bytes() == b"newer"


def test_two_builders_wait_for_each_other(cache: Path, archive: Archive) -> None:
    program = (
        "import sys; from pathlib import Path; from mindi.failsafe import Recipe, package_root;"
        "r = Recipe('kernel', 'amd64', ('linux-image-amd64',), closed=False);"
        "print(package_root(Path(sys.argv[1]), r, sources=Path(sys.argv[2])).version)"
    )
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", program, cache, archive.etc], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [builder.communicate()[0].strip() for builder in builders] == [RELEASE] * 3


def test_only_its_owner_may_enter_a_root(cache: Path, archive: Archive) -> None:
    """Unpacked set-uid programs that are never updated must be no way up for other users."""
    root = make(cache, FULL, archive)
    assert root.path.parent.stat().st_mode & 0o077 == 0


def test_a_cache_that_others_may_write_to_gives_no_root(cache: Path, archive: Archive) -> None:
    make(cache, KERNEL, archive)
    cache.chmod(0o777)
    with pytest.raises(InputError, match="other users may write"):
        make(cache, KERNEL, archive)


def test_packages_are_named_once() -> None:
    names = [*required_packages(), *rescue_packages("amd64")]
    assert len(names) == len(set(names))


def test_every_tool_of_an_image_has_its_package_fetched() -> None:
    kits = {kit.package for kit in (*KITS, UDEV, SSHD, KEYBOARD)}
    # Stands for whichever of GRUB's packages the architecture has.
    assert kits - {"grub-efi"} <= {*required_packages(), *rescue_packages("amd64")}


def test_every_package_that_is_fetched_is_for_something_in_the_image() -> None:
    kits = {kit.package for kit in (*KITS, UDEV, SSHD, KEYBOARD)}
    # What has no tools: files of boot loaders, keymaps, certificates, our Python's libraries.
    others = {"ca-certificates", "console-data", "isolinux", "shim-signed", "syslinux-common"}
    prefixes = ("firmware-", "grub-", "python3-")
    idle = {
        name
        for name in set(rescue_packages("amd64")) - kits - others
        if not name.startswith(prefixes) and not name.endswith("-microcode")
    }
    assert idle == set()


@pytest.mark.parametrize(
    ("flavour", "architecture", "name"),
    [
        (Flavour.GENERIC, "amd64", "linux-image-amd64"),
        (Flavour.CLOUD, "arm64", "linux-image-cloud-arm64"),
        (Flavour.GENERIC, "armhf", "linux-image-armmp"),
    ],
)
def test_kernel_packages_are_named_as_debian_does(
    flavour: Flavour, architecture: str, name: str
) -> None:
    assert kernel_package(flavour, architecture) == name


def test_settling_makes_users_and_groups(tmp_path: Path) -> None:
    put(tmp_path, "usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n")
    put(tmp_path, "usr/share/base-passwd/group.master", "root:*:0:\n")
    put(tmp_path, "usr/sbin/sshd", "")
    (tmp_path / "etc").mkdir()
    settle(tmp_path)
    names = [line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    assert names == ["root", "sshd"]


def test_settling_twice_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, "usr/share/base-passwd/group.master", "root:*:0:\n")
    settle(tmp_path)
    once = (tmp_path / "etc/group").read_bytes()
    settle(tmp_path)
    assert (tmp_path / "etc/group").read_bytes() == once


def test_settling_links_alternatives_that_are_there(tmp_path: Path) -> None:
    put(tmp_path, "usr/bin/mawk", "")
    settle(tmp_path)
    assert (tmp_path / "usr/bin/awk").readlink() == Path("/usr/bin/mawk")
    assert not (tmp_path / "usr/bin/which").is_symlink()


def test_settling_bundles_certificates(tmp_path: Path) -> None:
    put(tmp_path, "usr/share/ca-certificates/mozilla/b.crt", "B")
    put(tmp_path, "usr/share/ca-certificates/mozilla/a.crt", "A\n")
    settle(tmp_path)
    assert (tmp_path / "etc/ssl/certs/ca-certificates.crt").read_text() == "A\nB\n"


def put(tree: Path, path: str, text: str) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)
