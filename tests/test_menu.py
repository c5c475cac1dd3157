"""The boot menu for both boot loaders, against golden files and GRUB's own parser."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from initramfs.errors import UsageError
from mindi.menu import (
    MAX_COMMAND_LINE_BYTES,
    EntryKind,
    Menu,
    MenuEntry,
    image_title,
    render_grub,
    render_isolinux,
    rescue_menu,
)
from restore.contract import Mode
from tests.support.tools import require_tool

GOLDEN = Path(__file__).parent / "golden"
WHEN_S = 1_714_567_890  # 2024-05-01 12:51:30 UTC
MARK = "/.disk/id/00000000-0000-5000-8000-000000000000"


def full_menu() -> Menu:
    """Return a menu with every mode and arguments that need quotes."""
    return rescue_menu(
        image_title("web01", WHEN_S),
        modes=(Mode.EXPERT, Mode.SELFCHECK),
        kernel_arguments=("dyndbg=file drivers/usb/* +p", "mindi.set=nfs://nas/sets;v=$1"),
    )


def check_golden(name: str, text: str) -> None:
    """Compare with a golden file; MINDI_UPDATE_GOLDEN=1 in the environment rewrites it."""
    path = GOLDEN / name
    if os.environ.get("MINDI_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def one_entry(*words: str) -> Menu:
    """Return a menu of one entry with ``words``."""
    return Menu("title", (MenuEntry("one", "One", words),), default="one")


def grub_words(text: str) -> str:
    """Return what follows the kernel's path in the first linux command of a grub.cfg."""
    found = re.search(r"^\s+linux \S+ ?(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def append_words(text: str) -> str:
    """Return the first APPEND line of an isolinux.cfg."""
    found = re.search(r"^\s+APPEND ?(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def test_grub_as_it_should_be() -> None:
    check_golden("grub.cfg", render_grub(full_menu(), mark=MARK))


def test_isolinux_as_it_should_be() -> None:
    check_golden("isolinux.cfg", render_isolinux(full_menu()))


def test_grub_parses_its_menu(tmp_path: Path) -> None:
    check = require_tool("grub-script-check", package="grub-common")
    path = tmp_path / "grub.cfg"
    path.write_text(render_grub(full_menu(), mark=MARK))
    subprocess.run([check, path], check=True)


def test_grub_refuses_a_broken_menu(tmp_path: Path) -> None:
    check = require_tool("grub-script-check", package="grub-common")
    path = tmp_path / "grub.cfg"
    path.write_text(render_grub(full_menu(), mark=MARK).replace("}", "", 1))
    assert subprocess.run([check, path], capture_output=True, check=False).returncode


def test_the_default_is_the_first_mode() -> None:
    menu = rescue_menu("title", modes=(Mode.SELFCHECK, Mode.EXPERT))
    assert menu.default == "selfcheck"
    assert "set default=selfcheck" in render_grub(menu)
    assert "DEFAULT selfcheck" in render_isolinux(menu)


def test_a_timeout_of_nothing_waits_forever() -> None:
    menu = Menu("title", (MenuEntry("one", "One"),), default="one", timeout_s=0)
    assert "set timeout=-1" in render_grub(menu)
    assert "TIMEOUT 0\n" in render_isolinux(menu)


def test_serial_comes_first_in_isolinux() -> None:
    assert render_isolinux(full_menu()).startswith("SERIAL 0 115200\n")


@pytest.mark.parametrize(
    ("architecture", "serial"), [("x86_64", "ttyS0"), ("aarch64", "ttyAMA0"), ("arm64", "ttyAMA0")]
)
def test_screen_and_serial_are_consoles_and_an_asked_for_one_is_last(
    architecture: str, serial: str
) -> None:
    menu = rescue_menu("t", architecture=architecture, kernel_arguments=("console=ttyS7",))
    consoles = [word for word in menu.kernel_arguments if word.startswith("console=")]
    assert consoles == ["console=tty0", f"console={serial},115200", "console=ttyS7"]


def test_firmware_setup_is_for_uefi_alone() -> None:
    menu = rescue_menu("title")
    assert any(entry.kind is EntryKind.FIRMWARE for entry in menu.entries)
    assert "fwsetup" in render_grub(menu)
    assert "Firmware" not in render_isolinux(menu)


def test_a_default_that_bios_has_not_is_the_first_entry_there() -> None:
    entries = (MenuEntry("one", "One"), MenuEntry("fw", "Setup", kind=EntryKind.FIRMWARE))
    assert "DEFAULT one" in render_isolinux(Menu("title", entries, default="fw"))


@pytest.mark.parametrize(
    "word", ["a;reboot", "$(x)", "${x}", "#x", "a&b", "x{y}", "a|b", "*", "<x"]
)
def test_what_grub_would_take_for_its_own_is_quoted(word: str) -> None:
    assert grub_words(render_grub(one_entry(word))) == f"'{word}'"


def test_isolinux_takes_words_as_they_are() -> None:
    assert append_words(render_isolinux(one_entry("a;b", "$x"))) == "a;b $x"


def test_an_argument_with_a_space_is_one_argument_to_the_kernel() -> None:
    menu = one_entry("dyndbg=file x +p")
    assert append_words(render_isolinux(menu)) == '"dyndbg=file x +p"'
    # GRUB puts the double quotes round such an argument itself.
    assert grub_words(render_grub(menu)) == "'dyndbg=file x +p'"


@pytest.mark.parametrize("word", ["", " ", "a\nb", 'a"b', "a'b", "a\\b", "ü", "a\tb", " a"])
def test_an_argument_that_a_boot_loader_would_change_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="kernel argument"):
        MenuEntry("one", "One", (word,))


@pytest.mark.parametrize("title", ["", "a\nb", "^hot", "ü", "x" * 75])
def test_a_title_that_does_not_fit_is_refused(title: str) -> None:
    with pytest.raises(UsageError, match="title"):
        MenuEntry("one", title)


def test_a_quote_in_a_title_is_kept() -> None:
    menu = Menu("title", (MenuEntry("one", "Bob's shell"),), default="one")
    assert """menuentry 'Bob'"'"'s shell' --id one""" in render_grub(menu)
    assert "MENU LABEL Bob's shell" in render_isolinux(menu)


@pytest.mark.parametrize("key", ["", "One", "a b", "1", "-"])
def test_a_key_is_a_plain_word(key: str) -> None:
    with pytest.raises(UsageError, match="key"):
        MenuEntry(key, "One")


def test_keys_are_unique() -> None:
    with pytest.raises(UsageError, match="twice"):
        Menu("title", (MenuEntry("one", "A"), MenuEntry("one", "B")), default="one")


def test_the_default_exists() -> None:
    with pytest.raises(UsageError, match="no entry two among one"):
        Menu("title", (MenuEntry("one", "One"),), default="two")


def test_a_command_line_may_be_as_long_as_the_kernel_reads() -> None:
    fixed = len("initrd=/boot/initrd.img ")
    one_entry("x" * (MAX_COMMAND_LINE_BYTES - fixed))
    with pytest.raises(UsageError, match="2048 bytes"):
        one_entry("x" * (MAX_COMMAND_LINE_BYTES - fixed + 1))


def test_the_title_names_host_and_date() -> None:
    assert image_title("web01", WHEN_S) == "mindi rescue - web01 - 2024-05-01 12:51 UTC"


@pytest.mark.parametrize("host", ["hôte", "x" * 300, "a^b"])
def test_any_host_name_makes_a_title(host: str) -> None:
    rescue_menu(image_title(host, WHEN_S))
