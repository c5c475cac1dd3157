"""Proves that what is in a rescue image works: run in it, as ``python3 -m restore.selfcheck``.

Starts every bundled tool, imports every module of Python that travels, loads every kernel
module, and makes a volume group, a RAID and an encrypted device of its own. Outcomes go to
the verdict port (restore/verdict.py) and, summed up, to standard output. The exit status is
0 if all is well, 1 if not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from archive.run import run
from restore.contract import LOG, READY, SELFCHECK, Checklist, Startable
from restore.modulecheck import canonical, check_modules
from restore.storagecheck import run_trial, trials
from restore.verdict import Verdict, find_port

_TIMEOUT_S = 120

# Of the standard library, what restores need and what has libraries of its own.
_STANDARD = (
    "argparse, bz2, concurrent.futures, ctypes, curses, hashlib, http.client, json, logging,"
    " lzma, multiprocessing, os, readline, socket, sqlite3, ssl, struct, subprocess, tarfile,"
    " urllib.request, zlib"
)


@dataclass(frozen=True, slots=True)
class Start:
    """How a start of a tool ended; ``status`` as of ``archive.run``, ``output`` one line."""

    tool: Startable
    status: int
    output: str

    @property
    def ok(self) -> bool:
        """Whether the tool ended as it should."""
        return self.status in self.tool.statuses


def start(tool: Startable) -> Start:
    """Start one tool, with no input and no terminal, and wait for its end."""
    ended = run(tool.argv, timeout_s=_TIMEOUT_S)
    lines = ended.output.strip().splitlines()
    # A version comes first, the reason of a traceback last.
    line = lines[0 if ended.status in tool.statuses else -1] if lines else ""
    return Start(tool, ended.status, line)


def imports(checklist: Checklist) -> Iterator[Startable]:
    """Yield starts of Python, each importing something, as tools of that name."""
    python = (sys.executable, "-I", "-S", "-c")
    yield Startable("python3: standard library", (*python, f"import {_STANDARD}"), (0,))
    for module in checklist.imports:
        yield Startable(f"python3: {module}", (*python, f"import {module}"), (0,))


def check_tools(tools: Iterable[Startable], verdict: Verdict) -> None:
    """Start all ``tools``, some at a time, and report each."""
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        for outcome in pool.map(start, tools):
            verdict.tool(
                outcome.tool.name,
                outcome.tool.argv[0],
                status=outcome.status,
                output=outcome.output,
                ok=outcome.ok,
            )


def check_kernel(checklist: Checklist, verdict: Verdict) -> None:
    """Load all modules of the image and report each."""
    running = os.uname().release
    folder = Path("/lib/modules", running)
    if running != checklist.kernel or not (folder / "modules.dep").is_file():
        why = f"Linux {running} runs, the image was made for {checklist.kernel}"
        verdict.module("modules.dep", ok=False, why=why)
        return
    outcomes = check_modules(folder, modprobe=checklist.modprobe, rmmod=checklist.path("rmmod"))
    for outcome in outcomes:
        verdict.module(outcome.name, ok=outcome.ok, why=outcome.why)
    refused = sum(1 for outcome in outcomes if outcome.ok and outcome.why)
    verdict.remark(f"modules that want other hardware: {refused}")


def check_storage(checklist: Checklist, verdict: Verdict) -> None:
    """Try LVM, RAID and LUKS where the tool and its modules are in the image."""
    there = _modules_there(Path("/lib/modules", os.uname().release))
    # On the root, a ramfs: a loop device over a tmpfs fails to write zeroes in the way that it
    # offers, and the kernel says so on the console each time.
    memory = Path("/var/tmp")  # noqa: S108 memory of the image
    for trial in trials(*(checklist.path(name) for name in ("lvm", "mdadm", "cryptsetup"))):
        lacking = [module for module in trial.modules if module not in there]
        if lacking:
            verdict.remark(f"not tried: {trial.name}, for want of the module {lacking[0]}")
            continue
        # Where memory is short they were taken out again; the trial says what is wrong.
        run([checklist.modprobe, "-a", *trial.modules], timeout_s=_TIMEOUT_S)
        outcome = run_trial(trial, memory)
        verdict.tool(
            outcome.name, outcome.tool, status=outcome.status, output=outcome.what, ok=outcome.ok
        )


def _modules_there(folder: Path) -> frozenset[str]:
    """Return the names of all modules in the image or built into the kernel."""
    names: set[str] = set()
    for index in ("modules.dep", "modules.builtin"):
        if (folder / index).is_file():
            for line in (folder / index).read_text(encoding="utf-8").splitlines():
                names.add(canonical(Path(line.partition(":")[0]).name.partition(".ko")[0]))
    return frozenset(names)


def ready_at_s(log: Path, uptime: Path = Path("/proc/uptime")) -> float:
    """Return the uptime at which the environment was ready by its log; now, if it is not there."""
    if log.is_file():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            stamp, _, words = line.partition("] ")
            if words == READY and stamp.startswith("["):
                return float(stamp[1:])
    return float(uptime.read_text(encoding="utf-8").split()[0])


def main() -> int:
    """Check everything; return 0 if all is well."""
    with ExitStack() as stack:
        port = find_port()
        sink = stack.enter_context(port.open("wb", buffering=0)) if port else None
        verdict = Verdict(sink, sys.stdout)
        verdict.ready(ready_at_s(Path(LOG)))
        try:
            checklist = Checklist.read(Path(SELFCHECK))
        except (OSError, ValueError, KeyError, TypeError) as error:
            verdict.tool("checklist", SELFCHECK, status=1, output=str(error), ok=False)
            verdict.done()
            return 1
        with verdict.part("starting tools"):
            check_tools([*imports(checklist), *checklist.tools], verdict)
        with verdict.part("loading modules"):
            check_kernel(checklist, verdict)
        with verdict.part("trying storage"):
            check_storage(checklist, verdict)
        return 0 if verdict.done() else 1


if __name__ == "__main__":
    sys.exit(main())
