"""Recordings of machines: all that a probe asked of one, so that it can be asked again.

``Recorder`` stands between a probe and a live machine; its file is what ``Recorded`` answers from.
It is run inside guests, where nothing but what travels is: it imports no more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from archive.machine.probesystem import LiveSystem, System
from archive.run import NOT_RUN, Ended


class Recorder:
    """Asks a machine and remembers what was asked and answered."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.asked: dict[str, dict[str, object]] = {
            "run": {}, "read": {}, "block": {}, "names": {}, "number": {}
        }  # fmt: skip

    def run(self, *argv: str) -> Ended:
        ended = self._system.run(*argv)
        self.asked["run"]["\0".join(argv)] = [ended.status, ended.output, ended.errors]
        return ended

    def read(self, path: str) -> str | None:
        found = self.asked["read"][path] = self._system.read(path)
        return found

    def block(self, path: str, offset: int, size: int) -> bytes | None:
        data = self._system.block(path, offset, size)
        self.asked["block"][f"{path} {offset} {size}"] = None if data is None else data.hex()
        return data

    def names(self, directory: str) -> tuple[str, ...]:
        found = self._system.names(directory)
        self.asked["names"][directory] = list(found)
        return found

    def number(self, path: str) -> str | None:
        found = self.asked["number"][path] = self._system.number(path)
        return found

    def save(self) -> str:
        return json.dumps(self.asked, indent=1, sort_keys=True) + "\n"


class Recorded:
    """A machine of which there is a recording; what was not asked then is not there."""

    def __init__(self, file: Path) -> None:
        self.asked: dict[str, dict[str, object]] = json.loads(file.read_text())

    def run(self, *argv: str) -> Ended:
        found = self.asked["run"].get("\0".join(argv))
        if not isinstance(found, list):
            return Ended(NOT_RUN, "", f"{argv[0]} was not recorded")
        return Ended(*found)

    def read(self, path: str) -> str | None:
        found = self.asked["read"].get(path)
        return found if isinstance(found, str) else None

    def block(self, path: str, offset: int, size: int) -> bytes | None:
        found = self.asked["block"].get(f"{path} {offset} {size}")
        return bytes.fromhex(found) if isinstance(found, str) else None

    def names(self, directory: str) -> tuple[str, ...]:
        found = self.asked["names"].get(directory)
        return tuple(found) if isinstance(found, list) else ()

    def number(self, path: str) -> str | None:
        found = self.asked["number"].get(path)
        return found if isinstance(found, str) else None


def main() -> None:
    """Probe this machine and write the recording of it, whatever became of the probe."""
    from archive.machine.probeprofile import probe_machine

    recorder = Recorder(LiveSystem())
    try:
        probe_machine(recorder)
    finally:
        Path(sys.argv[1]).write_text(recorder.save())


if __name__ == "__main__":
    main()
