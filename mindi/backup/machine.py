"""What a backup of ``/`` knows of the machine beside its files: the profile that a restore needs.

What no restore can make anew is an error while the machine is still there, unless its user names
it. Where the machine cannot be seen (a container, no root) the set holds its files alone.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from archive.errors import ArchiveError, CannotRead
from archive.machine.layout import Layout, Unsupported
from archive.machine.layoutfiles import Mount
from archive.machine.layoutnodes import Disk
from archive.machine.layoutview import device_path
from archive.machine.probeprofile import probe_machine
from archive.machine.probesystem import System
from archive.machine.profile import MachineProfile

_log = logging.getLogger(__name__)

_OPTION = "--allow-unsupported"
_ANY = "/"
"""Stands for the machine: files alone will do where it cannot be seen."""
_MOST_BYTES = 8 << 20
"""The manifest, which has the profile in it, must not outgrow what its readers take."""
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Machine:
    """What was learnt; without a profile one of ``warnings`` says why, or this was allowed."""

    profile: MachineProfile | None
    warnings: tuple[str, ...] = ()


def capture(system: System, *, allowed: Sequence[str], is_root: bool) -> Machine:
    """Return what a set is to hold of a machine of which ``/`` is saved.

    ``allowed``: the nodes that may be lost, as ``refuse_unsupported`` takes them. Raises
    CannotRead, which names each of the others.
    """
    start = time.monotonic()
    if not is_root:
        return _files_only("only root may read the storage layout", allowed)
    try:
        profile = probe_machine(system)
        why = why_unseen(system, profile.layout)
        if why is None:
            _check_readable(profile)
    except ArchiveError as error:
        return _files_only(error.message + (f" ({error.hint})" if error.hint else ""), allowed)
    _log.info("looked at the machine in %.2f s", time.monotonic() - start)
    if why is not None:
        return _files_only(why, allowed)
    return Machine(profile, refuse_unsupported(profile.layout, allowed))


def why_unseen(system: System, layout: Layout) -> str | None:
    """Say why a layout is not that of the machine whose ``/`` this is; None where it is."""
    disks = layout.all(Disk)
    if not disks:
        return "no disk is seen, as in a container"
    if all(system.block(device_path(disk), 0, _SECTOR) is None for disk in disks):
        return "no disk can be read, as in a container, where not even root may"
    if all(mount.point != "/" for mount in layout.all(Mount)):
        return "/ is on none of its disks, as in a container or a live system"
    return None


def refuse_unsupported(layout: Layout, allowed: Sequence[str]) -> tuple[str, ...]:
    """Raise CannotRead where nodes cannot be restored that ``allowed`` does not name.

    A name is a node's id, or has ``*``, ``?`` and ``[...]`` for several. Returns warnings: of
    names that stand for nothing.
    """
    refused = [one for one in layout.unsupported if not any(_names(a, one) for a in allowed)]
    if refused:
        told = "\n".join(f"  {one.node}: {one.words}" for one in refused)
        nodes = dict.fromkeys(one.node for one in refused)
        options = " ".join(f"{_OPTION} {shlex.quote(node)}" for node in nodes)
        raise CannotRead(
            f"a restore could not bring back all of this machine:\n{told}",
            hint=f"{options} goes on without {'it' if len(nodes) == 1 else 'them'}: files are "
            "saved where they are mounted, what they lie on is not made anew",
        )
    named = [name for name in allowed if name != _ANY]
    unused = [a for a in named if not any(_names(a, one) for one in layout.unsupported)]
    return tuple(
        f"{_OPTION} {shlex.quote(name)} names nothing that cannot be restored" for name in unused
    )


def _names(name: str, one: Unsupported) -> bool:
    return name == one.node or fnmatchcase(one.node, name)


def _check_readable(profile: MachineProfile) -> None:
    """Raise SetDamaged, CannotRead for a profile with which no one could read the set again."""
    data = profile.to_json()
    if len(data) > _MOST_BYTES:
        raise CannotRead(f"its description takes more than {_MOST_BYTES >> 20} MiB")
    MachineProfile.from_json(data, where="its description")


def _files_only(why: str, allowed: Sequence[str]) -> Machine:
    words = f"this set restores files, not the machine, because {why}"
    if _ANY in allowed:
        _log.info("%s", words)
        return Machine(None)
    return Machine(None, (f"{words}; {_OPTION} {_ANY} says that this is well known",))
