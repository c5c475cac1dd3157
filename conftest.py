"""What all tests share: the option that makes a missing tool a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tools


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--require-tools``."""
    parser.addoption(
        "--require-tools",
        action="store_true",
        help="fail, rather than skip, a test whose tool is missing on this machine",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the option to every process that runs tests."""
    if config.getoption("--require-tools"):
        tools.be_strict()


@pytest.fixture
def require_tool() -> Callable[..., Path]:
    """Return ``tests.support.tools.require_tool``."""
    return tools.require_tool
