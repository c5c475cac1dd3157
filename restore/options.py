"""The words of ``mondorestore``'s command line, made into what is to be done."""

from __future__ import annotations

import argparse
import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from archive.errors import WrongUsage
from archive.version import VERSION

PROGRAM = "mondorestore"

_DESCRIPTION = """\
Restore files from a backup set, or look into it.

  mondorestore --from /backup/box --list                    what is in the newest set
  mondorestore --from /backup/box --find 'hosts$'           where is it?
  mondorestore --from /backup/box --select /etc --to /tmp/old
  mondorestore --from /backup/box --all --to /mnt           /etc/x comes to /mnt/etc/x
  mondorestore --from /backup/box --compare                 what is other than it was saved?
  mondorestore --from /backup/box --verify                  is the set sound?
  mondorestore --from /backup/box --plan                    what would become of these disks?
"""


class Action(enum.Enum):
    """What is done with a set."""

    LIST = "list"
    FIND = "find"
    SELECT = "select"
    ALL = "all"
    COMPARE = "compare"
    VERIFY = "verify"
    PLAN = "plan"


_RESTORING = frozenset({Action.SELECT, Action.ALL})
_WITH_PATTERNS = frozenset({Action.LIST, Action.SELECT})
_HELP = f"`{PROGRAM} --help` shows what there is; a pattern that begins with a dash goes behind --"


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for. ``patterns`` are of LIST and SELECT, ``expression`` of FIND."""

    action: Action
    source: Path
    patterns: tuple[bytes, ...]
    expression: str
    target: Path
    """Where to restore to, or what to compare with."""
    in_place: bool
    jobs: int | None
    scratch: Path | None
    as_json: bool
    quiet: bool


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(message, hint=_HELP)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = _Parser(
        prog=PROGRAM,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SET",
        help="the folder of a set, or of a prefix (then its newest set); a differential finds the "
        "sets on which it rests beside it",
    )
    what = parser.add_argument_group("what to do (one of these)").add_mutually_exclusive_group()
    what.add_argument(
        "--list",
        nargs="*",
        metavar="PATTERN",
        help="list all of the set, or what matches; a directory stands for all below it",
    )
    what.add_argument(
        "--find", metavar="REGEX", help="list the paths in which the regular expression is found"
    )
    what.add_argument(
        "--select",
        nargs="*",
        metavar="PATTERN",
        help="restore what matches; a pattern that begins with a dash goes behind --",
    )
    what.add_argument("--all", action="store_true", help="restore everything")
    what.add_argument(
        "--compare",
        action="store_true",
        help="compare the set with the files of this system, or with those below --to",
    )
    what.add_argument(
        "--verify", action="store_true", help="read the set back, and its parents: every digest"
    )
    what.add_argument(
        "--plan",
        action="store_true",
        help="show what restoring the saved machine would do to the disks of this one: each before "
        "and after, every step, what is lost, what is refused; nothing is touched",
    )
    _add_manner(parser)
    return parser


def _add_manner(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how something is done."""
    parser.add_argument(
        "--to", metavar="DIR", help="where to restore to (/etc/x comes to DIR/etc/x)"
    )
    parser.add_argument(
        "--in-place", action="store_true", help="restore to where it was: over this system's files"
    )
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="how many worker processes (default: one per core)"
    )
    parser.add_argument(
        "--scratch", metavar="DIR", help="where to unpack the catalog (default: $TMPDIR or /tmp)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what matters")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def parse(words: Sequence[str]) -> Options:
    """Return what the words ask for. Raises WrongUsage."""
    given, patterns = _parsed(words)
    action = _action(given)
    if not given.source:
        raise WrongUsage("no set is named", hint="--from FOLDER")
    if given.jobs is not None and given.jobs < 1:
        raise WrongUsage(f"--jobs {given.jobs}: at least one is needed")
    if action in _WITH_PATTERNS:
        patterns = [*getattr(given, action.value), *patterns]
    elif patterns:
        raise WrongUsage(f"unrecognized arguments: {' '.join(patterns)}", hint=_HELP)
    if action is Action.SELECT and not patterns:
        raise WrongUsage("argument --select: expected at least one argument", hint=_HELP)
    return Options(
        action=action,
        source=Path(given.source),
        patterns=tuple(map(os.fsencode, patterns)),
        expression=given.find or "",
        target=_target(action, given.to, in_place=given.in_place),
        in_place=given.in_place,
        jobs=given.jobs,
        scratch=None if given.scratch is None else Path(given.scratch),
        as_json=given.json,
        quiet=given.quiet,
    )


def _parsed(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what options say, and the patterns that stand behind other options or behind --."""
    words = list(words)
    behind: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, behind = words[:at], words[at + 1 :]
    given, more = make_parser().parse_known_args(words)
    unknown = [word for word in more if word.startswith("-") and word != "-"]
    if unknown:
        raise WrongUsage(f"unrecognized arguments: {' '.join(unknown)}", hint=_HELP)
    return given, more + behind


def _action(given: argparse.Namespace) -> Action:
    for action in (Action.LIST, Action.FIND, Action.SELECT):
        if getattr(given, action.value) is not None:
            return action
    for action in (Action.ALL, Action.COMPARE, Action.VERIFY, Action.PLAN):
        if getattr(given, action.value):
            return action
    raise WrongUsage(
        "nothing to do is named",
        hint="--list, --find, --select, --all, --compare, --verify or --plan",
    )


def _target(action: Action, to: str | None, *, in_place: bool) -> Path:
    if to == "":
        raise WrongUsage("--to names no directory")
    if action in _RESTORING:
        if in_place and to is not None:
            raise WrongUsage("--in-place and --to are two places", hint="name one of them")
        if to is None and not in_place:
            raise WrongUsage(
                "where to restore to is not named",
                hint="--to DIR; or --in-place, over the files of this system",
            )
    elif in_place or (to is not None and action is not Action.COMPARE):
        option = "--in-place" if in_place else "--to"
        raise WrongUsage(f"{option} has no meaning with --{action.value}")
    return Path(to or "/")
