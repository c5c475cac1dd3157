"""Reports of a check: one JSON object a line on the verdict port, and a summary to read.

The port is a virtio-serial port that a test or a proof gives its guest (``VERDICT_PORT`` of
restore/contract.py). Events, in this order: ``ready``; ``tool`` and ``module``, as many as there
are; ``done``. Between them ``alive`` tells that a long step is under way. Where there is no port,
only the summary is left.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TextIO

from restore.contract import ALIVE_S, VERDICT_PORT

_PORTS = Path("/sys/class/virtio-ports")
_LONGEST_OUTPUT = 200


@dataclass(slots=True)
class Verdict:
    """Collects outcomes, passes each on at once, and sums up at the end."""

    port: IO[bytes] | None
    screen: TextIO
    tools: int = 0
    tools_failed: list[str] = field(default_factory=list)
    modules: int = 0
    modules_failed: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def ready(self, uptime_s: float) -> None:
        """Tell when the environment was up."""
        self._send({"event": "ready", "uptime_s": round(uptime_s, 2)})

    def tool(self, name: str, path: str, *, status: int, output: str, ok: bool) -> None:
        """Tell how a tool, or something done with it, ended; ``output`` is one line."""
        self.tools += 1
        line = output.strip()[:_LONGEST_OUTPUT]
        if not ok:
            self.tools_failed.append(name)
            self.screen.write(f"  failed: {name} ({path}), status {status}: {line}\n")
        self._send(
            {
                "event": "tool",
                "name": name,
                "path": path,
                "status": status,
                "output": line,
                "ok": ok,
            }
        )

    def module(self, name: str, *, ok: bool, why: str) -> None:
        """Tell whether a module has all that it needs; ``why`` it is not loaded, or not ok."""
        self.modules += 1
        if not ok:
            self.modules_failed.append(name)
            self.screen.write(f"  failed: module {name}: {why}\n")
        self._send({"event": "module", "name": name, "ok": ok, "why": why})

    def remark(self, text: str) -> None:
        """Keep a line for the summary."""
        self.remarks.append(text)

    @contextmanager
    def part(self, what: str, *, alive_s: float = ALIVE_S) -> Iterator[None]:
        """Tell every ``alive_s`` seconds that ``what`` is under way; remark how long it took.

        Each program in it has its own limit of time, after which it is given up: whoever waits for
        reports is to wait for that.
        """
        before = time.monotonic()
        over = threading.Event()

        def tell() -> None:
            while not over.wait(alive_s):
                self._send({"event": "alive", "what": what})

        teller = threading.Thread(target=tell, name="alive", daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
        self.remark(f"{what}: {time.monotonic() - before:.1f} s")

    def done(self) -> bool:
        """Send the sum, write the summary, and return whether all is well."""
        ok = not self.tools_failed and not self.modules_failed
        self._send(
            {
                "event": "done",
                "ok": ok,
                "tools": self.tools,
                "tools_failed": self.tools_failed,
                "modules": self.modules,
                "modules_failed": self.modules_failed,
                "python": platform.python_version(),
            }
        )
        lines = [
            f"self-check: {'all is well' if ok else 'FAILED'}, Python {platform.python_version()}",
            f"  tools: {self.tools} started, {len(self.tools_failed)} failed",
            f"  modules: {self.modules}, {len(self.modules_failed)} failed",
            *(f"  {remark}" for remark in self.remarks),
        ]
        self.screen.write("\n".join(lines) + "\n")
        self.screen.flush()
        return ok

    def _send(self, event: dict[str, object]) -> None:
        if self.port is None:
            return
        left = json.dumps(event).encode() + b"\n"
        with self._turn:
            while left:
                # virtio_console takes 32 KiB a call at most, and the port is not buffered.
                left = left[self.port.write(left) :]


def find_port(ports: Path = _PORTS) -> Path | None:
    """Return the device of the verdict port, by its name in sysfs; None where there is none."""
    if not ports.is_dir():
        return None
    for place in sorted(ports.iterdir()):
        name = place / "name"
        if name.is_file() and name.read_text(encoding="utf-8").strip() == VERDICT_PORT:
            return Path("/dev", place.name)
    return None
