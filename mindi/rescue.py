"""What a rescue environment holds besides kernel modules and firmware.

The one recipe: BusyBox, the full tools that the root tree has, udev, Python with what
travels, the scripts that bring it all up, and the few files of /etc that programs ask for.
What is in the image already (``--add``) is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import restore
from initramfs.busybox import Busybox, add_busybox, find_busybox
from initramfs.closure import Because, ClosureBuilder
from initramfs.errors import InputError, MissingDependency, UsageError
from initramfs.rootfs import Root
from mindi.localize import Keyboard, add_keyboard, add_locale
from mindi.modprobeconf import add_modprobe_settings
from mindi.pythonhome import PythonReport, add_python, python_of, running_python
from mindi.scripts import MODULE_LIST, Setting, render_scripts
from mindi.toolbox import AbsentTool, FoundTool, Toolbox, add_kit, expand, without
from mindi.tools import KITS, SSHD, UDEV, BootFirmware
from mindi.udevrules import add_rules
from restore.contract import LOG, SELFCHECK, Checklist, Startable

# Loaded if they are in the image: nothing announces the devices that they serve.
_UNANNOUNCED = (
    *("loop", "dm_mod", "md_mod", "fuse", "efivarfs", "sg", "st", "sd_mod", "sr_mod", "isofs"),
    *("udf", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8", "virtio_console"),
)

_EMPTY_DIRECTORIES = (
    *("/dev", "/proc", "/sys", "/run", "/mnt", "/media", "/target"),
    *("/var/log", "/var/lib", "/etc/lvm"),
)

# As on Debian, so that the names in udev's rules and the owners of terminals are known.
_GROUPS = """\
root:x:0:
tty:x:5:
disk:x:6:
lp:x:7:
kmem:x:15:
dialout:x:20:
cdrom:x:24:
floppy:x:25:
tape:x:26:
audio:x:29:
video:x:44:
render:x:105:
kvm:x:106:
input:x:107:
sgx:x:108:
nogroup:x:65534:
"""

# As sshd(8) has it, "AUTHORIZED_KEYS FILE FORMAT": options hold spaces in quotes alone.
_KEY = re.compile(
    r"""^[ \t]*(?!\#)
    (?: (?: [^\s"] | "(?: \\" | \\(?!") | [^"\\\n] )*" )+ [ \t]+ )?
    (?:ssh|ecdsa|sk)-[\w@.-]+ [ \t]+ AAAA[\w+/=]+""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class RescueReport:
    """What is in the environment, and what its root tree did not have."""

    found: tuple[FoundTool, ...]
    absent: tuple[AbsentTool, ...]
    busybox: Busybox
    python: PythonReport


def add_rescue_environment(
    builder: ClosureBuilder,
    *,
    is_own: bool,
    kernel_version: str,
    modules: Sequence[str] = (),
    load: Sequence[str] = (),
    firmware: BootFirmware | None = None,
    omit_tools: Sequence[str] = (),
    ssh_key: Path | None = None,
    keymap: str | None = None,
    locale: str = "C.UTF-8",
    host_name: str = "mindi",
    cache: Path | None = None,
    jobs: int = 1,
) -> RescueReport:
    """Add the whole environment to ``builder``, after all else that is asked for by hand.

    ``is_own``: the root is the running system, whose interpreter runs this program.
    ``modules`` are the names of all modules of the image; ``load`` those that are loaded at
    boot though no device asks for them; ``firmware`` is that of the one machine that the image
    is for, None for any; ``omit_tools`` are tools or packages to go without. Raises
    MissingDependency for a root without BusyBox or Python, UsageError for a keymap, locale, key
    or name of a tool that makes no sense.
    """
    busybox = find_busybox(builder.root, is_own=is_own)
    toolbox = _add_tools(builder, firmware, omit_tools, modules)
    keyboard = add_keyboard(builder, keymap)
    toolbox += keyboard.toolbox
    locale = add_locale(builder, locale)
    if ssh_key is not None:
        toolbox += _add_ssh_server(builder, ssh_key)
    home = running_python() if is_own else python_of(builder.root)
    ours = Path(restore.__file__ or "").parent.parent
    python = add_python(builder, home, ours=ours, cache=cache, jobs=jobs)
    _add_settings(builder, host_name=host_name, shell=toolbox.path("bash") or "/bin/sh")
    _add_scripts(builder, busybox, toolbox, keyboard, locale=locale, python=python)
    _add_module_list(builder, modules, load)
    _add_checklist(builder, toolbox, python, kernel_version=kernel_version)
    # Last, for the full tools, and what they start, go before its applets.
    add_busybox(builder, busybox, shadowed={tool.name for tool in toolbox.found})
    return RescueReport(toolbox.found, toolbox.absent + python.absent, busybox, python)


def _add_tools(
    builder: ClosureBuilder,
    firmware: BootFirmware | None,
    omitted: Sequence[str],
    modules: Sequence[str],
) -> Toolbox:
    toolbox = Toolbox()
    for kit in without((*KITS, UDEV), omitted):
        if firmware is None or kit.firmware in (None, firmware):
            toolbox += add_kit(builder, kit)
    _add_token_handlers(builder)
    if toolbox.path("modprobe"):
        because = Because("settings of", toolbox.path("modprobe"))
        add_modprobe_settings(builder, because, modules=frozenset(modules))
    if toolbox.path("udevadm"):
        add_rules(builder, Because("rules of", toolbox.path("udevadm")))
    return toolbox


def _add_token_handlers(builder: ClosureBuilder) -> None:
    """Add systemd's handlers of LUKS2 tokens for a system that unlocks disks by them.

    They bring 5 MB of libraries, so a system that has them and does not use them goes without.
    """
    table = "/etc/crypttab"
    if not builder.root.is_file(table):
        return
    if re.search(rb"\b(tpm2-device|fido2-device|pkcs11-uri)=", builder.root.read(table)):
        for path in expand(builder.root, "/usr/lib/*/cryptsetup/libcryptsetup-token-systemd-*.so"):
            builder.add(path, Because(f"unlocks a disk in {table}"))


def _add_ssh_server(builder: ClosureBuilder, key: Path) -> Toolbox:
    toolbox = add_kit(builder, SSHD)
    if toolbox.absent:
        raise MissingDependency(
            f"--ssh-key {key} asks for an ssh server, and {builder.root.path} has none",
            hint="install it there (Debian: openssh-server), or leave out --ssh-key",
        )
    try:
        text = key.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the ssh key {key}: {error}") from error
    if "PRIVATE KEY" in text:
        raise UsageError(
            f"{key} is a private key, which must never go into an image",
            hint=f"give the public one: --ssh-key {key}.pub",
        )
    if not _KEY.search(text):
        raise UsageError(
            f"{key} holds no public ssh key",
            hint="give a file such as ~/.ssh/id_ed25519.pub, or an authorized_keys file",
        )
    because = Because("who may log in, asked for with --ssh-key")
    builder.add_directory("/root/.ssh", because, mode=0o700)
    builder.add_content("/root/.ssh/authorized_keys", text.encode(), because, mode=0o600)
    return toolbox


def _add_settings(builder: ClosureBuilder, *, host_name: str, shell: str) -> None:
    """Add the files of /etc that programs ask for, and the directories that mounts need."""
    because = Because("basic file of the rescue environment")
    for directory in _EMPTY_DIRECTORIES:
        builder.add_directory(directory, because)
    builder.add_directory("/root", because, mode=0o700)
    for directory in ("/tmp", "/var/tmp"):  # noqa: S108 of the image
        builder.add_directory(directory, because, mode=0o1777)
    builder.add_link("/var/run", "/run", because)
    builder.add_device("/dev/console", (5, 1), because, mode=0o020600)
    builder.add_device("/dev/null", (1, 3), because, mode=0o020666)
    # It may hold the system ID, without which LVM leaves the machine's own volume groups alone.
    local = _text(builder.root, "/etc/lvm/lvmlocal.conf")
    nobody = "nobody:x:65534:65534:nobody:/:/bin/false"
    sshd = "sshd:x:101:65534::/run/sshd:/bin/false"
    for path, text in {
        "/etc/passwd": f"root:x:0:0:root:/root:{shell}\n{sshd}\n{nobody}\n",
        "/etc/shadow": "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n",
        "/etc/group": _GROUPS,
        "/etc/hostname": f"{host_name}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host_name}\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
        "/etc/fstab": "",
        # A serial console's other end may be a program that has no use for escape sequences.
        "/etc/inputrc": "set enable-bracketed-paste off\n",
        # Overrides lvm.conf: there is no dmeventd here.
        "/etc/lvm/lvmlocal.conf": f"{local}activation {{\n\tmonitoring = 0\n}}\n",
    }.items():
        if path not in builder:
            mode = 0o600 if path == "/etc/shadow" else 0o644
            builder.add_content(path, text.encode(), because, mode=mode)
    if "/etc/mtab" not in builder:
        builder.add_link("/etc/mtab", "/proc/self/mounts", because)
    if "/etc/localtime" not in builder:
        builder.add("/etc/localtime", Because("time zone of the machine"), optional=True)
    # What musl's loader reads in place of a cache.
    for path in builder.root.glob("/etc/ld-musl-*.path"):
        builder.add(path, Because("where the loader finds libraries"))


def _add_scripts(
    builder: ClosureBuilder,
    busybox: Busybox,
    toolbox: Toolbox,
    keyboard: Keyboard,
    *,
    locale: str,
    python: PythonReport,
) -> None:
    root = builder.root
    adjtime = _text(root, "/etc/adjtime")
    servers = expand(root, "/usr/lib*/openssh/sftp-server") + expand(
        root, "/usr/libexec/openssh/sftp-server"
    )
    setting = Setting(
        toolbox=toolbox,
        applets=busybox.names,
        python=python.path,
        locale=locale,
        keymap=keyboard.keymap,
        with_sshd=toolbox.path("sshd") is not None,
        sftp_server=servers[0] if servers else None,
        clock_is_local=adjtime.split()[-1:] == ["LOCAL"],
    )
    because = Because("script of the rescue environment")
    for script in render_scripts(setting):
        builder.add_content(script.path, script.text.encode(), because, mode=script.mode)
    builder.add_content(LOG, b"", Because("log of the rescue environment"))


def _add_module_list(builder: ClosureBuilder, modules: Sequence[str], load: Sequence[str]) -> None:
    there = set(modules)
    listed = [*(name for name in _UNANNOUNCED if name in there), *load]
    text = "# Loaded at boot, in this order; the rest is loaded when a device asks for it.\n"
    text += "".join(f"{name}\n" for name in dict.fromkeys(listed))
    builder.add_content(MODULE_LIST, text.encode(), Because("modules that are loaded at boot"))


def _add_checklist(
    builder: ClosureBuilder, toolbox: Toolbox, python: PythonReport, *, kernel_version: str
) -> None:
    checklist = Checklist(
        kernel=kernel_version,
        tools=tuple(_startable(toolbox)),
        imports=("restore.selfcheck", "restore.deeds", *python.modules),
        modprobe=toolbox.path("modprobe") or "/sbin/modprobe",
    )
    text = json.dumps(asdict(checklist), indent=1, sort_keys=True) + "\n"
    builder.add_content(SELFCHECK, text.encode(), Because("what the self-check starts"))


def _text(root: Root, path: str) -> str:
    """Return the text of a file of the root, nothing if it is not there; lines are ended."""
    if not root.is_file(path):
        return ""
    text = root.read(path).decode("utf-8", "replace")
    return text if text.endswith("\n") or not text else f"{text}\n"


def _startable(toolbox: Toolbox) -> Iterator[Startable]:
    for tool in toolbox.found:
        yield Startable(tool.name, tool.version_argv, tool.statuses)
