"""Measures ours against its peers: ``python -m bench [--runs N] [--json FILE]``.

Exit status 0 if every goal is met, 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.archiverows import (
    ArchiveBench,
    again_rows,
    gzip_rows,
    million_rows,
    version_of,
    zstd_rows,
)
from bench.chroot import prepare
from bench.measure import Row, table
from bench.rows import Bench, initrd_rows, iso_rows, prepare_output, start_rows, warm_rows
from initramfs.errors import ImageError
from mindi.cachefolder import cache_folder

_HOUSE = Path(__file__).parent.parent.resolve()
_COMMANDS = _HOUSE / ".venv" / "bin"

_IMAGE_PARTS = {"initrd": initrd_rows, "warm": warm_rows, "iso": iso_rows, "start": start_rows}
_ARCHIVE_PARTS = {
    "zstd": zstd_rows,
    "gzip": gzip_rows,
    "again": again_rows,
    "million": million_rows,
}
_PARTS = (*_IMAGE_PARTS, *_ARCHIVE_PARTS)


def main() -> int:
    """Measure, print the table, write the JSON; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="pairs that count (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of: {' '.join(_PARTS)} (default: all)"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(_PARTS)
    if unknown:
        parser.error(f"unknown part: {' '.join(sorted(unknown))}")
    logs = _HOUSE / "build" / "bench"
    logs.mkdir(parents=True, exist_ok=True)
    wanted = arguments.parts or _PARTS
    rows: list[Row] = []
    peers: dict[str, str] = {}
    try:
        if set(wanted) & set(_IMAGE_PARTS):
            rows += _measure_images(wanted, logs, arguments.runs, peers)
        if set(wanted) & set(_ARCHIVE_PARTS):
            rows += _measure_archives(wanted, arguments.runs, peers)
    except ImageError as error:
        sys.stderr.write(f"bench: error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"bench: hint: {error.hint}\n")
        return error.exit_code
    sys.stdout.write(table(rows) + "\n")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(_report(peers, rows, arguments.runs), indent=2) + "\n")
    return 1 if any(row.is_met is False for row in rows) else 0


def _measure_images(
    wanted: Sequence[str], logs: Path, runs: int, peers: dict[str, str]
) -> list[Row]:
    _say("preparing a Debian 12 tree with dracut, initramfs-tools and ReaR")
    chroot = prepare(cache_folder(os.environ), _HOUSE, log=logs / "mmdebstrap.log")
    bench = Bench(chroot, logs, runs, str(_COMMANDS / "mindi"))
    prepare_output(bench)
    peers["kernel"] = chroot.release
    peers.update(chroot.versions("dracut", "initramfs-tools-core", "rear"))
    rows: list[Row] = []
    for name in wanted:
        if name in _IMAGE_PARTS:
            _say(f"measuring: {name}")
            rows += _IMAGE_PARTS[name](bench)
    return rows


def _measure_archives(wanted: Sequence[str], runs: int, peers: dict[str, str]) -> list[Row]:
    for program in ("tar", "zstd", "gzip", "borg"):
        peers[program] = version_of(program)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_HOUSE / "build") as room:
        bench = ArchiveBench(Path(room), _COMMANDS, runs)
        for name in _ARCHIVE_PARTS:
            if name in wanted:
                _say(f"measuring: {name}")
                rows += _ARCHIVE_PARTS[name](bench)
    return rows


def _report(peers: dict[str, str], rows: list[Row], runs: int) -> dict[str, object]:
    return {
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        },
        "peers": peers,
        "runs": runs,
        "rows": [row.to_json() for row in rows],
    }


def _say(words: str) -> None:
    sys.stderr.write(f"bench: {words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
