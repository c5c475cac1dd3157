"""An image of another root: complete whatever its architecture, and nothing of the root is run."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindi.image import open_image
from tests.support.armed import arm, tree_of_this_machine
from tests.support.foreign import arm64_root
from tests.support.unpackedimage import Content, contents, missing_modules, missing_needs

pytestmark = pytest.mark.slow

MINDI = Path(sys.executable).with_name("mindi")
# Where the loader of Debian's arm64 looks (ld.so --list-diagnostics, path.system_dirs).
LIBRARIES = "/usr/lib/aarch64-linux-gnu"
DIRECTORIES = ("/lib/aarch64-linux-gnu", LIBRARIES, "/lib", "/usr/lib")


def build(root: Path, image: Path) -> Path:
    """Return the initrd that ``mindi build --root`` makes of a tree."""
    argv = [str(MINDI), "build", "--quiet", "--output", "initramfs", "--root", str(root)]
    done = subprocess.run([*argv, "-o", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return image


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The initrd of a tree of unpacked Debian packages for 64-bit ARM."""
    root = arm64_root()
    return build(root.path, tmp_path_factory.mktemp("arm64") / "initrd.img")


@pytest.fixture(scope="module")
def inside(arm64: Path) -> dict[str, Content]:
    """All that is in that initrd."""
    return contents(arm64)


def needs(image: dict[str, Content], *paths: str) -> list[str]:
    return list(missing_needs(image, paths, machine="EM_AARCH64", directories=DIRECTORIES))


def test_the_architecture_is_recorded(arm64: Path) -> None:
    assert open_image(arm64).record.architecture == "aarch64"


def test_the_tools_of_the_tree_are_there(arm64: Path) -> None:
    tools = {tool.name for tool in open_image(arm64).record.tools}
    assert tools >= {"lvm", "mdadm", "cryptsetup", "mke2fs", "sfdisk", "udevadm", "bash"}


def test_all_that_its_programs_need_is_there_and_of_its_machine(
    inside: dict[str, Content],
) -> None:
    assert needs(inside, *inside) == []


@pytest.mark.parametrize(
    ("lost", "by", "words"),
    [
        (f"{LIBRARIES}/libc.so.6", "/usr/sbin/lvm", "needs libc.so.6"),
        (f"{LIBRARIES}/ld-linux-aarch64.so.1", "/usr/sbin/lvm", "is loaded by /lib/ld-linux"),
        ("/usr/bin/busybox", "/init", "is a script for /bin/busybox"),
    ],
    ids=["library", "loader", "interpreter"],
)
def test_what_lacks_would_be_noticed(
    lost: str, by: str, words: str, inside: dict[str, Content]
) -> None:
    assert lost in inside
    less = {path: content for path, content in inside.items() if path != lost}
    assert f"{by} {words}" in "\n".join(needs(less, by))


def test_a_file_of_another_machine_would_be_noticed() -> None:
    ours = Content(0o100755, Path(sys.executable).resolve().read_bytes())
    assert "/usr/bin/ours is for" in "\n".join(needs({"/usr/bin/ours": ours}, "/usr/bin/ours"))


def test_all_that_its_modules_depend_on_is_there(inside: dict[str, Content]) -> None:
    assert sum(path.endswith(".ko") for path in inside) > 100
    assert list(missing_modules(inside)) == []


def test_a_lost_module_would_be_noticed(inside: dict[str, Content]) -> None:
    less = {path: content for path, content in inside.items() if path.endswith("/dm-crypt.ko")}
    assert less
    assert "depends on dm-mod" in "\n".join(missing_modules(less))


def test_its_loader_has_a_cache(inside: dict[str, Content]) -> None:
    assert b"/lib/aarch64-linux-gnu/libc.so.6\0" in inside["/etc/ld.so.cache"].data


@dataclass(frozen=True)
class Armed:
    """A tree that this machine could well run, and the mark that it leaves if it does."""

    root: Path
    mark: Path


@pytest.fixture(scope="module")
def armed_tree(tmp_path_factory: pytest.TempPathFactory) -> Armed:
    if platform.machine() != "x86_64":
        pytest.skip("programs are armed with x86-64 code")
    folder = tmp_path_factory.mktemp("armed")
    armed = Armed(tree_of_this_machine(folder / "root"), folder / "mark")
    assert len(arm(armed.root, armed.mark)) > 10
    return armed


@pytest.fixture
def armed(armed_tree: Armed) -> Armed:
    armed_tree.mark.unlink(missing_ok=True)
    return armed_tree


def test_nothing_of_a_root_is_run(armed: Armed, tmp_path: Path) -> None:
    image = open_image(build(armed.root, tmp_path / "initrd.img"))
    assert {tool.name for tool in image.record.tools} >= {"bash", "mke2fs"}
    assert {"/usr/bin/busybox", "/usr/bin/python3"} <= set(contents(image.path))
    assert not armed.mark.exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["bin/busybox", "--list"],
        ["usr/bin/bash", "-c", "true"],
        ["usr/bin/python3", "--version"],
        ["usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "--help"],
        [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, '{}'); import this"],
    ],
    ids=["static", "dynamic", "python", "loader", "module"],
)
def test_what_runs_would_be_noticed(argv: list[str], armed: Armed) -> None:
    library = next(armed.root.glob("usr/lib*/python3.*"))
    words = [word.format(library) for word in argv]
    subprocess.run([str(armed.root / words[0]), *words[1:]], capture_output=True, check=False)
    assert armed.mark.exists()
