"""What ``mindi layout`` says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archive.machine.layout import Layout
from archive.machine.probedevices import COMMAND
from mindi.layoutcommand import NOTHING, layout_result
from tests.support.realtree import mindi
from tests.support.recording import Recorded

RECORDED = Path(__file__).parent / "recorded"


def machine(name: str = "mbr") -> Recorded:
    return Recorded(RECORDED / f"{name}.json")


def test_a_tree() -> None:
    text, is_well = layout_result(machine(), as_json=False, as_mountlist=False)
    assert str(text).startswith("/dev/vda  disk 512 MiB")
    assert is_well


def test_what_cannot_be_restored_is_not_well() -> None:
    text, is_well = layout_result(machine("luks-lvm"), as_json=False, as_mountlist=False)
    assert "cannot be restored:" in str(text)
    assert not is_well


def test_a_mountlist() -> None:
    text, _ = layout_result(machine(), as_json=False, as_mountlist=True)
    assert "/dev/vda1 /mnt/boot ext2 65536 boot" in str(text).splitlines()


def test_json_is_a_layout() -> None:
    found, _ = layout_result(machine(), as_json=True, as_mountlist=False)
    assert len(Layout.from_json(json.dumps(found).encode()).nodes) > 10


def test_a_machine_without_disks_is_told() -> None:
    system = machine()
    system.asked["run"] = {"\0".join(COMMAND): [0, "", ""]}
    system.asked["read"] = {}
    assert layout_result(system, as_json=False, as_mountlist=False) == (NOTHING, False)


def test_names_cannot_act_on_the_terminal() -> None:
    system = machine()
    said = system.asked["run"]["blkid\0-p\0-o\0udev\0/dev/vda1"]
    assert isinstance(said, list)
    said[1] = str(said[1]).replace("ID_FS_LABEL_ENC=boot", "ID_FS_LABEL_ENC=\\x1b[2J")
    text, _ = layout_result(system, as_json=False, as_mountlist=False)
    assert "\x1b" not in str(text)


@pytest.mark.parametrize("option", ["--json", "--mountlist", "--quiet"])
def test_on_any_machine_it_ends_without_a_bug(option: str) -> None:
    ran = mindi("layout", option)
    assert ran.status in (0, 1, 4), ran.err
    assert "Traceback" not in ran.err
