"""Typed JSON: frozen dataclasses to JSON and back, refusing whatever is not exactly theirs.

What is read may be of anyone's making: a wrong type, a key too many, a number out of range, a
nesting without end is SetDamaged, never a crash. Numbers are whole, from 0 to 2^64-1. A
dataclass is an object with all of its fields as keys; where a field may be of several dataclasses,
the object names its own under ``is``. Types known: str, int, bool, enums of text, tuples of any
length, dataclasses, and any of these or None.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import NoReturn, TypeVar

from archive.errors import SetDamaged

MAX_NUMBER = (1 << 64) - 1
_TAG = "is"

T = TypeVar("T")


def dump(value: object, *, tagged: bool = False) -> object:
    """Return what ``json.dumps`` takes for a dataclass, or for what its fields hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        held = {name: dump(getattr(value, name), tagged=_mixed(hint)) for name, hint in hints}
        return {_TAG: type(value).__name__, **held} if tagged else held
    if isinstance(value, tuple):
        return [dump(one, tagged=tagged) for one in value]
    return value.value if isinstance(value, enum.Enum) else value


def parse(data: bytes, *, where: str, most_bytes: int) -> object:
    """Return what the bytes of a JSON file hold. Raises SetDamaged."""
    if len(data) > most_bytes:
        _fail(where, "it", f"is larger than {most_bytes >> 20} MiB")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
    except (ValueError, RecursionError) as error:
        # RecursionError is what a hundred thousand opening brackets cause.
        raise SetDamaged(
            f"{where} is damaged: {str(error)[:200]}", hint="take it from another copy of it"
        ) from error


def load(kind: type[T], held: object, *, where: str, place: str = "it") -> T:
    """Return the ``kind``, a dataclass, that ``held`` (of ``parse``) is. Raises SetDamaged.

    ``where`` names the file in errors, ``place`` what is read in it.
    """
    found = _load(kind, held, where, place)
    return typing.cast("T", found)


def _load(hint: object, held: object, where: str, place: str) -> object:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if type(held) is not list:
            _fail(where, place, "is no list")
        inner = typing.get_args(hint)[0]
        return tuple(
            _load(inner, one, where, f"{place}[{number}]") for number, one in enumerate(held)
        )
    if origin in (types.UnionType, typing.Union):
        return _load_union(typing.get_args(hint), held, where, place)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _load_object(hint, held, where, place)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        known = {one.value: one for one in hint}
        if type(held) is not str or held not in known:
            _fail(where, place, "is none that is known")
        return known[held]
    # Not isinstance: True is an int.
    if type(held) is not hint:
        _fail(where, place, f"is not of type {getattr(hint, '__name__', hint)}")
    if type(held) is int and not 0 <= held <= MAX_NUMBER:
        _fail(where, place, "is out of range")
    return held


def _load_union(hints: tuple[object, ...], held: object, where: str, place: str) -> object:
    if held is None and types.NoneType in hints:
        return None
    choices = [hint for hint in hints if hint is not types.NoneType]
    if len(choices) == 1:
        return _load(choices[0], held, where, place)
    named = {hint.__name__: hint for hint in choices if isinstance(hint, type)}
    if not isinstance(held, dict):
        _fail(where, place, "is no object")
    inner = dict(held)
    name = inner.pop(_TAG, None)
    if not isinstance(name, str) or name not in named:
        _fail(where, place, "is of no kind that is known")
    return _load_object(named[name], inner, where, place)


def _load_object(kind: type, held: object, where: str, place: str) -> object:
    hints = _hints(kind)
    if not isinstance(held, dict) or set(held) != {name for name, _ in hints}:
        _fail(where, place, "does not have the fields it should have")
    found: Mapping[str, object] = held
    values = {name: _load(hint, found[name], where, f"{place}.{name}") for name, hint in hints}
    try:
        return kind(**values)
    except SetDamaged as error:
        _fail(where, place, f"cannot be: {error.message}")


@functools.cache
def _hints(kind: type) -> tuple[tuple[str, object], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))


@functools.cache
def _mixed(hint: object) -> bool:
    """Tell whether a field's value may be of several dataclasses."""
    if typing.get_origin(hint) is tuple:
        return _mixed(typing.get_args(hint)[0])
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return False
    return sum(dataclasses.is_dataclass(one) for one in typing.get_args(hint)) > 1


def _fail(where: str, place: str, words: str) -> NoReturn:
    raise SetDamaged(
        f"{where} is damaged, or of a foreign make: {place} {words}",
        hint="take it from another copy of it",
    )


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    held = dict(pairs)
    if len(held) != len(pairs):
        raise ValueError("a key is given twice")
    return held


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"not a whole number: {text[:40]}")
