"""Runs a machine in QEMU: talks to its serial console, hears its verdict, photographs its screen.

The console is driven with pexpect, which owns the QEMU process: QEMU's standard input and
output are a pseudo-terminal of ours, so when we die the kernel hangs up and QEMU ends too.
What a guest *reports* comes on a port of its own (mindi.verdict) and is not read off the console.

Timeouts are given in seconds of real hardware and multiplied by the accelerator's factor.

A machine's ``logs`` keep: ``serial.log``, ``verdict.jsonl``, ``qemu.log`` (QEMU's own words),
``argv``, and ``screen.png`` where a run failed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

from initramfs.errors import InputError, OutputError, ToolError
from mindi.accelerator import accelerator_for
from mindi.qemu import (
    SERIAL_LOG,
    VERDICT_LOG,
    Accelerator,
    Channels,
    Console,
    Machine,
    arguments,
    find_firmware,
    find_qemu,
)
from mindi.qmp import Qmp
from mindi.verdict import Event, Reader
from restore.contract import DAMAGED, READY

PANIC = "Kernel panic - not syncing"
BAD_INITRD = "Initramfs unpacking failed"
"""What a kernel says of a damaged initrd; it goes on with the files it got until then."""

ARGV = "argv"
QEMU_LOG = "qemu.log"
SCREEN = "screen.png"
QMP_SOCKET = "qmp"

# The kernel writes its own messages into the middle of a line that a program is writing.
_KERNEL_MESSAGE = re.compile(r"\[ *\d+\.\d{6}\][^\n]*\n?")
# CSI sequences (ECMA-48) and lone control characters: a log's end is shown on a terminal. A
# boot menu moves the cursor where others begin a line.
_CURSOR = re.compile(r"\x1b\[\d+;\d+H")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x09\x0b-\x1f\x7f]|\x1b")
# A row of the monitor's "info usernet": protocol, descriptor, source and port, guest and port.
_SSH_FORWARD = re.compile(r"^ *TCP\[HOST_FORWARD\] +\d+ +127\.0\.0\.1 +(\d+) +\S+ +22 ", re.M)
_POLL_S = 0.1
_END_S = 10.0
_TAIL_LINES = 12
_TAIL_WIDTH = 120


class _Console(Protocol):
    """What is used of pexpect.spawn, which brings no types."""

    match: object

    def expect(self, pattern: list[object], *, timeout: float) -> int: ...
    def sendline(self, s: str) -> int: ...
    def isalive(self) -> bool: ...
    def close(self, *, force: bool) -> None: ...


class GuestError(ToolError):
    """A guest did not do what it should: it panicked, ended, or was silent for too long."""


class Vm:
    """A running machine; a context manager that ends it, whatever happened."""

    def __init__(self, machine: Machine, *, accelerator: Accelerator | None = None) -> None:
        """Prepare ``machine``; it starts with the context. None probes the accelerator."""
        self.machine = machine
        self.accelerator = accelerator or accelerator_for(machine.architecture)
        self.started_s = 0.0
        self._cleanup = contextlib.ExitStack()
        self._console: _Console | None = None
        self._qmp: Qmp | None = None
        self._reader = Reader(machine.logs / VERDICT_LOG)
        self._events: deque[Event] = deque()

    def __enter__(self) -> Vm:
        """Start the machine; raises as ``prepare`` does, and ToolError where QEMU will not run."""
        with contextlib.ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="mindi-vm-"))
            argv = prepare(self.machine, self.accelerator, folder=Path(name))
            stack.callback(self.quit)
            self._spawn(argv)
            try:
                self._qmp = Qmp.connect(
                    Path(name, QMP_SOCKET), timeout_s=_END_S, is_alive=self.is_alive
                )
            except ToolError as error:
                raise self._failure(f"QEMU does not run: {error.message}") from error
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the machine; after an error, keep its screen first."""
        try:
            if error is not None and self.is_alive():
                with contextlib.suppress(ToolError):
                    self.screendump(self.machine.logs / SCREEN)
        finally:
            self._cleanup.close()

    def is_alive(self) -> bool:
        """Tell whether the machine still runs."""
        return self._console is not None and self._console.isalive()

    def elapsed_s(self) -> float:
        """Return the seconds since the machine was started, on the host's clock."""
        return time.monotonic() - self.started_s

    def serial_text(self) -> str:
        """Return all that the serial console showed so far, without the kernel's messages."""
        return _KERNEL_MESSAGE.sub("", self._log_text(SERIAL_LOG))

    def wait_ready(self, timeout_s: float) -> float:
        """Wait for restore.contract.READY on the serial console; return ``elapsed_s`` then.

        Raises GuestError where the guest panics, ends, or is not ready in time.
        """
        deadline = time.monotonic() + timeout_s * self.accelerator.factor
        while True:
            alive = self._drain(_POLL_S)
            self._check_kernel()
            if READY in self.serial_text():
                return self.elapsed_s()
            if not alive:
                raise self._failure(f"the machine ended before it said '{READY}'")
            if time.monotonic() > deadline:
                waited = f"{timeout_s * self.accelerator.factor:.0f} s"
                raise self._failure(f"the machine did not say '{READY}' within {waited}")

    def expect(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait until the serial console shows the regular expression ``pattern``.

        Only what came after the last match counts. Raises GuestError where the guest panics,
        ends, or does not show it in time.
        """
        import pexpect

        patterns = [pattern, re.escape(PANIC), pexpect.EOF, pexpect.TIMEOUT]
        scaled_s = timeout_s * self.accelerator.factor
        console = self._console
        if console is None:
            raise self._failure(f"the machine ended before its console showed {pattern!r}")
        match console.expect(patterns, timeout=scaled_s):
            case 0:
                return cast("re.Match[str]", console.match)
            case 1:
                raise self._failure("the guest's kernel panicked")
            case 2:
                raise self._failure(f"the machine ended before its console showed {pattern!r}")
        raise self._failure(f"the console did not show {pattern!r} within {scaled_s:.0f} s")

    def sendline(self, text: str = "") -> None:
        """Type one line on the serial console."""
        if self._console is None:
            raise self._failure("the machine ended, nobody reads what is typed")
        self._console.sendline(text)

    def press(self, *keys: str) -> None:
        """Press and release each of ``keys``, one after the other, on the machine's keyboard.

        A key goes by the place it has on a US keyboard (QEMU's QKeyCode: "z", "ret", "spc").
        Raises ToolError.
        """
        for key in keys:
            self._monitor().execute("send-key", {"keys": [{"type": "qcode", "data": key}]})

    def ssh_port(self) -> int:
        """Return this host's loopback port that leads to the guest's ssh server.

        Raises ToolError for a machine that was given none (mindi.qemu.Network).
        """
        # QMP itself has no command for it, nor for what QEMU chose for port 0.
        table = self._monitor().execute("human-monitor-command", {"command-line": "info usernet"})
        found = _SSH_FORWARD.search(str(table))
        if found is None:
            raise ToolError("no port of this host leads to the machine's ssh server")
        return int(found[1])

    def verdicts(self, silence_s: float) -> Iterator[Event]:
        """Yield what the guest reports, from the first line not yet taken, until it ends.

        Raises GuestError where it panics, or says nothing for ``silence_s`` and goes on running.
        """
        limit_s = silence_s * self.accelerator.factor
        last = time.monotonic()
        while True:
            alive = self._drain(_POLL_S)
            self._events.extend(self._reader.read() if alive else self._reader.finish())
            while self._events:
                yield self._events.popleft()
                last = time.monotonic()
            if not alive:
                return
            self._check_kernel()
            if time.monotonic() - last > limit_s:
                raise self._failure(f"the guest reported nothing for {limit_s:.0f} s")

    def screendump(self, file: Path) -> Path:
        """Write what the VGA screen shows as a PNG and return ``file``; raises ToolError."""
        self._monitor().execute("screendump", {"filename": str(file.absolute()), "format": "png"})
        return file

    def wait(self, timeout_s: float) -> None:
        """Wait until the machine has ended; raises GuestError where it does not."""
        deadline = time.monotonic() + timeout_s * self.accelerator.factor
        while self._drain(_POLL_S):
            if time.monotonic() > deadline:
                waited = f"{timeout_s * self.accelerator.factor:.0f} s"
                raise self._failure(f"the machine did not power off within {waited}")

    def quit(self) -> None:
        """End the machine at once, as pulling its plug would, and wait for its process."""
        if self._console is None:
            return
        if self.is_alive():
            # QEMU may close the socket before it answers; what counts is that it ends.
            with contextlib.suppress(ToolError):
                self._monitor().execute("quit")
            deadline = time.monotonic() + _END_S
            while self._drain(_POLL_S) and time.monotonic() < deadline:
                pass
        if self._qmp is not None:
            self._qmp.close()
        self._console.close(force=True)
        self._console = self._qmp = None

    def _spawn(self, argv: tuple[str, ...]) -> None:
        import pexpect

        self.started_s = time.monotonic()
        child = pexpect.spawn(  # type: ignore[no-untyped-call]
            argv[0],
            list(argv[1:]),
            maxread=65536,
            encoding="utf-8",
            codec_errors="replace",
            echo=False,
            preexec_fn=_errors_to(self.machine.logs / QEMU_LOG),
        )
        # pexpect waits before it types, for programs that turn echoing off; none is here.
        child.delaybeforesend = None  # type: ignore[assignment]
        self._console = cast("_Console", child)

    def _monitor(self) -> Qmp:
        if self._qmp is None:
            raise ToolError("the machine does not run")
        return self._qmp

    def _drain(self, seconds: float) -> bool:
        """Take what the console says, for later matches; tell whether the machine still runs.

        A machine whose console nobody reads stops when the pseudo-terminal is full.
        """
        import pexpect

        if self._console is None:
            return False
        return self._console.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=seconds) == 1

    def _check_kernel(self) -> None:
        text = self._log_text(SERIAL_LOG)
        if BAD_INITRD in text:
            raise self._failure("the guest's kernel could not unpack its initrd")
        if PANIC in text:
            raise self._failure("the guest's kernel panicked")
        if DAMAGED in text:
            raise self._failure("the guest says that its image is damaged")

    def _failure(self, message: str) -> GuestError:
        parts = [message]
        for name in (QEMU_LOG, SERIAL_LOG):
            lines = last_lines(self._log_text(name))
            if lines:
                parts += [f"the end of {name}:", *(f"  {line}" for line in lines)]
        return GuestError("\n".join(parts), hint=f"all logs are in {self.machine.logs}")

    def _log_text(self, name: str) -> str:
        try:
            data = (self.machine.logs / name).read_bytes()
        except FileNotFoundError:
            return ""
        return data.decode("utf-8", errors="replace").replace("\r", "")


def last_lines(text: str) -> tuple[str, ...]:
    """Return the last few lines of a log as they may be shown on any terminal."""
    plain = _ESCAPES.sub("", _CURSOR.sub("\n", text))
    lines = (line.strip()[:_TAIL_WIDTH] for line in plain.splitlines())
    return tuple(line for line in lines if line)[-_TAIL_LINES:]


def prepare(
    machine: Machine,
    accelerator: Accelerator,
    *,
    folder: Path,
    console: Console = Console.SERIAL,
) -> tuple[str, ...]:
    """Make ready all that a run of ``machine`` needs and return QEMU's argv.

    ``folder`` gets what only this run uses; the machine's logs are emptied, and ``argv`` is
    kept there. Raises MissingDependency (no QEMU, no firmware), InputError (a file of the
    machine cannot be read), OutputError (its logs cannot be written).
    """
    qemu = find_qemu(machine.architecture)
    firmware = find_firmware(machine.firmware)
    _check_readable(machine)
    channels = Channels(folder / QMP_SOCKET, folder / "variables.fd")
    code = None
    if firmware is not None:
        code = firmware[0]
        shutil.copyfile(firmware[1], channels.variables)
    argv = (
        qemu,
        *arguments(machine, accelerator, channels=channels, code=code, console=console),
    )
    logs = machine.logs
    try:
        logs.mkdir(parents=True, exist_ok=True)
        for name in (QEMU_LOG, SERIAL_LOG, VERDICT_LOG, SCREEN):
            (logs / name).unlink(missing_ok=True)
        (logs / QEMU_LOG).touch()
        (logs / ARGV).write_text(shlex.join(argv) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot keep logs in {logs}: {error.strerror}") from error
    return argv


def _check_readable(machine: Machine) -> None:
    """Raise InputError where a file that ``machine`` needs cannot be read."""
    for file in machine.files:
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise InputError(f"cannot boot from {file}: {error.strerror}") from error


def _errors_to(file: Path) -> Callable[[], None]:
    """Return what a new process does to have its standard error in ``file``."""

    def redirect() -> None:
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), 2)

    return redirect
