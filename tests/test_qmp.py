"""The QMP client against a peer that speaks from a script, over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from initramfs.errors import ToolError
from mindi.qmp import Notice, Qmp, Refusal, Reply, parse_message

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
DONE = b'{"return": {}}\r\n'


@contextmanager
def peer(*answers: bytes) -> Iterator[tuple[socket.socket, list[str]]]:
    """Give a socket whose other end greets, then sends one answer for each line it gets.

    The list fills with the commands that came.
    """
    near, far = socket.socketpair()
    commands: list[str] = []

    def serve() -> None:
        with far, far.makefile("rb") as lines:
            far.sendall(GREETING)
            for answer in answers:
                line = lines.readline()
                if not line:
                    return
                commands.append(json.loads(line)["execute"])
                far.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    near.settimeout(5)
    try:
        yield near, commands
    finally:
        near.close()
        thread.join()


def test_it_leaves_the_negotiation_mode_first() -> None:
    with peer(DONE, DONE) as (near, commands):
        Qmp(near).execute("stop")
        assert commands == ["qmp_capabilities", "stop"]


def test_it_returns_what_the_command_returns() -> None:
    with peer(DONE, b'{"return": {"status": "running"}}\n') as (near, _):
        assert Qmp(near).execute("query-status") == {"status": "running"}


def test_an_event_before_the_answer_is_skipped() -> None:
    event = b'{"event": "STOP", "data": {}, "timestamp": {}}\n'
    with peer(DONE, event + b'{"return": 7}\n') as (near, _):
        assert Qmp(near).execute("stop") == 7


def test_a_refusal_carries_qemus_words() -> None:
    refusal = b'{"error": {"class": "GenericError", "desc": "no such device"}}\n'
    with peer(DONE, refusal) as (near, _), pytest.raises(ToolError, match="no such device"):
        Qmp(near).execute("device_del")


def test_a_monitor_that_closes_is_an_error() -> None:
    with peer(DONE) as (near, _):
        monitor = Qmp(near)
        with pytest.raises(ToolError):
            monitor.execute("quit")


def test_a_peer_that_is_no_monitor_is_an_error() -> None:
    with pytest.raises(ToolError, match="no QMP message"):
        parse_message(b"HTTP/1.1 400 Bad Request")


def test_no_wait_for_a_machine_that_has_ended(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot reach"):
        Qmp.connect(tmp_path / "qmp", timeout_s=600, is_alive=lambda: False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GREETING, Notice("QMP")),
        (b'{"event": "RESET", "data": {}}', Notice("RESET")),
        (b'{"return": []}', Reply([])),
        (b'{"error": {"class": "C", "desc": "d"}}', Refusal("C", "d")),
    ],
    ids=["greeting", "event", "return", "error"],
)
def test_each_kind_of_message(line: bytes, message: object) -> None:
    assert parse_message(line) == message
