"""Finds out whether hardware virtualization works here: by trying, not by looking.

/dev/kvm may open, and even create a machine, and still hang every guest (nested machines
without nested virtualization). So KVM is used only where the processor shows it *and* a
boot sector of a few bytes ran to its end under it.
"""

from __future__ import annotations

import json
import logging
import tempfile
from functools import lru_cache
from pathlib import Path

from mindi.qemu import KVM, TCG, Accelerator, Architecture, Engine, find_qemu

LOGGER = logging.getLogger(__name__)
PROBE_TIMEOUT_S = 5.0
# mov dx,0x501; mov al,0x15; out dx,al; hlt; jmp to the hlt
_SECTOR_CODE = bytes.fromhex("ba0105 b015 ee f4 ebfd")
# isa-debug-exit ends QEMU with the written value doubled, plus one.
_PROBE_STATUS = 0x15 * 2 + 1
_RECORD = "accelerator.json"


def accelerator_for(architecture: Architecture, cache: Path | None = None) -> Accelerator:
    """Return what a machine runs on: one of another kind than this can only be emulated.

    ``cache`` as for ``probe_accelerator``. Raises MissingDependency where QEMU is not installed.
    """
    return probe_accelerator(cache) if architecture is Architecture.X86_64 else TCG


@lru_cache(maxsize=1)
def probe_accelerator(
    cache: Path | None = None,
    *,
    cpuinfo: Path = Path("/proc/cpuinfo"),
    device: Path = Path("/dev/kvm"),
) -> Accelerator:
    """Return the fastest engine that works; remembered in the folder ``cache`` until reboot.

    ``cpuinfo`` and ``device`` tell whether it is worth a try. Raises MissingDependency where
    QEMU is not installed.
    """
    if not shows_virtualization(cpuinfo) or not device.exists():
        return TCG
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    known = None if cache is None else _recall(cache, boot_id)
    if known is not None:
        return known
    found = KVM if boots(KVM) else TCG
    if cache is not None:
        _remember(cache, boot_id, found)
    return found


def shows_virtualization(cpuinfo: Path) -> bool:
    """Tell whether the processor described in ``cpuinfo`` (proc(5)) has VT-x or AMD-V."""
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags" and not {"vmx", "svm"}.isdisjoint(value.split()):
            return True
    return False


def boots(accelerator: Accelerator, *, sector: bytes = _SECTOR_CODE) -> bool:
    """Tell whether a guest whose boot sector begins with ``sector`` says so under ``accelerator``.

    A guest that hangs is ended after PROBE_TIMEOUT_S. Raises MissingDependency (no QEMU).
    """
    from plumbum import local
    from plumbum.commands.processes import ProcessTimedOut

    qemu = local[find_qemu()]
    with tempfile.TemporaryDirectory(prefix="mindi-probe-") as folder:
        disk = Path(folder) / "sector"
        disk.write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa")
        command = qemu[
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "pc", accelerator.options(), "-m", "32", "-nic", "none",
            "-device", "isa-debug-exit,iobase=0x501,iosize=0x01",
            "-drive", f"if=ide,format=raw,snapshot=on,file={disk}",
        ]  # fmt: skip
        try:
            status, _, _ = command.run(retcode=None, timeout=PROBE_TIMEOUT_S)
        except ProcessTimedOut:
            return False
    return bool(status == _PROBE_STATUS)


def _recall(cache: Path, boot_id: str) -> Accelerator | None:
    try:
        record = json.loads((cache / _RECORD).read_text(encoding="utf-8"))
        if record["boot_id"] != boot_id:
            return None
        return KVM if Engine(record["engine"]) is Engine.KVM else TCG
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or one that is not ours: probe again


def _remember(cache: Path, boot_id: str, found: Accelerator) -> None:
    record = {"boot_id": boot_id, "engine": found.name.value}
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, delete=False, encoding="utf-8") as file:
            json.dump(record, file)
        Path(file.name).replace(cache / _RECORD)
    except OSError as error:
        LOGGER.debug("the accelerator is not remembered in %s: %s", cache, error.strerror)
