"""Words for a terminal and for programs: names that may hold anything at all, sizes, times."""

from __future__ import annotations

import base64
import time


def text_of(name: bytes) -> str:
    """Return a name as text; what is no UTF-8 in it becomes lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def shown(name: bytes) -> str:
    """Return a name with all that a terminal would act on, or cannot show, as escapes.

    Backslashes are doubled, other bytes become ``\\xNN``: no two names look alike.
    """
    return shown_text(text_of(name).replace("\\", "\\\\"))


def shown_text(text: str) -> str:
    """Return words with all that a terminal would act on as escapes."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def shown_lines(text: str) -> str:
    """Return words as ``shown_text`` does, but keep their lines and the room of their tabs."""
    return "\n".join(shown_text(line) for line in text.expandtabs().split("\n"))


def _escaped(letter: str) -> str:
    handler = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", handler))


def named(key: str, name: bytes) -> dict[str, str]:
    """Return what JSON has of a name: text and, where it is no UTF-8, its bytes in base64."""
    try:
        return {key: name.decode("utf-8")}
    except UnicodeDecodeError:
        exact = base64.b64encode(name).decode("ascii")
        return {key: name.decode("utf-8", "replace"), f"{key}_base64": exact}


def count_words(number: int, one: str, many: str | None = None) -> str:
    """Return a number with what is counted, such as ``1 file``, ``2,000 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size_words(size_bytes: float) -> str:
    """Return a size such as ``17 bytes``, ``4.6 MB``; the units are powers of 1000."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} byte{'' if size_bytes == 1 else 's'}"
    size = float(size_bytes)
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def duration_words(seconds: float) -> str:
    """Return a duration such as ``0:07``, ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def date_words(seconds: int) -> str:
    """Return a date and time, in UTC; the number itself where no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
