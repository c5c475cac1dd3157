"""``mindi boot IMAGE``: runs an image in QEMU, for a person to see or to have it check itself.

A check boots unmodified media: the word for it (restore.contract.Mode.SELFCHECK) comes through
fw_cfg. The guest then starts each of its tools, loads each of its modules, reports on the
verdict port and powers off; what it reports is judged here (mindi.verdict).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import InputError, ToolError, UsageError
from mindi.accelerator import accelerator_for
from mindi.qemu import (
    SERIAL_LOG,
    Accelerator,
    Architecture,
    Console,
    DirectBoot,
    Engine,
    Firmware,
    Machine,
    Medium,
)
from mindi.verdict import Alive, Event, Verdict, judge
from mindi.vm import QEMU_LOG, SCREEN, GuestError, Vm, last_lines, prepare
from restore.contract import ROOT_ARGUMENT, Mode
from restore.words import shown_lines

READY_S = 45.0
SILENCE_S = 60.0
POWER_OFF_S = 10.0
"""How long a check waits, on real hardware: for the ready line, between reports, for the end.

A guest that is busy says so every restore.contract.ALIVE_S of its own clock.
"""


def direct_cmdline(architecture: Architecture) -> str:
    """Return what a kernel that QEMU loads itself is told: as the menu of an ISO does."""
    screen = "console=tty0 " if architecture is Architecture.X86_64 else ""
    return f"{screen}console={architecture.serial_port},115200 {ROOT_ARGUMENT}"


DIRECT_CMDLINE = direct_cmdline(Architecture.X86_64)

_ISO_ID_OFFSET = 32769
# ECMA-119, 8.4.20: the application identifier, which mindi.iso sets.
_APPLICATION_OFFSET, _APPLICATION = 16 * 2048 + 574, b"MINDI "
_INITRD_MAGICS = (b"070701", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x89LZO")


@dataclass(frozen=True, slots=True)
class BootReport:
    """What a checked boot showed; ``ready_s`` counts from QEMU's start on the host's clock."""

    image: Path
    firmware: Firmware
    medium: Medium
    engine: Engine
    memory_mib: int
    ok: bool
    reasons: tuple[str, ...]
    ready_s: float | None
    total_s: float
    verdict: Verdict
    screenshots: tuple[Path, ...]
    logs: Path
    architecture: Architecture = Architecture.X86_64

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON values."""
        values = dataclasses.asdict(self)
        for name in ("image", "logs"):
            values[name] = str(values[name])
        values["screenshots"] = [str(file) for file in self.screenshots]
        return values

    def to_text(self) -> str:
        """Return the report as lines for a person."""
        ready = "never" if self.ready_s is None else f"{self.ready_s:.1f} s after power-on"
        if self.verdict.uptime_s is not None:
            ready += f", {self.verdict.uptime_s:.1f} s after the kernel's start"
        tools, modules = self.verdict.tools, self.verdict.modules
        lines = [
            f"{self.image}: {'boots' if self.ok else 'FAILED'}",
            f"  firmware     {self.firmware}, from {self.medium}, {self.memory_mib} MiB of memory",
            f"  accelerator  {self.engine}, for {self.architecture}",
            f"  ready line   {ready}",
            f"  tools        {tools - len(self.verdict.tools_failed)} of {tools} start",
            f"  modules      {modules - len(self.verdict.modules_failed)} of {modules} load",
            f"  python       {self.verdict.python or 'not reported'}",
            f"  logs         {self.logs}",
        ]
        lines += [f"  failed: {reason}" for reason in self.reasons]
        # Reasons quote the guest, which may say anything.
        return shown_lines("\n".join(lines))


def architecture_of_image(image: Path) -> Architecture:
    """Return what machine ``image`` is for, by its own record; raise UsageError for another kind.

    An image that is none of mindi's is tried on a PC; raises InputError for a damaged one.
    """
    from mindi.image import ForeignImageError, open_image

    if _is_medium(image) and not _is_iso_of_ours(image):
        return Architecture.X86_64
    try:
        name = open_image(image).record.architecture
    except ForeignImageError:
        if _is_medium(image):
            raise
        return Architecture.X86_64
    if name == "i686":  # which every x86-64 machine runs
        return Architecture.X86_64
    try:
        return Architecture(name)
    except ValueError as error:
        raise UsageError(
            f"{image} is for {name} machines, which mindi cannot boot here",
            hint=f"it boots images for {' and '.join(Architecture)}",
        ) from error


def boot_source(
    image: Path, *, medium: Medium, kernel: Path | None, cmdline: str = DIRECT_CMDLINE
) -> tuple[Path | DirectBoot, Medium]:
    """Return what a machine boots for ``image`` (an ISO or disk image, or an initrd), and how.

    Raises InputError for what is neither, UsageError for an initrd without a kernel.
    """
    if _is_medium(image):
        if kernel is not None:
            raise UsageError(
                f"{image} brings its own kernel, --kernel {kernel} would not be used",
                hint="leave --kernel out, or give an initrd",
            )
        return image, medium
    if kernel is None:
        raise UsageError(
            f"{image} is an initrd and boots only with a kernel",
            hint="give the kernel it was built for: --kernel /boot/vmlinuz-VERSION",
        )
    return DirectBoot(kernel, image, cmdline), Medium.KERNEL


def _is_medium(image: Path) -> bool:
    try:
        with image.open("rb") as file:
            head = file.read(512)
            file.seek(_ISO_ID_OFFSET)
            iso = file.read(5) == b"CD001"
    except OSError as error:
        raise InputError(f"cannot boot {image}: {error.strerror}") from error
    if iso or head[510:] == b"\x55\xaa":
        return True
    if head.startswith(_INITRD_MAGICS):
        return False
    raise InputError(
        f"{image} is no ISO, no disk image and no initrd",
        hint="give a file that `mindi build` wrote",
    )


def _is_iso_of_ours(image: Path) -> bool:
    with image.open("rb") as file:
        file.seek(_APPLICATION_OFFSET)
        return file.read(len(_APPLICATION)) == _APPLICATION


def interact(machine: Machine, *, accelerator: Accelerator | None = None) -> int:
    """Run ``machine`` with its serial console on this terminal; return 0 once it has ended.

    Ctrl-a x ends it, ctrl-a c is QEMU's monitor. Raises as Vm does, and ToolError where QEMU
    refuses, fails or is killed.
    """
    from plumbum import local

    with tempfile.TemporaryDirectory(prefix="mindi-vm-") as folder:
        argv = prepare(
            machine,
            accelerator or accelerator_for(machine.architecture),
            folder=Path(folder),
            console=Console.TERMINAL,
        )
        errors = machine.logs / QEMU_LOG
        with errors.open("ab") as log:
            status, _, _ = local[argv[0]].run(
                argv[1:], retcode=None, stdin=None, stdout=None, stderr=log
            )
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        words = last_lines(errors.read_text(encoding="utf-8", errors="replace"))
        raise ToolError(
            "\n".join([f"QEMU {how}", *(f"  {line}" for line in words)]),
            hint="--logs DIRECTORY keeps its command line and all that it said",
        )
    return 0


def check(
    machine: Machine,
    *,
    accelerator: Accelerator | None = None,
    ready_timeout_s: float = READY_S,
    tell: Callable[[str], None] = lambda words: None,
) -> BootReport:
    """Boot ``machine``, have it check itself, and return what came of it.

    A guest that fails, in whatever way, gives a report that is not ``ok``; ``tell`` hears how
    far it is. Raises as Vm does where the machine cannot be started at all.
    """
    machine = dataclasses.replace(machine, words=(*machine.words, Mode.SELFCHECK.value))
    events: list[Event] = []
    reasons: list[str] = []
    screenshots: list[Path] = []
    ready_s: float | None = None
    with Vm(machine, accelerator=accelerator) as vm:
        try:
            ready_s = vm.wait_ready(ready_timeout_s)
            tell(f"ready after {ready_s:.1f} s")
            screenshots += _photograph(vm, "ready.png")
            for event in vm.verdicts(SILENCE_S):
                if isinstance(event, Alive):
                    tell(f"{len(events)} reports, {event.what}")
                    continue
                events.append(event)
                tell(f"{len(events)} reports")
            vm.wait(POWER_OFF_S)
        except GuestError as error:
            reasons.append(error.message)
            screenshots += _photograph(vm, SCREEN)
        total_s = vm.elapsed_s()
    verdict = judge(events)
    if ready_s is not None:
        reasons += verdict.reasons
    if reasons and lacked_memory(machine.logs / SERIAL_LOG):
        reasons.append(f"{machine.memory_mib} MiB of memory were too little: raise --memory")
    return BootReport(
        image=_image_file(machine),
        firmware=machine.firmware,
        medium=machine.medium,
        engine=vm.accelerator.name,
        memory_mib=machine.memory_mib,
        ok=not reasons,
        reasons=tuple(reasons),
        ready_s=ready_s,
        total_s=total_s,
        verdict=verdict,
        screenshots=tuple(screenshots),
        logs=machine.logs,
        architecture=machine.architecture,
    )


def lacked_memory(serial_log: Path) -> bool:
    """Tell whether a guest's kernel ran out of memory (Linux, mm/oom_kill.c)."""
    try:
        said = serial_log.read_bytes()
    except FileNotFoundError:
        return False
    return b"Out of memory: " in said or b"deadlocked on memory" in said


def _photograph(vm: Vm, name: str) -> list[Path]:
    try:
        return [vm.screendump(vm.machine.logs / name)]
    except ToolError:
        return []  # it has ended, and shows nothing


def _image_file(machine: Machine) -> Path:
    match machine.image:
        case DirectBoot(initrd=initrd):
            return initrd
        case None:
            return machine.disks[0]
        case image:
            return image
