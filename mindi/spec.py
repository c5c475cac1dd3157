"""What a build was asked for, resolved once from the command line and the configuration."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from initramfs.codec import Codec


class Output(enum.StrEnum):
    """The medium to write."""

    ISO = "iso"
    INITRAMFS = "initramfs"


class Selection(enum.StrEnum):
    """Which kernel modules and firmware go in."""

    HOST_ONLY = "host-only"
    GENERIC = "generic"


class KernelChoice(enum.StrEnum):
    """Which kernel boots the image, where it is not named by a path."""

    RUNNING = "running"
    FAILSAFE = "failsafe"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Everything a build needs; ``mindi/config.py`` says what each field is called outside.

    ``root`` None stands for the running system; ``codec`` and ``level`` None for what suits the
    kernel best. ``cache`` is always there (fetched packages live in it); ``use_cache`` says
    whether results of earlier builds may be used and kept.
    """

    output: Output
    file: Path
    root: Path | None
    kernel: KernelChoice | Path
    selection: Selection
    codec: Codec | None
    level: int | None
    add: tuple[str, ...]
    add_modules: tuple[str, ...]
    omit_modules: tuple[str, ...]
    omit_tools: tuple[str, ...]
    kernel_arguments: tuple[str, ...]
    label: str
    ssh_key: Path | None
    keymap: str | None
    locale: str
    cache: Path
    use_cache: bool
    refresh: bool
    jobs: int
    timestamp_s: int
    host_name: str
