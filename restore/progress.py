"""Shows how far a run is: one line that is written anew on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from restore.words import duration_words, size_words

_TERMINAL_EVERY_S = 0.2
_LINE_EVERY_S = 10.0
_RATE_OVER_S = 10.0
_SURE_AFTER_S = 2.0
_FILE_COST = 16384


class Display:
    """Takes files and bytes as they are done. ``close`` ends its line; ``clock`` gives seconds.

    ``total``: the files and bytes that there will be in all, about; None: nobody knows. ``unit``
    is what the files are called.
    """

    def __init__(
        self,
        stream: TextIO | None,
        title: str,
        *,
        total: tuple[int, int] | None = None,
        unit: str = "files",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._title = title
        self._total = total
        self._unit = unit
        self._clock = clock
        self._on_terminal = stream is not None and stream.isatty()
        self._start = self._shown_at = clock()
        self._recent = deque([(self._start, 0)])
        self._width = 0
        self.files = 0
        self.bytes = 0

    def __call__(self, files: int, size_bytes: int) -> None:
        """Take what was done since the last call."""
        self.files += files
        self.bytes += size_bytes
        if self._stream is None:
            return
        now = self._clock()
        self._recent.append((now, self.bytes))
        while len(self._recent) > 2 and self._recent[1][0] < now - _RATE_OVER_S:
            self._recent.popleft()
        every = _TERMINAL_EVERY_S if self._on_terminal else _LINE_EVERY_S
        if now - self._shown_at >= every:
            self._shown_at = now
            self._show(self._words(now))

    def close(self) -> None:
        """Take the line away, where it is written anew."""
        if self._stream is not None and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def _show(self, words: str) -> None:
        if self._stream is None:
            return
        if self._on_terminal:
            self._stream.write("\r" + words.ljust(self._width))
            self._width = len(words)
        else:
            self._stream.write(f"{words}\n")
        self._stream.flush()

    def _words(self, now: float) -> str:
        then, bytes_then = self._recent[0]
        rate = (self.bytes - bytes_then) / max(now - then, 0.001)
        words = f"{self._title}: {self.files:,} {self._unit}, {size_words(self.bytes)}"
        if self._total is None or self.bytes > self._total[1]:
            return f"{words}, {size_words(rate)}/s"
        words += f" of {size_words(self._total[1])}, {size_words(rate)}/s"
        done, total = _cost(self.files, self.bytes), _cost(*self._total)
        taken = now - self._start
        if 0 < done <= total and taken > _SURE_AFTER_S:
            words += f", {duration_words(taken * (total - done) / done)} left"
        return words


def _cost(files: int, size_bytes: int) -> int:
    """Return the bytes that could be done in the time that these files and bytes take."""
    return size_bytes + files * _FILE_COST
