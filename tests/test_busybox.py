"""BusyBox: its applets, asked for and read, and their links."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from initramfs.busybox import (
    HOME,
    Busybox,
    add_busybox,
    ask,
    find_busybox,
    read_applets,
)
from initramfs.closure import Because
from initramfs.errors import InputError, MissingDependency, ToolError
from initramfs.rootfs import Root
from tests.support.busybox import APPLETS, fake_busybox
from tests.support.tools import require_tool
from tests.support.tree import Tree

SEED = Because("asked for by the test")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def test_applets_read_from_the_binary_are_those_it_lists() -> None:
    busybox = require_tool("busybox", package="busybox-static")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    assert list(read_applets(busybox.read_bytes(), origin="test")) == listed.stdout.split()


def test_applets_asked_for_have_the_directories_it_gives() -> None:
    busybox = require_tool("busybox", package="busybox-static")
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    asked = ask(busybox)
    assert sorted(f"{place}/{name}".lstrip("/") for name, place in asked) == sorted(
        listed.stdout.split()
    )


def test_a_busybox_that_fails_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "busybox"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ToolError, match="busybox --list-full failed"):
        ask(broken)


def test_a_table_ends_where_its_order_breaks() -> None:
    applets = read_applets(fake_busybox(), origin="test")
    assert set(APPLETS) <= set(applets)
    assert not {"cread", "close", "tostop"} & set(applets)


def test_a_file_without_a_table_is_no_busybox() -> None:
    with pytest.raises(InputError, match="/bin/busybox: no table of applets"):
        read_applets(b"\x7fELF" + b"nothing of the kind\0" * 40, origin="/bin/busybox")


def test_a_table_without_a_shell_is_another_table() -> None:
    data = fake_busybox(applets=("cat", "ls", "mount"), filler=60)
    with pytest.raises(InputError, match="no table of applets"):
        read_applets(data, origin="test")


def test_a_foreign_busybox_is_not_executed(tree: Tree, tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    script = f"#!/bin/sh\ntouch {trace}\nexit\n".encode()
    host = tree.host(tree.file("/bin/busybox", mode=0o755))
    host.write_bytes(script + fake_busybox())
    assert "mount" in find_busybox(tree.root()).names
    assert not trace.exists()


def test_the_running_system_is_not_executed_unless_it_is_the_own_root() -> None:
    # "--root /" is a root like any other; the binary holds no directories of applets.
    busybox = find_busybox(Root(Path("/")))
    assert dict(busybox.applets)["tar"] == "bin"
    assert dict(busybox.applets)["wc"] == "bin"


def test_the_own_busybox_is_asked() -> None:
    require_tool("busybox", package="busybox-static")
    assert dict(find_busybox(Root(Path("/")), is_own=True).applets)["wc"] == "usr/bin"


def test_a_root_without_busybox_says_where_it_was_looked_for(tree: Tree) -> None:
    with pytest.raises(MissingDependency, match="not found in: .*/bin/busybox") as caught:
        find_busybox(tree.root())
    assert "busybox-static" in (caught.value.hint or "")


def test_a_static_one_is_preferred(tree: Tree) -> None:
    for path in ("/bin/busybox", "/bin/busybox.static"):
        tree.host(tree.file(path, mode=0o755)).write_bytes(fake_busybox())
    assert find_busybox(tree.root()).path == "/bin/busybox.static"


def add(tree: Tree, *applets: tuple[str, str], shadowed: frozenset[str] = frozenset()) -> set[str]:
    builder = tree.builder()
    add_busybox(builder, Busybox("/bin/busybox", applets), shadowed=shadowed)
    return {entry.path for entry in builder.build() if entry.target == HOME}


def test_each_applet_gets_its_link(tree: Tree) -> None:
    tree.file("/bin/busybox", b"a program", mode=0o755)
    assert add(tree, ("ls", "bin"), ("env", "usr/bin")) == {"/bin/ls", "/usr/bin/env"}


def test_a_full_tool_goes_before_an_applet_of_its_name(tree: Tree) -> None:
    tree.file("/bin/busybox", b"a program", mode=0o755)
    assert add(tree, ("ls", "bin"), ("tar", "bin"), shadowed=frozenset({"tar"})) == {"/bin/ls"}


def test_what_would_end_the_environment_gets_no_link(tree: Tree) -> None:
    tree.file("/bin/busybox", b"a program", mode=0o755)
    assert add(tree, ("ls", "bin"), ("nuke", "bin"), ("linuxrc", "")) == {"/bin/ls"}


def test_a_place_that_is_taken_is_left_alone(tree: Tree) -> None:
    tree.file("/bin/busybox", b"a program", mode=0o755)
    tree.file("/bin/sh", b"another program", mode=0o755)
    builder = tree.builder()
    builder.add("/bin/sh", SEED)
    linked = add_busybox(builder, Busybox("/bin/busybox", (("ls", "bin"), ("sh", "bin"))))
    assert linked == ("ls",)
    assert builder.build().entries["/bin/sh"].target is None


def test_links_lead_to_one_place_in_every_image(tree: Tree) -> None:
    tree.file("/usr/lib/busybox/busybox-static", b"a program", mode=0o755)
    builder = tree.builder()
    add_busybox(builder, Busybox("/usr/lib/busybox/busybox-static", (("ls", "bin"),)))
    closure = builder.build()
    assert closure.entries[HOME].target == "/usr/lib/busybox/busybox-static"
    assert closure.entries["/bin/ls"].target == HOME


def test_links_of_a_merged_usr_are_not_doubled(tree: Tree) -> None:
    tree.file("/usr/bin/busybox", b"a program", mode=0o755)
    tree.link("/bin", "usr/bin")
    builder = tree.builder()
    add_busybox(builder, Busybox("/bin/busybox", (("ls", "bin"), ("ls", "usr/bin"))))
    paths = [entry.path for entry in builder.build() if entry.target == HOME]
    assert paths == ["/usr/bin/ls"]
