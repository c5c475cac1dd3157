"""What is made of a guest's report, whole, damaged or dishonest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mindi.verdict import Alive, Done, Garbled, Reader, Ready, Tool, Verdict, judge, parse_line

READY = {"event": "ready", "uptime_s": 7.5}
LVM = {
    "event": "tool",
    "name": "lvm",
    "path": "/usr/sbin/lvm",
    "status": 0,
    "output": "LVM version: 2.03",
    "ok": True,
}
EXT4 = {"event": "module", "name": "ext4", "ok": True, "why": ""}
DONE = {
    "event": "done",
    "ok": True,
    "tools": 1,
    "tools_failed": [],
    "modules": 1,
    "modules_failed": [],
    "python": "3.11.2",
}


def verdict_on(*records: object) -> Verdict:
    """Judge these records, each sent as one line."""
    return judge(parse_line(json.dumps(record).encode()) for record in records)


def test_a_whole_report_passes() -> None:
    verdict = verdict_on(READY, LVM, EXT4, DONE)
    assert verdict.ok
    assert (verdict.tools, verdict.modules, verdict.python) == (1, 1, "3.11.2")


def test_a_tool_that_failed_fails_it_and_is_named() -> None:
    failed = {**LVM, "ok": False, "status": 127, "output": "libdevmapper.so not found"}
    verdict = verdict_on(READY, failed, EXT4, {**DONE, "ok": False, "tools_failed": ["lvm"]})
    assert not verdict.ok
    assert "tool lvm failed: libdevmapper.so not found" in verdict.reasons


def test_a_module_that_failed_fails_it() -> None:
    failed = {**EXT4, "ok": False, "why": "unknown symbol"}
    verdict = verdict_on(READY, LVM, failed, {**DONE, "ok": False, "modules_failed": ["ext4"]})
    assert verdict.modules_failed == ("ext4",)


def test_signs_of_life_are_no_reports() -> None:
    alive = {"event": "alive", "what": "loading modules"}
    assert parse_line(json.dumps(alive).encode()) == Alive("loading modules")
    assert verdict_on(READY, alive, LVM, alive, EXT4, DONE) == verdict_on(READY, LVM, EXT4, DONE)


def test_signs_of_life_alone_are_no_whole_report() -> None:
    assert not verdict_on(READY, {"event": "alive", "what": "starting tools"}).ok


def test_a_failure_that_the_sum_hides_is_found() -> None:
    verdict = verdict_on(READY, {**LVM, "ok": False}, EXT4, DONE)
    assert not verdict.ok


def test_a_sum_of_more_than_was_reported_fails() -> None:
    verdict = verdict_on(READY, LVM, EXT4, {**DONE, "tools": 90})
    assert verdict.reasons == ("the guest's sum says tools: 90, its lines say 1",)


def test_a_check_of_nothing_fails() -> None:
    verdict = verdict_on(READY, {**DONE, "tools": 0, "modules": 0})
    assert verdict.reasons == ("the guest checked no tool",)


def test_a_report_without_its_last_line_fails() -> None:
    verdict = verdict_on(READY, LVM, EXT4)
    assert verdict.reasons == ("the guest's report ended before its last line",)


def test_silence_fails() -> None:
    assert not judge(()).ok


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00garbage",
        b'{"event": "tool", "name": "l',
        b"[1, 2]",
        b'{"event": "tool", "name": "lvm"}',
        b'{"event": "surprise"}',
        b'{"event": "done", "ok": "yes"}',
    ],
    ids=["bytes", "cut", "list", "fields-missing", "unknown", "wrong-type"],
)
def test_a_line_of_garbage_fails_an_otherwise_whole_report(line: bytes) -> None:
    event = parse_line(line)
    assert isinstance(event, Garbled)
    whole = [parse_line(json.dumps(record).encode()) for record in (READY, LVM, EXT4, DONE)]
    assert judge(whole).ok
    assert not judge([*whole, event]).ok


def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    port = tmp_path / "port"
    reader = Reader(port)
    assert reader.read() == ()
    port.write_bytes(b'{"event": "ready", "upt')
    assert reader.read() == ()
    with port.open("ab") as file:
        file.write(b'ime_s": 2}\n')
    assert reader.read() == (Ready(2.0),)


def test_a_line_cut_off_by_the_guests_end_is_garbled(tmp_path: Path) -> None:
    port = tmp_path / "port"
    port.write_bytes(json.dumps(LVM).encode() + b'\n{"event": "mod')
    first, second = Reader(port).finish()
    assert isinstance(first, Tool)
    assert isinstance(second, Garbled)


def test_lists_of_names_are_tuples() -> None:
    event = parse_line(json.dumps({**DONE, "tools_failed": ["a", "b"]}).encode())
    assert isinstance(event, Done)
    assert event.tools_failed == ("a", "b")
