"""Storage made and captured in a guest: the rescue environment sees what was recorded before."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive.machine.probe import probe_layout
from mindi.qemu import Accelerator
from qemu_tests.images import Images
from qemu_tests.storage import HOUSE, record, running
from tests.support.recording import Recorded


@pytest.mark.parametrize("name", ["luks-lvm", "nested"])
def test_a_guest_sees_its_storage(
    name: str, images: Images, accelerator: Accelerator, tmp_path: Path
) -> None:
    with running(name, images, accelerator=accelerator, folder=tmp_path) as vm:
        (tmp_path / "now.json").write_bytes(record(vm))
    now = probe_layout(Recorded(tmp_path / "now.json"))
    before = probe_layout(Recorded(HOUSE / f"tests/recorded/{name}.json"))
    assert [node.id for node in now.nodes] == [node.id for node in before.nodes]
    assert [type(node) for node in now.nodes] == [type(node) for node in before.nodes]
    assert now.unsupported == before.unsupported
