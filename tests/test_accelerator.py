"""Which processors and machines are worth a probe boot; the boot itself is in qemu_tests/."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindi.accelerator import accelerator_for, probe_accelerator, shows_virtualization
from mindi.qemu import KVM, TCG, Accelerator, Architecture
from tests.support.fakeqemu import put_qemu


@pytest.mark.parametrize(
    ("cpuinfo", "shown"),
    [
        ("processor\t: 0\nflags\t\t: fpu vme vmx ssse3\n", True),
        ("processor\t: 0\nflags\t\t: fpu svm\n", True),
        ("processor\t: 0\nflags\t\t: fpu svm_lock vmxnet\n", False),
        ("processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu\n", False),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n", False),
    ],
    ids=["intel", "amd", "whole-words", "vmx-flags-line", "arm"],
)
def test_the_flag_is_a_whole_word_of_the_flags(cpuinfo: str, shown: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    assert shows_virtualization(file) is shown


def test_a_machine_of_another_kind_is_emulated() -> None:
    assert accelerator_for(Architecture.AARCH64) is TCG


@pytest.mark.parametrize(("status", "found"), [(43, KVM), (1, TCG)], ids=["works", "does-not"])
def test_a_machine_is_probed_once_until_reboot(
    status: int, found: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_qemu(tmp_path / "bin", f'echo >>"{tmp_path / "probes"}"; exit {status}', monkeypatch)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu vmx\n")
    for _ in range(2):
        probe_accelerator.cache_clear()  # as another process would have it
        assert probe_accelerator(tmp_path / "cache", cpuinfo=cpuinfo, device=cpuinfo) == found
    probe_accelerator.cache_clear()
    assert (tmp_path / "probes").read_text() == "\n"
