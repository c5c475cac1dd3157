"""The folder in which mindi keeps what it fetched or worked out, and can do without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from initramfs.errors import InputError


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


def own_cache(folder: Path) -> Path:
    """Return the cache ``folder``, made for its owner alone if it is not there; see check_cache.

    One that cannot be made is an error for those who must write to it, and for nobody else.
    """
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_cache(folder)
    return folder


def check_cache(folder: Path) -> None:
    """Raise InputError for a cache ``folder`` that another user owns or may write to.

    Programs and modules of an image are taken from it as they are.
    """
    try:
        status = folder.stat()
    except OSError:
        return
    if status.st_uid != os.geteuid():
        raise InputError(
            f"the cache folder {folder} belongs to user {status.st_uid}, "
            f"and this runs as user {os.geteuid()}: what is in it cannot be trusted",
            hint="name a folder of your own in MINDI_CACHE",
        )
    if status.st_mode & 0o022:
        raise InputError(
            f"other users may write to the cache folder {folder}: what is in it cannot be trusted",
            hint=f"remove it, or, if nobody else was there, chmod go-w {folder}",
        )
