"""Words for a terminal: sizes, dates, and names that may hold anything at all."""

from __future__ import annotations

import time


def printable(text: str) -> str:
    """Return ``text`` with all that a terminal would act on, or cannot show, as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Return ``text`` as ``printable`` does, but keep its lines and the room of its tabs."""
    return "\n".join(printable(line) for line in text.expandtabs().split("\n"))


def size_words(size_bytes: int) -> str:
    """Return a size such as ``17 bytes``, ``4.6 MB``; the units are powers of 1000."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    size = float(size_bytes)
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def date_words(seconds: int) -> str:
    """Return a date and time, in UTC; the number itself where no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
