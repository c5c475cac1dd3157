"""The command ``mindi``: parses, dispatches, and turns errors into words and exit codes.

Only light modules are imported here, so that ``mindi --help`` answers at once; what a command
needs is imported by its function in ``mindi/commands.py``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from archive.version import VERSION
from initramfs.errors import UsageError
from mindi.config import SETTINGS, Setting
from mindi.configfile import SYSTEM_FILE, did_you_mean
from mindi.mains import Parser, run_main
from mindi.optionwords import parse_path

_DESCRIPTION = """\
Disaster recovery for Linux: build a bootable rescue image, look into it, boot it.

  mindi build                       a rescue ISO of this machine
  mindi build --kernel failsafe     a rescue ISO that boots any machine
  mindi boot mindi-HOST.iso         try it in QEMU
"""


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of all commands, and each command's own by its name."""
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument("-q", "--quiet", action="store_true", help="say nothing but what matters")
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    top = Parser(
        prog="mindi",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(metavar="COMMAND", dest="command", parser_class=Parser)

    each: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, words: str) -> argparse.ArgumentParser:
        each[name] = commands.add_parser(
            name, help=words, description=words, parents=[common], allow_abbrev=False
        )
        return each[name]

    _add_build(command("build", "build a rescue image"))
    inspect = command("inspect", "show what an image holds")
    _add_image(inspect)
    inspect.add_argument(
        "--verify",
        action="store_true",
        help="read all of it; check an ISO's files by the SHA-256 that it carries of them, an "
        "initrd by the checksums of its compressed frames, its content by its own record",
    )
    why = command("why", "say why something is in an image")
    _add_image(why)
    why.add_argument("path", metavar="PATH", type=_asked, help="a path in it, or just a name")
    diff = command("diff", "show what differs between two images")
    _add_image(diff, metavar="A")
    _add_image(diff, "other", metavar="B", words="another one")
    _add_boot(command("boot", "run an image in QEMU"))
    command("doctor", "say what is missing on this machine, and which package has it")
    layout = command("layout", "show this machine's disks and what is on them")
    layout.add_argument("--mountlist", action="store_true", help="as Mondo Rescue's mountlist")
    return top, each


def _path(word: str) -> Path:
    try:
        return parse_path(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _asked(word: str) -> str:
    _path(word)
    return word


def _add_image(
    command: argparse.ArgumentParser,
    name: str = "image",
    *,
    metavar: str = "IMAGE",
    words: str = "an ISO or initrd made by mindi",
) -> None:
    command.add_argument(name, metavar=metavar, type=_path, help=words)


def _add_build(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--config",
        metavar="FILE",
        type=_path,
        help=f"settings to start from (default: {SYSTEM_FILE})",
    )
    for setting in SETTINGS:
        if setting.words:
            _add_flags(build, setting)
            continue
        names = [setting.short] if setting.short else []
        build.add_argument(
            *names,
            f"--{setting.key}",
            dest=setting.field,
            metavar=setting.metavar,
            action="append" if setting.many else "store",
            help=setting.help + (" (may be repeated)" if setting.many else ""),
        )


def _add_flags(build: argparse.ArgumentParser, setting: Setting) -> None:
    group = build.add_mutually_exclusive_group()
    for flag, word in (setting.words or {}).items():
        group.add_argument(
            flag, dest=setting.field, action="store_const", const=word, help=setting.help
        )


def _add_boot(boot: argparse.ArgumentParser) -> None:
    _add_image(boot)
    boot.add_argument(
        "--firmware", choices=("bios", "uefi", "secure-boot"), default="bios", help="default: bios"
    )
    boot.add_argument(
        "--medium", choices=("cdrom", "usb", "disk"), default="cdrom", help="default: cdrom"
    )
    boot.add_argument(
        "--kernel", metavar="PATH", type=_path, help="the kernel to boot an initrd with"
    )
    boot.add_argument("--memory", metavar="MIB", type=int, default=1024, help="default: 1024")
    boot.add_argument("--words", metavar="WORDS", default="", help="boot words to add, in quotes")
    boot.add_argument(
        "--logs", metavar="DIR", type=_path, help="keep the logs and screenshots there"
    )
    boot.add_argument(
        "--check",
        action="store_true",
        help="have it check itself: start every tool, load every module; then power off",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_main("mindi", argv, _dispatch)


def _dispatch(words: list[str]) -> int:
    top, each = parsers()
    arguments, rest = top.parse_known_args(words)
    if arguments.version:
        sys.stdout.write(f"mindi {VERSION}\n")
        return 0
    if arguments.command is None:
        top.print_help()
        return 0
    if rest:
        raise UsageError(
            f"mindi {arguments.command}: unknown argument {rest[0]}"
            f"{did_you_mean(rest[0], _options(each[arguments.command]))}",
            hint=f"`mindi {arguments.command} --help` shows what there is",
        )
    from mindi import commands

    return commands.run(arguments)


def _options(command: argparse.ArgumentParser) -> list[str]:
    return re.findall(r"--[a-z][a-z-]+", command.format_help())


if __name__ == "__main__":
    sys.exit(main())
