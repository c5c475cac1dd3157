"""The steps of a plan: what each is for, the commands that do it, and what it destroys.

A step is data. It can be printed, kept in a journal and compared with that of another run; what
runs it is elsewhere. Passphrases are never in it: a command names the volume whose passphrase it
is to be given.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from archive.machine.layoutnodes import Node


class Phase(enum.StrEnum):
    """The parts of a restore, in their order; the values are shown."""

    CLEAR = "clear"
    """What lies on the disks now is let go of and made unrecognizable."""
    STORAGE = "storage"
    """Partition tables, arrays, encrypted volumes, volume groups: from the disks up."""
    FORMAT = "format"
    """Filesystems, their subvolumes, and swap."""
    MOUNT = "mount"
    FINISH = "finish"
    """After the files, with nothing mounted: what would have kept them from being written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program that a step runs: an argv, no shell."""

    argv: tuple[str, ...]
    given: str = ""
    """Its standard input."""
    secret: str | None = None
    """The id of the LUKS volume whose passphrase is its standard input."""
    may_fail: bool = False
    """It lets go of what may not be there; that it fails is told, and is no failure."""
    timeout_s: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One step. ``id`` is the same for the same set and the same disks: the journal's key."""

    id: str
    phase: Phase
    node: str
    """What it makes, of the saved layout; of CLEAR what it is done to, of the target's layout."""
    words: str
    """What it does, as a sentence without a full stop: ``make the partition table of /dev/sda``."""
    commands: tuple[Command, ...]
    destroys: tuple[str, ...] = ()
    """The devices whose content is lost, by their paths."""

    @classmethod
    def of(
        cls,
        kind: str,
        node: Node,
        *,
        phase: Phase,
        words: str,
        commands: tuple[Command, ...],
        destroys: tuple[str, ...] = (),
    ) -> Action:
        """Return the step of a kind that is for a node: of each kind a node has one."""
        return cls(
            id=f"{kind}:{node.id}",
            phase=phase,
            node=node.id,
            words=words,
            commands=commands,
            destroys=destroys,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a layout is not restored to these disks: a node, and words with what to do."""

    node: str
    words: str
