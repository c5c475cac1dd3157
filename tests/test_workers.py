"""Work is done by other processes as it would be here; what kills them is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.errors import CannotWrite
from archive.frames import FrameLost
from archive.workers import AHEAD, WorkerLost, Workers

HOUSE = Path(__file__).parent.parent


def double(number: int) -> int:
    return 2 * number


def uneven(number: int) -> int:
    """Take long for each third one."""
    if number % 3 == 0:
        time.sleep(0.01)
    return number


def whose(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("jobs", [0, 1, 5, 100])
def test_results_are_in_order(count: int, jobs: int) -> None:
    with Workers(uneven, count) as workers:
        assert list(workers.map(range(jobs))) == list(range(jobs))


def test_results_in_any_order_are_all_there() -> None:
    with Workers(uneven, 3) as workers:
        assert sorted(workers.map_unordered(range(200))) == list(range(200))


def test_work_is_done_by_all_of_other_processes() -> None:
    with Workers(lambda job: (uneven(3), os.getpid())[1], 3) as workers:
        done_by = set(workers.map(range(60)))
    assert len(done_by) == 3
    assert os.getpid() not in done_by


def test_workers_serve_again_and_again() -> None:
    with Workers(double, 2) as workers:
        for _ in range(20):
            assert list(workers.map(range(10))) == [double(number) for number in range(10)]


def test_what_was_not_waited_for_is_forgotten() -> None:
    with Workers(uneven, 2) as workers:
        for _ in range(5):
            assert next(workers.map(range(100, 200))) == 100
        assert list(workers.map(range(50))) == list(range(50))


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield taken

    with Workers(double, 2) as workers:
        for done, _ in enumerate(workers.map(jobs()), start=1):
            assert taken - done <= 2 * AHEAD


def test_large_jobs_and_results() -> None:
    """Both ways at the same time, more than any pipe holds: nobody waits for the other."""
    data = os.urandom(3 << 20)
    with Workers(bytes, 2) as workers:
        assert all(result == data for result in workers.map([data] * 20))


def test_workers_end_with_the_context() -> None:
    with Workers(whose, 3) as workers:
        pids = set(workers.map(range(30)))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not multiprocessing.active_children()


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_nothing_stays_open() -> None:
    before = open_files()
    with Workers(double, 3) as workers:
        list(workers.map(range(30)))
    assert open_files() == before


# What goes wrong


class Unsendable(Exception):
    """Cannot be made again of its words."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("words")
        self.one, self.two = one, two


def fail(number: int) -> int:
    if number == 7:
        raise CannotWrite("it is full", hint="empty it")
    if number == 8:
        raise FrameLost("it is lost", 12)
    if number == 9:
        raise Unsendable(1, 2)
    return number


def test_what_work_raises_is_raised_in_its_place() -> None:
    done: list[int] = []
    with pytest.raises(CannotWrite, match="it is full") as caught, Workers(fail, 3) as workers:
        done += workers.map(range(5))
        for result in workers.map(range(100)):
            done.append(result)
    assert done == [*range(5), *range(7)]
    assert caught.value.hint == "empty it"
    assert any("in fail" in note for note in caught.value.__notes__)


def test_an_error_with_a_constructor_of_its_own() -> None:
    with pytest.raises(FrameLost) as caught, Workers(fail, 2) as workers:
        list(workers.map([8]))
    assert caught.value.frame == 12


def test_an_error_that_cannot_be_sent() -> None:
    with pytest.raises(RuntimeError, match="Unsendable: words"), Workers(fail, 2) as workers:
        list(workers.map([9]))


def test_a_result_that_cannot_be_sent() -> None:
    with (
        pytest.raises((AttributeError, TypeError), match=r"pickle|lambda"),
        Workers(lambda job: lambda: job, 1) as workers,
    ):
        list(workers.map([1]))


def test_workers_serve_after_an_error() -> None:
    with Workers(fail, 2) as workers:
        with pytest.raises(CannotWrite):
            list(workers.map(range(8)))
        assert list(workers.map(range(5))) == list(range(5))


def perish(number: int) -> int:
    if number == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == -1:
        os._exit(3)
    return number


@pytest.mark.parametrize("job", [20, -1], ids=["signal 9", "status 3"])
def test_a_worker_that_is_killed(job: int, request: pytest.FixtureRequest) -> None:
    how = request.node.callspec.id
    with pytest.raises(WorkerLost, match=f"killed .{how}"), Workers(perish, 2) as workers:
        list(workers.map_unordered([*range(10), job, *range(10)]))
    assert not multiprocessing.active_children()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_an_exception_ends_workers_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(KeyError), Workers(sleep, 2) as workers:
        for _ in workers.map_unordered([0, *[600] * 10]):
            raise KeyError
    assert time.monotonic() - start < 300
    assert not multiprocessing.active_children()


RUN = """
import sys, time
from archive.workers import Workers
def work(seconds):
    time.sleep(seconds)
    return seconds
with Workers(work, 2) as workers:
    print(*(process.pid for process in workers._processes), flush=True)
    list(workers.map([600] * 20))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        pids = child.stdout.readline().split()
        child.send_signal(number)
        assert child.wait(60)
    assert len(pids) == 2
    for pid in pids:
        while Path(f"/proc/{int(pid)}").exists() and not ended(int(pid)):
            time.sleep(0.01)


def ended(pid: int) -> bool:
    """Whether a process is dead, even if nobody took notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_signal_of_the_terminal_is_for_the_main_process() -> None:
    with Workers(double, 2) as workers:
        for process in multiprocessing.active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
        assert list(workers.map(range(20))) == [double(number) for number in range(20)]


def test_no_room_for_processes() -> None:
    code = (
        "import resource\n"
        "from archive.workers import Workers, WorkerLost\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))\n"
        "try:\n"
        "    with Workers(abs, 8): pass\n"
        "except WorkerLost as error:\n"
        "    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True)
    assert done.stdout == "no worker process can be started: Too many open files\n", done.stderr


def test_nothing_is_needed_of_shared_memory() -> None:
    """/dev/shm, where semaphores lie, is not mounted in every rescue environment."""
    code = (
        "import sys\n"
        "from archive.workers import Workers\n"
        "with Workers(abs, 2) as workers: list(workers.map(range(-9, 9)))\n"
        "print('multiprocessing.synchronize' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
