"""Paths in a root tree, as a process chrooted there would see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.errors import InputError
from initramfs.rootfs import LinkLoopError, Root
from tests.support.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def canonical(tree: Tree, path: str) -> str | None:
    found = tree.root().locate(path)
    return found.path if found else None


def test_absolute_link_stays_in_the_tree(tree: Tree) -> None:
    tree.file("/etc/passwd", "ours")
    tree.link("/link", "/etc/passwd")
    assert tree.root().read("/link") == b"ours"


def test_dots_stop_at_the_top(tree: Tree) -> None:
    tree.file("/etc/passwd")
    tree.link("/up", "../../../etc")
    assert canonical(tree, "/up/../../etc/./passwd") == "/etc/passwd"


def test_dots_after_a_link_lead_up_from_its_target(tree: Tree) -> None:
    tree.file("/a/b/file")
    tree.directory("/a/b/c")
    tree.link("/short", "a/b/c")
    assert canonical(tree, "/short/../file") == "/a/b/file"


def test_every_link_on_the_way_is_named_in_order(tree: Tree) -> None:
    tree.file("/usr/lib/libz.so.1.3")
    tree.link("/usr/lib/libz.so.1", "libz.so.1.3")
    tree.link("/lib", "usr/lib")
    found = tree.root().locate("/lib/libz.so.1")
    assert found is not None
    assert found.links == (("/lib", "usr/lib"), ("/usr/lib/libz.so.1", "libz.so.1.3"))


def test_locate_link_stops_at_the_last_link(tree: Tree) -> None:
    tree.link("/lib", "usr/lib")
    tree.link("/usr/lib/a", "b")
    found = tree.root().locate_link("/lib/a")
    assert found is not None
    assert found.path == "/usr/lib/a"


@pytest.mark.parametrize("path", ["/nothing", "/file/below", "/file/../file", "/dangling", "/d/x"])
def test_what_is_not_there_is_none(tree: Tree, path: str) -> None:
    tree.file("/file")
    tree.link("/dangling", "nowhere")
    tree.link("/d", "nowhere")
    assert canonical(tree, path) is None


def test_loop_of_links_is_an_error_where_a_path_is_followed(tree: Tree) -> None:
    tree.link("/one", "two")
    tree.link("/two", "one")
    with pytest.raises(LinkLoopError, match=r"too many levels of symbolic links in /one"):
        tree.root().locate("/one")


def test_loop_of_links_does_not_exist(tree: Tree) -> None:
    tree.link("/self", "self")
    root = tree.root()
    assert not root.exists("/self")
    assert not root.is_dir("/self/below")
    assert root.list("/self") == ()


def test_forty_links_are_followed_and_no_more(tree: Tree) -> None:
    tree.file("/link0")
    for number in range(1, 42):
        tree.link(f"/link{number}", f"link{number - 1}")
    assert canonical(tree, "/link40") == "/link0"
    with pytest.raises(LinkLoopError):
        tree.root().locate("/link41")


def test_top_of_the_tree_is_found(tree: Tree) -> None:
    assert canonical(tree, "/") == "/"
    assert canonical(tree, "/..") == "/"


def test_names_are_sorted(tree: Tree) -> None:
    for name in ("b", "a", "c"):
        tree.file(f"/d/{name}")
    assert tree.root().list("/d") == ("a", "b", "c")


def test_glob_matches_below_links_and_sorts(tree: Tree) -> None:
    for path in ("/usr/lib/x/p2.so", "/usr/lib/x/p1.so", "/usr/lib/y/p3.so", "/usr/lib/y/other"):
        tree.file(path)
    tree.link("/lib", "usr/lib")
    found = tree.root().glob("/lib/*/p[0-9].so")
    assert found == ("/lib/x/p1.so", "/lib/x/p2.so", "/lib/y/p3.so")


def test_glob_leaves_out_hidden_dangling_and_missing(tree: Tree) -> None:
    tree.file("/d/.hidden.conf")
    tree.link("/d/dangling.conf", "nowhere")
    root = tree.root()
    assert root.glob("/d/*.conf") == ()
    assert root.glob("/d/exactly.conf") == ()
    assert root.glob("/d/.*.conf") == ("/d/.hidden.conf",)


def test_reading_what_is_missing_is_an_error(tree: Tree) -> None:
    with pytest.raises(InputError, match="/etc/gone: not found in the root tree"):
        tree.root().read("/etc/gone")


def test_tree_that_is_no_directory_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the root tree") as caught:
        Root(tmp_path / "missing")
    assert caught.value.hint is not None
    assert "--root" in caught.value.hint


def test_path_that_cannot_be_looked_up_is_an_error(tree: Tree) -> None:
    # Rights stop no superuser (tests/test_cli.py takes them away); this stops everybody.
    with pytest.raises(InputError, match="cannot read /xxx.* in the root tree .*: File name too"):
        tree.root().locate("/" + "x" * 300)


def test_top_of_the_machine_works_as_a_tree() -> None:
    root = Root(Path("/"))
    found = root.locate("/bin/sh")
    assert found is not None
    assert root.host(found.path) == Path("/bin/sh").resolve()
