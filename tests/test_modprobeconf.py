"""What keeps a module from being loaded stays out of the image, all other settings come."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from initramfs.closure import Because, FileClosure
from mindi.modprobeconf import add_modprobe_settings, loadable
from tests.support.modules import Ko, write_tree
from tests.support.tools import require_tool
from tests.support.tree import Tree

SETTINGS = """\
# CIS 1.1.1.4 \\
options hidden by=comment
install xfs /bin/false
  blacklist usb-storage
options md_mod start_ro=1
install udf \\
  /bin/true
remove sd_mod /bin/false
softdep raid456 \\
  pre: xor
options loop \\
  max_loop=8 \\
  max_part=7
alias net-pf-9 md_mod
alias net-pf-10 off
alias squashfs /bin/true
inst\\
all jffs2 /bin/false
options two name=a\\\\
blacklist dm_mod
include /etc/other
"""

KEPT = [
    *("alias net_pf_9 md_mod", "options loop max_loop=8 max_part=7", "options md_mod start_ro=1"),
    *("options two name=a\\", "softdep raid456 pre: xor"),
]


def effective(folder: Path) -> list[str]:
    """Return what modprobe takes from a folder of settings, sorted, spaces made one.

    What it takes from the kernel's command line as well is left out.
    """
    return sorted(set(_all_settings(str(folder))) - set(_all_settings(os.devnull)))


def _all_settings(folder: str) -> list[str]:
    argv = [str(require_tool("modprobe", package="kmod")), "-C", folder, "-c"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    settings = done.stdout.partition("# End of configuration files")[0]
    return [" ".join(line.split()) for line in settings.splitlines() if line.strip()]


def test_modprobe_takes_what_was_kept_as_before(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_bytes(loadable(SETTINGS.encode()))
    assert effective(tmp_path) == KEPT


def test_modprobe_would_have_taken_the_rest_too(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text(SETTINGS)
    lost = {line.split()[0] + " " + line.split()[1] for line in effective(tmp_path)}
    assert {"install xfs", "install udf", "install jffs2", "blacklist usb_storage"} <= lost
    assert {"blacklist dm_mod", "alias net_pf_10"} <= lost
    assert "options hidden" not in lost


def test_a_last_line_without_its_end_gets_one() -> None:
    assert loadable(b"blacklist xfs\noptions a b=1") == b"options a b=1\n"


def test_an_alias_of_a_module_that_is_not_there_goes() -> None:
    settings = b"alias pci:v1* r8168\nalias net-pf-9 md-mod\noptions r8168 a=1\n"
    assert loadable(settings, {"md_mod"}) == b"alias net-pf-9 md-mod\noptions r8168 a=1\n"
    assert loadable(settings) == settings


def test_such_an_alias_would_hide_the_module_that_is_there(tmp_path: Path) -> None:
    """Why it goes: modprobe asks the settings first, and then asks no further."""
    modprobe = str(require_tool("modprobe", package="kmod"))
    top = write_tree(tmp_path, [Ko("kernel/r8169.ko", aliases=("pci:v1*",))])
    depmod = require_tool("depmod", package="kmod")
    subprocess.run([depmod, "-b", tmp_path, top.name], check=True)
    settings = tmp_path / "x.conf"
    answers = []
    for modules in (None, {"r8169"}):
        settings.write_bytes(loadable(b"alias pci:v1* r8168\n", modules))
        argv = [
            modprobe,
            "-C",
            str(settings),
            "-d",
            str(tmp_path),
            "-S",
            top.name,
            "-R",
            "pci:v1d2",
        ]
        answers.append(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert answers == ["r8168\n", "r8169\n"]


def added(tree: Tree, modules: Collection[str] | None = None) -> FileClosure:
    builder = tree.builder()
    add_modprobe_settings(builder, Because("for the test"), modules=modules)
    return builder.build()


def test_aliases_of_the_image_are_of_its_modules(tree: Tree) -> None:
    path = tree.file("/etc/modprobe.d/x.conf", "alias a one\nalias b two\n")
    assert added(tree, {"two"}).entries[path].content == b"alias b two\n"


@pytest.mark.parametrize("directory", ["/etc", "/usr/local/lib", "/usr/lib", "/lib"])
def test_settings_of_every_directory_come(directory: str, tree: Tree) -> None:
    path = tree.file(f"{directory}/modprobe.d/x.conf", "options a b=1\nblacklist a\n")
    assert added(tree).entries[path].content == b"options a b=1\n"


def test_settings_of_run_are_moved_for_run_is_mounted_over(tree: Tree) -> None:
    tree.file("/run/modprobe.d/x.conf", "options a b=1\nblacklist a\n")
    tree.file("/usr/lib/modprobe.d/x.conf", "options a b=2\n")
    closure = added(tree)
    assert closure.entries["/etc/modprobe.d/x.conf"].content == b"options a b=1\n"
    assert "/run/modprobe.d/x.conf" not in closure


def test_settings_of_run_do_not_hide_those_of_etc(tree: Tree) -> None:
    tree.file("/etc/modprobe.d/x.conf", "options a b=1\n")
    tree.file("/run/modprobe.d/x.conf", "options a b=2\n")
    assert added(tree).entries["/etc/modprobe.d/x.conf"].content == b"options a b=1\n"


def test_settings_of_a_merged_usr_come_once(tree: Tree) -> None:
    path = tree.file("/usr/lib/modprobe.d/x.conf", "options a b=1\n")
    tree.link("/lib", "usr/lib")
    assert [entry.path for entry in added(tree) if entry.content] == [path]


@pytest.mark.parametrize("is_link", [True, False], ids=["link to /dev/null", "nothing kept"])
def test_what_hides_others_of_its_name_still_does(is_link: bool, tree: Tree) -> None:
    path = "/etc/modprobe.d/x.conf"
    if is_link:
        tree.link(path, "/dev/null")
    else:
        tree.file(path, "blacklist a\n")
    assert added(tree).entries[path].content == b""


def test_what_is_no_setting_stays_out(tree: Tree) -> None:
    path = tree.file("/etc/modprobe.d/x.conf.bak", "options a b=1\n")
    assert path not in added(tree)


def test_what_was_asked_for_by_hand_stays(tree: Tree) -> None:
    path = tree.file("/etc/modprobe.d/x.conf", "blacklist a\n")
    builder = tree.builder()
    builder.add(path, Because("asked for by the test"))
    add_modprobe_settings(builder, Because("for the test"))
    assert builder.build().entries[path].source == tree.host(path)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")
