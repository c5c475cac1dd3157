"""What the builder of a rescue image and the code that runs in it agree on.

Both sides import this file and nothing else of each other: the builder writes what is
named here, the rescue environment reads it.
"""

from __future__ import annotations

import enum

READY = "mindi: rescue environment ready"
"""Printed on every console once the environment is up; a line of its own."""

IMAGE_RECORD = "/usr/share/mindi/image.json"
"""The image's own record, in the image: what it was made of, from what, and why (JSON)."""

SELFCHECK = "/usr/share/mindi/selfcheck.json"
"""What the self-check starts and imports: an object, see ``restore.selfcheck.Checklist``."""

ROOT_ARGUMENT = "rootfstype=ramfs"
"""Kernel argument of every boot: the root's default, a tmpfs, takes half of the memory at most
and so would hold a generic image in a machine of 512 MiB only in part."""

VERDICT_PORT = "mindi.verdict"
"""Name of the virtio-serial port on which a guest reports, one JSON object a line."""

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
