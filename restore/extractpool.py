"""Worker processes that extract, each at the end of a pipe of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from types import TracebackType

from archive.errors import CannotWrite
from archive.frames import FrameReader
from restore.extractplan import Job
from restore.extractworker import Done, Ended, Failed, work
from restore.nodes import Attribute, Unset

AHEAD = 3
"""Jobs that a worker has been given and not yet done. Their messages fit into the pipe, so that
the main process never waits for a worker that waits for it."""

Arguments = tuple[Path, Path, FrameReader]


class Pool:
    """Runs jobs. Use as a context manager: on the way out no worker is left."""

    def __init__(self, context: ForkContext, size: int, arguments: Arguments) -> None:
        self.unset: list[dict[Attribute, Unset]] = []
        self._given: dict[Connection, int] = {}
        self._processes: list[ForkProcess] = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            foreign = (*self._given, ours)
            process = context.Process(target=_run, args=(theirs, foreign, arguments), daemon=True)
            process.start()
            theirs.close()
            self._given[ours] = 0
            self._processes.append(process)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if kind is not None:
                process.terminate()
            process.join()
        for pipe in self._given:
            pipe.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Have all jobs done; give what became of them, in any order. Raises what stops it."""
        for job in jobs:
            while min(self._given.values()) >= AHEAD:
                yield from self._answers(None)
            pipe = min(self._given, key=self._given.__getitem__)
            self._send(pipe, job)
            self._given[pipe] += 1
            yield from self._answers(0)
        for pipe in self._given:
            self._send(pipe, None)
        while any(self._given.values()) or len(self.unset) < len(self._processes):
            yield from self._answers(None)

    def _answers(self, timeout_s: float | None) -> Iterator[Done]:
        waiting = [pipe for pipe in self._given if not pipe.closed]
        for pipe in wait(waiting, timeout_s):
            assert isinstance(pipe, Connection)  # noqa: S101 what it was given
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise self._died() from None
            if isinstance(answer, Failed):
                raise answer.error
            if isinstance(answer, Ended):
                self.unset.append(answer.unset)
                pipe.close()
                continue
            self._given[pipe] -= 1
            yield answer

    def _send(self, pipe: Connection, job: Job | None) -> None:
        try:
            pipe.send(job)
        except (BrokenPipeError, ConnectionResetError):
            # Its last words, why it ended, may be there yet.
            for _ in self._answers(0):
                pass
            raise self._died() from None

    def _died(self) -> CannotWrite:
        for process in self._processes:
            process.join(1)
        codes = sorted({process.exitcode for process in self._processes} - {None, 0}, key=str)
        how = ", ".join(
            f"signal {-code}" if code < 0 else f"status {code}" for code in codes if code
        )
        return CannotWrite(
            f"a worker process of the restore ended before its time ({how or 'no status'})",
            hint="is there memory left? fewer workers (--jobs 1) take less",
        )


def _run(pipe: Connection, foreign: tuple[Connection, ...], arguments: Arguments) -> None:
    """Be a worker: first let go of the other workers' pipes, or none would see its end."""
    for other in foreign:
        other.close()
    work(pipe, *arguments)
