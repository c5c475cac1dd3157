"""A reader of LVM's configuration format (lvm.conf(5)), of which its metadata is made."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r'\s+|\#[^\n]*|(?P<string>"(?:\\.|[^"\\])*")|(?P<mark>[\[\]{}=,])|(?P<word>[^\s\[\]{}=,"#]+)'
)


def read(text: str) -> dict[str, object]:
    """Return sections as dicts, arrays as lists. Raises ValueError for what is no such text."""
    found, rest = _section(_tokens(text), top=True)
    assert not rest
    return found


def section(tree: dict[str, object], *names: str) -> dict[str, object]:
    for name in names:
        below = tree[name]
        assert isinstance(below, dict)
        tree = below
    return tree


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"no token: {text[place : place + 20]!r}")
        found += [token[0]] if token.lastgroup else []
        place = token.end()
    return found


def _section(tokens: list[str], *, top: bool) -> tuple[dict[str, object], list[str]]:
    found: dict[str, object] = {}
    while tokens and tokens[0] != "}":
        name, mark, *tokens = tokens if len(tokens) > 1 else [*tokens, ""]
        if name in found or name in "[]{}=,":
            raise ValueError(f"{name} cannot be here")
        if mark == "{":
            found[name], tokens = _section(tokens, top=False)
        elif mark == "=":
            found[name], tokens = _value(tokens)
        else:
            raise ValueError(f"{mark!r} cannot follow {name}")
    if bool(tokens) == top:
        raise ValueError("braces do not match")
    return found, tokens if top else tokens[1:]


def _value(tokens: list[str]) -> tuple[object, list[str]]:
    if not tokens or tokens[0] != "[":
        return _one(tokens), tokens[1:]
    end = tokens.index("]")
    inner = tokens[1:end]
    if any((one == ",") != (number % 2 == 1) for number, one in enumerate(inner)):
        raise ValueError(f"no array: {inner}")
    return [_one([one]) for one in inner[::2]], tokens[end + 1 :]


def _one(tokens: list[str]) -> str | int:
    token = tokens[0] if tokens else ""
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    return int(token)
