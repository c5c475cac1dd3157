"""What is loaded at run time and in no header: the table, and what it does in made trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.dlopened import dlopened_by
from initramfs.libraries import Dependency, Need
from tests.support.elf import I386, foreign, library
from tests.support.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def found(tree: Tree, path: str) -> set[tuple[str, Need]]:
    answer = tree.libraries().of(path)
    assert answer.missing == ()
    return {
        (one.path, one.need)
        for one in answer.found
        if one.need not in (Need.LINKED, Need.INTERPRETER)
    }


@pytest.mark.parametrize(
    ("trigger", "wanted"),
    [
        ("libc.so.6", "libgcc_s.so.1"),
        ("/usr/sbin/dmeventd", "device-mapper/libdevmapper-event-*.so"),
        ("libcrypto.so.3", "ossl-modules/*.so"),
        ("libarchive.so.13", "gconv/UTF-16.so"),
        ("/usr/lib/x/security/pam_unix.so", "/usr/sbin/unix_chkpwd"),
    ],
)
def test_table(trigger: str, wanted: str) -> None:
    assert wanted in dlopened_by(trigger)


def test_most_files_trigger_nothing() -> None:
    assert dlopened_by("/usr/bin/ls") == ()


def test_whoever_uses_glibc_has_libgcc_and_the_name_services(tree: Tree) -> None:
    main = tree.program("/bin/main", "libc.so.6")
    tree.library("/lib/libc.so.6")
    tree.library("/lib/libgcc_s.so.1", "libc.so.6")
    tree.library("/lib/libnss_dns.so.2", "libc.so.6")
    assert found(tree, main) == {
        ("/lib/libgcc_s.so.1", Need.DLOPENED),
        ("/lib/libnss_dns.so.2", Need.DLOPENED),
    }


def test_reason_is_the_object_that_loads_it(tree: Tree) -> None:
    main = tree.program("/bin/main", "libc.so.6")
    tree.library("/lib/libc.so.6")
    tree.library("/lib/libgcc_s.so.1")
    expected = Dependency(
        "libgcc_s.so.1", "/lib/libc.so.6", "/lib/libgcc_s.so.1", need=Need.DLOPENED
    )
    assert tree.libraries().of(main).found[-1] == expected


def test_tree_without_any_of_it_lacks_nothing(tree: Tree) -> None:
    main = tree.program("/bin/main", "libc.so.6")
    tree.library("/lib/libc.so.6")
    assert found(tree, main) == set()


def test_plugin_that_lacks_a_need_stays_out_whole(tree: Tree) -> None:
    main = tree.program("/bin/main", "libcryptsetup.so.12")
    tree.library("/usr/lib/libcryptsetup.so.12")
    tree.library("/usr/lib/cryptsetup/libcryptsetup-token-bad.so", "libx.so", "libgone.so")
    tree.library("/usr/lib/libx.so")
    tree.library("/usr/lib/cryptsetup/libcryptsetup-token-good.so", "liby.so")
    tree.library("/usr/lib/liby.so")
    names = {one.name for one in tree.libraries().of(main).found}
    assert "liby.so" in names
    assert not names & {"libcryptsetup-token-bad.so", "libx.so"}


def test_plugins_are_sought_in_every_library_directory_of_the_machine(tree: Tree) -> None:
    main = tree.program("/sbin/dmeventd")
    folder = "/usr/lib/x86_64-linux-gnu/device-mapper"
    plugin = tree.library(f"{folder}/libdevmapper-event-lvm2mirror.so", "liblvm2cmd.so.2.03")
    tree.library("/usr/lib/x86_64-linux-gnu/liblvm2cmd.so.2.03")
    assert found(tree, main) == {(plugin, Need.DLOPENED)}
    assert "liblvm2cmd.so.2.03" in {one.name for one in tree.libraries().of(main).found}


def test_plugins_of_another_machine_stay_out(tree: Tree) -> None:
    main = tree.program("/sbin/dmeventd")
    plugin = foreign(library("libdevmapper-event-lvm2raid.so"), I386, bits=32)
    tree.file("/usr/lib/device-mapper/libdevmapper-event-lvm2raid.so", plugin)
    assert found(tree, main) == set()


def test_plugin_behind_a_merged_usr_comes_once(tree: Tree) -> None:
    main = tree.program("/usr/sbin/dmeventd")
    tree.library("/usr/lib/device-mapper/libdevmapper-event-lvm2thin.so")
    tree.link("/lib", "usr/lib")
    assert len(found(tree, main)) == 1


def test_data_is_read_and_programs_are_started(tree: Tree) -> None:
    fat = tree.program("/usr/sbin/mkfs.fat")
    modules = tree.file("/usr/lib/gconv/gconv-modules", "# modules\n")
    sshd = tree.program("/usr/sbin/sshd")
    session = tree.program("/usr/lib/openssh/sshd-session")
    assert found(tree, fat) == {(modules, Need.READ)}
    answer = tree.libraries().of(sshd).found[-1]
    expected = Dependency("sshd-session", sshd, session, leaf=False, need=Need.STARTED)
    assert answer == expected


def test_plugins_of_plugins_come_along(tree: Tree) -> None:
    main = tree.program("/bin/login", "libpam.so.0")
    tree.library("/lib/libpam.so.0")
    tree.library("/lib/security/pam_unix.so")
    helper = tree.program("/usr/sbin/unix_chkpwd")
    assert (helper, Need.STARTED) in found(tree, main)
