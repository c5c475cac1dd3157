"""Packages are resolved, fetched and unpacked by apt on a state of its own."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from initramfs.errors import InputError, MissingDependency, OutputError, ToolError
from mindi.debian import Package, PackageManager, host_architecture, make_merged, unpack
from mindi.programs import run
from tests.support.archive import Archive
from tests.support.tools import require_tool


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    require_tool("apt-get", package="apt")
    return Archive(tmp_path)


@pytest.fixture
def manager(tmp_path: Path, archive: Archive) -> PackageManager:
    return PackageManager(tmp_path / "state", architecture="amd64", sources=archive.etc)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    make_merged(made)
    return made


def test_a_closure_holds_what_is_depended_on(archive: Archive, manager: PackageManager) -> None:
    archive.add("tool", depends="library")
    archive.add("library", depends="data")
    archive.add("data")
    archive.add("other")
    manager.refresh()
    assert [p.name for p in manager.closure(["tool"])] == ["data", "library", "tool"]


def test_a_closure_ignores_what_the_host_has_installed(
    archive: Archive, manager: PackageManager
) -> None:
    archive.add("tool", depends="dpkg")
    archive.add("dpkg", "0.1")
    manager.refresh()
    assert ("dpkg", "0.1") in [(p.name, p.version) for p in manager.closure(["tool"])]


def test_a_dependency_that_nothing_fulfils_is_named(
    archive: Archive, manager: PackageManager
) -> None:
    archive.add("tool", depends="not-in-the-archive")
    manager.refresh()
    with pytest.raises(ToolError, match="tool : Depends: not-in-the-archive"):
        manager.closure(["tool"])


def test_available_tells_what_the_archive_has(archive: Archive, manager: PackageManager) -> None:
    archive.add("tool")
    manager.refresh()
    assert manager.available(["tool", "firmware-of-nobody"]) == {"tool"}


def test_the_newest_version_is_chosen(archive: Archive, manager: PackageManager) -> None:
    archive.add("tool", "1.9")
    manager.refresh()
    archive.add("tool", "1:1.10~rc1+b2")
    manager.refresh()
    assert manager.closure(["tool"]) == (Package("tool", "1:1.10~rc1+b2", "amd64"),)


def test_a_version_with_an_epoch_is_found_in_the_cache(
    archive: Archive, manager: PackageManager
) -> None:
    archive.add("tool", "2:1.0~rc1+b2", files={"usr/bin/tool": b"x"})
    manager.refresh()
    (fetched,) = manager.fetch(manager.closure(["tool"]))
    assert run("dpkg-deb", "--field", os.fspath(fetched), "Version").strip() == "2:1.0~rc1+b2"


def test_what_was_fetched_is_not_fetched_again(archive: Archive, manager: PackageManager) -> None:
    archive.add("tool")
    manager.refresh()
    packages = manager.closure(["tool"])
    first = manager.fetch(packages)
    archive.remove()
    assert manager.fetch(packages) == first


def test_a_package_that_was_replaced_in_the_cache_is_fetched_again(
    archive: Archive, manager: PackageManager
) -> None:
    archive.add("tool", files={"usr/bin/tool": b"honest"})
    manager.refresh()
    packages = manager.closure(["tool"])
    (fetched,) = manager.fetch(packages)
    honest = fetched.read_bytes()
    fetched.write_bytes(honest.replace(b"honest", b"forged"))
    assert manager.fetch(packages) == (fetched,)
    assert fetched.read_bytes() == honest


def test_a_package_that_was_replaced_is_not_used_without_a_network(
    archive: Archive, manager: PackageManager
) -> None:
    archive.add("tool", files={"usr/bin/tool": b"honest"})
    manager.refresh()
    packages = manager.closure(["tool"])
    (fetched,) = manager.fetch(packages)
    fetched.write_bytes(fetched.read_bytes().replace(b"honest", b"forged"))
    archive.remove()
    with pytest.raises(ToolError):
        manager.fetch(packages)


def test_proxies_are_for_the_owner_s_eyes(tmp_path: Path, archive: Archive) -> None:
    """A proxy's address may hold a password; one who made the file before is corrected too."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    (state / "apt.conf").touch(mode=0o644)
    PackageManager(state, architecture="amd64", sources=archive.etc)
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "apt.conf").stat().st_mode & 0o777 == 0o600


def test_a_package_that_differs_from_the_list_is_refused(
    archive: Archive, manager: PackageManager
) -> None:
    path = archive.add("tool", files={"usr/bin/tool": b"honest"})
    manager.refresh()
    packages = manager.closure(["tool"])
    path.write_bytes(path.read_bytes().replace(b"honest", b"forged"))
    with pytest.raises(ToolError):
        manager.fetch(packages)
    assert not list(manager.archives.glob("*.deb"))


def test_lists_without_a_signature_are_refused(archive: Archive, manager: PackageManager) -> None:
    archive.add("tool")
    (archive.etc / "sources.list").write_text(f"deb file:{archive.folder} ./\n")
    with pytest.raises(ToolError, match=r"(?i)not signed|no longer signed|Release"):
        manager.refresh()


def test_hooks_of_the_host_do_not_run(archive: Archive, manager: PackageManager) -> None:
    archive.add("tool")
    witness = archive.folder.parent / "witness"
    (archive.etc / "apt.conf.d").mkdir()
    (archive.etc / "apt.conf.d/hook").write_text(
        f'APT::Update::Post-Invoke {{ "touch {witness}"; }};\n'
    )
    manager.refresh()
    assert not witness.exists()


def test_unpacking_keeps_the_links_of_a_merged_usr(
    archive: Archive, manager: PackageManager, tree: Path
) -> None:
    archive.add("tool", files={"bin/tool": b"x", "lib64/ld.so": b"y", "usr/sbin/other": b"z"})
    manager.refresh()
    unpack(manager.fetch(manager.closure(["tool"])), tree)
    assert (tree / "bin").is_symlink()
    assert (tree / "usr/bin/tool").read_bytes() == b"x"
    assert (tree / "usr/lib64/ld.so").read_bytes() == b"y"


def test_unpacking_leaves_manuals_out(
    archive: Archive, manager: PackageManager, tree: Path
) -> None:
    archive.add("tool", files={"usr/share/man/man1/tool.1": b"x", "usr/share/tool/data": b"y"})
    manager.refresh()
    unpack(manager.fetch(manager.closure(["tool"])), tree)
    assert not list((tree / "usr/share/man").rglob("*.1"))
    assert (tree / "usr/share/tool/data").exists()


def test_no_maintainer_script_runs(archive: Archive, manager: PackageManager, tree: Path) -> None:
    witness = tree.parent / "witness"
    work = tree.parent / "scripted"
    (work / "DEBIAN").mkdir(parents=True)
    (work / "DEBIAN/control").write_text(
        "Package: scripted\nVersion: 1\nArchitecture: amd64\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: a test\n"
    )
    for script in ("preinst", "postinst"):
        (work / "DEBIAN" / script).write_text(f"#!/bin/sh\ntouch {witness}\n")
        (work / "DEBIAN" / script).chmod(0o755)
    package = tree.parent / "scripted.deb"
    subprocess.run(["dpkg-deb", "--build", work, package], check=True, capture_output=True)
    unpack([package], tree)
    assert not witness.exists()


def test_a_damaged_package_is_named_and_removed(
    archive: Archive, manager: PackageManager, tree: Path
) -> None:
    archive.add("tool", files={"usr/bin/tool": b"x" * 10_000})
    manager.refresh()
    (fetched,) = manager.fetch(manager.closure(["tool"]))
    fetched.write_bytes(fetched.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"tool_1_amd64\.deb is damaged"):
        unpack([fetched], tree)
    assert not fetched.exists()


def test_a_tree_that_cannot_be_written_is_an_output_error(
    archive: Archive, manager: PackageManager, tmp_path: Path
) -> None:
    archive.add("tool", files={"usr/bin/tool": b"x"})
    manager.refresh()
    with pytest.raises(OutputError, match="cannot unpack"):
        unpack(manager.fetch(manager.closure(["tool"])), tmp_path / "not-there")


def test_a_large_package_is_not_blamed_for_a_tree_that_cannot_be_written(
    archive: Archive, manager: PackageManager, tmp_path: Path
) -> None:
    archive.add("tool", files={"usr/bin/tool": bytes(1_000_000)})  # more than a pipe holds
    manager.refresh()
    (fetched,) = manager.fetch(manager.closure(["tool"]))
    with pytest.raises(OutputError, match="cannot unpack"):
        unpack([fetched], tmp_path / "not-there")
    assert fetched.exists()


@pytest.mark.parametrize(
    "end",
    [
        "kill -KILL $$",
        "echo 'dpkg-deb: error: subprocess was killed by signal (Killed)' >&2; exit 2",
    ],
    ids=["itself", "child"],
)
def test_a_reader_that_is_killed_is_an_error(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """To tar a stream that ends between two members is a whole one."""
    programs = tmp_path / "programs"
    programs.mkdir()
    with tarfile.open(tmp_path / "whole.tar", "w") as whole:
        for name in ("one", "two"):
            member = tarfile.TarInfo(f"./{name}")
            member.size = tarfile.BLOCKSIZE
            whole.addfile(member, io.BytesIO(bytes(tarfile.BLOCKSIZE)))
    (programs / "dpkg-deb").write_text(
        f"#!/bin/sh\nhead -c {2 * tarfile.BLOCKSIZE} {tmp_path}/whole.tar\n{end}\n"
    )
    (programs / "dpkg-deb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    package = tmp_path / "tool_1_amd64.deb"
    package.touch()
    with pytest.raises(ToolError, match=r"ended while it read tool_1_amd64\.deb"):
        unpack([package], tree)
    assert package.exists()


def test_a_host_without_apt_is_told_of_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mindi.programs._MORE_PATH", "")
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MissingDependency) as caught:
        PackageManager(tmp_path / "state", architecture="amd64")
    assert "--root" in (caught.value.hint or "")


def test_a_cache_that_is_no_folder_is_an_output_error(tmp_path: Path) -> None:
    require_tool("apt-get", package="apt")
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OutputError, match="cache folder"):
        PackageManager(tmp_path / "state", architecture="amd64")


def test_the_host_s_architecture_is_dpkg_s_name_of_it() -> None:
    require_tool("dpkg")
    said = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    assert host_architecture() == said.stdout.strip()
