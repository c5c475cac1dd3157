"""Fixtures of the tests that boot machines, and the table of how long each boot took."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mindi.accelerator import probe_accelerator
from mindi.boot import BootReport
from mindi.qemu import QEMU, Accelerator
from qemu_tests.images import Images
from tests.support.tools import require_file, require_tool

_MEASURED = "boot"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of all tests here."""
    config.addinivalue_line("markers", "qemu: boots a machine in QEMU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.qemu)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The images of this session; each is built when a test first asks for it."""
    base = tmp_path_factory.getbasetemp()
    # Each worker of pytest-xdist has a folder of its own in the session's.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "images"
    folder.mkdir(exist_ok=True)
    return Images(folder)


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    """What runs machines here."""
    require_tool(QEMU, package="qemu-system-x86")
    require_file("/usr/share/OVMF/OVMF_CODE_4M.fd", package="ovmf")
    return probe_accelerator()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where a machine's logs are kept; pytest keeps them for a few runs."""
    return tmp_path / "logs"


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measure:
    """Takes reports of boots into the table at the end of the session."""
    return Measure(request.node)


class Measure:
    """Remembers what a boot took."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def __call__(self, report: BootReport) -> BootReport:
        """Remember ``report`` and return it."""
        ready = "never" if report.ready_s is None else f"{report.ready_s:6.1f}"
        row = (
            f"{report.firmware:12} {report.medium:7} {report.memory_mib:5} MiB  "
            f"ready {ready} s  all {report.total_s:6.1f} s  "
            f"{report.verdict.tools} tools  {report.verdict.modules} modules  {report.image.name}"
        )
        self._node.user_properties.append((_MEASURED, row))
        return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the boots took."""
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == _MEASURED
    ]
    if rows:
        terminalreporter.section("boots")
        for row in sorted(rows):
            terminalreporter.write_line(row)
