"""The scripts of the rescue environment, rendered for what its image has (mindi/templates)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from mindi.render import render
from mindi.toolbox import PROGRAM_DIRECTORIES, Toolbox
from restore.contract import DAMAGED, FW_CFG_PATH, LOG, READY, VERDICT_PORT, Mode

HOME = "/etc/mindi"
MODULE_LIST = f"{HOME}/modules"
WHOLE = f"{HOME}/whole"
"""The file that an initrd has at its very end: without it, the image was not unpacked whole."""

# A driver may take its time; nothing may take all of it.
_START_LIMIT_S = 300

# Commands for the one who sits there; in a directory of programs, so that they are found.
_COMMANDS = {
    "/usr/sbin/mindi-net": "net.j2",
    "/usr/sbin/mindi-storage": "storage.j2",
    "/usr/sbin/mindi-welcome": "welcome.j2",
    "/usr/sbin/mindi-help": "help.j2",
    "/usr/sbin/mondorestore": "mondorestore.j2",
}

# Modes with a program: its module, and whether the machine goes down after it.
_PROGRAMS_OF_MODES = ((Mode.SELFCHECK, "restore.selfcheck", True),)


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths of the full tools that the scripts call; empty where there is none.

    Absolute, because this BusyBox prefers its applets to the search path.
    """

    modprobe: str
    udevd: str
    udevadm: str
    mdadm: str
    lvm: str
    dmsetup: str
    cryptsetup: str
    blkid: str
    lsblk: str
    loadkeys: str
    sshd: str
    ssh_keygen: str

    @classmethod
    def of(cls, toolbox: Toolbox, *, with_sshd: bool) -> Programs:
        """Take the paths out of what was found."""

        def path(name: str) -> str:
            return toolbox.path(name) or ""

        return cls(
            modprobe=path("modprobe") or "modprobe",
            udevd=path("systemd-udevd") if path("udevadm") else "",
            udevadm=path("udevadm") if path("systemd-udevd") else "",
            mdadm=path("mdadm"),
            lvm=path("lvm"),
            dmsetup=path("dmsetup"),
            cryptsetup=path("cryptsetup"),
            blkid=path("blkid"),
            lsblk=path("lsblk"),
            loadkeys=path("loadkeys"),
            sshd=path("sshd") if with_sshd else "",
            ssh_keygen=path("ssh-keygen") if with_sshd else "",
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """What the scripts are rendered for; ``applets`` are the names that BusyBox has."""

    toolbox: Toolbox
    applets: frozenset[str]
    python: str
    locale: str
    keymap: str | None
    with_sshd: bool
    sftp_server: str | None
    clock_is_local: bool


@dataclass(frozen=True, slots=True)
class Script:
    """A rendered file of the image."""

    path: str
    text: str
    mode: int


def render_scripts(setting: Setting) -> Iterator[Script]:
    """Yield all scripts and settings that are rendered, each with its place in the image."""
    names = _names(setting)
    yield Script("/init", render("init.j2", **names), 0o755)
    yield Script(f"{HOME}/lib.sh", render("lib.j2", **names), 0o644)
    yield Script(f"{HOME}/inittab", render("inittab.j2", **names), 0o644)
    for name in ("rc", "console", "mode", "shutdown", "udhcpc"):
        yield Script(f"{HOME}/{name}", render(f"{name}.j2", **names), 0o755)
    for path, template in _COMMANDS.items():
        yield Script(path, render(template, **names), 0o755)
    yield Script("/etc/profile", render("profile.j2", **names), 0o644)
    if setting.with_sshd:
        yield Script("/etc/ssh/sshd_config", render("sshd_config.j2", **names), 0o600)
    programs = Programs.of(setting.toolbox, with_sshd=setting.with_sshd)
    if not programs.udevd:
        yield Script("/etc/mdev.conf", render("mdev.j2", **names), 0o644)
        if programs.blkid:
            yield Script(f"{HOME}/disklinks", render("disklinks.j2", **names), 0o755)


def _names(setting: Setting) -> dict[str, object]:
    toolbox = setting.toolbox
    shadowed = {
        tool.name: tool.path for tool in toolbox.found if tool.name in setting.applets - {"sh"}
    }
    return {
        "ready": READY,
        "damaged": DAMAGED,
        "log": LOG,
        "fw_cfg": FW_CFG_PATH,
        "verdict_port": VERDICT_PORT,
        "modes": [mode.value for mode in Mode],
        "default_mode": Mode.EXPERT.value,
        "programs_of_modes": _PROGRAMS_OF_MODES,
        "programs": Programs.of(toolbox, with_sshd=setting.with_sshd),
        "has_init": "init" in setting.applets,
        "has_resize": "resize" in setting.applets,
        "start_limit_s": _START_LIMIT_S,
        "lib": f"{HOME}/lib.sh",
        "inittab": f"{HOME}/inittab",
        "rc": f"{HOME}/rc",
        "console": f"{HOME}/console",
        "mode": f"{HOME}/mode",
        "shutdown": f"{HOME}/shutdown",
        "disklinks": f"{HOME}/disklinks",
        "udhcpc_script": f"{HOME}/udhcpc",
        "module_list": MODULE_LIST,
        "whole": WHOLE,
        "net": "/usr/sbin/mindi-net",
        "storage": "/usr/sbin/mindi-storage",
        "welcome": "/usr/sbin/mindi-welcome",
        "help": "/usr/sbin/mindi-help",
        "python": setting.python,
        "shell": toolbox.path("bash") or "/bin/sh",
        "editor": "vim.tiny" if toolbox.path("vim.tiny") else "vi",
        "search_path": ":".join(PROGRAM_DIRECTORIES),
        "locale": setting.locale,
        "keymap": setting.keymap or "",
        "clock_is_local": setting.clock_is_local,
        "sftp_server": setting.sftp_server or "",
        "shadowed": sorted(shadowed.items()),
        "families": _families(toolbox),
        "absent": sorted({tool.name for tool in toolbox.absent}),
    }


def _families(toolbox: Toolbox) -> list[tuple[str, list[str]]]:
    ordered = sorted(toolbox.found, key=lambda tool: tool.family.value)
    return [
        (family.value, sorted({tool.name for tool in tools}))
        for family, tools in groupby(ordered, key=lambda tool: tool.family)
    ]
