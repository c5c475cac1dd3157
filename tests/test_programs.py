"""How programs of the build host are run, and what is told of those that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from initramfs.errors import MissingDependency, ToolError
from mindi.programs import find_program, lines, program, run


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a script on PATH that a test writes."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    place = tmp_path / "some-tool"
    place.touch(mode=0o755)
    return place


def test_what_a_program_says_is_returned(tool: Path) -> None:
    tool.write_text("#!/bin/sh\necho said; echo more >&2\n")
    assert run("some-tool") == "said\n"


def test_arguments_are_words_and_not_for_a_shell(tool: Path) -> None:
    tool.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    assert run("some-tool", "a b", "$(c)", "") == "<a b><$(c)><>"


def test_programs_speak_english_have_no_input_and_the_environment_asked_for(
    tool: Path, tmp_path: Path
) -> None:
    tool.write_text('#!/bin/sh\ncat; pwd; echo "$LC_ALL $MORE $HOME"\n')
    said = run("some-tool", environment={"MORE": "more"}, folder=tmp_path)
    assert said == f"{tmp_path}\nC more {os.environ['HOME']}\n"


def test_a_failure_has_the_command_the_status_and_the_last_words(tool: Path) -> None:
    tool.write_text("#!/bin/sh\nfor n in 1 2 3 4 5 6; do echo $n; done\necho why >&2\nexit 3\n")
    with pytest.raises(ToolError) as caught:
        run("some-tool", *"abcdefg", hint="try again")
    assert caught.value.message == (
        f"{tool} a b c d e ... failed with exit status 3:\n3\n4\n5\n6\nwhy"
    )
    assert caught.value.hint == "try again"


def test_what_apt_marks_as_an_error_is_what_is_told(tool: Path) -> None:
    tool.write_text(
        "#!/bin/sh\necho Reading lists...\necho E: no such package\necho bye\nexit 100\n"
    )
    with pytest.raises(ToolError, match=r"status 100:\nE: no such package$"):
        run("some-tool")


def test_lines_come_one_by_one_with_errors_among_them(tool: Path) -> None:
    tool.write_text("#!/bin/sh\necho one; echo two >&2; echo three\n")
    assert list(lines("some-tool")) == ["one\n", "two\n", "three\n"]


def test_a_failure_comes_after_the_lines(tool: Path) -> None:
    tool.write_text("#!/bin/sh\necho one; echo why >&2; exit 2\n")
    said = []
    with pytest.raises(ToolError, match=r"status 2:\none\nwhy"):
        said.extend(lines("some-tool"))


def test_a_program_that_is_not_here_is_a_missing_dependency() -> None:
    with pytest.raises(MissingDependency, match="no-such-tool is not here") as caught:
        program("no-such-tool")
    assert caught.value.hint == "install no-such-tool"


def test_a_path_is_a_program_too(tool: Path) -> None:
    assert find_program(str(tool)) == str(tool)
    assert find_program(f"{tool}.none") is None


def test_what_cannot_be_run_is_the_tools_failure(tool: Path) -> None:
    tool.write_bytes(b"\x7fELF")
    with pytest.raises(ToolError, match="cannot run .*some-tool: Exec format error"):
        run("some-tool")


@pytest.mark.parametrize("way", ["run('some-tool')", "list(lines('some-tool'))"])
def test_an_interrupt_ends_the_program_that_is_waited_for(
    way: str, tool: Path, tmp_path: Path
) -> None:
    """Told to end, a build left apt behind, to go on without it."""
    tool.write_text(
        f'#!/bin/sh\necho $$ >"{tmp_path}/new"; mv "{tmp_path}/new" "{tmp_path}/pid"\n'
        "echo started\nexec sleep 600\n"
    )
    code = (
        "import signal\nfrom mindi.programs import lines, run\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"{way}\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while not (tmp_path / "pid").exists() and time.monotonic() < until:
            time.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) != 0
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
