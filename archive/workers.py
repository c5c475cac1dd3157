"""The worker processes of a run: forked, fed a bounded number of jobs, watched while they work.

Jobs and results lie in files in memory, one for each that may be under way; which of them is to
be taken up is told by a pipe that all workers read, what is done by one that all write. Such a
word is so short that the kernel gives and takes it whole. So nobody waits for another to read,
a worker that is killed leaves no half message, and nothing is needed of the system but pipes:
no semaphores, which lie in /dev/shm, and no thread.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import select
import signal
import struct
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import ForkProcess
from types import TracebackType
from typing import Generic, TypeVar

from archive.errors import ArchiveError

AHEAD = 3
"""Jobs a worker that are given and not yet answered, or whose answers wait for earlier ones."""

_PR_SET_PDEATHSIG = 1
_WORD = struct.Struct("<IQ?")
"""Slot, bytes in it, whether they are an error."""
_WORDS_AT_ONCE = 64
_UNWANTED = -1
_ORDERS, _DONE = 0, 1
"""The main process's ends of the pipes: it writes to one and reads from the other."""
_OF_TERMINALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerLost(ArchiveError):
    """A worker process was killed."""

    exit_code = 6


class _Failed:
    """What a job raised, to be raised where its result would be given."""

    def __init__(self, error: Exception, place: str) -> None:
        self.error = error
        error.add_note(f"It was raised in a worker process:\n{place}")


class Workers(Generic[Job, Result]):
    """Runs ``work`` on jobs in ``count`` processes; use as a context manager.

    The processes are forked on entry: what is opened later they do not inherit. They end with
    their parent, and at once where the context is left by an exception.
    """

    def __init__(self, work: Callable[[Job], Result], count: int) -> None:
        self._work = work
        self._most = AHEAD * count
        self._count = count
        self._processes: list[ForkProcess] = []
        self._slots: list[int] = []
        self._pipes: list[int] = []
        self._free: list[int] = []
        self._given: dict[int, int] = {}
        """Slots that are in use, and the number of the job in each."""
        self._poll = select.poll()

    def __enter__(self) -> Workers[Job, Result]:
        # A signal that came between a fork and what the child does about it would be lost.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINALS)
        try:
            try:
                self._start(unblocked)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        except BaseException as error:
            self._end(kill=True)
            if not isinstance(error, OSError):
                raise
            raise WorkerLost(
                f"no worker process can be started: {error.strerror}",
                hint="is memory short, or the number of processes or open files limited?",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A user who interrupts waits for no slice; what is half made is no part of a set.
        self._end(kill=error is not None)

    def map(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Give the results of jobs in their order; takes new jobs only as old ones are done.

        What ``work`` raises is raised here. Raises WorkerLost where a process was killed.
        """
        ready: dict[int, Result | _Failed] = {}
        due = 0
        for number, result in self._run(jobs, ready):
            ready[number] = result
            while due in ready:
                yield _good(ready.pop(due))
                due += 1

    def map_unordered(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Give the results of jobs as ``map`` does, but each as soon as it is there."""
        for _, result in self._run(jobs, {}):
            yield _good(result)

    def _run(
        self, jobs: Iterable[Job], held: dict[int, Result | _Failed]
    ) -> Iterator[tuple[int, Result | _Failed]]:
        """Have jobs done; give their numbers and results. ``held``: those not passed on yet."""
        try:
            for number, job in enumerate(jobs):
                while len(self._given) + len(held) >= self._most:
                    yield from self._answers(None)
                self._give(number, job)
                yield from self._answers(0)
            while self._given:
                yield from self._answers(None)
        finally:
            self._given = dict.fromkeys(self._given, _UNWANTED)

    def _give(self, number: int, job: Job) -> None:
        order = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
        slot = self._free.pop()
        size = _put(self._slots[slot], order)
        self._given[slot] = number
        try:
            os.write(self._pipes[_ORDERS], _WORD.pack(slot, size, False))
        except BrokenPipeError:
            raise self._lost() from None

    def _answers(self, timeout_ms: int | None) -> list[tuple[int, Result | _Failed]]:
        """Return what was done meanwhile, and wait for it if need be."""
        ready = [descriptor for descriptor, _ in self._poll.poll(timeout_ms)]
        if any(descriptor != self._pipes[_DONE] for descriptor in ready):
            raise self._lost()
        answers = []
        words = os.read(self._pipes[_DONE], _WORD.size * _WORDS_AT_ONCE) if ready else b""
        for slot, size, failed in _WORD.iter_unpack(words):
            number = self._given.pop(slot)
            if number != _UNWANTED:
                result = pickle.loads(_take(self._slots[slot], size))  # noqa: S301 our own process
                answers.append((number, _Failed(*result) if failed else result))
            self._free.append(slot)
        return answers

    def _lost(self) -> WorkerLost:
        for process in self._processes:
            process.join(0.2)
        codes = {process.exitcode or 0 for process in self._processes} - {0}
        how = ", ".join(
            f"signal {-code}" if code < 0 else f"status {code}" for code in sorted(codes)
        )
        return WorkerLost(
            f"a worker process was killed ({how or 'no status'})",
            hint="look in the kernel's log: is memory short? --jobs 1 takes least",
        )

    # Processes

    def _start(self, unblocked: set[int | signal.Signals]) -> None:
        for number in range(self._most):
            self._slots.append(os.memfd_create(f"job-{number}"))
        self._free = list(range(self._most))
        for _ in range(2):
            self._pipes += os.pipe()
        taken, orders, done, told = self._pipes
        self._poll.register(done, select.POLLIN)
        context = multiprocessing.get_context("fork")
        arguments = (os.getpid(), unblocked)
        for _ in range(self._count):
            process = context.Process(target=self._serve, args=arguments, daemon=True)
            process.start()
            self._processes.append(process)
            self._poll.register(process.sentinel, select.POLLIN)
        self._pipes = [orders, done]
        os.close(taken)
        os.close(told)

    def _end(self, *, kill: bool) -> None:
        """End the processes: with ``kill`` at once, else when they have done what is given."""
        if kill:
            for process in self._processes:
                process.kill()
        for descriptor in (*self._pipes, *self._slots):
            os.close(descriptor)
        for process in self._processes:
            process.join()
            process.close()
        self._pipes, self._slots, self._processes = [], [], []

    def _serve(self, parent: int, unblocked: set[int | signal.Signals]) -> None:
        """Be a worker: do jobs until the pipe of orders ends."""
        _begin(parent, unblocked)
        taken, orders, done, told = self._pipes
        os.close(orders)
        os.close(done)
        while word := os.read(taken, _WORD.size):
            slot, size, _ = _WORD.unpack(word)
            failed = False
            try:
                result = self._work(pickle.loads(_take(self._slots[slot], size)))  # noqa: S301
                answer = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                failed = True
                answer = _described(error)
            size = _put(self._slots[slot], answer)
            try:
                os.write(told, _WORD.pack(slot, size, failed))
            except BrokenPipeError:
                return  # nobody wants it


def _begin(parent: int, unblocked: set[int | signal.Signals]) -> None:
    """Make this process end with its parent, and leave signals of the terminal to it."""
    gc.disable()  # jobs are made of millions of tuples, none of which can be part of a cycle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _put(descriptor: int, data: bytes) -> int:
    """Write a message to a slot; return its length."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        at += os.pwrite(descriptor, view[at:], at)
    return at


def _take(descriptor: int, size: int) -> bytes:
    """Read a message from a slot."""
    data = os.pread(descriptor, size, 0)
    while len(data) < size:  # of more than 2 GiB
        data += os.pread(descriptor, size - len(data), len(data))
    return data


def _described(error: Exception) -> bytes:
    """Return an error and where it was raised as a message."""
    place = "".join(traceback.format_exception(error))
    try:
        message = pickle.dumps((error, place), pickle.HIGHEST_PROTOCOL)
        pickle.loads(message)  # noqa: S301
    except (pickle.PicklingError, TypeError, AttributeError):
        # Not all errors of libraries can be sent.
        named = RuntimeError(f"{type(error).__name__}: {error}")
        message = pickle.dumps((named, place), pickle.HIGHEST_PROTOCOL)
    return message


def _good(result: Result | _Failed) -> Result:
    if isinstance(result, _Failed):
        raise result.error
    return result
