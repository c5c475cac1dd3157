"""Makes files that look like BusyBox to what reads it."""

from __future__ import annotations

from collections.abc import Iterable

APPLETS = ("[", "ash", "cat", "cp", "env", "init", "ls", "modprobe", "mount", "nuke", "sh", "vi")

# What stands around the table in a real one: keywords of stty and of awk's, sorted and not.
_BEFORE = ("tostop", "echoctl", "cstopb", "cread")
_AFTER = ("close", "system", "match")


def fake_busybox(applets: Iterable[str] = APPLETS, *, filler: int = 12) -> bytes:
    """Return bytes with an applet table; ``filler`` made-up applets make it long enough."""
    table = sorted({*applets, *(f"applet{number:02}" for number in range(filler))})
    names = [*_BEFORE, *table, *_AFTER]
    return b"\x7fELF junk\0\xff" + b"".join(name.encode() + b"\0" for name in names) + b"\xff"
