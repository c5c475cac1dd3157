"""The scripts of the rescue environment: valid, clean, and reading boot words as they should."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from mindi.render import render
from mindi.scripts import Script, Setting, render_scripts
from mindi.toolbox import FoundTool, Toolbox
from mindi.tools import Family
from restore.contract import DAMAGED, READY, Mode
from tests.support.tools import require_tool


def found(*names: str) -> Toolbox:
    tools = (FoundTool(name, f"/usr/sbin/{name}", Family.SYSTEM, (name,), (0,)) for name in names)
    return Toolbox(tuple(tools))


FULL = Setting(
    toolbox=found(
        *("modprobe", "systemd-udevd", "udevadm", "mdadm", "lvm", "dmsetup", "cryptsetup"),
        *("blkid", "lsblk", "loadkeys", "sshd", "ssh-keygen", "bash", "mount", "tar"),
    ),
    applets=frozenset({"init", "mount", "tar", "vi"}),
    python="/usr/bin/python3",
    locale="de_DE.UTF-8",
    keymap="/usr/share/keymaps/it's.kmap.gz",
    with_sshd=True,
    sftp_server="/usr/lib/openssh/sftp-server",
    clock_is_local=True,
)
BARE = Setting(
    toolbox=Toolbox(),
    applets=frozenset(),
    python="/usr/bin/python3",
    locale="C.UTF-8",
    keymap=None,
    with_sshd=False,
    sftp_server=None,
    clock_is_local=False,
)
WITHOUT_UDEV = replace(
    FULL, toolbox=found("modprobe", "mdadm", "lvm", "dmsetup", "cryptsetup", "blkid", "bash")
)
SETTINGS = {
    "full": FULL,
    "bare": BARE,
    "no init": replace(FULL, applets=frozenset()),
    "no udev": WITHOUT_UDEV,
}


def scripts() -> list[tuple[str, Script]]:
    return [
        (label, script)
        for label, setting in SETTINGS.items()
        for script in render_scripts(setting)
        if "shell=sh" in script.text or script.text.startswith("#!/bin/busybox sh\n")
    ]


def every_script() -> pytest.MarkDecorator:
    held = scripts()
    ids = [f"{label}: {script.path}" for label, script in held]
    return pytest.mark.parametrize("script", [script for _, script in held], ids=ids)


def text(path: str, setting: Setting = FULL) -> str:
    return next(script.text for script in render_scripts(setting) if script.path == path)


def is_valid(source: str) -> bool:
    ash = [require_tool("busybox", package="busybox-static"), "ash", "-n"]
    return subprocess.run(ash, input=source, text=True, capture_output=True).returncode == 0


def faults(source: str) -> str:
    # SC1091: what is read in is rendered elsewhere, and checked there.
    check = [require_tool("shellcheck"), "--shell=dash", "--exclude=SC1091", "-"]
    return subprocess.run(check, input=source, text=True, capture_output=True).stdout


@every_script()
def test_ash_takes_each_script(script: Script) -> None:
    assert is_valid(script.text)


def test_ash_takes_no_script_that_is_cut_short() -> None:
    assert not is_valid(text("/init").rpartition("done")[0])


@every_script()
def test_shellcheck_finds_no_fault(script: Script) -> None:
    assert faults(script.text.replace("#!/bin/busybox sh", "#!/bin/sh")) == ""


def test_shellcheck_finds_a_fault_where_there_is_one() -> None:
    assert "SC2086" in faults("#!/bin/sh\nrm $1\n")


def test_no_name_is_left_open() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("inittab.j2")


def test_values_are_quoted() -> None:
    assert """-q '/usr/share/keymaps/it'"'"'s.kmap.gz'""" in text("/etc/mindi/rc")


def test_ready_line_is_the_contracts() -> None:
    assert f"announce '{READY}'" in text("/init")


def test_init_ends_as_busybox_init() -> None:
    assert "\nexec /bin/busybox init\n" in text("/init")


def test_init_keeps_on_without_the_applet() -> None:
    assert "exec /bin/busybox init" not in text("/init", BARE)


def test_nothing_is_started_that_is_not_there() -> None:
    rc = text("/etc/mindi/rc", BARE)
    assert not [word for word in ("sshd", "loadkeys", "udevadm", "hwclock") if word in rc]


def test_full_tools_go_before_applets_in_ash() -> None:
    assert "alias mount=/usr/sbin/mount\n" in text("/etc/profile")


def test_ssh_lets_nobody_in_with_a_password() -> None:
    assert text("/etc/ssh/sshd_config") == (
        "# The rescue environment's: keys only, and only those that the image was made with.\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n"
        "AuthorizedKeysFile /root/.ssh/authorized_keys\n"
        "PermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "UsePAM no\n"
        "PidFile /run/sshd.pid\n"
        "Subsystem sftp /usr/lib/openssh/sftp-server\n"
    )


def test_inittab() -> None:
    assert text("/etc/mindi/inittab") == (
        "# For BusyBox init. The consoles are added at boot, as the kernel command line has them.\n"
        "::restart:/bin/busybox init\n"
        "::ctrlaltdel:/bin/busybox reboot\n"
        "::shutdown:/etc/mindi/shutdown\n"
        "::once:/etc/mindi/mode\n"
    )


def ask(tmp_path: Path, question: str, *, boot: str, hypervisor: str = "") -> str:
    """Ask the scripts' library, with boot words of our own, by BusyBox's shell."""
    (tmp_path / "words").write_text(hypervisor)
    (tmp_path / "cmdline").write_text(boot + "\n")
    library = (
        text("/etc/mindi/lib.sh")
        .replace("/proc/cmdline", str(tmp_path / "cmdline"))
        .replace("STATE=/run/mindi", f"STATE={tmp_path}")
    )
    busybox = require_tool("busybox", package="busybox-static")
    result = subprocess.run(
        [busybox, "ash"], input=library + question, text=True, capture_output=True, check=True
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("boot", "hypervisor", "mode"),
    [
        ("root=/dev/sda1 quiet", "", "expert"),
        ("quiet selfcheck", "", "selfcheck"),
        ("noselfcheck selfchecker x=selfcheck", "", "expert"),
        ("mindi.mode=selfcheck", "", "selfcheck"),
        ("mindi.mode=frobnicate", "", "frobnicate"),
        ("selfcheck expert", "", "expert"),
        ("expert", "selfcheck\n", "selfcheck"),
        ("expert", "mindi.answer=http://host/selfcheck", "expert"),
        ("* selfcheck [a-z]*", "", "selfcheck"),
    ],
    ids=[
        *("default", "word", "whole words only", "by name", "unknown", "last wins"),
        *("hypervisor wins", "part of a value", "no patterns"),
    ],
)
def test_mode(tmp_path: Path, boot: str, hypervisor: str, mode: str) -> None:
    assert ask(tmp_path, "chosen_mode", boot=boot, hypervisor=hypervisor) == mode


def test_every_mode_is_known_to_the_scripts(tmp_path: Path) -> None:
    modes = ask(tmp_path, 'echo "$MODES"', boot="")
    assert modes.split() == [mode.value for mode in Mode]


def test_values_of_a_word_that_comes_twice(tmp_path: Path) -> None:
    boot = "ipconf=eth0:dhcp xipconf=no ipconf=eth1:10.0.0.2:255.0.0.0::10.0.0.1"
    held = ask(tmp_path, "values ipconf", boot=boot)
    assert held.split() == ["eth0:dhcp", "eth1:10.0.0.2:255.0.0.0::10.0.0.1"]


def test_the_value_of_a_last_word_without_a_line_end(tmp_path: Path) -> None:
    # QEMU's fw_cfg ends with the last word itself.
    assert ask(tmp_path, "values ipconf", boot="", hypervisor="quiet ipconf=eth0:dhcp") == (
        "eth0:dhcp"
    )


@pytest.mark.parametrize(("word", "status"), [("quiet", "0"), ("quie", "1"), ("q.iet", "1")])
def test_words_are_whole_and_no_patterns(tmp_path: Path, word: str, status: str) -> None:
    assert ask(tmp_path, f"has_word {word}; echo $?", boot="quiet splash") == status


def test_volumes_get_their_nodes_from_their_own_tools_where_udev_is_not() -> None:
    for path in ("/etc/mindi/lib.sh", "/etc/profile"):
        assert "export DM_DISABLE_UDEV=1" in text(path, WITHOUT_UDEV)
        assert "DM_DISABLE_UDEV" not in text(path)


def test_mdev_names_disks_where_there_is_what_looks_at_them() -> None:
    assert "root:disk 660 */etc/mindi/disklinks\n" in text("/etc/mdev.conf", WITHOUT_UDEV)
    assert "disklinks" not in text("/etc/mdev.conf", BARE)


def test_an_environment_with_udev_has_nothing_of_mdev() -> None:
    paths = {script.path for script in render_scripts(FULL)}
    assert paths.isdisjoint({"/etc/mdev.conf", "/etc/mindi/disklinks"})


def test_half_of_udev_is_none() -> None:
    half = replace(FULL, toolbox=found("modprobe", "udevadm"))
    assert text("/etc/mdev.conf", half)


def test_a_damaged_image_is_never_told_to_be_ready() -> None:
    init = text("/init")
    assert init.index("whole") < init.index(READY)
    assert init.index(DAMAGED) < init.index("timeout ")


@pytest.mark.parametrize("setting", [FULL, BARE], ids=["full", "bare"])
def test_process_1_needs_no_shell_but_busybox(setting: Setting) -> None:
    """In an image that is cut short, /bin/sh may lead to a full tool that is not there."""
    assert " sh " not in text("/init", setting).replace("busybox sh ", "")
