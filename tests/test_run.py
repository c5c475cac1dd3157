"""The one runner of all that travels: every program has an end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from archive import run as runner
from archive.run import NOT_RUN, TIMED_OUT, Ended, run

ENOUGH_S = 60.0
SHORT_S = 0.5


def python(code: str) -> Ended:
    return run((sys.executable, "-c", code), timeout_s=ENOUGH_S)


def test_what_a_program_writes_is_kept_with_its_errors() -> None:
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr); sys.exit(3)"
    assert python(code) == Ended(3, "one\ntwo\n")


def test_errors_may_be_kept_apart() -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr)"
    ended = run((sys.executable, "-c", code), timeout_s=ENOUGH_S, apart=True)
    assert ended == Ended(0, "one\n", "two\n")


@pytest.mark.slow
def test_a_late_end_is_told_among_the_errors_that_are_apart() -> None:
    ended = run(("sh", "-c", "echo one; exec sleep 600"), timeout_s=1.0, apart=True)
    assert ended == Ended(TIMED_OUT, "one\n", "\ndid not end within 1 s\n")


def test_a_signal_is_a_status() -> None:
    assert python("import os; os.kill(os.getpid(), 11)").status == 139


def test_a_program_that_is_not_there_is_a_status(tmp_path: Path) -> None:
    ended = run((str(tmp_path / "one"),), timeout_s=ENOUGH_S)
    assert ended.status == NOT_RUN
    assert "No such file" in ended.output


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_and_what_it_wrote_is_kept() -> None:
    ended = run(("sh", "-c", "echo one; exec sleep 600"), timeout_s=1.0)
    assert ended == Ended(TIMED_OUT, "one\n\ndid not end within 1 s\n")


@pytest.mark.slow
def test_what_a_program_left_behind_ends_with_it(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    ended = run(
        ("sh", "-c", f"(while sleep 0.1; do echo x >>{alive}; done) & wait"), timeout_s=SHORT_S
    )
    size = alive.stat().st_size
    time.sleep(SHORT_S)
    assert (ended.status, alive.stat().st_size) == (TIMED_OUT, size)


@pytest.mark.slow
def test_what_does_not_die_is_left_behind() -> None:
    """As a process that hangs in the kernel: one in another session holds the output open."""
    ended = run(("setsid", "--fork", "sleep", "20"), timeout_s=SHORT_S, grace_s=SHORT_S)
    assert ended.status == TIMED_OUT


@pytest.mark.parametrize(("name", "shown"), [("DM_DISABLE_UDEV", "1"), ("LD_PRELOAD_X", "None")])
def test_a_program_is_told_of_a_missing_udev_and_of_nothing_else(
    name: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert python(f"import os; print(os.environ.get('{name}'))").output == f"{shown}\n"


def test_a_program_has_no_input_and_no_locale() -> None:
    code = "import os, sys; print(repr(sys.stdin.read()), os.environ['LC_ALL'])"
    assert python(code).output == "'' C\n"


def test_nothing_else_that_travels_runs_programs() -> None:
    ours = Path(runner.__file__)
    house = ours.parent.parent
    others = [file for package in ("archive", "restore") for file in (house / package).glob("*.py")]
    assert [f for f in others if f != ours and "import subprocess" in f.read_text()] == []
