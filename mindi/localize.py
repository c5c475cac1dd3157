"""Keyboard map and locale of a rescue environment, out of its root tree.

Keymaps are those of loadkeys(1), which includes others (keymaps(5)); locales those of
glibc: a directory of its own, or a place in the common archive (localedef(1)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from initramfs.closure import Because, ClosureBuilder
from initramfs.decompress import decompress
from initramfs.errors import UsageError
from initramfs.rootfs import Root
from mindi.toolbox import Toolbox, add_kit, expand
from mindi.tools import KEYBOARD

FALLBACK_LOCALE = "C.UTF-8"

_KEYMAP_TREES = ("/usr/share/keymaps", "/usr/share/kbd/keymaps", "/usr/lib/kbd/keymaps")
_SUFFIXES = (".kmap", ".map", ".inc", "")
_INCLUDE = re.compile(rb'^\s*include\s+"([^"]+)"', re.MULTILINE)

# What console-setup(5) has made of the machine's own keyboard settings.
_OWN_KEYMAPS = "/etc/console-setup/cached_*.kmap.gz"

_LOCALES = "/usr/lib/locale"


@dataclass(frozen=True, slots=True)
class Keyboard:
    """The keymap's path in the image (None: the kernel's own, US), and what became of its tool."""

    keymap: str | None
    toolbox: Toolbox


def add_keyboard(builder: ClosureBuilder, name: str | None) -> Keyboard:
    """Add the keymap ``name``, or the root's own if None, with what it includes and loadkeys.

    Raises UsageError for a name that the root has no keymap of.
    """
    keymap = _own_keymap(builder.root) if name is None else _named_keymap(builder.root, name)
    if keymap is None:
        return Keyboard(None, Toolbox())
    toolbox = add_kit(builder, KEYBOARD)
    if toolbox.absent:
        if name is not None:
            raise UsageError(
                f"the keymap {name} needs loadkeys, which {builder.root.path} does not have",
                hint="install it there (Debian: kbd), or leave out --keymap",
            )
        return Keyboard(None, toolbox)
    because = Because("keyboard map asked for" if name else "keyboard map of the machine")
    for path in _with_includes(builder.root, keymap):
        builder.add(path, because)
        because = Because("included by the keyboard map", keymap)
    return Keyboard(keymap, toolbox)


def _own_keymap(root: Root) -> str | None:
    cached = expand(root, _OWN_KEYMAPS)
    if cached:
        return cached[0]
    if root.is_file("/etc/vconsole.conf"):
        text = root.read("/etc/vconsole.conf").decode("utf-8", "replace")
        found = re.search(r'^\s*KEYMAP="?([\w.-]+)"?\s*$', text, re.MULTILINE)
        if found is not None:
            return next(_keymaps(root, found[1]), None)
    return None


def _named_keymap(root: Root, name: str) -> str:
    found = next(_keymaps(root, name), None)
    if found is None:
        raise UsageError(
            f"no keymap {name} in {root.path}, not found below: {', '.join(_KEYMAP_TREES)}",
            hint="take a name of loadkeys(1) such as de-latin1; the maps are in Debian's"
            " console-data, elsewhere in kbd",
        )
    return found


def _keymaps(root: Root, name: str) -> Iterator[str]:
    if not re.fullmatch(r"[\w.+-]+", name):
        return
    for tree in _KEYMAP_TREES:
        for folder in _directories(root, tree, set()):
            for suffix in _SUFFIXES:
                for packed in (".gz", ""):
                    path = f"{folder}/{name.removesuffix(suffix)}{suffix}{packed}"
                    if root.is_file(path):
                        yield path


def _directories(root: Root, top: str, seen: set[str]) -> Iterator[str]:
    """Yield ``top`` and the directories below it, each once, those of a PC's keyboard first."""
    found = root.locate(top) if root.is_dir(top) else None
    if found is None or found.path in seen:
        return
    seen.add(found.path)
    yield top
    names = sorted(root.list(top), key=lambda name: (name not in ("i386", "include"), name))
    for name in names:
        if "." not in name:
            yield from _directories(root, f"{top}/{name}", seen)


def _with_includes(root: Root, keymap: str) -> Iterator[str]:
    """Yield ``keymap`` and all that it includes, each once."""
    pending, seen = [keymap], {keymap}
    while pending:
        path = pending.pop()
        yield path
        data = decompress(root.read(path), origin=f"{path} in {root.path}")
        for match in _INCLUDE.finditer(data):
            included = next(_keymaps(root, match[1].decode("ascii", "replace")), None)
            if included is not None and included not in seen:
                seen.add(included)
                pending.append(included)


def add_locale(builder: ClosureBuilder, name: str) -> str:
    """Add the locale ``name`` (as in LANG) and return it; raise UsageError if there is none.

    C, POSIX and C.UTF-8 are always right: where glibc has no C.UTF-8, it falls back to C.
    """
    root = builder.root
    wanted = _normalized(name)
    for entry in root.list(_LOCALES):
        if _normalized(entry) == wanted:
            builder.add_tree(f"{_LOCALES}/{entry}", Because("locale of the rescue environment"))
            return name
    if name in ("C", "POSIX", FALLBACK_LOCALE):
        return name
    archive = f"{_LOCALES}/locale-archive"
    if root.is_file(archive) and b"\0" + wanted.encode() + b"\0" in root.read(archive):
        builder.add(archive, Because("holds the locale of the rescue environment"))
        return name
    raise UsageError(
        f"no locale {name} in {root.path}, not found in: {_LOCALES}",
        hint=f"make it there (locale-gen), or leave out --locale: the default is {FALLBACK_LOCALE}",
    )


def _normalized(name: str) -> str:
    """Write the character set of a locale's name as glibc does in file names (utf8)."""
    base, dot, charset = name.partition(".")
    charset, at, modifier = charset.partition("@")
    return base + dot + re.sub(r"[^a-z0-9]", "", charset.lower()) + at + modifier
