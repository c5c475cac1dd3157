"""What ``mondorestore --plan`` does: looks at this machine, and tells what would become of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from archive.errors import CannotRead
from archive.machine.layout import Layout
from archive.machine.layoutfiles import Mount, Swap
from archive.machine.layoutview import device_path
from archive.machine.probe import probe_layout
from archive.machine.probesystem import LiveSystem
from archive.manifest import Manifest
from archive.selection import swap_devices
from restore.plan.build import Plan, make_plan
from restore.plan.identity import recognize
from restore.plan.mapping import in_use

_SWAPS = Path("/proc/swaps")


def plan_here(manifest: Manifest, folder: Path) -> Plan:
    """Return the plan of restoring a set's machine to this one. Nothing is touched.

    ``folder``: of the set; the disks that it lies on stay as they are. Raises CannotRead for a set
    of files only, and where this machine cannot be looked at.
    """
    profile = manifest.profile
    if profile is None:
        raise CannotRead(
            f"{manifest.name} holds files, and nothing of the machine that they are of",
            hint="restore its files: --all --to DIR, --select PATTERN --to DIR",
        )
    target = probe_layout(LiveSystem())
    kept = dict(in_use(target, swaps=tuple(_active_swaps(target))))
    holding = _holding(target, folder)
    kept |= dict.fromkeys(holding, "it holds the backup set")
    known = recognize(profile.layout, target).found
    staying = [name for name, one in known.items() if one.disk.id in holding]
    return make_plan(profile.layout, target, kept=kept, staying=staying)


def _holding(target: Layout, folder: Path) -> frozenset[str]:
    """Return the ids of the disks that a folder lies on: none where that is a network's, memory."""
    place = folder.resolve()
    while not place.is_mount():
        place = place.parent
    mounts = [mount for mount in target.all(Mount) if mount.point == str(place)]
    return frozenset(disk.id for mount in mounts[-1:] for disk in target.disks_of(mount))


def _active_swaps(target: Layout) -> Iterator[str]:
    """Give the ids of swap areas on devices that are in use; files are on what is mounted."""
    try:
        devices = swap_devices(_SWAPS.read_bytes())
    except OSError:
        return  # a kernel without swap has no such file
    used = {os.path.realpath(os.fsdecode(device)) for device in devices}
    for swap in target.all(Swap):
        if swap.path is None:
            (device,) = target.below(swap)
            if os.path.realpath(device_path(device)) in used:
                yield swap.id


def plan_record(plan: Plan) -> dict[str, object]:
    """Return a plan as ``json.dumps`` takes it."""
    return {
        "possible": not plan.refusals,
        "disks": [
            {"saved": one.saved.id, "target": one.target.id, "why": one.why}
            for one in plan.matched.matches
        ],
        "left_alone": [disk.id for disk in plan.matched.spare],
        "destroys": list(plan.destroys),
        "actions": [
            {
                "id": action.id,
                "phase": action.phase,
                "node": action.node,
                "words": action.words,
                "destroys": list(action.destroys),
                "commands": [
                    {
                        "argv": list(command.argv),
                        "input": command.given,
                        "passphrase_of": command.secret,
                        "may_fail": command.may_fail,
                    }
                    for command in action.commands
                ],
            }
            for action in plan.actions
        ],
        "refusals": [{"node": one.node, "words": one.words} for one in plan.refusals],
        "notes": list(plan.notes),
    }
