"""The configuration file: one for all commands, a table for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from initramfs.errors import InputError, UsageError

SYSTEM_FILE = Path("/etc/mindi/mindi.toml")
TABLES = ("build", "mondoarchive")
"""The settings of `mindi build`, and of `mondoarchive`."""


def read_document(path: Path, *, required: bool) -> Mapping[str, Mapping[str, object]]:
    """Return the tables of a configuration file, each by its name, those it has not got empty.

    Raises UsageError or InputError.
    """
    tables: dict[str, Mapping[str, object]] = {name: {} for name in TABLES}
    try:
        written = path.read_bytes()
    except FileNotFoundError:
        if not required:
            return tables
        raise InputError(f"cannot read the configuration {path}: no such file") from None
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}") from error
    import tomllib

    try:
        document = tomllib.loads(written.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    for name, table in document.items():
        if name not in TABLES:
            there = " and ".join(f"[{known}]" for known in TABLES)
            raise UsageError(f"{path}: unknown table or key {name!r}; there is only {there}")
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {name} is not a table; write [{name}]")
        tables[name] = table
    return tables


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return words that suggest what ``word`` was meant to be; empty where nothing is near."""
    import difflib

    near = difflib.get_close_matches(word, sorted(set(known)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
