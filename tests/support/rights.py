"""Runs code for which the rights of files hold, whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.tools import require_tool


def run_bound(program: str, *arguments: Path) -> str:
    """Run a Python ``program`` with ``arguments`` in ``sys.argv``; return what it printed.

    Root, who may read everything, loses the capabilities that allow it (capabilities(7)).
    """
    argv = [sys.executable, "-c", program, *map(os.fspath, arguments)]
    if os.geteuid() == 0:
        setpriv = require_tool("setpriv", package="util-linux")
        argv = [os.fspath(setpriv), "--bounding-set=-dac_override,-dac_read_search", *argv]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
