"""Loads every kernel module of the image and tells which of them lack something.

A module may refuse, for want of its hardware; that is no failure. Failures are a file that
modules.dep(5) names and is not there, a symbol that nothing exports or in another version,
a format or signature that the kernel does not take.

All modules of a generic image take more memory than small machines have left: where it gets
short, those that nothing uses are taken out again, and the rest are loaded after them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from archive.run import NOT_RUN, TIMED_OUT, Ended, run

_BATCH = 40
_TIMEOUT_S = 600.0
# So many batches at a time at most: each takes memory, on a machine with many processors too.
_WORKERS = 4
# With less than this left modules are taken out: more than a few batches need, and the programs
# that run after them.
_SPARE_BYTES = 128 << 20

# kmod: could not insert 'x': Why; BusyBox: can't load module x (path): Why.
_COMPLAINT = re.compile(r"(?:could not insert '|load module )([\w-]+)'?[^:]*: (.+)$", re.MULTILINE)

# The kernel's own words, in its log: "x: Unknown symbol y (err -2)".
_BROKEN = re.compile(
    r"(?:^|[;\s])([\w-]+): (Unknown symbol .*|disagrees about version of symbol .*"
    r"|version magic .*|no symbol version for .*|Unknown rela.*)"
)

_NO_ANSWER = "modprobe gave no answer: "

# What init_module(2) says of a module that lacks something or is none; anything else is the
# module's own answer. And what never got as far as that.
_LACKING = (
    *("Unknown symbol", "Exec format error", "Key was rejected", "Required key", "not found"),
    _NO_ANSWER,
)


@dataclass(frozen=True, slots=True)
class ModuleOutcome:
    """What became of one module; ``why`` it is not loaded, empty if it is."""

    name: str
    ok: bool
    why: str


def canonical(name: str) -> str:
    """Return a module's name as the kernel writes it: file names may have dashes."""
    return name.replace("-", "_")


def read_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """Parse modules.dep: file of each module -> files that it needs."""
    found = {}
    for line in text.splitlines():
        path, _, needs = line.partition(":")
        if path:
            found[path] = tuple(needs.split())
    return found


def check_modules(
    folder: Path,
    *,
    modprobe: str,
    rmmod: str | None = None,
    proc: Path = Path("/proc"),
    timeout_s: float = _TIMEOUT_S,
) -> tuple[ModuleOutcome, ...]:
    """Load all modules of ``folder`` (/lib/modules/VERSION) and judge each of them.

    ``timeout_s`` is the time for each batch of _BATCH modules. Without ``rmmod`` all modules stay
    loaded, however short memory gets.
    """
    needs = read_dependencies((folder / "modules.dep").read_text(encoding="utf-8"))
    log = _KernelLog()
    loader = _Loader(modprobe, rmmod, proc, timeout_s)
    loader.load([_name(path) for path in needs])
    broken = log.broken()
    return tuple(
        _judge(
            folder, path, needs, loaded=loader.loaded, complaints=loader.complaints, broken=broken
        )
        for path in needs
    )


def _name(path: str) -> str:
    return canonical(Path(path).name.partition(".ko")[0])


class _Loader:
    """Loads modules; ``loaded`` are all that were once, ``complaints`` say why others were not."""

    def __init__(self, modprobe: str, rmmod: str | None, proc: Path, timeout_s: float) -> None:
        self.complaints: dict[str, str] = {}
        self._modprobe = modprobe
        self._rmmod = rmmod
        self._proc = proc
        self._timeout_s = timeout_s
        self._before = self.loaded = self._now()
        self._stuck: set[str] = set()

    def load(self, names: Sequence[str]) -> None:
        """Ask modprobe for all ``names``, some at a time."""
        absent = [name for name in names if name not in self._before]
        batches = [absent[start : start + _BATCH] for start in range(0, len(absent), _BATCH)]
        workers = min(os.cpu_count() or 1, _WORKERS)
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(batches), workers):
                some = batches[start : start + workers]
                for batch, ended in zip(some, pool.map(self._ask, some), strict=True):
                    self._note(batch, ended)
                self.loaded |= self._now()
                if self._rmmod is not None and _available_bytes(self._proc) < _SPARE_BYTES:
                    self._unload(self._rmmod)

    def _ask(self, batch: Sequence[str]) -> Ended:
        return run([self._modprobe, "-a", *batch], timeout_s=self._timeout_s)

    def _note(self, batch: Sequence[str], ended: Ended) -> None:
        if ended.status in (TIMED_OUT, NOT_RUN):
            # Holds for those of the batch that are neither loaded nor complained of.
            why = _NO_ANSWER + ended.output.strip().splitlines()[-1]
            self.complaints.update(dict.fromkeys(batch, why))
        for match in _COMPLAINT.finditer(ended.output):
            self.complaints[canonical(match[1])] = match[2].strip()

    def _unload(self, rmmod: str) -> None:
        """Take out what was not there before and is not in use, and then what that had used."""
        while True:
            rows = self._rows()
            idle = [row[0] for row in rows if row[2] == "0" and row[4] == "Live"]
            idle = [name for name in idle if name not in self._before | self._stuck]
            if not idle:
                return
            run([rmmod, *idle], timeout_s=self._timeout_s)
            self._stuck |= self._now().intersection(idle)

    def _now(self) -> frozenset[str]:
        return frozenset(row[0] for row in self._rows() if row[4] == "Live")

    def _rows(self) -> list[list[str]]:
        # NAME SIZE USERS USED-BY STATE ...; one whose start hangs stays in the state "Loading".
        text = (self._proc / "modules").read_text(encoding="utf-8")
        return [line.split() for line in text.splitlines()]


def _available_bytes(proc: Path) -> int:
    """Return the memory that programs and modules may yet take (proc(5), MemAvailable)."""
    for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return _SPARE_BYTES  # a kernel from before 3.14


def _judge(
    folder: Path,
    path: str,
    needs: Mapping[str, Iterable[str]],
    *,
    loaded: frozenset[str],
    complaints: Mapping[str, str],
    broken: Mapping[str, str],
) -> ModuleOutcome:
    name = _name(path)
    lacking = [need for need in (path, *needs[path]) if not (folder / need).is_file()]
    unknown = [need for need in needs[path] if need not in needs]
    why = complaints.get(name, "")
    if lacking or unknown:
        absent = ", ".join(lacking + unknown)
        return ModuleOutcome(name, ok=False, why=f"not in the image: {absent}")
    if name in broken:
        return ModuleOutcome(name, ok=False, why=broken[name])
    if name in loaded:
        return ModuleOutcome(name, ok=True, why="")
    refused = [_name(need) for need in needs[path] if _name(need) not in loaded]
    if any(word in why for word in _LACKING):
        return ModuleOutcome(name, ok=False, why=why)
    if refused:
        of = complaints.get(refused[0], why or "not loaded")
        return ModuleOutcome(name, ok=True, why=f"needs {refused[0]}, which refused: {of}")
    return ModuleOutcome(name, ok=bool(why), why=why or "not loaded, and modprobe did not say why")


class _KernelLog:
    """The kernel's messages from the moment of its making (/dev/kmsg)."""

    def __init__(self, device: str = "/dev/kmsg") -> None:
        try:
            self._kmsg: int | None = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._kmsg, 0, os.SEEK_END)
        except OSError:
            self._kmsg = None

    def broken(self) -> dict[str, str]:
        """Return module -> what the kernel said, for modules that do not fit; and close."""
        found: dict[str, str] = {}
        if self._kmsg is None:
            return found
        while True:
            try:
                record = os.read(self._kmsg, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                break
            except BrokenPipeError:
                # Records were overwritten before they were read; the next read goes on.
                continue
            match = _BROKEN.search(record.partition(";")[2].partition("\n")[0])
            if match is not None:
                found[canonical(match[1])] = match[2]
        os.close(self._kmsg)
        return found
