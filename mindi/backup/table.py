"""The table of ``mondoarchive``'s options: a row has letters, long name, TOML key, and help.

The letters are those of Mondo's own command where it has them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from archive.errors import WrongUsage
from mindi.optionwords import choice, number, parse_path

MAX_LEVEL = 9
MAX_JOBS = 1024
MAX_NICE = 19


class CodecName(enum.StrEnum):
    """A compression by its name; archive.codec, which has them, is not quick to import."""

    ZSTD = "zstd"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    LZO = "lzo"
    XZ = "xz"
    NONE = "none"


class IoClass(enum.StrEnum):
    """A scheduling class of ionice(1)."""

    IDLE = "idle"
    BEST_EFFORT = "best-effort"
    NONE = "none"


class Group(enum.StrEnum):
    """What options are about, as the help groups them."""

    TASK = "what to do"
    PLACE = "where"
    SELECTION = "what is saved"
    KIND = "which kind of set"
    PACKING = "how it is packed"
    AROUND = "around it"


@dataclass(frozen=True, slots=True)
class Option:
    """A row. ``parse`` raises ValueError with what is wrong; None: the option takes no value."""

    names: tuple[str, ...]
    """As they are typed, the long one last; that one without dashes is the TOML key."""
    group: Group
    help: str
    parse: Callable[[str], object] | None = None
    metavar: str | None = None
    many: bool = False
    in_file: bool = False
    """Whether the configuration file may have it."""
    for_verify: bool = False
    """Whether it makes a difference to ``-V`` alone."""
    field: str = ""
    """Of ArchiveOptions, where it is not the long name."""

    @property
    def key(self) -> str:
        """The long name without its dashes."""
        return self.names[-1].removeprefix("--")

    @property
    def place(self) -> str:
        """The field of ArchiveOptions."""
        return self.field or self.key.replace("-", "_")

    def read(self, value: object, *, where: str) -> object:
        """Return the parsed value of a TOML value or of command line words; raise WrongUsage."""
        if self.many:
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(self._one(item, where) for item in items)
        return self._one(value, where)

    def _one(self, value: object, where: str) -> object:
        if self.parse is None:
            if not isinstance(value, bool):
                raise WrongUsage(f"{where}: expected true or false, not {value!r}")
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise WrongUsage(f"{where}: expected a word, not {value!r}")
        try:
            return self.parse(value)
        except ValueError as error:
            raise WrongUsage(f"{where}: {error}") from error


def _text(word: str) -> str:
    if not word.strip() or "\0" in word:
        raise ValueError(f"{word!r} is empty")
    return word


def _prefix(word: str) -> str:
    if not word or "/" in word or "\0" in word or word.startswith("."):
        raise ValueError(f"{word!r} is no name of a folder without a dot in front")
    return word


OPTIONS: tuple[Option, ...] = (
    Option(("-O", "--backup"), Group.TASK, "make a set"),
    Option(
        ("-V", "--verify"),
        Group.TASK,
        "read the set back, check every digest, compare with the live files; without -O, of the "
        "newest set that is there",
        in_file=True,
        for_verify=True,
    ),
    Option(("--set",), Group.PLACE, "write to a folder", field="to_set"),
    Option(
        ("-d", "--dir"),
        Group.PLACE,
        "the folder of all sets, on the medium; it must be there",
        parse_path,
        "DIR",
        in_file=True,
        for_verify=True,
        field="folder",
    ),
    Option(
        ("-p", "--prefix"),
        Group.PLACE,
        "the name of the folder in it for this chain of sets (default: this host's)",
        _prefix,
        "NAME",
        in_file=True,
        for_verify=True,
    ),
    Option(
        ("-I", "--include"),
        Group.SELECTION,
        "save these, with all below them (default: /); paths as a shell would take them",
        _text,
        '"PATH ..."',
        many=True,
        in_file=True,
    ),
    Option(
        ("-E", "--exclude"),
        Group.SELECTION,
        "leave these out: absolute paths, or names at any depth; *, ? and [...] stop at slashes, "
        "** does not",
        _text,
        '"PATH ..."',
        many=True,
        in_file=True,
    ),
    Option(
        ("-J", "--file-list"),
        Group.SELECTION,
        "save the paths in this file too, one a line, or each ended by a NUL; - is standard input",
        parse_path,
        "FILE",
        in_file=True,
    ),
    Option(("-N", "--no-network"), Group.SELECTION, "leave out network filesystems", in_file=True),
    Option(
        ("--one-file-system",),
        Group.SELECTION,
        "stay in the filesystems that the paths of -I lie in",
        in_file=True,
    ),
    Option(
        ("--exclude-caches",),
        Group.SELECTION,
        "of folders with a CACHEDIR.TAG keep that alone",
        in_file=True,
    ),
    Option(
        ("--allow-unsupported",),
        Group.SELECTION,
        "with /: go on though this part of the storage layout, as `mindi layout` names it, cannot "
        "be restored; * and ? are wildcards",
        _text,
        "NODE",
        many=True,
        in_file=True,
    ),
    Option(
        ("-D", "--differential"), Group.KIND, "save only what changed since the newest full set"
    ),
    Option(
        ("--parent",),
        Group.KIND,
        "with -D: since this set instead, the name of a folder in DIR/NAME",
        _text,
        "SET",
    ),
    Option(
        ("--checksum",),
        Group.KIND,
        "with -D: read all files and go by their content, not by their times",
        in_file=True,
    ),
    Option(("--resume",), Group.KIND, "go on with a set that was interrupted, if there is one"),
    Option(
        ("--keep",),
        Group.KIND,
        "when the new set is whole, remove all but the newest N full sets and what rests on them",
        number(1, 1_000_000),
        "N",
        in_file=True,
    ),
    Option(
        ("--codec",),
        Group.PACKING,
        f"{', '.join(CodecName)} (default: zstd)",
        choice(CodecName),
        "CODEC",
        in_file=True,
    ),
    Option(("-G", "--gzip"), Group.PACKING, "the same as --codec gzip"),
    Option(("-L", "--lzo"), Group.PACKING, "the same as --codec lzo"),
    Option(
        ("--level",),
        Group.PACKING,
        "0 or -0, the fastest, to 9 or -9, the smallest (default: 3)",
        number(0, MAX_LEVEL),
        "0-9",
        in_file=True,
    ),
    Option(
        ("--per-file",),
        Group.PACKING,
        "compress each file on its own, as afio -Z does; takes more room",
        in_file=True,
    ),
    Option(
        ("--jobs",),
        Group.PACKING,
        "how many processes to use (default: one per core)",
        number(1, MAX_JOBS),
        "N",
        in_file=True,
        for_verify=True,
    ),
    Option(
        ("-B", "--before"),
        Group.AROUND,
        "run this shell command first; if it fails, nothing is written",
        _text,
        "CMD",
        in_file=True,
    ),
    Option(
        ("-A", "--after"),
        Group.AROUND,
        "run this shell command at the end, whatever happened",
        _text,
        "CMD",
        in_file=True,
    ),
    Option(
        ("-S", "--scratch-dir"),
        Group.AROUND,
        "unpack the catalogs of earlier sets there (default: --tmp-dir)",
        parse_path,
        "DIR",
        in_file=True,
        for_verify=True,
    ),
    Option(
        ("-T", "--tmp-dir"),
        Group.AROUND,
        "keep temporary files there (default: $TMPDIR or /var/tmp)",
        parse_path,
        "DIR",
        in_file=True,
        for_verify=True,
    ),
    Option(
        ("-K", "--log"),
        Group.AROUND,
        "append what happens to this file",
        parse_path,
        "FILE",
        in_file=True,
        for_verify=True,
    ),
    Option(
        ("--nice",),
        Group.AROUND,
        "run at this lower priority",
        number(0, MAX_NICE),
        f"0-{MAX_NICE}",
        in_file=True,
        for_verify=True,
    ),
    Option(
        ("--ionice",),
        Group.AROUND,
        f"disk priority: {', '.join(IoClass)}",
        choice(IoClass),
        "CLASS",
        in_file=True,
        for_verify=True,
    ),
)
