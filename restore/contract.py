"""What the builder of a rescue image and the code that runs in it agree on.

Both sides import this file and nothing else of each other: the builder writes what is
named here, the rescue environment reads it.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path

READY = "mindi: rescue environment ready"
"""Printed on every console once the environment is up; a line of its own."""

DAMAGED = "mindi: this image is damaged, only a part of it could be unpacked"
"""Printed on every console in place of READY where the initrd was not unpacked to its end."""

IMAGE_RECORD = "/usr/share/mindi/image.json"
"""The image's own record, in the image: what it was made of, from what, and why (JSON)."""

SELFCHECK = "/usr/share/mindi/selfcheck.json"
"""What the self-check starts and imports: a ``Checklist`` as JSON."""

ROOT_ARGUMENT = "rootfstype=ramfs"
"""Kernel argument of every boot: the root's default, a tmpfs, takes half of the memory at most
and so would hold a generic image in a machine of 512 MiB only in part."""

VERDICT_PORT = "mindi.verdict"
"""Name of the virtio-serial port on which a guest reports, one JSON object a line."""

ALIVE_S = 10.0
"""While the self-check works, it reports on that port at least as often."""

FW_CFG_CMDLINE = "opt/mindi/cmdline"
"""fw_cfg key whose words are added to the boot words, so that a proof drives unmodified media."""

FW_CFG_PATH = "/sys/firmware/qemu_fw_cfg/by_name/opt/mindi/cmdline/raw"
"""Where the guest reads that key."""

LOG = "/var/log/mindi.log"
"""The rescue environment's log."""


class Mode(enum.StrEnum):
    """What the rescue environment does once it is up; each is a whole boot word."""

    EXPERT = "expert"
    """A shell."""

    SELFCHECK = "selfcheck"
    """Start every bundled tool, load every module, report on the verdict port, power off.

    Where there is no such port, a minute is left to read the summary or to take a shell.
    """


@dataclass(frozen=True, slots=True)
class Startable:
    """A tool: ``argv`` starts it harmlessly, to end with one of ``statuses``."""

    name: str
    argv: tuple[str, ...]
    statuses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checklist:
    """What the image's builder put in; stored as JSON, fields by their names."""

    kernel: str
    tools: tuple[Startable, ...]
    imports: tuple[str, ...]
    modprobe: str

    @classmethod
    def read(cls, path: Path) -> Checklist:
        """Read the list; raise OSError, ValueError or KeyError where it is damaged."""
        held = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            kernel=held["kernel"],
            tools=tuple(
                Startable(tool["name"], tuple(tool["argv"]), tuple(tool["statuses"]))
                for tool in held["tools"]
            ),
            imports=tuple(held["imports"]),
            modprobe=held["modprobe"],
        )

    def path(self, name: str) -> str | None:
        """Return the path of the tool ``name``, None if it is not in the image."""
        return next((tool.argv[0] for tool in self.tools if tool.name == name), None)
