"""Image trees: parents, links, dependencies, duplicates, and the reason for each."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.closure import Because, ClosureBuilder, FileClosure, Kind
from initramfs.errors import ConflictError, InputError, MissingDependency
from tests.support.elf import program
from tests.support.tree import LOADER, Tree

SEED = Because("asked for by the test")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def image(tree: Tree, *paths: str) -> FileClosure:
    builder = tree.builder()
    for path in paths:
        builder.add(path, SEED)
    return builder.build()


def words(closure: FileClosure, path: str) -> str:
    return " <- ".join(str(reason) for reason in closure.chain(path))


def test_file_comes_with_its_parents_in_order(tree: Tree) -> None:
    tree.file("/usr/share/doc/readme", "text", mode=0o640)
    closure = image(tree, "/usr/share/doc/readme")
    assert list(closure.entries) == [
        "/usr",
        "/usr/share",
        "/usr/share/doc",
        "/usr/share/doc/readme",
    ]
    entry = closure.entries["/usr/share/doc/readme"]
    assert entry.mode == stat.S_IFREG | 0o640
    assert entry.source == tree.host("/usr/share/doc/readme")
    assert entry.size_bytes == 4


def test_parents_sort_before_what_they_hold(tree: Tree) -> None:
    tree.file("/a/b")
    tree.file("/a-c/d")
    assert list(image(tree, "/a-c/d", "/a/b").entries) == ["/a", "/a/b", "/a-c", "/a-c/d"]


def test_parents_have_the_modes_of_the_root(tree: Tree) -> None:
    tree.file("/secret/key")
    tree.host("/secret").chmod(0o700)
    assert image(tree, "/secret/key").entries["/secret"].mode == stat.S_IFDIR | 0o700


def test_links_on_the_way_are_kept_as_they_are(tree: Tree) -> None:
    tree.program("/usr/bin/dash")
    tree.link("/bin", "usr/bin")
    tree.link("/usr/bin/sh", "dash")
    closure = image(tree, "/bin/sh")
    links = {path: one.target for path, one in closure.entries.items() if one.target}
    assert links == {"/bin": "usr/bin", "/usr/bin/sh": "dash"}
    assert "/usr/bin/dash" in closure


def test_libraries_and_interpreter_come_along(tree: Tree) -> None:
    main = tree.program("/usr/bin/main", "liba.so.1")
    tree.library("/usr/lib/liba.so.1.2", "libb.so")
    tree.link("/usr/lib/liba.so.1", "liba.so.1.2")
    tree.link("/lib", "usr/lib")
    tree.library("/usr/lib/libb.so")
    closure = image(tree, main)
    files = {one.path for one in closure if one.kind is Kind.FILE}
    assert files == {main, LOADER, "/usr/lib/liba.so.1.2", "/usr/lib/libb.so"}
    assert closure.entries["/lib"].target == "usr/lib"
    assert closure.entries["/usr/lib/liba.so.1"].target == "liba.so.1.2"


def test_chain_leads_back_to_the_seed(tree: Tree) -> None:
    main = tree.program("/usr/bin/main", "liba.so")
    tree.library("/usr/lib/liba.so", "libb.so")
    tree.library("/usr/lib/libb.so")
    assert words(image(tree, main), "/usr/lib/libb.so") == (
        "libb.so, needed by /usr/lib/liba.so <- liba.so, needed by /usr/bin/main "
        "<- asked for by the test"
    )


def test_file_behind_a_shared_link_is_there_for_its_own_reason(tree: Tree) -> None:
    """Once all files behind /lib were explained by whichever file came through it first."""
    first = tree.program("/bin/first", "liba.so")
    second = tree.program("/bin/second", "libb.so")
    tree.library("/usr/lib/liba.so")
    tree.library("/usr/lib/libb.so")
    tree.link("/lib", "usr/lib")
    closure = image(tree, first, second)
    assert words(closure, "/usr/lib/libb.so").startswith("libb.so, needed by /bin/second")
    assert words(closure, "/lib").startswith("leads to /usr/lib/liba.so <- liba.so, needed by")


def test_all_reasons_are_kept_once_and_in_order(tree: Tree) -> None:
    first = tree.program("/bin/first", "liba.so")
    second = tree.program("/bin/second", "liba.so")
    tree.library("/lib/liba.so")
    closure = image(tree, first, second, first)
    assert closure.entries["/lib/liba.so"].because == (
        Because("liba.so, needed by", first),
        Because("liba.so, needed by", second),
    )
    assert closure.entries[first].because == (SEED,)


def test_directory_is_there_for_what_it_holds(tree: Tree) -> None:
    tree.file("/etc/conf.d/one")
    closure = image(tree, "/etc/conf.d/one")
    assert words(closure, "/etc") == (
        "holds /etc/conf.d <- holds /etc/conf.d/one <- asked for by the test"
    )


def test_chain_of_what_is_not_in_the_image_is_a_key_error(tree: Tree) -> None:
    with pytest.raises(KeyError):
        image(tree).chain("/nothing")


def test_programs_of_scripts_bring_their_libraries(tree: Tree) -> None:
    tree.program("/usr/bin/env")
    tree.program("/usr/bin/python3.11", "libz.so.1")
    tree.link("/usr/bin/python3", "python3.11")
    tree.library("/lib/libz.so.1")
    script = tree.file("/usr/bin/tool", "#!/usr/bin/env python3\n", mode=0o755)
    closure = image(tree, script)
    assert "/lib/libz.so.1" in closure
    assert words(closure, "/usr/bin/python3.11") == (
        "python3, interpreter of /usr/bin/tool <- asked for by the test"
    )


def test_script_that_interprets_a_script(tree: Tree) -> None:
    tree.program("/bin/sh")
    wrapper = tree.file("/bin/wrapper", "#!/bin/sh\n", mode=0o755)
    script = tree.file("/bin/script", f"#!{wrapper}\n", mode=0o755)
    assert "/bin/sh" in image(tree, script)


def test_everything_that_lacks_is_named_at_once_with_its_chain(tree: Tree) -> None:
    tree.program("/bin/one", "liba.so")
    tree.library("/lib/liba.so", "libgone.so.3")
    builder = tree.builder()
    builder.add("/bin/one", SEED)
    builder.add("/bin/absent", SEED)
    with pytest.raises(MissingDependency) as caught:
        builder.build()
    assert caught.value.message.splitlines() == [
        "/lib/liba.so (liba.so, needed by /bin/one <- asked for by the test) needs libgone.so.3, "
        "not found in: /lib64, /lib",
        f"asked for by the test needs /bin/absent, not found in {tree.path}",
    ]
    assert caught.value.exit_code == 3


def test_library_that_many_lack_is_named_for_each_who_needs_it_once(tree: Tree) -> None:
    tree.library("/lib/liba.so", "libgone.so")
    for name in ("one", "two", "three"):
        tree.program(f"/bin/{name}", "liba.so")
    with pytest.raises(MissingDependency) as caught:
        image(tree, "/bin/one", "/bin/two", "/bin/three")
    assert len(caught.value.message.splitlines()) == 1


def test_optional_path_that_lacks_is_no_error(tree: Tree) -> None:
    builder = tree.builder()
    assert builder.add("/bin/absent", SEED, optional=True) is None
    assert len(builder.build()) == 0


def test_optional_program_that_lacks_a_library_is_an_error(tree: Tree) -> None:
    builder = tree.builder()
    builder.add(tree.program("/bin/main", "libgone.so"), SEED, optional=True)
    with pytest.raises(MissingDependency, match=r"libgone\.so"):
        builder.build()


def test_loop_of_links_is_an_error_that_names_it(tree: Tree) -> None:
    tree.link("/bin/loop", "loop")
    with pytest.raises(InputError, match="too many levels of symbolic links in /bin/loop"):
        tree.builder().add("/bin/loop", SEED)


def test_what_is_neither_file_nor_directory_is_an_error(tree: Tree) -> None:
    os.mkfifo(tree.host("/pipe"))
    with pytest.raises(InputError, match="/pipe in .* is no regular file or directory"):
        tree.builder().add("/pipe", SEED)


def test_tree_brings_all_below_but_what_is_refused(tree: Tree) -> None:
    tree.file("/d/keep/one")
    tree.file("/d/skip/two")
    tree.file("/d/three")
    tree.file("/elsewhere/four")
    tree.link("/d/link", "/elsewhere/four")
    tree.link("/d/dangling", "nowhere")
    tree.link("/d/loop", "loop")
    builder = tree.builder()
    builder.add_tree("/d", SEED, keep=lambda path: not path.endswith("/skip"))
    closure = builder.build()
    assert list(closure.entries) == [
        *("/d", "/d/keep", "/d/keep/one", "/d/link", "/d/three"),
        *("/elsewhere", "/elsewhere/four"),
    ]
    assert words(closure, "/d/keep/one").startswith(
        "in the directory /d/keep <- in the directory /d"
    )


def test_tree_that_lacks_is_named(tree: Tree) -> None:
    builder = tree.builder()
    builder.add_tree("/absent", SEED)
    with pytest.raises(MissingDependency, match="/absent"):
        builder.build()


def test_file_of_the_build_host(tree: Tree, tmp_path: Path) -> None:
    source = tmp_path / "made"
    source.write_bytes(bytes(program("libgone.so")))
    builder = tree.builder()
    assert builder.add_file(source, "/usr/lib/made", SEED, mode=0o755) == "/usr/lib/made"
    entry = builder.build().entries["/usr/lib/made"]
    assert (entry.source, entry.mode) == (source, stat.S_IFREG | 0o755)


def test_file_of_the_build_host_that_is_missing_is_an_error(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read .*/gone"):
        tree.builder().add_file(tmp_path / "gone", "/x", SEED)


def test_made_entries(tree: Tree) -> None:
    builder = tree.builder()
    builder.add_content("/init", b"#!/bin/sh\n", SEED, mode=0o755)
    builder.add_link("/sbin/init", "../init", SEED)
    builder.add_directory("/proc", SEED, mode=0o555)
    builder.add_device("/dev/console", (5, 1), SEED, mode=stat.S_IFCHR | 0o600)
    entries = builder.build().entries
    assert entries["/init"].content == b"#!/bin/sh\n"
    assert entries["/init"].mode == stat.S_IFREG | 0o755
    assert entries["/sbin/init"].target == "../init"
    assert entries["/proc"].mode == stat.S_IFDIR | 0o555
    assert entries["/dev/console"].device == (5, 1)
    assert [one.size_bytes for one in entries.values() if one.path == "/sbin/init"] == [7]


@pytest.mark.parametrize("path", ["/lib/mindi/x", "/lib/../lib/mindi/x", "/usr/lib/mindi/x"])
def test_made_files_go_through_the_directory_links_of_the_root(tree: Tree, path: str) -> None:
    tree.directory("/usr/lib")
    tree.link("/lib", "usr/lib")
    builder = tree.builder()
    assert builder.add_content(path, b"", SEED) == "/usr/lib/mindi/x"
    assert "/lib/mindi/x" in builder
    assert ("/lib" in builder.build().entries) is path.startswith("/lib")


def test_directory_that_is_a_link_in_the_root_stays_one(tree: Tree) -> None:
    """Once an image that made /bin first could take no program through the root's /bin link."""
    tree.program("/usr/bin/sh")
    tree.link("/bin", "usr/bin")
    builder = tree.builder()
    builder.add_directory("/bin", SEED)
    builder.add("/bin/sh", SEED)
    assert builder.build().entries["/bin"].kind is Kind.SYMLINK


def test_asking_what_is_in_changes_nothing(tree: Tree) -> None:
    tree.directory("/usr/lib")
    tree.link("/lib", "usr/lib")
    builder = tree.builder()
    assert "/lib/x" not in builder
    assert len(builder.build()) == 0


def test_made_file_does_not_follow_a_link_of_the_root_to_a_file(tree: Tree) -> None:
    tree.file("/run/resolv.conf")
    tree.link("/etc/resolv.conf", "../run/resolv.conf")
    assert tree.builder().add_content("/etc/resolv.conf", b"", SEED) == "/etc/resolv.conf"


def test_links_made_in_the_image_are_followed(tree: Tree) -> None:
    builder = tree.builder()
    builder.add_directory("/data", SEED)
    builder.add_link("/short", "/data", SEED)
    assert builder.add_content("/short/file", b"", SEED) == "/data/file"


def test_loop_of_links_made_in_the_image_is_an_error(tree: Tree) -> None:
    builder = tree.builder()
    builder.add_link("/loop", "loop", SEED)
    with pytest.raises(ConflictError, match="too many levels"):
        builder.add_content("/loop/file", b"", SEED)


def test_needs_of_a_file_come_without_the_file(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.library("/lib/liba.so", "libb.so")
    tree.library("/lib/libb.so")
    builder = tree.builder()
    builder.add_needs_of(main, Because("for a copy of", "/init"))
    closure = builder.build()
    assert main not in closure
    assert closure.entries["/lib/liba.so"].because == (Because("for a copy of", "/init"),)
    assert closure.entries["/lib/libb.so"].because == (
        Because("libb.so, needed by", "/lib/liba.so"),
    )


def conflict(tree: Tree, name: str) -> ClosureBuilder:
    builder = tree.builder()
    builder.add_content("/etc/hosts", b"ours", Because("the recipe"))
    if name == "content":
        builder.add_content("/etc/hosts", b"theirs", SEED)
    elif name == "file":
        builder.add("/etc/hosts", SEED)
    elif name == "link":
        builder.add_link("/etc/hosts", "elsewhere", SEED)
    elif name == "directory":
        builder.add_directory("/etc/hosts", SEED)
    else:
        builder.add_content("/etc/hosts/below", b"", SEED)
    return builder


@pytest.mark.parametrize("name", ["content", "file", "link", "directory", "below"])
def test_two_things_for_one_path_are_a_conflict_that_names_both(tree: Tree, name: str) -> None:
    tree.file("/etc/hosts", "host")
    with pytest.raises(ConflictError, match="/etc/hosts is claimed twice") as caught:
        conflict(tree, name)
    assert "the recipe" in caught.value.message
    assert ("holds /etc/hosts/below" if name == "below" else SEED.what) in caught.value.message


def test_one_thing_added_twice_is_no_conflict(tree: Tree, tmp_path: Path) -> None:
    source = tmp_path / "made"
    source.write_bytes(b"")
    builder = tree.builder()
    for what in ("one", "two"):
        builder.add_content("/a", b"same", Because(what))
        builder.add_link("/b", "a", Because(what))
        builder.add_file(source, "/c", Because(what))
        builder.add_directory("/d", Because(what))
    closure = builder.build()
    assert {one.because for one in closure} == {(Because("one"), Because("two"))}


def test_wider_mode_of_a_directory_wins(tree: Tree) -> None:
    builder = tree.builder()
    builder.add_content("/tmp/file", b"", SEED)
    builder.add_directory("/tmp", SEED, mode=0o1777)
    builder.add_directory("/tmp", SEED, mode=0o700)
    assert builder.build().entries["/tmp"].mode == stat.S_IFDIR | 0o1777


@pytest.mark.parametrize("first", [True, False], ids=["asked first", "asked last"])
def test_mode_asked_for_goes_before_the_roots_and_the_usual(tree: Tree, first: bool) -> None:
    tree.file("/data/file")
    builder = tree.builder()
    if first:
        builder.add_directory("/data", SEED, mode=0o700)
    builder.add("/data/file", SEED)
    builder.add("/data", SEED)
    builder.add_directory("/data", SEED)
    if not first:
        builder.add_directory("/data", SEED, mode=0o700)
    assert builder.build().entries["/data"].mode == stat.S_IFDIR | 0o700


def test_library_found_in_the_rpath_of_one_is_missing_for_another(tree: Tree) -> None:
    tree.loader()
    tree.file("/bin/one", replace(program("liba.so"), rpath="/opt"), mode=0o755)
    tree.program("/bin/two", "liba.so")
    tree.library("/opt/liba.so")
    with pytest.raises(MissingDependency, match=r"^/bin/two \(asked .*\) needs liba.so"):
        image(tree, "/bin/one", "/bin/two")


def test_root_with_a_library_removed_is_refused(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    library = tree.library("/lib/liba.so")
    assert library in image(tree, main)
    tree.host(library).unlink()
    with pytest.raises(MissingDependency, match=r"needs liba\.so, not found in"):
        image(tree, main)
