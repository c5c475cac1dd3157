"""Keeps compressed frames between builds, by a digest of what they were made of.

An entry is the frame behind a line that names its format, key, sizes and SHA-256; it is written
beside its place and renamed, checked whenever it is read, and dropped, oldest use first,
when all of them take too much. A cache that cannot be read or written costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)
_FORMAT = "mindi-frame-1"
_HEAD_BYTES = 256
DEFAULT_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class CachedFrame:
    """A compressed frame and the size of what it holds."""

    data: bytes
    unpacked_bytes: int


class FrameCache:
    """The frames in one folder, which is made when first needed."""

    def __init__(self, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Use ``folder``, of which nothing else makes use."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._writable = True

    def load(self, key: str) -> CachedFrame | None:
        """Return the frame of ``key``; None if there is none or it is damaged."""
        path = self._folder / key
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("cannot read the cached frame %s: %s", path, error.strerror)
            return None
        words = head.rstrip(b"\0\n").decode("ascii", "replace").split(" ")
        digest = hashlib.sha256(data).hexdigest()
        if len(words) != 4 or words[:2] != [_FORMAT, key] or words[3] != digest:
            _LOG.warning("the cached frame %s is damaged; making it anew", path)
            return None
        # Its time tells when it was of use last; without it the frame only goes earlier.
        with contextlib.suppress(OSError):
            os.utime(path)
        return CachedFrame(data, int(words[2]))

    def store(self, key: str, frame: CachedFrame) -> None:
        """Keep ``frame``; the first failure is logged, not raised, and ends all further tries."""
        if not self._writable:
            return
        digest = hashlib.sha256(frame.data).hexdigest()
        head = f"{_FORMAT} {key} {frame.unpacked_bytes} {digest}\n".encode()
        temporary: str | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(head.ljust(_HEAD_BYTES, b"\0"))
                file.write(frame.data)
            Path(temporary).rename(self._folder / key)
        except OSError as error:
            self._writable = False
            _LOG.warning("cannot keep a frame in %s: %s", self._folder, error.strerror)
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()

    def evict(self) -> None:
        """Drop the frames that were of use longest ago until the rest is within the limit."""
        try:
            with os.scandir(self._folder) as found:
                files = sorted(
                    (item.stat().st_mtime_ns, item.stat().st_size, item.path) for item in found
                )
            left = sum(size for _, size, _ in files)
            for _, size, path in files:
                if left <= self._limit_bytes:
                    break
                Path(path).unlink(missing_ok=True)
                left -= size
        except FileNotFoundError:
            return
        except OSError as error:
            _LOG.warning("cannot tidy the frames in %s: %s", self._folder, error.strerror)
