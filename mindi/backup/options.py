"""The options of ``mondoarchive``: parsed, checked, and made into one value.

They come from the defaults, then from the table ``[mondoarchive]`` of the configuration file, then
from the command line.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.errors import WrongUsage
from mindi.backup.table import MAX_LEVEL, OPTIONS, CodecName, Group, IoClass
from mindi.configfile import did_you_mean
from mindi.mains import Parser

PROGRAM = "mondoarchive"
TABLE = "mondoarchive"

_USAGE = """\
mondoarchive -O --set -d DIR [-p NAME] [options]
       mondoarchive -V -d DIR [-p NAME]"""
_DESCRIPTION = """\
Make a backup set, full or differential, below DIR/NAME.

  mondoarchive -O --set -d /backup                 all local filesystems
  mondoarchive -O --set -d /backup -D              what changed since the newest full set
  mondoarchive -O --set -d /backup -I "/etc /home" -E "*.iso" -V --keep 3
"""

_CODEC_OPTIONS = ("codec", "gzip", "lzo")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """What was asked for: one field an option, named as it."""

    folder: Path
    prefix: str
    jobs: int
    backup: bool = False
    verify: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    file_list: Path | None = None
    no_network: bool = False
    one_file_system: bool = False
    exclude_caches: bool = False
    allow_unsupported: tuple[str, ...] = ()
    differential: bool = False
    parent: str | None = None
    checksum: bool = False
    resume: bool = False
    keep: int | None = None
    codec: CodecName = CodecName.ZSTD
    level: int = 3
    per_file: bool = False
    before: str | None = None
    after: str | None = None
    scratch_dir: Path | None = None
    tmp_dir: Path | None = None
    log: Path | None = None
    nice: int | None = None
    ionice: IoClass | None = None

    @property
    def chain_folder(self) -> Path:
        """The folder of the prefix."""
        return self.folder / self.prefix


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; what is not given has no attribute in its result."""
    parser = Parser(
        prog=PROGRAM,
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups = {group: parser.add_argument_group(group.value) for group in Group}
    codecs = groups[Group.PACKING].add_mutually_exclusive_group()
    levels = groups[Group.PACKING].add_mutually_exclusive_group()
    exclusive = {**dict.fromkeys(_CODEC_OPTIONS, codecs), "level": levels}
    for option in OPTIONS:
        where = exclusive.get(option.key, groups[option.group])
        words = option.help + (" (may be repeated)" if option.many else "")
        if option.parse is None:
            where.add_argument(*option.names, action="store_true", help=words, dest=option.key)
        else:
            where.add_argument(
                *option.names,
                action="append" if option.many else "store",
                metavar=option.metavar,
                help=words,
                dest=option.key,
            )
    for level in range(MAX_LEVEL + 1):
        levels.add_argument(
            f"-{level}",
            dest="level",
            action="store_const",
            const=str(level),
            help=argparse.SUPPRESS,
        )
    parser.add_argument("--config", metavar="FILE", help="settings to start from")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what matters")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


def read_table(table: Mapping[str, object], *, where: str) -> Mapping[str, object]:
    """Parse the values of a configuration file, by field; raise WrongUsage for what is wrong."""
    rows = {option.key: option for option in OPTIONS if option.in_file}
    values = {}
    for key, value in table.items():
        if key not in rows:
            raise WrongUsage(
                f"{where}: unknown key {key!r}{did_you_mean(key, rows)}",
                hint="docs/commands.md lists them; a key is a long option without dashes",
            )
        values[rows[key].place] = rows[key].read(value, where=f"{where} {key}")
    return values


def read_words(given: Mapping[str, object]) -> Mapping[str, object]:
    """Parse what the parser made of the command line, by field; raise WrongUsage."""
    values = {}
    for option in OPTIONS:
        if option.key in given:
            words = given[option.key]
            values[option.place] = option.read(words, where=f"option {option.names[-1]}")
    for name in ("gzip", "lzo"):
        if values.pop(name, False):
            values["codec"] = CodecName(name)
    return values


def resolve(
    words: Mapping[str, object], file: Mapping[str, object], *, host: str, cores: int
) -> ArchiveOptions:
    """Make options of parsed values, of which those of the command line win; raise WrongUsage."""
    for problem in _problems(words):
        raise WrongUsage(problem, hint=f"`{PROGRAM} --help` shows what there is")
    values: dict[str, Any] = {"prefix": host, "jobs": cores, **file, **words}
    values.pop("to_set", None)
    if "folder" not in values:
        raise WrongUsage("no folder for the sets is given", hint="name one with -d DIR")
    if not values.get("differential"):
        values.pop("checksum", None)
    if "include" in words:
        # What a file has as a default makes no sense beside other paths.
        values["file_list"] = words.get("file_list")
    options = ArchiveOptions(**values)
    if options.per_file and options.codec is CodecName.NONE:
        raise WrongUsage("--per-file makes no difference with --codec none")
    # The file's level is for another codec, where the words name one.
    levels = words if "codec" in words else values
    if "level" in levels and options.codec is CodecName.NONE:
        raise WrongUsage("--level makes no difference with --codec none")
    return options


def _problems(words: Mapping[str, object]) -> Iterator[str]:
    """Give what makes no sense in what the command line has."""
    if not words.get("backup") and not words.get("verify"):
        yield "nothing to do: give -O to make a set, -V to verify one"
    if words.get("backup"):
        if not words.get("to_set"):
            yield "no medium is given: --set writes to a folder"
        for name in ("parent", "checksum"):
            if name in words and not words.get("differential"):
                yield f"--{name} is for differential sets: add -D"
        return
    for option in OPTIONS:
        if option.place in words and not option.for_verify and option.place != "to_set":
            yield f"{option.names[-1]} makes no difference to -V without -O"
