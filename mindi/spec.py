"""What a build was asked for, resolved once from the command line and the configuration."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from initramfs.compress import Codec


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
    """Everything a build needs; see mindi/config.py for what each field is called outside."""

    output: Output
    file: Path
    root: Path
    kernel: KernelChoice | Path
    selection: Selection
    codec: Codec
    level: int
    add_modules: tuple[str, ...]
    omit_modules: tuple[str, ...]
    add_files: tuple[str, ...]
    kernel_arguments: tuple[str, ...]
    volume_label: str
    ssh_key: Path | None
    keymap: str | None
    locale: str | None
    cache: Path | None
    jobs: int
    timestamp_s: int
