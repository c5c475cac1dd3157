"""Words for numbers of things."""

from __future__ import annotations


def count_words(number: int, one: str, many: str | None = None) -> str:
    """Return a number with what is counted, such as ``1 file``, ``2,000 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
