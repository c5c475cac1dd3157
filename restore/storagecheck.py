"""Does LVM, RAID and encryption for once, on files of its own in memory.

Each trial makes a device out of loop devices over new sparse files, writes to it, reads what
it wrote, and takes it away again. No other device is ever touched: tools get the loop
devices by name, and LVM a filter that hides all others.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from archive.run import run

# linux/loop.h
_LOOP_SET_FD, _LOOP_CLR_FD, _LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82

_NAME = "mindi_check"
_SAMPLE = os.urandom(4096)
_TIMEOUT_S = 120
_MEBIBYTE = 1 << 20


class TrialError(Exception):
    """A step of a trial failed; says which and what it said."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial: its tool's path, the modules that it needs, and what it does in a directory."""

    name: str
    tool: str
    modules: tuple[str, ...]
    run: Callable[[str, Path], None]


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a trial ended; ``what`` is one line."""

    name: str
    tool: str
    ok: bool
    status: int
    what: str


def trials(lvm: str | None, mdadm: str | None, cryptsetup: str | None) -> Iterator[Trial]:
    """Yield the trials for the tools that are there, given by path."""
    if lvm is not None:
        yield Trial("LVM works", lvm, ("loop", "dm_mod"), _try_lvm)
    if mdadm is not None:
        yield Trial("RAID 1 works", mdadm, ("loop", "raid1"), _try_raid)
    if cryptsetup is not None:
        yield Trial("LUKS works", cryptsetup, ("loop", "dm_crypt"), _try_luks)


def run_trial(trial: Trial, directory: Path) -> TrialOutcome:
    """Run one trial, with its files in ``directory`` (in memory), and clean up."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="mindi-check-") as place:
        try:
            trial.run(trial.tool, Path(place))
        except (TrialError, OSError) as error:
            status = error.status if isinstance(error, TrialError) else 1
            return TrialOutcome(trial.name, trial.tool, ok=False, status=status, what=str(error))
    return TrialOutcome(trial.name, trial.tool, ok=True, status=0, what="made, written, read, gone")


def _try_lvm(lvm: str, place: Path) -> None:
    with loop_device(place / "pv", 32 * _MEBIBYTE) as device:
        only = f'devices {{ global_filter=["a|^{device}$|", "r|.*|"] }}'
        options = ["--config", f"{only} activation {{ monitoring=0 }}"]
        _run([lvm, "pvcreate", *options, "--yes", device])
        _run([lvm, "vgcreate", *options, _NAME, device])
        try:
            _run([lvm, "lvcreate", *options, "--yes", "--extents", "2", "--name", "lv", _NAME])
            _write_and_read(f"/dev/{_NAME}/lv")
        finally:
            _run([lvm, "vgremove", *options, "--force", "--yes", _NAME])


def _try_raid(mdadm: str, place: Path) -> None:
    with ExitStack() as stack:
        members = [
            stack.enter_context(loop_device(place / name, 16 * _MEBIBYTE)) for name in ("a", "b")
        ]
        array = f"/dev/md/{_NAME}"
        create = ["--create", array, "--run", "--level=1", "--raid-devices=2", "--assume-clean"]
        _run([mdadm, *create, "--metadata=1.2", "--homehost=any", *members])
        try:
            _write_and_read(array)
        finally:
            _run([mdadm, "--stop", array])


def _try_luks(cryptsetup: str, place: Path) -> None:
    key = place / "key"
    key.write_bytes(os.urandom(32))
    with loop_device(place / "luks", 32 * _MEBIBYTE) as device:
        # As few iterations as there may be: the key is random, and the processor emulated.
        cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        _run([cryptsetup, "luksFormat", "--batch-mode", "--key-file", str(key), *cheap, device])
        _run([cryptsetup, "open", "--key-file", str(key), device, _NAME])
        try:
            _write_and_read(f"/dev/mapper/{_NAME}")
        finally:
            _run([cryptsetup, "close", _NAME])


@contextmanager
def loop_device(file: Path, size_bytes: int) -> Iterator[str]:
    """Make a sparse ``file`` and yield the loop device over it."""
    with file.open("xb") as backing:
        backing.truncate(size_bytes)
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    name = f"/dev/loop{number}"
    device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    held = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _LOOP_SET_FD, held)
        os.close(device)
        device = -1
        yield name
    finally:
        os.close(held)
        if device >= 0:
            os.close(device)
        device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(device, _LOOP_CLR_FD)
        os.close(device)


def _write_and_read(device: str) -> None:
    with open(device, "r+b", buffering=0) as block:  # noqa: PTH123 a device, not a path of files
        block.write(_SAMPLE)
        os.fsync(block.fileno())
    with open(device, "rb", buffering=0) as block:  # noqa: PTH123
        os.posix_fadvise(block.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if block.read(len(_SAMPLE)) != _SAMPLE:
            raise TrialError(f"{device} gave back other bytes than were written to it")


def _run(argv: Sequence[str]) -> None:
    ended = run(argv, timeout_s=_TIMEOUT_S)
    if ended.status != 0:
        said = " / ".join(ended.output.strip().splitlines()[-3:])
        raise TrialError(f"{' '.join(argv[:2])}: {said}", status=ended.status)
