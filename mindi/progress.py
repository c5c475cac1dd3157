"""Says what a command does while it does it: live on a terminal, plain lines elsewhere.

Everything here goes to standard error; standard output belongs to results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class Step(Protocol):
    """One long step that is under way."""

    def update(self, done: int, total: int) -> None:
        """Report how far it is, in bytes or items."""

    def note(self, words: str) -> None:
        """Say what came out of it; shown when it ends."""


class Narrator(Protocol):
    """Takes the steps of a command and shows them."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """Return a context manager that gives a Step and shows how it went."""

    def say(self, words: str) -> None:
        """Show one line that matters: a choice that was made, something that is missing."""

    def close(self) -> None:
        """Give the terminal back."""


class _PlainStep:
    def __init__(self) -> None:
        self.words = ""

    def update(self, done: int, total: int) -> None:
        pass

    def note(self, words: str) -> None:
        self.words = words


class Plain:
    """One line a step, when it is done; for logs, pipes and dumb terminals."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show the title, what came of it, and how long it took."""
        start = time.monotonic()
        step = _PlainStep()
        yield step
        taken_s = time.monotonic() - start
        words = f": {step.words}" if step.words else ""
        self.say(f"{title}{words} ({taken_s:.1f} s)")

    def say(self, words: str) -> None:
        """Write one line."""
        self._stream.write(f"mindi: {words}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing to give back."""


class Quiet:
    """Nothing but what matters."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show nothing."""
        del title
        yield _PlainStep()

    def say(self, words: str) -> None:
        """Write one line."""
        self._stream.write(f"mindi: {words}\n")

    def close(self) -> None:
        """Nothing to give back."""


class _RichStep(_PlainStep):
    def __init__(self, progress: RichProgress, task: int) -> None:
        super().__init__()
        self._progress = progress
        self._task = task

    def update(self, done: int, total: int) -> None:
        from rich.progress import TaskID

        self._progress.update(TaskID(self._task), completed=done, total=total)


class Rich:
    """A line a step with a spinner, a bar where the end is known, and the time; by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[words]}[/]"),
            console=Console(stderr=True),
        )
        self._progress.start()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a line that lives until the step ends."""
        task = self._progress.add_task(title, total=None, words="")
        step = _RichStep(self._progress, int(task))
        yield step
        self._progress.update(task, completed=1, total=1, words=step.words)

    def say(self, words: str) -> None:
        """Write one line above the living ones."""
        self._progress.console.print("!", words, style="yellow", highlight=False, markup=False)

    def close(self) -> None:
        """Stop drawing."""
        self._progress.stop()


def narrator(*, quiet: bool) -> Narrator:
    """Return what suits standard error: nothing, plain lines, or a live display."""
    if quiet:
        return Quiet(sys.stderr)
    if sys.stderr.isatty():
        return Rich()
    return Plain(sys.stderr)
