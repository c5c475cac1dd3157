"""``mondorestore --plan`` on this machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from archive.machine.layout import Layout
from archive.machine.layoutnodes import Disk
from archive.machine.probeprofile import probe_machine
from archive.manifest import Manifest
from restore.planning import _holding
from tests.support import layouts
from tests.support.backup import save
from tests.support.sets import write_manifest
from tests.test_mondorestore import mondorestore
from tests.test_probe import recorded


def of_a_machine(manifest: Manifest) -> Manifest:
    """Return a manifest with a machine that no other has: its disks are of an exbibyte."""
    profile = probe_machine(recorded("mbr"))
    nodes = tuple(
        dataclasses.replace(node, size_bytes=1 << 60) if isinstance(node, Disk) else node
        for node in profile.layout.nodes
    )
    return dataclasses.replace(
        manifest, profile=dataclasses.replace(profile, layout=Layout.of(nodes))
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a set of files only."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"content")
    return save(tmp_path / "tree", tmp_path / "set").path


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a set with a machine."""
    (tmp_path / "tree").mkdir()
    written = save(tmp_path / "tree", tmp_path / "set")
    write_manifest(written.path, of_a_machine(written.manifest).to_json())
    return written.path


def test_a_set_of_files_has_no_plan(files: Path) -> None:
    done = mondorestore("--from", files, "--plan")
    assert (done.returncode, done.stdout) == (4, "")
    assert "nothing of the machine" in done.stderr
    assert "--all --to DIR" in done.stderr


def test_what_has_no_room_here_is_refused(machine: Path) -> None:
    done = mondorestore("--from", machine, "--plan")
    assert done.returncode == 1, done.stderr
    assert "This cannot be restored here:\n  disk:vda: " in done.stdout
    assert "nothing was touched" in done.stderr


def test_json_says_that_it_is_not_possible(machine: Path) -> None:
    done = mondorestore("--from", machine, "--plan", "--json")
    assert done.returncode == 1, done.stderr
    held = json.loads(done.stdout)
    assert held["possible"] is False
    assert [one["node"] for one in held["refusals"]] == ["disk:vda"]
    assert held["actions"] == []


@pytest.mark.parametrize(("folder", "disks"), [("/dev/shm", set()), ("/", {"disk:sda"})])
def test_a_set_in_memory_or_on_a_network_is_on_no_disk(folder: str, disks: set[str]) -> None:
    assert _holding(Layout.of(layouts.simple()), Path(folder)) == disks
