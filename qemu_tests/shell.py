"""The rescue environment's shell on a machine's serial console."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from mindi.vm import Vm

PROMPT_S = 10.0
COMMAND_S = 10.0

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed on both of its outputs, and its exit status."""

    text: str
    status: int


def open_shell(vm: Vm) -> None:
    """Wait for the shell of a machine that is ready; its lines are not broken or echoed."""
    vm.sendline()
    vm.expect("# ", PROMPT_S)
    vm.sendline("stty -echo columns 1000; dmesg -n 1; PS1=")


def ask(vm: Vm, command: str, *, timeout_s: float = COMMAND_S) -> Answer:
    """Run ``command`` in the shell and return its answer."""
    end = f"answer-{next(_numbers)}"
    # Signs that are not those of the command line, which a shell may show again.
    vm.sendline(f"echo {end}'<'; {{ {command}; }} 2>&1; echo {end}'>'$?")
    shown = vm.expect(rf"(?s){end}<\r*\n(.*?){end}>(\d+)", timeout_s)
    return Answer(re.sub(r"\r", "", shown[1]), int(shown[2]))
