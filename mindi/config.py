"""The settings of a build: one row defines the TOML key, the option, the default and the help.

Values come from the defaults, then from one TOML file (``/etc/mindi/mindi.toml``, or the one
named by ``--config``), then from the command line. They are the table ``[build]`` of the file::

    [build]
    output = "iso"
    selection = "generic"
    add-module = ["megaraid_sas"]
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from initramfs.codec import Codec
from initramfs.errors import UsageError
from mindi.configfile import did_you_mean, read_document
from mindi.isolayout import LABEL_CHARACTERS
from mindi.optionwords import choice, number, parse_path
from mindi.spec import ImageSpec, KernelChoice, Output, Selection


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of ``mindi build``.

    ``key`` is the TOML key and, with two dashes, the option; ``parse`` makes the value of one
    word and raises ValueError with what is wrong. ``many`` takes a list, or the option again and
    again. ``words`` replaces the option by flags that each stand for one value. ``only`` is the
    one output that it makes a difference to.
    """

    key: str
    parse: Callable[[str], object]
    help: str
    metavar: str = "WORD"
    many: bool = False
    short: str | None = None
    words: Mapping[str, str] | None = None
    only: Output | None = None

    @property
    def field(self) -> str:
        """The name under which the parsed value is kept."""
        return self.key.replace("-", "_")

    def read(self, value: object, *, where: str) -> object:
        """Return the parsed value of a TOML value or of command line words."""
        if self.many:
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(self._one(item, where) for item in items)
        return self._one(value, where)

    def _one(self, value: object, where: str) -> object:
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, int):
            value = str(value)
        if not isinstance(value, str):
            raise UsageError(f"{where}: expected a word, not {value!r}")
        try:
            return self.parse(value)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error


E_ = TypeVar("E_", bound=enum.StrEnum)


def _yes(word: str) -> bool:
    if word not in ("yes", "no"):
        raise ValueError(f"{word!r} is neither yes nor no (in TOML: true, false)")
    return word == "yes"


def _kernel(word: str) -> KernelChoice | Path:
    return KernelChoice(word) if word in set(KernelChoice) else parse_path(word)


def _name(word: str) -> str:
    if not word.strip() or "\0" in word:
        raise ValueError(f"{word!r} is no name")
    return word


def _path_in_root(word: str) -> str:
    if not parse_path(word).is_absolute():
        raise ValueError(f"{word!r} is no absolute path (of the root tree)")
    return word


def _codec(word: str) -> Codec | None:
    return None if word == "auto" else choice(Codec)(word)


def _label(word: str) -> str:
    if not (1 <= len(word) <= LABEL_CHARACTERS and word.isascii() and word.isprintable()):
        raise ValueError(
            f"{word!r} is no volume label: 1 to {LABEL_CHARACTERS} printable ASCII characters"
        )
    return word


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SETTINGS: tuple[Setting, ...] = (
    Setting("output", choice(Output), "what to write: iso or initramfs (default: iso)", "KIND"),
    Setting(
        "file",
        parse_path,
        "where to write it (default: mindi-HOST.iso here; for an initrd, mindi-HOST.img)",
        "FILE",
        short="-o",
    ),
    Setting(
        "kernel",
        _kernel,
        "running: the kernel that runs now, with the tools of this system (default); "
        "failsafe: the distribution's generic kernel and rescue tools, fetched and unpacked; "
        "or the path of a kernel image",
        "running|failsafe|PATH",
    ),
    Setting(
        "selection",
        choice(Selection),
        "modules and firmware for this machine only (default with --kernel running), "
        "or for any machine (default otherwise)",
        words={"--host-only": "host-only", "--generic": "generic"},
    ),
    Setting(
        "root",
        parse_path,
        "take everything from this root tree, of any architecture; nothing of it is executed",
        "DIR",
    ),
    Setting(
        "codec",
        _codec,
        "compression of the initrd: auto, zstd, xz, gzip, lzo, none "
        "(default: auto, the best of what the kernel can undo)",
        "CODEC",
    ),
    Setting("level", number(0, 9), "compression level, 0 fastest to 9 smallest", "0-9"),
    Setting(
        "add",
        _path_in_root,
        "add this file or folder of the root, with all it needs",
        "PATH",
        many=True,
    ),
    Setting("add-module", _name, "add this kernel module", "NAME", many=True),
    Setting(
        "omit-tool",
        _name,
        "leave this tool out (mkfs.xfs), or the tools of this package (xfsprogs)",
        "NAME",
        many=True,
    ),
    Setting("omit-module", _name, "leave this kernel module out", "NAME", many=True),
    Setting(
        "kernel-arguments",
        _words,
        "words for the kernel's command line in an ISO's boot menu, in quotes",
        "WORDS",
        only=Output.ISO,
    ),
    Setting("label", _label, "volume label of an ISO (default: MINDI)", "LABEL", only=Output.ISO),
    Setting(
        "ssh-key",
        parse_path,
        "run sshd in the rescue environment, open to these public keys",
        "FILE",
    ),
    Setting("keymap", _name, "keyboard map of the console (default: this system's)", "NAME"),
    Setting("locale", _name, "locale of the shell (default: C.UTF-8)", "NAME"),
    Setting(
        "cache",
        _yes,
        "use nothing of earlier builds, keep nothing for later",
        words={"--no-cache": "no"},
    ),
    Setting(
        "refresh",
        _yes,
        "look for newer packages before a fail-safe tree is used",
        words={"--refresh": "yes"},
    ),
    Setting("jobs", number(1, 1024), "how many threads to use (default: one per core)", "N"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine that builds is: taken once, at the edge, so that the rest stays pure."""

    name: str
    cores: int
    cache: Path
    now_s: int


def read_file(path: Path, *, required: bool) -> Mapping[str, object]:
    """Return the parsed settings of builds in a file; raise UsageError or InputError."""
    return read_values(read_document(path, required=required)["build"], where=f"{path}: [build]")


def read_values(table: Mapping[str, object], *, where: str, mark: str = "") -> Mapping[str, object]:
    """Parse raw values by key; raise UsageError that names the key and its nearest relatives."""
    rows = {setting.key: setting for setting in SETTINGS}
    values: dict[str, object] = {}
    for key, value in table.items():
        setting = rows.get(key)
        if setting is None:
            raise UsageError(
                f"{where}: unknown key {key!r}{did_you_mean(key, rows)}",
                hint="`mindi build --help` lists the settings; a key is an option without dashes",
            )
        values[setting.field] = setting.read(value, where=f"{where} {mark}{key}")
    return values


def combine(file: Mapping[str, object], options: Mapping[str, object]) -> Mapping[str, object]:
    """Return the values of a configuration file and of the options, which win.

    Raises UsageError for an option that makes no difference to what is written. A file is for
    builds of any kind, so what it has for another output is passed over.
    """
    values = {**file, **options}
    output = values.get("output", Output.ISO)
    for setting in SETTINGS:
        if setting.field in options and setting.only not in (None, output):
            raise UsageError(
                f"option --{setting.key}: is for --output {setting.only}, not for {output}",
                hint="leave it out; in the configuration file it does no harm",
            )
    return values


def resolve(values: Mapping[str, object], host: Host) -> ImageSpec:
    """Make the spec of a build from parsed values; raise UsageError for a senseless mix."""

    def get(field: str, kind: type[E_], default: E_) -> E_:
        value = values.get(field, default)
        if not isinstance(value, kind):
            raise TypeError(f"{field} is {value!r}")
        return value

    output = get("output", Output, Output.ISO)
    kernel = values.get("kernel", KernelChoice.RUNNING)
    root = values.get("root")
    own = root is None and kernel is KernelChoice.RUNNING
    selection = get("selection", Selection, Selection.HOST_ONLY if own else Selection.GENERIC)
    if root is not None and kernel is KernelChoice.FAILSAFE:
        raise UsageError(
            "--root and --kernel failsafe exclude each other: both say where everything is from",
            hint="give --root alone, or --kernel failsafe alone",
        )
    name = host.name if own else "generic"
    suffix = "iso" if output is Output.ISO else "img"
    return ImageSpec(
        output=output,
        file=_typed(values.get("file", Path(f"mindi-{name}.{suffix}")), Path),
        root=_optional(root, Path),
        kernel=kernel
        if isinstance(kernel, Path)
        else get("kernel", KernelChoice, KernelChoice.RUNNING),
        selection=selection,
        codec=_optional(values.get("codec"), Codec),
        level=_optional(values.get("level"), int),
        add=_strings(values.get("add", ())),
        add_modules=_strings(values.get("add_module", ())),
        omit_modules=_strings(values.get("omit_module", ())),
        omit_tools=_strings(values.get("omit_tool", ())),
        kernel_arguments=_strings(values.get("kernel_arguments", ())),
        label=_typed(values.get("label", "MINDI"), str),
        ssh_key=_optional(values.get("ssh_key"), Path),
        keymap=_optional(values.get("keymap"), str),
        locale=_typed(values.get("locale", "C.UTF-8"), str),
        cache=host.cache,
        use_cache=_typed(values.get("cache", True), bool),
        refresh=_typed(values.get("refresh", False), bool),
        jobs=_typed(values.get("jobs", host.cores), int),
        timestamp_s=host.now_s,
        host_name=host.name if own else "mindi",
    )


T = TypeVar("T")


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _optional(value: object, kind: type[T]) -> T | None:
    return None if value is None else _typed(value, kind)


def _strings(value: object) -> tuple[str, ...]:
    return tuple(_typed(item, str) for item in _typed(value, tuple))
