"""The boot menu of an image: one description, rendered for GRUB (UEFI) and isolinux (BIOS).

Both show it on the screen and on the first serial port. isolinux has no quoting at all, and GRUB
hands quotes and backslashes to the kernel escaped; so a kernel argument holds neither, and one
with a space in it is quoted here as a whole, which the kernel takes apart again.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from initramfs.errors import UsageError
from mindi.isolayout import INITRD_PATH, KERNEL_PATH
from mindi.render import render
from restore.contract import ROOT_ARGUMENT, Mode

# The kernel keeps 2048 bytes with the final zero (COMMAND_LINE_SIZE, x86 and arm64).
MAX_COMMAND_LINE_BYTES = 2047
# What fits an 80 column screen inside isolinux's frame.
MAX_TITLE_CHARACTERS = 74

# The last console is the one behind /dev/console; where it does not exist the kernel takes the
# one before. Serial is last because a machine with nobody at its screen has no other witness.
_CONSOLES = {
    "x86": ("console=tty0", "console=ttyS0,115200"),
    "arm": ("console=tty0", "console=ttyAMA0,115200"),
}

_ARGUMENT = re.compile(r"""[ !#-&(-\[\]-~]+""")  # printable ASCII without " ' and backslash
_TITLE = re.compile(r"[ -\]_-~]+")  # printable ASCII without ^, isolinux's mark of a hotkey
_KEY = re.compile(r"[a-z][a-z0-9-]*")


class EntryKind(enum.Enum):
    """What choosing an entry does."""

    RESCUE = "rescue"
    """Start the image's kernel and initrd."""

    DISK = "disk"
    """Start the system on the first hard disk that has one."""

    FIRMWARE = "firmware"
    """Enter the firmware's own setup; UEFI alone can."""


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """One line of the menu.

    ``key`` is its name for ``Menu.default`` and at isolinux's prompt; ``words`` are the boot words
    and kernel arguments of this entry, one each.
    """

    key: str
    title: str
    words: tuple[str, ...] = ()
    kind: EntryKind = EntryKind.RESCUE

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise UsageError(f"boot menu: {self.key!r} is no key: small letters, digits, dashes")
        _check_title(self.title)
        _check_arguments(self.words)


@dataclass(frozen=True, slots=True)
class Menu:
    """A whole menu; ``kernel_arguments`` stand before the words of every entry that boots us.

    After ``timeout_s`` seconds without a key press the entry ``default`` starts; 0 waits forever.
    """

    title: str
    entries: tuple[MenuEntry, ...]
    default: str
    timeout_s: int = 5
    kernel_arguments: tuple[str, ...] = ()
    kernel: str = KERNEL_PATH
    initrd: str = INITRD_PATH

    def __post_init__(self) -> None:
        _check_title(self.title)
        _check_arguments(self.kernel_arguments)
        keys = [entry.key for entry in self.entries]
        if len(set(keys)) != len(keys):
            raise UsageError(f"boot menu: a key appears twice in {', '.join(keys)}")
        if self.default not in keys:
            raise UsageError(f"boot menu: no entry {self.default} among {', '.join(keys)}")
        for entry in self.entries:
            line = self.command_line(entry)
            if len(line) > MAX_COMMAND_LINE_BYTES:
                raise UsageError(
                    f"the kernel command line of {entry.title!r} has {len(line)} bytes, "
                    f"more than the {MAX_COMMAND_LINE_BYTES} that the kernel reads",
                    hint="give fewer kernel arguments",
                )

    def command_line(self, entry: MenuEntry) -> str:
        """Return the kernel command line of ``entry``, as the kernel is to see it."""
        # isolinux and PXELINUX add initrd= themselves; it counts in the length.
        words = (f"initrd={self.initrd}", *self.kernel_arguments, *entry.words)
        return " ".join(f'"{word}"' if " " in word else word for word in words)


_TITLES = {
    Mode.EXPERT: "Rescue shell",
    Mode.SELFCHECK: "Check this image, then power off",
}


def rescue_menu(
    title: str,
    *,
    modes: Sequence[Mode] = (Mode.EXPERT,),
    kernel_arguments: Sequence[str] = (),
    architecture: str = "x86_64",
    timeout_s: int = 5,
) -> Menu:
    """Return the menu of a rescue image; the first of ``modes`` is the default.

    ``kernel_arguments`` come after the consoles, so that a ``console=`` among them is the last.
    """
    first = modes[0]
    entries = [MenuEntry(mode.value, _TITLES[mode], (mode.value, "quiet")) for mode in modes]
    entries += [
        MenuEntry(
            "text",
            f"{_TITLES[first]}, plain text screen (nomodeset)",
            (first.value, "quiet", "nomodeset", "textonly"),
        ),
        MenuEntry("verbose", f"{_TITLES[first]}, all kernel messages", (first.value, "loglevel=7")),
        MenuEntry("disk", "Boot from the first hard disk", kind=EntryKind.DISK),
        MenuEntry("firmware", "Firmware setup", kind=EntryKind.FIRMWARE),
    ]
    consoles = _CONSOLES["arm" if architecture in ("aarch64", "arm64") else "x86"]
    return Menu(
        title=title,
        entries=tuple(entries),
        default=first.value,
        timeout_s=timeout_s,
        kernel_arguments=(*consoles, ROOT_ARGUMENT, *kernel_arguments),
    )


def image_title(host: str, timestamp_s: int) -> str:
    """Return the menu's title: what it is, of which host, from when (UTC)."""
    made = title_date(timestamp_s)
    shown = "".join(char if _TITLE.fullmatch(char) else "?" for char in host)
    return f"mindi rescue - {shown[: MAX_TITLE_CHARACTERS - 40]} - {made}"


def title_date(timestamp_s: int) -> str:
    """Return the date as the menu's title has it (UTC); nothing where no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(timestamp_s))
    except (OverflowError, ValueError, OSError):
        return ""


def render_grub(menu: Menu, *, mark: str | None = None) -> str:
    """Return grub.cfg; ``mark`` is a file by which GRUB finds the medium if it is not on it."""
    return render("grub.cfg.j2", menu=menu, lines=_lines(menu, "'"), mark=mark)


def render_isolinux(menu: Menu) -> str:
    """Return isolinux.cfg; entries that need UEFI are left out."""
    kept = tuple(entry for entry in menu.entries if entry.kind is not EntryKind.FIRMWARE)
    default = menu.default if menu.default in {entry.key for entry in kept} else kept[0].key
    return render(
        "isolinux.cfg.j2", menu=menu, entries=kept, default=default, lines=_lines(menu, '"')
    )


def _lines(menu: Menu, quote: str) -> dict[str, str]:
    """Return each entry's arguments as they are written, by key."""
    lines = {}
    for entry in menu.entries:
        words = (*menu.kernel_arguments, *entry.words)
        lines[entry.key] = " ".join(_quoted(word, quote) for word in words)
    return lines


def _quoted(word: str, quote: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_./,:=@%+-]+", word) or (quote == '"' and " " not in word):
        return word
    return f"{quote}{word}{quote}"


def _check_title(title: str) -> None:
    if not _TITLE.fullmatch(title) or len(title) > MAX_TITLE_CHARACTERS:
        raise UsageError(
            f"boot menu: {title!r} is no title: up to {MAX_TITLE_CHARACTERS} "
            "printable ASCII characters without ^"
        )


def _check_arguments(words: Sequence[str]) -> None:
    for word in words:
        if not _ARGUMENT.fullmatch(word) or word != word.strip():
            raise UsageError(
                f"boot menu: {word!r} cannot be passed as a kernel argument by every boot loader",
                hint="use printable ASCII without quotes and backslashes",
            )
