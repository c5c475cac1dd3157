"""The settings of modprobe(8) that a rescue environment holds, of its root tree.

Hardening guides put modules out of force (``install xfs /bin/false``, ``blacklist usb-storage``),
and a disk of another machine may need any of them: what sets options, names and order comes,
what keeps a module from being loaded stays. Format: modprobe.d(5).
"""

from __future__ import annotations

from collections.abc import Collection

from initramfs.closure import Because, ClosureBuilder
from initramfs.modinfo import normalise
from initramfs.modsettings import DIRECTORIES, statements, words_of

_KEPT = frozenset({b"alias", b"options", b"softdep", b"weakdep"})

# Where a rescue environment mounts a file system of its own, so that no file of an image is
# seen; a file in /etc hides the same others as one there.
_SHADOWED, _IN_PLACE = "/run/", "/etc/"


def loadable(settings: bytes, modules: Collection[str] | None = None) -> bytes:
    """Return those statements of a file of modprobe.d that keep no module from being loaded.

    Each is as it was written, over as many lines; comments go, for they may be of what went.
    An alias of a module that is not among ``modules`` (None: all there are) goes too: modprobe
    would look for no other.
    """
    kept = (statement for statement in statements(settings) if _is_kept(statement, modules))
    return b"".join(statement + b"\n" for statement in kept)


def _is_kept(statement: bytes, modules: Collection[str] | None) -> bool:
    words = words_of(statement)
    if not words or words[0] not in _KEPT:
        return False
    if words[0] != b"alias":
        return True
    # An alias of "off", or of a program, is the old way to put a module out of force.
    target = normalise(words[-1].decode("utf-8", "surrogateescape"))
    return target in modules if modules is not None else target != "off" and target[0] != "/"


def _place(path: str) -> str:
    is_shadowed = path.startswith(_SHADOWED)
    return _IN_PLACE + path.removeprefix(_SHADOWED) if is_shadowed else path


def add_modprobe_settings(
    builder: ClosureBuilder, because: Because, *, modules: Collection[str] | None = None
) -> None:
    """Add the settings of ``builder``'s root, ``loadable`` with ``modules``; what is in stays.

    A file with nothing left, or a link to /dev/null, comes empty: it hides others of its name.
    """
    root = builder.root
    for directory in DIRECTORIES:
        for name in root.list(directory):
            path = f"{directory}/{name}"
            place = _place(path)
            if not name.endswith(".conf") or root.is_dir(path) or place in builder:
                continue
            settings = root.read(path) if root.is_file(path) else b""
            builder.add_content(place, loadable(settings, modules), because)
