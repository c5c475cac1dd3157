"""Patterns for what is left out: globs over the bytes of names, compiled once.

``/a/b*`` matches an absolute path; without a leading slash the pattern matches at any depth. What
is matched is left out with all below it. ``*`` and ``?`` stop at slashes, ``**`` does not,
``[...]`` is a set, a backslash makes the next character an ordinary one. Names are bytes; where
they are UTF-8, ``?`` and ``[...]`` take a whole character.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

from archive.errors import WrongUsage

_CHARACTER = rb"(?:[\xc2-\xf4][\x80-\xbf]+|[^/])"
_MOST_OF_A_RANGE = 1000
_SHORTER = "Name directories that hold what is to be left out, or use wider patterns."
_MOST_OF_ALL = 1 << 19
"""Bytes of expressions: to compile them takes a second, and some 100 MiB."""


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
        names: list[bytes] = []
        paths: list[bytes] = []
        size = 0
        for text in self.texts:
            pattern = text.rstrip(b"/")
            if not pattern or b"\0" in pattern:
                raise WrongUsage(
                    f"The pattern {text.decode(errors='replace')!r} would leave out everything "
                    "or nothing",
                    hint="Give a path below /, or a name.",
                )
            is_path = b"/" in pattern
            anywhere = is_path and not pattern.startswith(b"/")
            translated = _translate(pattern.lstrip(b"/"), anywhere=anywhere)
            (paths if is_path else names).append(translated)
            size += len(translated)
            if size > _MOST_OF_ALL:
                raise WrongUsage("The patterns are too long, all together", hint=_SHORTER)
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


def _translate(pattern: bytes, *, anywhere: bool = False) -> bytes:
    """Return a regular expression for a glob; ``anywhere``: below any directory."""
    text = pattern.decode("utf-8", "surrogateescape")
    # What stands between stars; each star with what follows it.
    runs: list[tuple[_Star | None, list[bytes]]] = [(_Star.FOLDERS if anywhere else None, [])]
    place = size = 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "*":
            star, place = _star(text, place)
            runs.append((star, []))
            continue
        if letter == "?":
            out = _CHARACTER
        elif letter == "[" and (end := _end_of_set(text, place)):
            out = _set(text[place:end])
            place = end + 1
        else:
            if letter == "\\" and place < len(text):
                letter = text[place]
                place += 1
            out = _escape(letter)
        size += len(out)
        if size > _MOST_OF_ALL:
            raise WrongUsage(f"The pattern {text[:60]!r}... is too long", hint=_SHORTER)
        runs[-1][1].append(out)
    return _joined([(star, b"".join(fixed)) for star, fixed in runs])


class _Star(enum.Enum):
    """What stands for several characters, by the expression for as few of them as possible."""

    NAME = rb"[^/]*?"
    ANYTHING = rb".*?"
    FOLDERS = rb"(?:.*?/)??"


def _star(text: str, place: int) -> tuple[_Star, int]:
    """Return the star that begins before ``place``, and where what follows it begins."""
    begun = place - 1
    while text[place : place + 1] == "*":
        place += 1
    if place == begun + 1:
        return _Star.NAME, place
    if text[begun - 1 : begun] in ("", "/") and text[place : place + 1] == "/":
        return _Star.FOLDERS, place + 1
    return _Star.ANYTHING, place


def _joined(runs: list[tuple[_Star | None, bytes]]) -> bytes:
    """Return one expression that never tries more than a few ways for each place of a path.

    The first place where what stands before another star is found is as good as any, for that
    star reaches whatever could be reached from a later one; so it is kept ("(?>"). A star that
    stops at slashes reaches less than one that does not: they are one run up to the next of these.
    """
    out: list[bytes] = []
    is_open = False
    last = len(runs) - 1
    for number, (star, fixed) in enumerate(runs):
        if star is not None and star is not _Star.NAME:
            if is_open:
                out.append(rb")")
            is_open = any(later not in (None, _Star.NAME) for later, _ in runs[number + 1 :])
            if is_open:
                out.append(rb"(?>")
        if star is None:
            out.append(fixed)
        elif number == last or star is not _Star.NAME:
            out.append(star.value + fixed)
        else:
            out.append(rb"(?>" + star.value + fixed + rb")")
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
