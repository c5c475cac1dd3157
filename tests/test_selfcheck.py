"""The self-check: starts, modules, and what it reports."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mindi import verdict as reader
from restore.contract import READY, VERDICT_PORT, Checklist, Startable
from restore.modulecheck import ModuleOutcome, check_modules, read_dependencies
from restore.selfcheck import check_tools, imports, ready_at_s, start
from restore.storagecheck import trials
from restore.verdict import Verdict, find_port

if TYPE_CHECKING:  # it exists for type checkers alone
    from _typeshed import ReadableBuffer


class Sink(io.BytesIO):
    """Keeps what was written, line by line."""

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


class ShortSink(Sink):
    """Takes a few bytes a call, as an unbuffered port may."""

    def write(self, data: ReadableBuffer) -> int:
        return super().write(bytes(data)[:7])


def verdict() -> tuple[Verdict, Sink, io.StringIO]:
    sink, screen = Sink(), io.StringIO()
    return Verdict(sink, screen), sink, screen


def tool(name: str, code: str, *statuses: int) -> Startable:
    return Startable(name, (sys.executable, "-c", code), statuses or (0,))


def test_a_start_keeps_the_first_line() -> None:
    outcome = start(tool("one", "print('one 1.0'); print('more')"))
    assert (outcome.ok, outcome.status, outcome.output) == (True, 0, "one 1.0")


def test_a_start_may_end_with_another_status() -> None:
    assert start(tool("one", "raise SystemExit(16)", 0, 16)).ok


def test_a_wrong_status_is_a_failure() -> None:
    assert not start(tool("one", "raise SystemExit(1)")).ok


def test_a_failure_keeps_the_last_line() -> None:
    outcome = start(tool("one", "import no_such_module"))
    assert outcome.output == "ModuleNotFoundError: No module named 'no_such_module'"


def test_a_tool_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    outcome = start(Startable("one", (str(tmp_path / "one"),), (0, 1)))
    assert (outcome.ok, outcome.status) == (False, 127)


def test_a_tool_that_is_killed_is_a_failure() -> None:
    outcome = start(tool("one", "import os; os.kill(os.getpid(), 11)", 0, 1, 11))
    assert (outcome.ok, outcome.status) == (False, 139)


def test_every_tool_is_reported() -> None:
    held, sink, _ = verdict()
    check_tools([tool("good", ""), tool("bad", "raise SystemExit(2)")], held)
    assert [(event["name"], event["ok"]) for event in sink.events()] == [
        ("good", True),
        ("bad", False),
    ]


def test_a_report_is_what_the_build_host_reads() -> None:
    held, sink, _ = verdict()
    held.ready(7.513)
    held.tool("lvm", "/usr/sbin/lvm", status=0, output="LVM version\n", ok=True)
    held.module("ext4", ok=True, why="")
    assert held.done()
    judged = reader.judge(map(reader.parse_line, sink.getvalue().splitlines()))
    assert (judged.ok, judged.reasons) == (True, ())


def test_a_failure_is_in_the_sum_and_on_the_screen() -> None:
    held, sink, screen = verdict()
    held.tool("lvm", "/usr/sbin/lvm", status=127, output="not found", ok=False)
    assert not held.done()
    assert sink.events()[-1]["tools_failed"] == ["lvm"]
    assert "failed: lvm (/usr/sbin/lvm), status 127: not found" in screen.getvalue()


def test_a_port_that_takes_little_at_a_time_gets_all() -> None:
    sink = ShortSink()
    Verdict(sink, io.StringIO()).module("ext4", ok=False, why="not in the image: mbcache.ko")
    assert sink.events() == [
        {"event": "module", "name": "ext4", "ok": False, "why": "not in the image: mbcache.ko"}
    ]


def test_without_a_port_the_summary_is_left() -> None:
    screen = io.StringIO()
    assert Verdict(None, screen).done()
    assert "all is well" in screen.getvalue()


def test_the_port_is_found_by_its_name(tmp_path: Path) -> None:
    for device, name in (("vport0p1", "org.qemu.guest_agent.0"), ("vport0p2", VERDICT_PORT)):
        (tmp_path / device).mkdir()
        (tmp_path / device / "name").write_text(name + "\n")
    assert find_port(tmp_path) == Path("/dev/vport0p2")


def test_another_port_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "vport0p1").mkdir()
    (tmp_path / "vport0p1" / "name").write_text(VERDICT_PORT + "2\n")
    assert find_port(tmp_path) is None


def test_ready_is_when_the_log_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"[5.00] devices\nnoise\n[11.30] {READY}\n")
    assert ready_at_s(log) == 11.3


def test_ready_is_now_without_a_log(tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("99.5 1.0\n")
    assert ready_at_s(tmp_path / "log", tmp_path / "uptime") == 99.5


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kernel": 1}'], ids=str)
def test_a_damaged_checklist_is_noticed(tmp_path: Path, text: str) -> None:
    place = tmp_path / "list.json"
    place.write_text(text)
    with pytest.raises((ValueError, KeyError, TypeError)):
        Checklist.read(place)


def test_imports_are_tried_in_an_interpreter_of_their_own() -> None:
    held = [*imports(Checklist("6.1", (), ("no_such_module",), "modprobe"))]
    assert [start(one).ok for one in held] == [True, False]


def test_only_tools_that_are_there_are_tried() -> None:
    assert [trial.name for trial in trials("/sbin/lvm", None, None)] == ["LVM works"]


class Machine:
    """A kernel of made-up modules, and a modprobe that knows what becomes of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "lib"
        self.folder.mkdir()
        self.dep = ""
        self.rules = ""
        self.available_kib = 1 << 20

    def module(self, name: str, *needs: str, says: str | None = None, there: bool = True) -> None:
        """Add a module; ``says`` why it refuses, None if it loads."""
        self.dep += f"{name}.ko: {' '.join(f'{need}.ko' for need in needs)}\n"
        if there:
            (self.folder / f"{name}.ko").touch()
        kernel = name.replace("-", "_")
        loaded = self.path / "modules"
        if says is None:
            self.rules += f'  {name} | {kernel}) echo "{kernel} 1 0 - Live" >>"{loaded}" ;;\n'
        else:
            words = f"modprobe: ERROR: could not insert '{kernel}': {says}"
            self.rules += f'  {name} | {kernel}) echo "{words}" >&2 ;;\n'

    def hanging_module(self, name: str) -> None:
        """Add a module whose start never ends."""
        self.dep += f"{name}.ko:\n"
        (self.folder / f"{name}.ko").touch()
        loading = f'echo "{name} 1 1 - Loading" >>"{self.path / "modules"}"'
        self.rules += f"  {name}) {loading}; exec sleep 600 ;;\n"

    def with_rmmod(self) -> None:
        """Add an rmmod that takes out whatever it is told to and keeps a list of that."""
        loaded, gone = self.path / "modules", self.path / "gone"
        rmmod = self.path / "rmmod"
        rmmod.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >>"{gone}"\n'
            "for m; do case $m in stuck) ;; *) "
            f'sed -i "/^$m /d" "{loaded}" ;; esac; done\n'
        )
        rmmod.chmod(0o755)

    def gone(self) -> list[str]:
        """Return what was taken out, in order, by the call."""
        return (self.path / "gone").read_text().splitlines()

    def check(self, *, timeout_s: float = 60) -> dict[str, ModuleOutcome]:
        modprobe = self.path / "modprobe"
        lines = ["#!/bin/sh", "shift", "for m; do", "  case $m in", self.rules + "  esac", "done"]
        modprobe.write_text("\n".join(lines) + "\n")
        modprobe.chmod(0o755)
        rmmod = self.path / "rmmod" if (self.path / "rmmod").exists() else None
        (self.path / "modules").touch()
        (self.path / "meminfo").write_text(f"MemAvailable: {self.available_kib} kB\n")
        (self.folder / "modules.dep").write_text(self.dep)
        outcomes = check_modules(
            self.folder,
            modprobe=str(modprobe),
            rmmod=str(rmmod) if rmmod is not None else None,
            proc=self.path,
            timeout_s=timeout_s,
        )
        return {outcome.name: outcome for outcome in outcomes}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_dependencies_are_read() -> None:
    text = "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko:\n"
    assert read_dependencies(text) == {
        "kernel/a.ko": ("kernel/b.ko", "kernel/c.ko"),
        "kernel/b.ko": (),
    }


def test_a_module_that_loads_is_well(machine: Machine) -> None:
    machine.module("dm-mod")
    assert machine.check() == {"dm_mod": ModuleOutcome("dm_mod", ok=True, why="")}


def test_a_module_may_want_other_hardware(machine: Machine) -> None:
    machine.module("hv_vmbus", says="No such device")
    assert machine.check()["hv_vmbus"] == ModuleOutcome("hv_vmbus", ok=True, why="No such device")


def test_what_stands_on_it_may_not_load_either(machine: Machine) -> None:
    machine.module("hv_vmbus", says="No such device")
    machine.module("hv_netvsc", "hv_vmbus", says="No such device")
    assert "needs hv_vmbus, which refused" in machine.check()["hv_netvsc"].why


@pytest.mark.parametrize(
    "why",
    [
        "Unknown symbol in module, or unknown parameter (see dmesg)",
        "Exec format error",
        "Key was rejected by service",
    ],
)
def test_a_module_that_lacks_something_fails(machine: Machine, why: str) -> None:
    machine.module("ext4", says=why)
    assert machine.check()["ext4"] == ModuleOutcome("ext4", ok=False, why=why)


def test_a_file_that_is_not_in_the_image_is_a_failure(machine: Machine) -> None:
    machine.module("mbcache", there=False, says="No such file or directory")
    machine.module("ext4", "mbcache", says="No such device")
    assert machine.check()["ext4"].why == "not in the image: mbcache.ko"


def test_a_dependency_that_is_not_in_the_list_is_a_failure(machine: Machine) -> None:
    machine.module("ext4", "mbcache")
    assert not machine.check()["ext4"].ok


def test_a_module_that_stays_out_without_a_word_fails(machine: Machine) -> None:
    machine.module("ext4")
    machine.rules = ""
    assert not machine.check()["ext4"].ok


@pytest.mark.slow
def test_a_module_that_hangs_fails_with_those_after_it_and_no_other(machine: Machine) -> None:
    machine.module("ext4")
    machine.module("hv_vmbus", says="No such device")
    machine.hanging_module("broken")
    machine.module("xfs")
    outcomes = machine.check(timeout_s=2)
    assert [(name, outcome.ok) for name, outcome in outcomes.items()] == [
        ("ext4", True),
        ("hv_vmbus", True),
        ("broken", False),
        ("xfs", False),
    ]
    assert outcomes["broken"].why == "modprobe gave no answer: did not end within 2 s"


def test_a_modprobe_that_is_not_there_fails_all(machine: Machine, tmp_path: Path) -> None:
    machine.module("ext4")
    machine.check()
    (tmp_path / "modules").write_text("")
    (outcome,) = check_modules(machine.folder, modprobe=str(tmp_path / "none"), proc=tmp_path)
    assert not outcome.ok
    assert "No such file" in outcome.why


def test_where_memory_is_short_modules_are_taken_out_again(machine: Machine) -> None:
    machine.with_rmmod()
    machine.available_kib = 50_000
    names = [f"module{number}" for number in range(400)]
    for name in names:
        machine.module(name)
    outcomes = machine.check()
    assert [name for name, outcome in outcomes.items() if not outcome.ok or outcome.why] == []
    assert sorted(" ".join(machine.gone()).split()) == sorted(names)
    assert len(machine.gone()) > 1


def test_where_there_is_memory_modules_stay(machine: Machine) -> None:
    machine.with_rmmod()
    machine.module("xfs")
    assert machine.check()["xfs"].ok
    assert not (machine.path / "gone").exists()


def test_without_a_tool_for_it_modules_stay(machine: Machine) -> None:
    machine.available_kib = 50_000
    machine.module("xfs")
    assert machine.check()["xfs"].ok
    assert (machine.path / "modules").read_text() == "xfs 1 0 - Live\n"


def test_what_was_there_or_is_in_use_stays(machine: Machine) -> None:
    machine.with_rmmod()
    machine.available_kib = 50_000
    (machine.path / "modules").write_text("virtio 1 0 - Live\nused 1 2 xfs, Live\n")
    for name in ("virtio", "used", "stuck", "xfs"):
        machine.module(name)
    assert all(outcome.ok for outcome in machine.check().values())
    assert machine.gone() == ["stuck xfs"]
    left = [line.split()[0] for line in (machine.path / "modules").read_text().splitlines()]
    assert left == ["virtio", "used", "stuck"]


def test_a_long_step_gives_signs_of_life() -> None:
    held, sink, _ = verdict()
    until = time.monotonic() + 10
    with held.part("loading modules", alive_s=0.01):
        while not sink.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert sink.events()[0] == {"event": "alive", "what": "loading modules"}
    assert held.remarks[0].startswith("loading modules: ")


def test_a_step_that_fails_ends_its_signs_of_life() -> None:
    held, _, _ = verdict()
    with pytest.raises(ValueError, match="broken"), held.part("loading modules", alive_s=0.01):
        raise ValueError("broken")
    assert [thread.name for thread in threading.enumerate() if thread.name == "alive"] == []


def test_reports_and_signs_of_life_do_not_mix() -> None:
    sink = ShortSink()
    held = Verdict(sink, io.StringIO())
    with held.part("loading modules", alive_s=0.0001):
        for number in range(200):
            held.module(f"module{number}", ok=True, why="")
    names = [event["name"] for event in sink.events() if event["event"] == "module"]
    assert names == [f"module{number}" for number in range(200)]
