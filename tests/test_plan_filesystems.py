"""Filesystems made by their plans, against what was saved and against their own checkers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archive.machine.layout import Layout
from archive.machine.layoutfiles import BtrfsMember, BtrfsSettings, Family, Filesystem
from restore.plan.filesystems import format_action, format_refusals
from tests.support.formats import attached, check, devices, images, perform, seen
from tests.test_probe import MACHINES, layout

FILESYSTEMS = [(machine, one.id) for machine in MACHINES for one in layout(machine).all(Filesystem)]
# What btrfs gets of its use, not of mkfs.btrfs: a default subvolume, blocks larger than a page.
_BY_USE = 0x2 | 0x20


def made(held: Layout, node: Filesystem, folder: Path) -> Filesystem:
    """Make a filesystem on files, let it be checked, and return what a probe sees of it."""
    action = format_action(held, node, devices(held))
    files = images(held, node, folder)
    if node.family is Family.NILFS2:
        # nilfs-tune wants a block device.
        with attached(files) as loops:
            perform(action, loops)
    else:
        perform(action, files)
        check(node.family, list(files.values()))
    found = seen(node, list(files.values()))
    assert isinstance(found, Filesystem)
    return found


def settable(node: Filesystem) -> Filesystem:
    """Return a filesystem without what mkfs cannot set, and a probe of files does not tell."""
    settings = node.settings
    if not isinstance(settings, BtrfsSettings):
        return node
    numbers = tuple(BtrfsMember(one.number, "") for one in settings.members)
    plain = replace(
        settings,
        members=numbers,
        incompat=settings.incompat & ~_BY_USE,
        data=None,
        metadata=None,
        default_subvolume=None,
    )
    return replace(node, settings=plain)


@pytest.mark.parametrize(("machine", "name"), FILESYSTEMS, ids=[":".join(o) for o in FILESYSTEMS])
def test_it_becomes_what_it_was(machine: str, name: str, tmp_path: Path) -> None:
    held = layout(machine)
    node = held.get(name, Filesystem)
    assert settable(made(held, node, tmp_path)) == settable(node)


@pytest.mark.parametrize(("machine", "name"), FILESYSTEMS, ids=[":".join(o) for o in FILESYSTEMS])
def test_nothing_that_was_recorded_is_refused(machine: str, name: str) -> None:
    held = layout(machine)
    assert format_refusals(held, held.get(name, Filesystem)) == ()
