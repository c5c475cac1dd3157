"""The commands of ``mindi``: from parsed words to a result on standard output and an exit code."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from initramfs.errors import UsageError
from mindi.config import SETTINGS, SYSTEM_FILE, Host, read_file, read_values, resolve
from mindi.progress import Narrator, narrator


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed; return its exit code."""
    table: Mapping[str, Callable[[argparse.Namespace, Narrator], int]] = {
        "build": _build,
        "inspect": _inspect,
        "why": _why,
        "diff": _diff,
        "boot": _boot,
        "doctor": _doctor,
    }
    teller = narrator(quiet=arguments.quiet)
    try:
        return table[arguments.command](arguments, teller)
    finally:
        teller.close()


def _build(arguments: argparse.Namespace, teller: Narrator) -> int:
    from mindi.build import build

    required = arguments.config is not None
    values = dict(read_file(Path(arguments.config or SYSTEM_FILE), required=required))
    given = {
        setting.key: getattr(arguments, setting.field)
        for setting in SETTINGS
        if getattr(arguments, setting.field) is not None
    }
    values.update(read_values(given, where="option", mark="--"))
    report = build(resolve(values, this_host()), teller)
    teller.close()
    _print(report.to_json() if arguments.json else report.to_text())
    return 0


def this_host() -> Host:
    """Return what the machine that runs this is; ``SOURCE_DATE_EPOCH`` sets its clock."""
    from mindi.cachefolder import cache_folder

    return Host(
        name=platform.node().partition(".")[0] or "localhost",
        cores=len(os.sched_getaffinity(0)),
        cache=cache_folder(os.environ),
        now_s=_timestamp_s(os.environ),
    )


def _timestamp_s(environ: Mapping[str, str]) -> int:
    """Seconds since 1970 for all that a build dates (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    epoch = environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return int(time.time())
    if not epoch.isdecimal():
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {epoch!r}", hint="it must be a number of seconds since 1970"
        )
    return int(epoch)


def _print(result: object) -> None:
    text = result if isinstance(result, str) else json.dumps(result, indent=2, sort_keys=True)
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
