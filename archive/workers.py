"""The worker processes of a run: one per core, fed a bounded number of jobs, answering in order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Generic, TypeVar

from archive.errors import ArchiveError

_PR_SET_PDEATHSIG = 1

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerLost(ArchiveError):
    """A worker process was killed."""

    exit_code = 6


class Workers(Generic[Job, Result]):
    """Runs ``work`` on jobs in ``count`` processes; use as a context manager.

    The processes are forked on entry: what is opened later they do not inherit.
    """

    def __init__(self, work: Callable[[Job], Result], count: int) -> None:
        self._work = work
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers[Job, Result]:
        context = multiprocessing.get_context("fork")
        try:
            self._pool = ProcessPoolExecutor(
                self._count, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
            )
            self._pool.submit(os.getpid).result()
        except (OSError, NotImplementedError) as error:
            raise WorkerLost(
                f"no worker process can be started: {error}",
                hint="they need shared memory: mount -t tmpfs shm /dev/shm",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if error is not None:
            # A user who interrupts waits for no slice; what is half made is no part of a set.
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Give the results of jobs in their order; takes new jobs only as old ones are done.

        What ``work`` raises is raised here. Raises WorkerLost where a process was killed.
        """
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(self._submit(job))
                while waiting and (len(waiting) > 2 * self._count or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise WorkerLost(
                "a worker process was killed",
                hint="look in the kernel's log: is memory short? --jobs 1 takes least",
            ) from error

    def _submit(self, job: Job) -> Future[Result]:
        assert self._pool is not None  # noqa: S101 narrows the type
        return self._pool.submit(self._work, job)


def _begin(parent: int) -> None:
    """Make this process end with its parent, and leave signals of the terminal to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
