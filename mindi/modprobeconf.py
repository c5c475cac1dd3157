"""The settings of modprobe(8) that a rescue environment holds, of its root tree.

Hardening guides put modules out of force (``install xfs /bin/false``, ``blacklist usb-storage``),
and a disk of another machine may need any of them: what sets options, names and order comes,
what keeps a module from being loaded stays. Format: modprobe.d(5).
"""

from __future__ import annotations

import re

from initramfs.closure import Because, ClosureBuilder

DIRECTORIES = ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
"""Where settings are; a file hides those of its name in the directories after its own."""

_KEPT = frozenset({b"alias", b"options", b"softdep", b"weakdep"})

# As libkmod reads: a backslash takes the next character with it, the end of a line too.
_STATEMENT = re.compile(rb"(?:\\.|[^\\\n])+", re.DOTALL)


def loadable(settings: bytes) -> bytes:
    """Return those statements of a file of modprobe.d that keep no module from being loaded.

    Each is as it was written, over as many lines; comments go, for they may be of what went.
    """
    kept = (statement for statement in _STATEMENT.findall(settings) if _is_kept(statement))
    return b"".join(statement + b"\n" for statement in kept)


def _is_kept(statement: bytes) -> bool:
    words = statement.replace(b"\\\n", b"").split()
    if not words or words[0] not in _KEPT:
        return False
    # An alias of "off", or of a program, is the old way to put a module out of force.
    is_off = words[0] == b"alias" and (words[-1] == b"off" or words[-1].startswith(b"/"))
    return not is_off


def add_modprobe_settings(builder: ClosureBuilder, because: Because) -> None:
    """Add the settings of ``builder``'s root, ``loadable`` alone; what is in already stays.

    A file with nothing left, or a link to /dev/null, comes empty: it hides others of its name.
    """
    root = builder.root
    for directory in DIRECTORIES:
        for name in root.list(directory):
            path = f"{directory}/{name}"
            if not name.endswith(".conf") or root.is_dir(path) or path in builder:
                continue
            settings = root.read(path) if root.is_file(path) else b""
            builder.add_content(path, loadable(settings), because)
