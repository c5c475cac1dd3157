"""Patterns for what is left out: globs over the bytes of names, compiled once.

``/a/b*`` matches an absolute path; without a leading slash the pattern matches at any depth. What
is matched is left out with all below it. ``*`` and ``?`` stop at slashes, ``**`` does not,
``[...]`` is a set, a backslash makes the next character an ordinary one. Names are bytes; where
they are UTF-8, ``?`` and ``[...]`` take a whole character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from archive.errors import WrongUsage

_CHARACTER = rb"(?:[\xc2-\xf4][\x80-\xbf]+|[^/])"
_MOST_OF_A_RANGE = 1000


@dataclass(frozen=True, slots=True)
class Patterns:
    """Compiled patterns. Raises WrongUsage for one that can match nothing."""

    texts: tuple[bytes, ...] = ()
    names: re.Pattern[bytes] | None = field(init=False, compare=False)
    """For the last component of a path (fullmatch): of the patterns without a slash."""
    paths: re.Pattern[bytes] | None = field(init=False, compare=False)
    """For a whole path without its leading slash (fullmatch): of the others."""

    def __post_init__(self) -> None:
        """Compile."""
        names = []
        paths = []
        for text in self.texts:
            pattern = text.rstrip(b"/")
            if not pattern or b"\0" in pattern:
                raise WrongUsage(
                    f"The pattern {text.decode(errors='replace')!r} would leave out everything "
                    "or nothing",
                    hint="Give a path below /, or a name.",
                )
            if b"/" not in pattern:
                names.append(_translate(pattern))
            elif pattern.startswith(b"/"):
                paths.append(_translate(pattern.lstrip(b"/")))
            else:
                paths.append(b"(?:.*/)?" + _translate(pattern))
        object.__setattr__(self, "names", _compile(names))
        object.__setattr__(self, "paths", _compile(paths))

    def match(self, path: bytes) -> bool:
        """Say whether a path (without leading slash) or one of its ancestors is matched."""
        end = 0
        while end >= 0 and path:
            end = path.find(b"/", end + 1)
            above = path if end < 0 else path[:end]
            if self.names is not None and self.names.fullmatch(above[above.rfind(b"/") + 1 :]):
                return True
            if self.paths is not None and self.paths.fullmatch(above):
                return True
        return False


def literal(path: bytes) -> bytes:
    """Return the pattern that matches just this path."""
    return re.sub(rb"([*?\[\\])", rb"\\\1", path)


def has_wildcards(text: bytes) -> bool:
    """Say whether a text is more than the name of one path."""
    return re.search(rb"[*?\[]", text) is not None


def _compile(alternatives: list[bytes]) -> re.Pattern[bytes] | None:
    return re.compile(b"|".join(alternatives), re.DOTALL) if alternatives else None


def _translate(pattern: bytes) -> bytes:
    """Return a regular expression for a glob."""
    text = pattern.decode("utf-8", "surrogateescape")
    out = []
    place = 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "*":
            stars = place
            while text[place : place + 1] == "*":
                place += 1
            whole = text[stars - 2 : stars - 1] in ("", "/") and text[place : place + 1] == "/"
            if place == stars:
                out.append(rb"[^/]*")
            elif whole:
                out.append(rb"(?:.*/)?")
                place += 1
            else:
                out.append(rb".*")
        elif letter == "?":
            out.append(_CHARACTER)
        elif letter == "[" and (end := _end_of_set(text, place)):
            out.append(_set(text[place:end]))
            place = end + 1
        else:
            if letter == "\\" and place < len(text):
                letter = text[place]
                place += 1
            out.append(_escape(letter))
    return b"".join(out)


def _escape(letter: str) -> bytes:
    return re.escape(letter.encode("utf-8", "surrogateescape"))


def _end_of_set(text: str, start: int) -> int:
    """Return where the set that begins at ``start`` is closed; 0: it is none (glob(7))."""
    first = start + (text[start : start + 1] in ("!", "^"))
    return max(text.find("]", first + 1), 0)


def _set(inside: str) -> bytes:
    """Return a regular expression for what stands between brackets."""
    negated = inside[0] in "!^"
    letters = inside[1:] if negated else inside
    members = []
    place = 0
    while place < len(letters):
        low = high = letters[place]
        if letters[place + 1 : place + 2] == "-" and place + 2 < len(letters):
            high = letters[place + 2]
            place += 2
        place += 1
        if ord(high) - ord(low) > _MOST_OF_A_RANGE:
            raise WrongUsage(f"The range {low}-{high} of a pattern is too large")
        members += [_escape(chr(code)) for code in range(ord(low), ord(high) + 1) if code != 0x2F]
    alternatives = b"|".join(members)
    if negated:
        return b"(?!" + alternatives + b")" + _CHARACTER if members else _CHARACTER
    return b"(?:" + alternatives + b")" if members else rb"(?!)"
