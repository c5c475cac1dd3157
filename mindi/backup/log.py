"""The log of ``mondoarchive``: warnings go to the user, everything to the file of ``--log``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.errors import CannotWrite

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Teller(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:  # errors are told when the command ends
            self._show(record.getMessage())


@contextmanager
def logged(file: Path | None, show: Callable[[str], None], *, debug: bool) -> Iterator[None]:
    """Log while the context lasts. Raises CannotWrite where the file cannot be opened."""
    handlers: list[logging.Handler] = [_Teller(show)]
    if file is not None:
        try:
            # It names files that not everybody may know of.
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotWrite(f"cannot write the log {file}: {error.strerror}") from error
        stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        handlers.append(logging.StreamHandler(stream))
        handlers[-1].setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            if isinstance(handler, logging.StreamHandler):
                handler.stream.close()
