"""The commands of ``mindi``: from parsed words to a result on standard output and an exit code."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from initramfs.errors import OutputError, UsageError
from mindi.config import SETTINGS, Host, combine, read_file, read_values, resolve
from mindi.configfile import SYSTEM_FILE
from mindi.progress import Narrator, narrator
from mindi.results import print_result
from restore.words import shown_lines

# February of 2106: what dates in an initrd (cpio's 32 bits) and on a FAT file system can say.
_LATEST_S = 0xFFFFFFFF


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed; return its exit code."""
    table: Mapping[str, Callable[[argparse.Namespace, Narrator], int]] = {
        "build": _build,
        "inspect": _inspect,
        "why": _why,
        "diff": _diff,
        "boot": _boot,
        "doctor": _doctor,
        "layout": _layout,
    }
    teller = narrator(quiet=arguments.quiet)
    warnings = _Warnings(teller)
    logging.getLogger().addHandler(warnings)
    try:
        return table[arguments.command](arguments, teller)
    finally:
        logging.getLogger().removeHandler(warnings)
        teller.close()


class _Warnings(logging.Handler):
    """Shows what libraries log of what a user should know: each once."""

    def __init__(self, teller: Narrator) -> None:
        super().__init__(logging.WARNING)
        self._teller = teller
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        words = shown_lines(record.getMessage())
        if words not in self._told:
            self._told.add(words)
            self._teller.say(words)


def _build(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.build import build

    # What a build makes lives to its end; looking for garbage costs a twelfth of its time.
    gc.disable()
    required = arguments.config is not None
    settings = read_file(arguments.config or SYSTEM_FILE, required=required)
    given = {
        setting.key: getattr(arguments, setting.field)
        for setting in SETTINGS
        if getattr(arguments, setting.field) is not None
    }
    values = combine(settings, read_values(given, where="option", mark="--"))
    report = build(resolve(values, this_host()), teller)
    teller.close()
    print_result(report.to_json() if arguments.json else report.to_text())
    return 0


def _inspect(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.inspect import inspect

    result = inspect(arguments.image, verify=arguments.verify)
    teller.close()
    print_result(result.to_json() if arguments.json else result.to_text())
    return 0


def _why(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.why import why

    result = why(arguments.image, arguments.path)
    teller.close()
    print_result(result.to_json() if arguments.json else result.to_text())
    return 0


def _diff(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.diff import diff

    with teller.step("reading both"):
        result = diff(arguments.image, arguments.other)
    teller.close()
    print_result(result.to_json() if arguments.json else result.to_text())
    return 0 if result.equal else 1


def _doctor(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.cachefolder import cache_folder
    from mindi.doctor import examine, gather_facts

    result = examine(gather_facts(cache_folder(os.environ), environ=os.environ))
    teller.close()
    print_result(result.to_json() if arguments.json else result.to_text())
    return 0 if result.is_well else 1


def _layout(arguments: argparse.Namespace, teller: Narrator) -> int:
    from archive.machine.probesystem import LiveSystem
    from mindi.layoutcommand import layout_result

    result, is_well = layout_result(
        LiveSystem(), as_json=arguments.json, as_mountlist=arguments.mountlist
    )
    teller.close()
    print_result(result)
    return 0 if is_well else 1


def _boot(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.accelerator import accelerator_for
    from mindi.boot import architecture_of_image, boot_source, check, direct_cmdline, interact
    from mindi.cachefolder import cache_folder, own_cache
    from mindi.qemu import Firmware, Machine, Medium

    if arguments.json and not arguments.check:
        raise UsageError(
            "boot --json needs --check: only a check has a result",
            hint="add --check, or leave --json out",
        )
    architecture = architecture_of_image(arguments.image)
    image, medium = boot_source(
        arguments.image,
        medium=Medium(arguments.medium),
        kernel=arguments.kernel,
        cmdline=direct_cmdline(architecture),
    )
    with _logs(arguments.logs, keep=arguments.check) as logs:
        machine = Machine(
            image=image,
            logs=logs,
            firmware=Firmware(arguments.firmware),
            medium=medium,
            memory_mib=arguments.memory,
            words=tuple(arguments.words.split()),
            architecture=architecture,
        )
        accelerator = accelerator_for(machine.architecture, own_cache(cache_folder(os.environ)))
        if not arguments.check:
            teller.say("ctrl-a x ends the machine, ctrl-a c is QEMU's monitor")
            teller.close()
            return interact(machine, accelerator=accelerator)
        with teller.step("boot and self-check") as step:
            report = check(machine, accelerator=accelerator, tell=step.note)
    teller.close()
    print_result(report.to_json() if arguments.json else report.to_text())
    return 0 if report.ok else 1


@contextmanager
def _logs(asked: Path | None, *, keep: bool) -> Iterator[Path]:
    """Give the folder for a machine's logs: the one asked for, or one that may vanish."""
    if asked is not None:
        try:
            asked.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot keep logs in {asked}: {error.strerror}") from error
        yield asked
        return
    made = Path(tempfile.mkdtemp(prefix="mindi-boot-"))
    try:
        yield made
    finally:
        if not keep or not any(made.iterdir()):
            shutil.rmtree(made)


def this_host() -> Host:
    """Return what the machine that runs this is; ``SOURCE_DATE_EPOCH`` sets its clock."""
    from mindi.cachefolder import cache_folder, own_cache

    return Host(
        name=platform.node().partition(".")[0] or "localhost",
        cores=len(os.sched_getaffinity(0)),
        cache=own_cache(cache_folder(os.environ)),
        now_s=_timestamp_s(os.environ),
    )


def _timestamp_s(environ: Mapping[str, str]) -> int:
    """Seconds since 1970 for all that a build dates (see reproducible-builds.org)."""
    epoch = environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return int(time.time())
    if not (epoch.isascii() and epoch.isdecimal()) or int(epoch) > _LATEST_S:
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {epoch!r}",
            hint=f"it must be a number of seconds since 1970, at most {_LATEST_S}",
        )
    return int(epoch)
