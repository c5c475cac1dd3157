"""What the modprobe.d folders of a root tree say that modules need (modprobe.d(5)).

A ``softdep`` or ``weakdep`` line there counts as one of the module itself does. modprobe takes
the first softdep line that is for a module and no other; all are taken here, for an image that
has more than will be asked for is none the worse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from initramfs.modinfo import Modinfo, normalise
from initramfs.rootfs import Root

DIRECTORIES = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
"""Where settings are; a file hides those of its name in the directories after its own."""

# As libkmod reads: a backslash takes the next character with it, the end of a line too.
_STATEMENT = re.compile(rb"(?:\\.|[^\\\n])+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SoftSetting:
    """What ``file`` says that modules need whose name is like ``pattern`` (glob(7))."""

    pattern: str
    info: Modinfo
    file: str

    def is_for(self, module: str) -> bool:
        """Tell whether it is for the module of that (normalised) name."""
        # Asked for each module of an image: few patterns have wildcards, and most match nothing.
        return module == self.pattern or (
            any(sign in self.pattern for sign in "*?[") and fnmatchcase(module, self.pattern)
        )


def statements(settings: bytes) -> list[bytes]:
    """Return the statements of a file, each as it was written, over as many lines."""
    return _STATEMENT.findall(settings)


def words_of(statement: bytes) -> list[bytes]:
    """Return the words of a statement; none for a comment's lines that hold none."""
    return statement.replace(b"\\\n", b"").split()


def read_soft_settings(root: Root) -> tuple[SoftSetting, ...]:
    """Return the soft dependencies that the folders of ``root`` name, in order of their files.

    Raises InputError where a file cannot be read.
    """
    files: dict[str, str] = {}
    for directory in DIRECTORIES:
        for name in root.list(directory):
            if name.endswith(".conf"):
                files.setdefault(name, f"{directory}/{name}")
    return tuple(
        setting
        for _, path in sorted(files.items())
        if root.is_file(path)
        for setting in _soft_settings(root.read(path), path)
    )


def _soft_settings(settings: bytes, path: str) -> Iterator[SoftSetting]:
    for statement in statements(settings):
        words = [word.decode("utf-8", "surrogateescape") for word in words_of(statement)]
        if len(words) < 3 or words[0] not in ("softdep", "weakdep"):
            continue
        values = (" ".join(words[2:]),)
        info = Modinfo(softdeps=values) if words[0] == "softdep" else Modinfo(weakdeps=values)
        yield SoftSetting(normalise(words[1]), info, path)
