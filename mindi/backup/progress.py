"""Shows how far a backup is: live on a terminal, a line now and then elsewhere, or as JSON.

Everything goes to standard error. What is to come is estimated: from the last set of the same
selection, or from how full the filesystems are.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from archive.writer import Progressed
from restore.words import shown_lines, shown_text, size_words

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.text import Text

_log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0
_RATE_OVER_S = 10.0
_SURE_AFTER_S = 2.0
_FRAMES_PER_S = 4
_BAR_LEAST = 24
_BAR_MOST = 40


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run will come to, about; None: nobody knows."""

    paths: int | None = None
    size_bytes: int | None = None
    by_bytes: bool = True
    """Whether the time goes with the bytes, as of a full set, or with the paths."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a run is."""

    looked_at: int
    """Paths."""
    done_bytes: int
    stored_bytes: int
    rate: float
    """Bytes read in a second, of late."""
    fraction: float | None
    remaining_s: float | None
    path: str


class Meter:
    """Makes readings of what comes in; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.expected = Expected()
        self.progressed = Progressed(0, 0, 0, 0, 0, 0, b"")
        self.looked_at = 0
        self._clock = clock
        self._start = clock()
        self._recent: deque[tuple[float, int]] = deque([(self._start, 0)])

    def begin(self, expected: Expected) -> None:
        """Count anew from now."""
        self.expected = expected
        self.progressed = Progressed(0, 0, 0, 0, 0, 0, b"")
        self.looked_at = 0
        self._start = self._clock()
        self._recent = deque([(self._start, 0)])

    def update(self, progressed: Progressed) -> None:
        """Take the writer's state."""
        now = self._clock()
        self.progressed = progressed
        self.looked_at = max(self.looked_at, progressed.found)
        self._recent.append((now, progressed.done_bytes))
        while len(self._recent) > 2 and self._recent[1][0] < now - _RATE_OVER_S:
            self._recent.popleft()

    def read(self) -> Reading:
        """Return the state now."""
        now = self._clock()
        then, bytes_then = self._recent[0]
        rate = (self.progressed.done_bytes - bytes_then) / max(now - then, 0.001)
        fraction = self._fraction()
        taken = now - self._start
        remaining = None
        if fraction is not None and fraction > 0.01 and taken > _SURE_AFTER_S:
            remaining = taken * (1 - fraction) / fraction
        return Reading(
            self.looked_at,
            self.progressed.done_bytes,
            self.progressed.stored_bytes,
            rate,
            fraction,
            remaining,
            "/" + os.fsdecode(self.progressed.path) if self.progressed.path else "",
        )

    def _fraction(self) -> float | None:
        expected = self.expected
        done, total = self.looked_at, expected.paths
        if expected.by_bytes and expected.size_bytes:
            done, total = self.progressed.done_bytes, expected.size_bytes
        if not total or done > total:
            return None  # more came than was expected: the estimate is worth nothing
        return done / total


class Display:
    """Shows nothing but what matters; the base of those that show more."""

    def __init__(self, stream: TextIO) -> None:
        self.meter = Meter()
        self._stream = stream

    def say(self, words: str) -> None:
        """Show one line that matters, and log it."""
        _log.info("%s", words)
        self.show(words)

    def show(self, words: str) -> None:
        """Show one line that matters."""
        self._write(f"mondoarchive: {shown_lines(words)}\n")

    def tell(self, words: str) -> None:
        """Show one line that is good to know."""
        _log.info("%s", words)

    def begin(self, title: str, expected: Expected) -> None:
        """Begin to show how far something is."""
        del title
        self.meter.begin(expected)

    def update(self, progressed: Progressed) -> None:
        """Take the writer's state (archive.writer.Progress)."""
        self.meter.update(progressed)

    def looked(self, paths: int) -> None:
        """Take the number of paths that were looked at."""
        self.meter.looked_at = paths

    def close(self) -> None:
        """Show no more of it; give the terminal back."""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Plain(Display):
    """A line every some seconds, for logs and pipes."""

    def __init__(self, stream: TextIO, *, every_s: float = LINE_EVERY_S) -> None:
        super().__init__(stream)
        self._every_s = every_s
        self._next = 0.0

    def tell(self, words: str) -> None:
        """Write a line."""
        self.say(words)

    def begin(self, title: str, expected: Expected) -> None:
        """Begin, and write the first line when some seconds are over."""
        super().begin(title, expected)
        self._next = time.monotonic() + self._every_s

    def update(self, progressed: Progressed) -> None:
        """Take the state, and write a line if it is time."""
        super().update(progressed)
        self._show()

    def looked(self, paths: int) -> None:
        """Take the number, and write a line if it is time."""
        super().looked(paths)
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            self._write(self.line(self.meter.read()))

    def line(self, reading: Reading) -> str:
        """Return a state as a line."""
        where = f": {shown_text(reading.path)}" if reading.path else ""
        return f"mondoarchive: {_words(reading)}{where}\n"


class Json(Plain):
    """The same as JSON, one object a line."""

    def show(self, words: str) -> None:
        """Write a line that matters as an object."""
        self._write(json.dumps({"event": "note", "words": words}) + "\n")

    def line(self, reading: Reading) -> str:
        """Return a state as an object."""
        state = {
            "event": "progress",
            "paths": reading.looked_at,
            "bytes": reading.done_bytes,
            "stored_bytes": reading.stored_bytes,
            "bytes_per_second": round(reading.rate),
            "fraction": None if reading.fraction is None else round(reading.fraction, 4),
            "remaining_seconds": None
            if reading.remaining_s is None
            else round(reading.remaining_s),
            "path": reading.path,
        }
        return json.dumps(state) + "\n"


class Rich(Display):
    """Three lines that live at the foot of a terminal of any width."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._title = ""
        self._live: Live | None = None

    def show(self, words: str) -> None:
        """Write a line above the living ones."""
        if self._live is None:
            super().show(words)
            return
        self._live.console.print(
            f"mondoarchive: {shown_lines(words)}", highlight=False, markup=False
        )

    def tell(self, words: str) -> None:
        """Write a line."""
        self.say(words)

    def begin(self, title: str, expected: Expected) -> None:
        """Begin; drawing waits for the first news.

        It has a thread, and the processes that do the work are forked before news can come.
        """
        super().begin(title, expected)
        self._title = title

    def update(self, progressed: Progressed) -> None:
        """Take the state."""
        super().update(progressed)
        self._draw()

    def looked(self, paths: int) -> None:
        """Take the number."""
        super().looked(paths)
        self._draw()

    def close(self) -> None:
        """Take the lines away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        if self._live is not None:
            return
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            self,
            console=Console(file=self._stream),
            refresh_per_second=_FRAMES_PER_S,
            transient=True,
        )
        self._live.start()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Give the lines, none wider than the terminal."""
        from rich.text import Text

        for line in screen(self._title, self.meter.read(), options.max_width):
            yield Text(line, no_wrap=True, overflow="ellipsis")


def screen(title: str, reading: Reading, width: int) -> tuple[str, ...]:
    """Return what a terminal of ``width`` columns shows."""
    first = title
    if reading.fraction is not None:
        first = f"{title}  {reading.fraction:4.0%}"
        room = min(width - len(first) - 24, _BAR_MOST)
        if room >= _BAR_LEAST - 8:
            full = round(room * reading.fraction)
            first = f"{title}  {'━' * full}{'╌' * (room - full)} {reading.fraction:4.0%}"
    if reading.remaining_s is not None:
        first += f"  about {time_words(reading.remaining_s)} left"
    return first, _numbers(reading, width), shown_text(reading.path)


def _numbers(reading: Reading, width: int) -> str:
    """Return as many of the figures as there is room for, the most wanted first."""
    figures = [
        size_words(reading.done_bytes),
        f"{size_words(int(reading.rate))}/s",
        f"{reading.looked_at:,} paths",
        f"{size_words(reading.stored_bytes)} written",
    ]
    while len(figures) > 1 and len("  ".join(figures)) > width:
        figures.pop()
    return "  ".join(figures)


def _words(reading: Reading) -> str:
    words = [
        f"{reading.looked_at:,} paths",
        f"{size_words(reading.done_bytes)} read",
        f"{size_words(int(reading.rate))}/s",
        f"{size_words(reading.stored_bytes)} written",
    ]
    if reading.fraction is not None:
        words.append(f"{reading.fraction:.0%}")
    if reading.remaining_s is not None:
        words.append(f"about {time_words(reading.remaining_s)} left")
    return ", ".join(words)


def time_words(seconds: float) -> str:
    """Return a duration such as ``1.4 s``, ``12 s``, ``3:05 min``, ``2:10 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def make_display(*, quiet: bool, as_json: bool) -> Display:
    """Return what suits standard error and the user's wishes."""
    if quiet:
        return Display(sys.stderr)
    if as_json:
        return Json(sys.stderr)
    return Rich(sys.stderr) if sys.stderr.isatty() else Plain(sys.stderr)
