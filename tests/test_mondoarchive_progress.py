"""What is shown while a set is made."""

from __future__ import annotations

import io
import json

import pytest

from archive.writer import Progressed
from mindi.backup.progress import Expected, Json, Meter, Plain, Reading, screen, time_words

HALF = Reading(
    looked_at=1200,
    done_bytes=50_000_000,
    stored_bytes=20_000_000,
    rate=10_000_000.0,
    fraction=0.5,
    remaining_s=65.0,
    path="/usr/bad\nname",
)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progressed(done_bytes: int, *, found: int = 0) -> Progressed:
    return Progressed(found, done_bytes, 0, found, done_bytes, done_bytes // 2, b"usr")


def test_rate_and_remaining_time() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.begin(Expected(size_bytes=1000))
    clock.now += 5
    meter.update(progressed(250))
    reading = meter.read()
    assert (reading.rate, reading.fraction, reading.remaining_s) == (50, 0.25, 15)
    assert reading.path == "/usr"


def test_the_rate_is_of_late() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.begin(Expected())
    for second in range(1, 61):
        clock.now += 1
        meter.update(progressed(min(second, 30) * 100))
    assert meter.read().rate == 0


def test_a_differential_goes_by_paths() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.begin(Expected(paths=1000, size_bytes=10, by_bytes=False))
    meter.looked_at = 100
    clock.now += 10
    assert meter.read().remaining_s == 90


@pytest.mark.parametrize("expected", [Expected(), Expected(size_bytes=0), Expected(None, 99)])
def test_nobody_knows_how_long_it_takes(expected: Expected) -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.begin(expected)
    clock.now += 10
    meter.update(progressed(100))
    assert (meter.read().fraction, meter.read().remaining_s) == (None, None)


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 200])
def test_the_screen_fits(width: int) -> None:
    first, figures, path = screen("saving", HALF, width)
    assert "50%" in first
    assert figures.startswith("50.0 MB")
    assert len(figures) <= max(width, len("50.0 MB"))
    assert path == "/usr/bad\\x0aname"
    assert len(first) <= max(width, len("saving   50%  about 1:05 min left"))


def test_a_wide_screen_has_a_bar() -> None:
    first, figures, _ = screen("saving", HALF, 100)
    assert first.count("━") == first.count("╌") == 20
    assert figures == "50.0 MB  10.0 MB/s  1,200 paths  20.0 MB written"


def test_a_plain_line_now_and_then() -> None:
    stream = io.StringIO()
    plain = Plain(stream, every_s=0)
    plain.begin("saving", Expected())
    plain.update(progressed(1_000_000, found=12))
    assert stream.getvalue().startswith("mondoarchive: 12 paths, 1.0 MB read, ")
    assert stream.getvalue().endswith(": /usr\n")


def test_no_line_before_it_is_time() -> None:
    stream = io.StringIO()
    plain = Plain(stream, every_s=3600)
    plain.begin("saving", Expected())
    plain.update(progressed(1000))
    assert stream.getvalue() == ""


def test_json_lines() -> None:
    stream = io.StringIO()
    shown = Json(stream, every_s=0)
    shown.begin("saving", Expected())
    shown.say("a word")
    shown.update(progressed(1_000_000, found=12))
    note, progress = map(json.loads, stream.getvalue().splitlines())
    assert note == {"event": "note", "words": "a word"}
    assert (progress["event"], progress["paths"], progress["bytes"]) == ("progress", 12, 1_000_000)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (65, "1:05 min"), (7260, "2:01 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert time_words(seconds) == words
