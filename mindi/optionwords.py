"""Reads the words of options and of the configuration file; ValueError says what is wrong."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

E_ = TypeVar("E_", bound=enum.StrEnum)


def choice(kind: type[E_]) -> Callable[[str], E_]:
    """Return what takes the words of an enumeration."""

    def parse(word: str) -> E_:
        try:
            return kind(word)
        except ValueError:
            known = ", ".join(kind)
            raise ValueError(f"{word!r} is none of {known}") from None

    return parse


def number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return what takes a decimal number between two, both included."""

    def parse(word: str) -> int:
        if not (word.isascii() and word.isdecimal()) or not lowest <= int(word) <= highest:
            raise ValueError(f"{word!r} is no number from {lowest} to {highest}")
        return int(word)

    return parse


def parse_path(word: str) -> Path:
    """Return the path that a word is; raise ValueError for none, which would mean the folder."""
    if not word or "\0" in word:
        raise ValueError(f"{word!r} is no path")
    return Path(word)
