"""Keeps between builds what took time to make, by a digest of what it was made of.

An entry is the data behind a line that names its format and the SHA-256 of its key and data: no
byte of it is outside of the digest, so that whatever is read back is what was kept. It is written
beside its place and renamed, checked whenever it is read, and dropped, oldest use first,
when all of them take too much. A cache that cannot be read or written costs time, nothing else,
and is told of once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
from pathlib import Path

_LOG = logging.getLogger(__name__)
_FORMAT = b"mindi-cache-1"
HEAD_BYTES = len(_FORMAT) + 1 + 64 + 1
"""Length of the line before the data: format, space, digest in hexadecimal, line feed."""


class CheckedCache:
    """The entries in one folder, which is made when first needed; many threads may use it."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        """Use ``folder``, of which nothing else makes use, in the folder of the whole cache."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._writable = True
        self._untold = threading.Lock()

    def load(self, key: str) -> bytes | None:
        """Return what was kept as ``key``; None if there is nothing or it is damaged."""
        path = self._folder / key
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell_unusable(error)
            return None
        if head != _head(key, data):
            if self._untold.acquire(blocking=False):
                _LOG.warning("what is in the cache in %s is damaged", self._folder.parent)
            return None
        # Its time tells when it was of use last; without it the entry only goes earlier.
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def store(self, key: str, data: bytes) -> None:
        """Keep ``data``; a failure is logged, not raised, and ends all further tries."""
        if not self._writable:
            return
        temporary: str | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(_head(key, data))
                file.write(data)
            Path(temporary).rename(self._folder / key)
        except OSError as error:
            self._writable = False
            self._tell_unusable(error)
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()

    def evict(self) -> None:
        """Drop what was of use longest ago until the rest is within the limit."""
        try:
            with os.scandir(self._folder) as found:
                stats = [(item.stat(follow_symlinks=False), item.path) for item in found]
            files = sorted((status.st_mtime_ns, status.st_size, path) for status, path in stats)
            left = sum(size for _, size, _ in files)
            for _, size, path in files:
                if left <= self._limit_bytes:
                    break
                Path(path).unlink(missing_ok=True)
                left -= size
        except FileNotFoundError:
            return
        except OSError as error:
            self._tell_unusable(error)

    def _tell_unusable(self, error: OSError) -> None:
        if self._untold.acquire(blocking=False):
            _LOG.warning("cannot use the cache in %s: %s", self._folder.parent, error.strerror)


def _head(key: str, data: bytes) -> bytes:
    digest = hashlib.sha256(f"{key}\n".encode())
    digest.update(data)
    return b"%s %s\n" % (_FORMAT, digest.hexdigest().encode())
