"""BusyBox: where it is in a root tree, which applets it has, and the links that call them.

The running system's BusyBox is asked (``busybox --list-full``). One of another root is not
executed: the applet names are read out of the binary, where BusyBox keeps them as one sorted
run of NUL-terminated strings (``applet_names`` in include/applet_tables.h, which its build
makes; the run is sorted because the applet is found in it by bisection).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from initramfs.closure import Because, ClosureBuilder
from initramfs.errors import InputError, MissingDependency, ToolError
from initramfs.rootfs import Root

# Static ones first: they still work where the libraries of an image are damaged.
PLACES = (
    "/usr/lib/busybox/busybox-static",
    "/sbin/busybox.static",
    "/bin/busybox.static",
    "/bin/busybox-static",
    "/bin/busybox",
    "/usr/bin/busybox",
    "/sbin/busybox",
    "/usr/sbin/busybox",
)

HOME = "/bin/busybox"
"""Where BusyBox is in every image, whatever its root calls it."""

# klibc's helpers of an initramfs end it: they delete the root tree, or leave it.
_UNWANTED = frozenset({"linuxrc", "nuke", "run-init", "resume", "switch_root", "busybox"})

# The kernel and scripts call these by absolute paths.
_USUAL = {
    "env": "usr/bin",
    "init": "sbin",
    "reboot": "sbin",
    "poweroff": "sbin",
    "halt": "sbin",
    "modprobe": "sbin",
    "mdev": "sbin",
    "hotplug": "sbin",
}

# An applet table has these, and no other table of BusyBox (keywords of stty, awk, ...) has.
_TELLTALE = frozenset({"cat", "ls", "mount", "sh"})
_RUN = re.compile(rb"(?:[A-Za-z0-9\[_.+-]{1,32}\0){20,}")


@dataclass(frozen=True, slots=True)
class Busybox:
    """A BusyBox: ``path`` in its root, ``applets`` as name -> usual directory, sorted by name."""

    path: str
    applets: tuple[tuple[str, str], ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of all applets."""
        return frozenset(name for name, _ in self.applets)


def find_busybox(root: Root, *, is_own: bool = False) -> Busybox:
    """Return the BusyBox of ``root``; raise MissingDependency if there is none.

    ``is_own`` says that the root is the running system, so that it may be executed.
    """
    for place in PLACES:
        if root.is_file(place):
            break
    else:
        raise MissingDependency(
            f"no busybox in {root.path}, not found in: {', '.join(PLACES)}",
            hint="install a static BusyBox there (Debian: busybox-static)",
        )
    if is_own:
        return Busybox(place, ask(Path(place)))
    names = read_applets(root.read(place), origin=place)
    return Busybox(place, tuple((name, _USUAL.get(name, "bin")) for name in names))


def ask(busybox: Path) -> tuple[tuple[str, str], ...]:
    """Ask a BusyBox of this machine for its applets, as (name, usual directory)."""
    from plumbum import CommandNotFound, ProcessExecutionError, local  # heavy: late

    try:
        listing = local[str(busybox)]("--list-full")
    except (CommandNotFound, ProcessExecutionError, OSError) as error:
        raise ToolError(
            f"{busybox} --list-full failed: {error}",
            hint="install a BusyBox that works (Debian: busybox-static)",
        ) from error
    pairs = (line.rpartition("/") for line in listing.split())
    return tuple(sorted((name, directory) for directory, _, name in pairs))


def read_applets(binary: bytes, *, origin: str) -> tuple[str, ...]:
    """Find the applet names in the bytes of a BusyBox; raise InputError if there are none."""
    candidates = [
        run for match in _RUN.finditer(binary) for run in _ascending(match.group().split(b"\0"))
    ]
    tables = [run for run in candidates if _TELLTALE.issubset(run)]
    if not tables:
        raise InputError(
            f"{origin}: no table of applets in it; is it a BusyBox?",
            hint="give the root tree an unmodified BusyBox (Debian: busybox-static)",
        )
    return max(tables, key=len)


def _ascending(names: list[bytes]) -> Iterator[tuple[str, ...]]:
    """Split ``names`` where their order breaks: neighbours of the table are not part of it."""
    run: list[str] = []
    for name in names:
        text = name.decode("ascii")
        if run and text <= run[-1]:
            yield tuple(run)
            run = []
        if text:
            run.append(text)
    yield tuple(run)


def add_busybox(
    builder: ClosureBuilder, busybox: Busybox, *, shadowed: Collection[str] = ()
) -> tuple[str, ...]:
    """Add BusyBox as /bin/busybox with a link for each applet; return the names linked.

    ``shadowed`` are names for which a full tool is in the image: they get no link, and
    neither does a name whose place in the image is taken.
    """
    because = Because("the shell and the small tools of the rescue environment")
    path = builder.add(busybox.path, because)
    if path is None:
        return ()
    home = builder.root.locate_link(HOME)
    if home is None or (builder.root.locate(HOME) or home).path != path:
        builder.add_link(HOME, path, Because("name of BusyBox in every image, link to", path))
    linked: list[str] = []
    reason = Because("applet of", path)
    for name, directory in busybox.applets:
        place = f"/{directory}/{name}" if directory else f"/{name}"
        if name in _UNWANTED or name in shadowed or place in builder:
            continue
        builder.add_link(place, HOME, reason)
        linked.append(name)
    return tuple(linked)
