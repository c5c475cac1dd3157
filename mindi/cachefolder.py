"""The folder in which mindi keeps what it fetched or worked out, and can do without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the cache folder: ``$MINDI_CACHE``, or ``mindi`` in the user's own caches.

    The latter are ``$XDG_CACHE_HOME``, else ``~/.cache`` (XDG Base Directory Specification: a
    relative path is to be ignored). The folder need not exist yet.
    """
    named = environ.get("MINDI_CACHE")
    if named:
        return Path(named).absolute()
    caches = Path(environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():
        return caches / "mindi"
    home = environ.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache" / "mindi"
