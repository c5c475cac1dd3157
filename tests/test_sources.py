"""What an image is made of is chosen and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.rootfs import Root
from mindi.failsafe import FailsafeRoot
from mindi.kernel import Kernel
from mindi.sources import Sources, absence, kernel_package
from tests.support.tree import Tree

SIGNED = ("linux-image-6.1.0-9-amd64", "6.1.27-1")
UNSIGNED = ("linux-image-unsigned-6.1.0-9-amd64", "6.1.27-1")
META = ("linux-image-amd64", "6.1.27-1")


def test_few_absent_packages_are_all_named() -> None:
    assert absence(("a", "b")).endswith("2 packages (a, b)")


def test_many_absent_packages_are_counted() -> None:
    names = [f"firmware-{letter}" for letter in "abcdefg"]
    assert absence(names).endswith(
        "7 packages (firmware-a, firmware-b, firmware-c, firmware-d, firmware-e and 2 more)"
    )


@pytest.mark.parametrize(
    ("packages", "found"),
    [
        ((META, SIGNED), "linux-image-6.1.0-9-amd64 6.1.27-1"),
        ((UNSIGNED,), "linux-image-unsigned-6.1.0-9-amd64 6.1.27-1"),
        ((META,), None),
    ],
    ids=["signed", "unsigned", "none"],
)
def test_the_package_of_a_kernel_is_the_one_of_its_release(
    packages: tuple[tuple[str, str], ...], found: str | None
) -> None:
    tree = FailsafeRoot(Path("/tree"), Path("/tree/boot/vmlinuz"), "6.1.0-9-amd64", packages)
    assert kernel_package(tree) == found


def sources(root: Path, *, own: bool = False, failsafe: bool = False, of: Path) -> Sources:
    kernel = Kernel(of / "boot/vmlinuz-6.1", "6.1", Root(of), frozenset())
    package = "linux-image-6.1 6.1-1" if failsafe else None
    return Sources(Root(root), kernel, own, failsafe, package)


@pytest.mark.parametrize(
    ("own", "failsafe", "words"),
    [
        (True, False, "the fail-safe packages"),
        (False, True, "the fail-safe packages"),
        (False, False, "the root tree"),
    ],
    ids=["kernel of its own", "fail-safe", "another root"],
)
def test_what_is_from_a_root_does_not_tell_where_that_is(
    own: bool, failsafe: bool, words: str, tmp_path: Path
) -> None:
    tree = Tree(tmp_path).root().path
    found = sources(Path("/") if own else tree, own=own, failsafe=failsafe, of=tree)
    assert found.origin(tree / "usr/lib/shim", tree) == f"/usr/lib/shim of {words}"
    assert str(tmp_path) not in found.kernel_origin


def test_what_is_from_here_is_of_this_system(tmp_path: Path) -> None:
    tree = Tree(tmp_path).root().path
    found = sources(tree, of=tree)
    assert found.origin(Path("/usr/lib/shim"), Path("/")) == "/usr/lib/shim of this system"
    assert found.origin(Path("/srv/vmlinuz"), tree) == "/srv/vmlinuz of this system"


def test_a_fetched_kernel_is_of_its_package(tmp_path: Path) -> None:
    found = sources(tmp_path, failsafe=True, of=tmp_path)
    assert found.kernel_origin == "/boot/vmlinuz-6.1 of the package linux-image-6.1 6.1-1"
