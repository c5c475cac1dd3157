"""Soft dependencies in modprobe.d are read as modprobe reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from initramfs.modsettings import read_soft_settings
from tests.support.tools import require_tool
from tests.support.tree import Tree

SETTINGS = """\
# softdep a pre: comment
softdep raid1 pre: xfs post: btrfs loop
  softdep md-mod \\
  pre: nbd
softdep nothing
options x softdep=y
weakdep dm_mod dm-crypt
softdep snd_* post: udf
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def test_lines_are_read_in_order(tree: Tree) -> None:
    path = tree.file("/etc/modprobe.d/x.conf", SETTINGS)

    found = read_soft_settings(tree.root())

    assert [(s.pattern, s.info.pre, s.info.post, s.info.weak) for s in found] == [
        ("raid1", ("xfs",), ("btrfs", "loop"), ()),
        ("md_mod", ("nbd",), (), ()),
        ("dm_mod", (), (), ("dm-crypt",)),
        ("snd_*", (), ("udf",), ()),
    ]
    assert {setting.file for setting in found} == {path}


@pytest.mark.parametrize(
    ("module", "is_for"), [("snd_hda", True), ("snd_", True), ("snd", False), ("x_snd_", False)]
)
def test_a_pattern_is_for_modules_like_it(module: str, is_for: bool, tree: Tree) -> None:
    tree.file("/etc/modprobe.d/x.conf", "softdep snd-* pre: a\n")

    assert read_soft_settings(tree.root())[0].is_for(module) is is_for


@pytest.mark.parametrize("directory", ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"])
def test_every_directory_is_read(directory: str, tree: Tree) -> None:
    path = tree.file(f"{directory}/modprobe.d/x.conf", "softdep a pre: b\n")

    assert [setting.file for setting in read_soft_settings(tree.root())] == [path]


def test_a_file_hides_those_of_its_name(tree: Tree) -> None:
    tree.file("/usr/lib/modprobe.d/x.conf", "softdep a pre: b\n")
    tree.link("/etc/modprobe.d/x.conf", "/dev/null")
    tree.file("/run/modprobe.d/y.conf", "softdep a pre: c\n")
    tree.file("/lib/modprobe.d/y.conf", "softdep a pre: d\n")

    assert [setting.info.pre for setting in read_soft_settings(tree.root())] == [("c",)]


def test_other_files_are_no_settings(tree: Tree) -> None:
    tree.file("/etc/modprobe.d/x.conf.bak", "softdep a pre: b\n")

    assert read_soft_settings(tree.root()) == ()


def test_modprobe_reads_the_same_lines(tree: Tree) -> None:
    tree.file("/etc/modprobe.d/x.conf", SETTINGS)
    argv = [str(require_tool("modprobe", package="kmod")), "-c", "-S", "none"]
    folders = ["-C", str(tree.host("/etc/modprobe.d"))]
    said = subprocess.run(argv + folders, capture_output=True, text=True, check=True).stdout
    patterns = [line.split()[1] for line in said.splitlines() if line.startswith("softdep ")]

    ours = [s.pattern for s in read_soft_settings(tree.root()) if s.info.softdeps]
    assert [pattern.replace("-", "_") for pattern in patterns if pattern != "nothing"] == ours
