"""What is shown of a run, by a clock of the test's own."""

from __future__ import annotations

import io

from restore.progress import Display


class Clock:
    """Gives the seconds that it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    display = Display(stream, "reading", total=(1000, 100_000_000), clock=clock)
    for _ in range(25):
        clock.now += 1
        display(10, 1_000_000)
    display.close()
    assert stream.getvalue().splitlines() == [
        "reading: 100 files, 10.0 MB of 100.0 MB, 1.0 MB/s, 1:30 left",
        "reading: 200 files, 20.0 MB of 100.0 MB, 1.0 MB/s, 1:20 left",
    ]


def test_many_small_files_count_by_their_number() -> None:
    stream, clock = io.StringIO(), Clock()
    display = Display(stream, "comparing", total=(1_000_000, 1000), unit="paths", clock=clock)
    clock.now += 10
    display(500_000, 1)
    assert stream.getvalue() == "comparing: 500,000 paths, 1 byte of 1.0 kB, 0 bytes/s, 0:10 left\n"


def test_nobody_knows_how_much_there_is() -> None:
    stream, clock = io.StringIO(), Clock()
    display = Display(stream, "restoring", clock=clock)
    clock.now += 10
    display(3, 5000)
    assert stream.getvalue() == "restoring: 3 files, 5.0 kB, 500 bytes/s\n"


def test_a_terminal_has_one_line_that_goes_at_the_end() -> None:
    stream, clock = Terminal(), Clock()
    display = Display(stream, "x", clock=clock)
    for _ in range(2):
        clock.now += 1
        display(1, 1000)
    display.close()
    first, second = "x: 1 files, 1.0 kB, 1.0 kB/s", "x: 2 files, 2.0 kB, 1.0 kB/s"
    assert stream.getvalue() == f"\r{first}\r{second}\r{' ' * len(second)}\r"


def test_nothing_is_shown_without_a_stream() -> None:
    display = Display(None, "x")
    display(1, 1000)
    display.close()
    assert (display.files, display.bytes) == (1, 1000)
