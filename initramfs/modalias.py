"""Module aliases: patterns that say which modules a device, or a name asked for, is driven by.

The rules are those of libkmod's look-up: in patterns and names '-' equals '_', except within
brackets, and patterns match as in fnmatch(3) without flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

_WILD = re.compile(r"[*?\[\\]")


def normalise_alias(alias: str) -> str:
    """Return ``alias`` with every '-' outside of brackets as '_'."""
    if "-" not in alias:
        return alias
    if "[" not in alias:
        return alias.replace("-", "_")
    pieces = re.split(r"(\[[^\]]*\])", alias)
    return "".join(p if p.startswith("[") else p.replace("-", "_") for p in pieces)


class AliasTable:
    """Pairs of (pattern, module name), found by the text before the first wildcard.

    A tree has ten thousands of patterns and a machine some hundred devices: only patterns
    whose literal beginning fits are ever matched.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Take the pairs; their order is the order of answers."""
        self._buckets: dict[str, list[tuple[int, str, str]]] = {}
        wild = _WILD.search
        for rank, (pattern, module) in enumerate(pairs):
            pattern = normalise_alias(pattern)
            hit = wild(pattern)
            literal = pattern[: hit.start()] if hit else pattern
            self._buckets.setdefault(literal, []).append((rank, pattern, module))
        self._lengths = tuple(sorted({len(literal) for literal in self._buckets}))

    def matching(self, name: str) -> tuple[str, ...]:
        """Return the modules with a pattern that matches ``name``, each once."""
        name = normalise_alias(name)
        found: list[tuple[int, str]] = []
        for length in self._lengths:
            if length > len(name):
                break
            for rank, pattern, module in self._buckets.get(name[:length], ()):
                if _matches(pattern, name, length):
                    found.append((rank, module))
        return tuple(dict.fromkeys(module for _, module in sorted(found)))


def _matches(pattern: str, name: str, literal: int) -> bool:
    rest = pattern[literal:]
    if not rest:
        return len(name) == literal
    return rest == "*" or _compiled(rest).fullmatch(name, literal) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Translate a pattern of fnmatch(3), flags 0, to a regular expression."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            parts.append(".*")
        elif char == "?":
            parts.append(".")
        elif char == "\\" and at < len(pattern):
            parts.append(re.escape(pattern[at]))
            at += 1
        elif char == "[" and (end := _class_end(pattern, at)) is not None:
            parts.append(_class(pattern[at:end]))
            at = end + 1
        else:
            parts.append(re.escape(char))
    return re.compile("".join(parts), re.DOTALL)


def _class_end(pattern: str, at: int) -> int | None:
    """Where the bracket expression that starts at ``at`` ends; a ']' in first place is a member."""
    start = at + 1 if pattern[at : at + 1] in ("!", "^") else at
    end = pattern.find("]", start + 1)
    return end if end >= 0 else None


def _class(members: str) -> str:
    negated = members[0] in "!^"
    inner = members[1:] if negated else members
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner)
    return f"[{'^' if negated else ''}{escaped}]"
