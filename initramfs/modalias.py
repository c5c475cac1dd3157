"""Module aliases: patterns that say which modules a device, or a name asked for, is driven by.

The rules are those of libkmod's look-up: in patterns and names '-' equals '_', except within
brackets, and patterns match as in fnmatch(3) without flags.
"""

from __future__ import annotations

import re
from functools import cache

_RANGE = re.compile(r"(.)(?:-(.))?", re.DOTALL)
_OTHER_WILD = re.compile(r"[?\[\\]")
# How much of a pattern's literal beginning makes a bucket: up to the vendor of a PCI device,
# the name of a bus, nothing.
_SIZES = (13, 3, 0)
_LINE = re.compile(rf"^alias ([^*?\[\\\n ]{{0,{_SIZES[0]}}})(.*) (\S+)$", re.MULTILINE)


def normalise_alias(alias: str) -> str:
    """Return ``alias`` with every '-' outside of brackets as '_'."""
    if "-" not in alias:
        return alias
    if "[" not in alias:
        return alias.replace("-", "_")
    pieces = re.split(r"(\[[^\]]*\])", alias)
    return "".join(p if p.startswith("[") else p.replace("-", "_") for p in pieces)


class AliasTable:
    """Patterns and the modules they stand for, found by how they begin.

    A tree has ten thousands of patterns and a machine some hundred devices: patterns are put
    into buckets by their first characters, and only the buckets asked for are looked into.
    """

    def __init__(self, text: str) -> None:
        """Take the lines ``alias PATTERN MODULE`` of a modules.alias file; others are ignored."""
        self._buckets: dict[str, list[tuple[int, str, str]]] = {}
        for rank, (head, rest, module) in enumerate(_LINE.findall(text)):
            if "-" in head:
                head = head.replace("-", "_")
            # A head that ends before its time is followed by a wildcard.
            size = next(size for size in _SIZES if size <= len(head)) if rest else len(head)
            self._buckets.setdefault(head[:size], []).append((rank, head + rest, module))

    def matching(self, name: str) -> tuple[str, ...]:
        """Return the modules with a pattern that matches ``name``, each once, in file order."""
        name = normalise_alias(name)
        found = [
            (rank, module)
            for head in {name[:size] for size in _SIZES}
            for rank, pattern, module in self._buckets.get(head, ())
            if _matches(normalise_alias(pattern), name)
        ]
        return tuple(dict.fromkeys(module for _, module in sorted(found)))


def _matches(pattern: str, name: str) -> bool:
    first, *rest = pattern.split("*")
    if _OTHER_WILD.search(pattern):
        return _compiled(pattern).fullmatch(name) is not None
    if not rest:
        return first == name
    if not name.startswith(first):
        return False
    # Only '*': pieces in order, each at its first place; to compile thousands would be slow.
    at = len(first)
    *middle, last = rest
    for piece in middle:
        at = name.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return len(name) - len(last) >= at and name.endswith(last)


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
    # A range that runs backwards has no members, as in glibc; re would refuse it.
    ranges = [(a, b or a) for a, b in _RANGE.findall(inner) if a <= (b or a)]
    within = "".join(f"{re.escape(a)}-{re.escape(b)}" for a, b in ranges)
    if not within:
        return "." if negated else r"(?!)"
    return f"[{'^' if negated else ''}{within}]"
