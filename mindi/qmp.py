"""A client of the QEMU Machine Protocol: one JSON object a line on a UNIX socket.

The monitor greets, is told ``qmp_capabilities``, and then answers each command with a
``return`` or an ``error``; events come in between and are not kept (QEMU, docs/interop/qmp-spec).
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from initramfs.errors import ToolError

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """A command's result: ``value`` is whatever JSON the command returns."""

    value: object


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command's error: QEMU's error class and its words."""

    kind: str
    description: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What nobody asked for: the greeting, or an event."""

    name: str


Message = Reply | Refusal | Notice


def parse_message(line: bytes) -> Message:
    """Return what one line of the monitor says; raise ToolError for what is no QMP."""
    try:
        match json.loads(line):
            case {"return": value}:
                return Reply(value)
            case {"error": {"class": str(kind), "desc": str(description)}}:
                return Refusal(kind, description)
            case {"event": str(name)}:
                return Notice(name)
            case {"QMP": dict()}:
                return Notice("QMP")
    except ValueError:
        pass
    raise ToolError(f"QEMU's monitor sent what is no QMP message: {line[:200]!r}")


class Qmp:
    """A connection to a monitor, ready for commands; closes with its context."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over ``connection`` and leave the negotiation mode; raises ToolError."""
        self._socket = connection
        self._pending = b""
        greeting = self._receive("the greeting")
        if greeting != Notice("QMP"):
            raise ToolError(f"QEMU's monitor did not greet, it sent {greeting}")
        self.execute("qmp_capabilities")

    @classmethod
    def connect(cls, path: Path, *, timeout_s: float, is_alive: Callable[[], bool]) -> Qmp:
        """Connect to the monitor at ``path``, which may be a moment away; raise ToolError.

        ``timeout_s`` bounds the connection and every later answer; once ``is_alive`` says that
        QEMU has ended there is no more waiting.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout_s)
            try:
                connection.connect(str(path))
                return cls(connection)
            except OSError as error:
                connection.close()
                if time.monotonic() > deadline or not is_alive():
                    raise ToolError(f"cannot reach QEMU's monitor: {error.strerror}") from error
                time.sleep(_POLL_S)
            except ToolError:
                connection.close()
                raise

    def __enter__(self) -> Qmp:
        """Return the connection itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def execute(self, command: str, options: Mapping[str, object] | None = None) -> object:
        """Run ``command`` and return its result; raise ToolError where QEMU refuses it or dies."""
        request: dict[str, object] = {"execute": command}
        if options:
            request["arguments"] = dict(options)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise ToolError(f"QEMU's monitor took no '{command}': {error.strerror}") from error
        while True:
            match self._receive(f"the answer to '{command}'"):
                case Reply(value=value):
                    return value
                case Refusal(description=description):
                    raise ToolError(f"QEMU refused '{command}': {description}")

    def close(self) -> None:
        """Close the connection; the machine runs on."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _receive(self, what: str) -> Message:
        while b"\n" not in self._pending:
            try:
                received = self._socket.recv(65536)
            except OSError as error:
                reason = error.strerror or "no answer in time"
                raise ToolError(f"QEMU's monitor did not send {what}: {reason}") from error
            if not received:
                raise ToolError(f"QEMU's monitor closed before {what}")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return parse_message(line)
