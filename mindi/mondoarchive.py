"""The command ``mondoarchive``: makes backup sets. Only light modules are imported here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from archive.errors import WrongUsage
from archive.version import VERSION
from mindi.backup.options import PROGRAM, TABLE, make_parser, read_table, read_words, resolve
from mindi.configfile import SYSTEM_FILE, did_you_mean, read_document
from mindi.mains import Manner, run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_main(PROGRAM, argv, _run)


def _run(words: list[str]) -> int:
    parser = make_parser()
    arguments, rest = parser.parse_known_args(words)
    given = vars(arguments)
    if given.pop("version", False):
        sys.stdout.write(f"{PROGRAM} {VERSION}\n")
        return 0
    if rest:
        known = re.findall(r"--[a-z][a-z-]+", parser.format_help())
        raise WrongUsage(
            f"unknown argument {rest[0]}{did_you_mean(rest[0], known)}",
            hint=f"`{PROGRAM} --help` shows what there is",
        )
    options = resolve(
        read_words(given),
        _settings(given.get("config")),
        host=os.uname().nodename.partition(".")[0] or "localhost",
        cores=len(os.sched_getaffinity(0)),
    )
    from mindi.backup.run import run

    manner = Manner(
        quiet=given.get("quiet", False),
        as_json=given.get("json", False),
        debug=given.get("debug", False),
    )
    return run(options, manner)


def _settings(config: str | None) -> Mapping[str, object]:
    """Return the values of the configuration file's table; its other tables are not ours."""
    path = SYSTEM_FILE if config is None else Path(config)
    table = read_document(path, required=config is not None)[TABLE]
    return read_table(table, where=f"{path}: [{TABLE}]")


if __name__ == "__main__":
    sys.exit(main())
