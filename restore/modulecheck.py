"""Loads every kernel module of the image and tells which of them lack something.

A module may refuse, for want of its hardware; that is no failure. Failures are a file that
modules.dep(5) names and is not there, a symbol that nothing exports or in another version,
a format or signature that the kernel does not take.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from restore.run import NOT_RUN, TIMED_OUT, Ended, run

_BATCH = 40
_TIMEOUT_S = 600.0

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
    proc_modules: Path = Path("/proc/modules"),
    timeout_s: float = _TIMEOUT_S,
) -> tuple[ModuleOutcome, ...]:
    """Load all modules of ``folder`` (/lib/modules/VERSION) and judge each of them.

    ``timeout_s`` is the time for each batch of _BATCH modules.
    """
    needs = read_dependencies((folder / "modules.dep").read_text(encoding="utf-8"))
    names = {path: _name(path) for path in needs}
    before = _loaded(proc_modules)
    log = _KernelLog()
    absent = [name for name in names.values() if name not in before]
    complaints = _load(absent, modprobe=modprobe, timeout_s=timeout_s)
    broken = log.broken()
    after = _loaded(proc_modules)
    return tuple(
        _judge(folder, path, needs, loaded=after, complaints=complaints, broken=broken)
        for path in needs
    )


def _name(path: str) -> str:
    return canonical(Path(path).name.partition(".ko")[0])


def _loaded(proc_modules: Path) -> frozenset[str]:
    # NAME SIZE USERS NEEDED-BY STATE ...; one whose start hangs stays in the state "Loading".
    rows = [line.split() for line in proc_modules.read_text(encoding="utf-8").splitlines()]
    return frozenset(row[0] for row in rows if row[4] == "Live")


def _load(names: Sequence[str], *, modprobe: str, timeout_s: float) -> dict[str, str]:
    """Ask modprobe for all ``names``; return what it said of those it could not load."""
    batches = [names[start : start + _BATCH] for start in range(0, len(names), _BATCH)]

    def load(batch: Sequence[str]) -> Ended:
        return run([modprobe, "-a", *batch], timeout_s=timeout_s)

    complaints: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for batch, ended in zip(batches, pool.map(load, batches), strict=True):
            if ended.status in (TIMED_OUT, NOT_RUN):
                # Holds for those of the batch that are neither loaded nor complained of.
                why = _NO_ANSWER + ended.output.strip().splitlines()[-1]
                complaints.update(dict.fromkeys(batch, why))
            for match in _COMPLAINT.finditer(ended.output):
                complaints[canonical(match[1])] = match[2].strip()
    return complaints


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
