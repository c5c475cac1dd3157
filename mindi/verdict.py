"""What a guest reports on its verdict port, and what is made of it.

The guest (restore/selfcheck.py) writes one JSON object a line (here broken for width) on the
virtio-serial port named restore.contract.VERDICT_PORT; QEMU writes them into a file on the host:

    {"event": "ready", "uptime_s": 7.5}
    {"event": "tool", "name": "lvm", "path": "/usr/sbin/lvm", "status": 0, "output": "...",
     "ok": true}
    {"event": "alive", "what": "loading modules"}
    {"event": "module", "name": "ext4", "ok": true, "why": ""}
    {"event": "done", "ok": true, "tools": 90, "tools_failed": [], "modules": 700,
     "modules_failed": [], "python": "3.11.2"}

A guest may be broken, so nothing of it is believed twice: ``judge`` counts the lines itself
and compares, and a line that is garbage or cut off is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ready:
    """The environment is up, ``uptime_s`` seconds after its kernel started."""

    uptime_s: float


@dataclass(frozen=True, slots=True)
class Tool:
    """A bundled tool was started: its exit status and the first line of its output."""

    name: str
    path: str
    status: int
    output: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A module was loaded with its dependencies, or could not be, and ``why``."""

    name: str
    ok: bool
    why: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing to report yet: the guest is busy with ``what``."""

    what: str


@dataclass(frozen=True, slots=True)
class Done:
    """The guest's own sum; the last line of a whole report."""

    ok: bool
    tools: int
    tools_failed: tuple[str, ...]
    modules: int
    modules_failed: tuple[str, ...]
    python: str


@dataclass(frozen=True, slots=True)
class Garbled:
    """A line that is no report: what it holds, and what is wrong with it."""

    line: str
    why: str


Event = Ready | Tool | Module | Alive | Done | Garbled


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report comes to; ``reasons`` say why it is not ``ok``."""

    ok: bool
    reasons: tuple[str, ...]
    uptime_s: float | None
    tools: int
    tools_failed: tuple[str, ...]
    modules: int
    modules_failed: tuple[str, ...]
    python: str | None


def parse_line(line: bytes) -> Event:
    """Return the event that one line (without its newline) reports; Garbled for any other."""
    text = line.decode("utf-8", errors="replace").strip("\r\n\0")
    try:
        record = json.loads(text)
    except ValueError as error:
        return Garbled(text, f"no JSON: {error}")
    if not isinstance(record, dict):
        return Garbled(text, "no JSON object")
    event = _typed(record)
    return Garbled(text, "no event of this protocol") if event is None else event


def _typed(record: dict[str, object]) -> Event | None:
    match record:
        case {"event": "ready", "uptime_s": int(uptime) | float(uptime)}:
            return Ready(float(uptime))
        case {
            "event": "tool",
            "name": str(name),
            "path": str(path),
            "status": int(status),
            "output": str(output),
            "ok": bool(ok),
        }:
            return Tool(name, path, status, output, ok)
        case {"event": "module", "name": str(name), "ok": bool(ok), "why": str(why)}:
            return Module(name, ok, why)
        case {"event": "alive", "what": str(what)}:
            return Alive(what)
        case {
            "event": "done",
            "ok": bool(ok),
            "tools": int(tools),
            "tools_failed": [*tools_failed],
            "modules": int(modules),
            "modules_failed": [*modules_failed],
            "python": str(python),
        }:
            failed = (tuple(map(str, tools_failed)), tuple(map(str, modules_failed)))
            return Done(ok, tools, failed[0], modules, failed[1], python)
    return None


class Reader:
    """Reads a report while it grows."""

    def __init__(self, file: Path) -> None:
        """Read from ``file``, which need not exist yet."""
        self._file = file
        self._offset = 0
        self._partial = b""

    def read(self) -> tuple[Event, ...]:
        """Return the events of the lines completed since the last call."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return ()
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        return tuple(parse_line(line) for line in lines if line.strip())

    def finish(self) -> tuple[Event, ...]:
        """Return the last events, a line cut off by the guest's end among them as Garbled."""
        events = self.read()
        if not self._partial.strip():
            return events
        cut = self._partial.decode("utf-8", errors="replace")
        self._partial = b""
        return (*events, Garbled(cut, "cut off: the guest ended in the middle of a line"))


def judge(events: Iterable[Event]) -> Verdict:
    """Return what a whole report comes to."""
    seen = tuple(events)
    tools = [event for event in seen if isinstance(event, Tool)]
    modules = [event for event in seen if isinstance(event, Module)]
    ready = next((event for event in seen if isinstance(event, Ready)), None)
    done = next((event for event in seen if isinstance(event, Done)), None)
    tools_failed = [tool for tool in tools if not tool.ok]
    modules_failed = [module for module in modules if not module.ok]
    reasons = [f"the guest wrote {e.line[:200]!r}: {e.why}" for e in seen if isinstance(e, Garbled)]
    if ready is None:
        reasons.append("the guest never reported that it is ready")
    reasons += [f"tool {tool.name} failed: {tool.output}" for tool in tools_failed]
    reasons += [f"module {module.name} failed: {module.why}" for module in modules_failed]
    verdict = Verdict(
        ok=False,
        reasons=(),
        uptime_s=None if ready is None else ready.uptime_s,
        tools=len(tools),
        tools_failed=tuple(tool.name for tool in tools_failed),
        modules=len(modules),
        modules_failed=tuple(module.name for module in modules_failed),
        python=None if done is None else done.python,
    )
    reasons += _disagreements(done, verdict)
    return replace(verdict, ok=not reasons, reasons=tuple(reasons))


def _disagreements(done: Done | None, counted: Verdict) -> list[str]:
    if done is None:
        return ["the guest's report ended before its last line"]
    reasons = []
    if not done.ok:
        reasons.append("the guest's own verdict is that it failed")
    if not done.tools:
        reasons.append("the guest checked no tool")
    sums = (
        ("tools", done.tools, counted.tools),
        ("tools that failed", sorted(done.tools_failed), sorted(counted.tools_failed)),
        ("modules", done.modules, counted.modules),
        ("modules that failed", sorted(done.modules_failed), sorted(counted.modules_failed)),
    )
    for what, said, found in sums:
        if said != found:
            reasons.append(f"the guest's sum says {what}: {said}, its lines say {found}")
    return reasons
