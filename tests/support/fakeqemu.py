"""An executable in QEMU's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindi.qemu import QEMU


def put_qemu(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script in QEMU's place on PATH."""
    folder.mkdir()
    tool = folder / QEMU
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
