"""The most memory that one process of a command takes, of it and of all that it starts."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from initramfs.errors import ToolError

_EVERY_S = 0.05


def peak_mib(argv: list[str]) -> float:
    """Run a command to its end; return the greatest VmHWM of its processes, in MiB (proc(5))."""
    process = subprocess.Popen(  # noqa: S603 our own commands
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    greatest = 0
    while process.poll() is None:
        for number in _family(process.pid):
            greatest = max(greatest, _peak_kib(number))
        time.sleep(_EVERY_S)
    if process.returncode:
        raise ToolError(f"{argv[0]} ended with {process.returncode}")
    return greatest / 1024


def _family(first: int) -> list[int]:
    found = [first]
    for number in found:
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            try:
                found += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
    return found


def _peak_kib(number: int) -> int:
    try:
        status = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0
