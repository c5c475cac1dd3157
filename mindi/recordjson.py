"""Reads JSON that may be anything at all: each value is asked for by its type."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import TypeVar

from initramfs.errors import InputError

Choice = TypeVar("Choice", bound=enum.Enum)
Key = str | int
"""A name in an object, a place in an array."""


class Fields:
    """An object or an array of a JSON document; every request that it cannot meet is InputError."""

    __slots__ = ("_value", "_where")

    def __init__(self, value: dict[str, object] | list[object], where: str) -> None:
        self._value = value
        self._where = where

    @classmethod
    def parse(cls, data: bytes, where: str) -> Fields:
        """Parse a document whose top is an object; ``where`` names it in errors."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise InputError(f"{where} is not a JSON object")
        return cls(value, where)

    def __len__(self) -> int:
        return len(self._value)

    def has(self, key: str) -> bool:
        """Tell whether an object has ``key``."""
        return isinstance(self._value, dict) and key in self._value

    def text(self, key: Key) -> str:
        """Return the string at ``key``."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def number(self, key: Key) -> int:
        """Return the whole number at ``key``, which is not negative."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(key, "a whole number")
        return value

    def choice(self, key: Key, choices: type[Choice]) -> Choice:
        """Return the member of ``choices`` whose value is at ``key``."""
        value = self.text(key)
        for member in choices:
            if member.value == value:
                return member
        raise self._wrong(key, "one of " + ", ".join(str(member.value) for member in choices))

    def texts(self, key: Key) -> tuple[str, ...]:
        """Return the array of strings at ``key``."""
        row = self._row(self._get(key), key)
        return tuple(row.text(place) for place in range(len(row)))

    def rows(self, key: Key) -> Iterator[Fields]:
        """Yield the arrays in the array at ``key``."""
        outer = self._get(key)
        if not isinstance(outer, list):
            raise self._wrong(key, "an array")
        for value in outer:
            yield self._row(value, key)

    def named_rows(self, key: Key) -> Iterator[tuple[str, Fields]]:
        """Yield the names and arrays in the object at ``key``."""
        outer = self._get(key)
        if not isinstance(outer, dict):
            raise self._wrong(key, "an object")
        for name, value in outer.items():
            yield name, self._row(value, name)

    def _row(self, value: object, key: Key) -> Fields:
        if not isinstance(value, list):
            raise self._wrong(key, "an array")
        return Fields(value, self._where)

    def _get(self, key: Key) -> object:
        value = self._value
        if isinstance(value, dict) and isinstance(key, str) and key in value:
            return value[key]
        if isinstance(value, list) and isinstance(key, int) and key < len(value):
            return value[key]
        raise InputError(f"{self._where} has no {key!r}")

    def _wrong(self, key: Key, wanted: str) -> InputError:
        return InputError(f"{self._where}: {key!r} is not {wanted}")
