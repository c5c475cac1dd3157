"""The tools of the table: found in a root, added with their data, or told as absent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from initramfs.rootfs import Root
from mindi.toolbox import add_kit, expand, find_tool, links_to
from mindi.tools import KITS, Family, Kit, Tool
from tests.support.rights import run_bound
from tests.support.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def test_a_tool_is_found_as_it_is_named(tree: Tree) -> None:
    tree.file("/usr/sbin/lvm", b"a program", mode=0o755)
    tree.link("/usr/sbin/lvcreate", "lvm")
    assert find_tool(tree.root(), Tool("lvcreate")) == "/usr/sbin/lvcreate"


def test_a_tool_by_its_path_may_be_where_older_trees_have_it(tree: Tree) -> None:
    tree.file("/lib/systemd/systemd-udevd", b"a program", mode=0o755)
    udevd = Tool("/usr/lib/systemd/systemd-udevd")
    assert find_tool(tree.root(), udevd) == "/lib/systemd/systemd-udevd"


def test_absent_tools_are_told_with_their_package(tree: Tree) -> None:
    toolbox = add_kit(tree.builder(), Kit(Family.STORAGE, "lvm2", (Tool("lvm"),), ("/etc/lvm",)))
    assert [(tool.name, tool.package) for tool in toolbox.absent] == [("lvm", "lvm2")]


def test_data_comes_with_its_tool(tree: Tree) -> None:
    tree.program("/usr/sbin/lvm")
    tree.file("/etc/lvm/profile/one.profile")
    builder = tree.builder()
    add_kit(builder, Kit(Family.STORAGE, "lvm2", (Tool("lvm"),), ("/etc/lvm/profile",)))
    assert "/etc/lvm/profile/one.profile" in builder.build()


def test_data_stays_without_its_tool(tree: Tree) -> None:
    tree.file("/etc/lvm/lvm.conf")
    builder = tree.builder()
    add_kit(builder, Kit(Family.STORAGE, "lvm2", (Tool("lvm"),), ("/etc/lvm/lvm.conf",)))
    assert "/etc/lvm/lvm.conf" not in builder.build()


def test_plug_ins_bring_their_libraries(tree: Tree) -> None:
    tree.program("/usr/sbin/lvm")
    tree.library("/usr/lib/x86_64-linux-gnu/libplugin.so.1")
    tree.library("/usr/lib/x86_64-linux-gnu/device-mapper/a.so", "libplugin.so.1")
    builder = tree.builder()
    add_kit(builder, Kit(Family.STORAGE, "lvm2", (Tool("lvm"),), ("/usr/lib/*/device-mapper/*",)))
    assert "/usr/lib/x86_64-linux-gnu/libplugin.so.1" in builder.build()


def test_all_names_of_a_tool_come_along(tree: Tree) -> None:
    tree.program("/usr/sbin/lvm")
    tree.link("/usr/sbin/lvcreate", "lvm")
    tree.link("/usr/sbin/other", "/usr/sbin/else")
    builder = tree.builder()
    add_kit(builder, Kit(Family.STORAGE, "lvm2", (Tool("lvm"),), links=True))
    closure = builder.build()
    assert closure.entries["/usr/sbin/lvcreate"].target == "lvm"
    assert "/usr/sbin/other" not in closure


def test_what_is_put_out_of_force_stays_so(tree: Tree) -> None:
    tree.program("/usr/bin/udevadm")
    tree.link("/etc/systemd/network/99-default.link", "/dev/null")
    kit = Kit(Family.SYSTEM, "udev", (Tool("udevadm"),), ("/etc/systemd/network/*.link",))
    builder = tree.builder()
    add_kit(builder, kit)
    closure = builder.build()
    assert closure.entries["/etc/systemd/network/99-default.link"].target == "/dev/null"


def test_programs_that_cannot_be_listed_are_named(tree: Tree) -> None:
    tree.program("/usr/sbin/lvm")
    tree.host(tree.directory("/usr/bin")).chmod(0o111)
    program = """
import sys, pathlib
from initramfs.errors import InputError
from initramfs.rootfs import Root
from mindi.toolbox import links_to
try:
    links_to(Root(pathlib.Path(sys.argv[1])), "/usr/sbin/lvm")
except InputError as error:
    print(error)
"""
    assert run_bound(program, tree.path).startswith("cannot read /usr/bin in the root tree")


def test_links_are_found_once_in_a_merged_usr(tree: Tree) -> None:
    tree.program("/usr/sbin/lvm")
    tree.link("/usr/sbin/lvs", "lvm")
    tree.link("/sbin", "usr/sbin")
    assert links_to(tree.root(), "/sbin/lvm") == ("/usr/sbin/lvs",)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/usr/lib/*/a.so", ["/usr/lib/one/a.so", "/usr/lib/two/a.so"]),
        ("/usr/lib/one/[ab].so", ["/usr/lib/one/a.so"]),
        ("/usr/lib/one", ["/usr/lib/one"]),
        ("/usr/lib/three/*", []),
        ("/usr/lib/udev/*.rules", ["/lib/udev/1.rules"]),
    ],
    ids=["directories", "set", "plain", "nothing", "older tree"],
)
def test_patterns(tree: Tree, pattern: str, found: list[str]) -> None:
    for path in ("/usr/lib/one/a.so", "/usr/lib/two/a.so", "/usr/lib/file", "/lib/udev/1.rules"):
        tree.file(path)
    assert list(expand(tree.root(), pattern)) == found


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: f"{kit.package}")
def test_tools_of_this_machine_start_as_the_table_says(kit: Kit) -> None:
    root = Root(Path("/"))
    found = [(tool, path) for tool in kit.tools if (path := find_tool(root, tool))]
    ended = {
        tool.name: subprocess.run(
            [path, *tool.start],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            cwd="/tmp",
            timeout=30,
        ).returncode
        for tool, path in found
    }
    assert {
        tool.name: ended[tool.name] for tool, _ in found if ended[tool.name] not in tool.statuses
    } == {}
