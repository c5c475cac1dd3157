"""Saved layouts without some of their disks."""

from __future__ import annotations

import pytest

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout, Unsupported
from archive.machine.layoutfiles import Swap
from archive.machine.layoutnodes import Disk
from restore.plan.leaving import shared, without
from restore.plan.mapping import match_disks
from tests.support import layouts
from tests.test_probe import MACHINES
from tests.test_probe import layout as recorded

SYSTEM = tuple(layouts.simple())
MEDIUM = layouts.disk("sdb")
ON_MEDIUM = Swap(id="swap:sdb", on=MEDIUM.id, size_bytes=1 << 20)
WITH_MEDIUM = Layout.of(
    [*SYSTEM, MEDIUM, ON_MEDIUM], [Unsupported(ON_MEDIUM.id, "a word"), Unsupported("fs:sda1", "a")]
)


def test_a_disk_goes_with_all_that_lies_on_it() -> None:
    assert without(WITH_MEDIUM, [MEDIUM.id]) == Layout.of(SYSTEM, [Unsupported("fs:sda1", "a")])


def test_without_none_it_is_the_same() -> None:
    assert without(WITH_MEDIUM, []) == WITH_MEDIUM


def test_the_disk_that_holds_the_set_is_needed_no_more() -> None:
    kept = {MEDIUM.id: "it holds the set"}
    assert len(match_disks(WITH_MEDIUM, WITH_MEDIUM, kept=kept).refusals) == 1
    found = match_disks(without(WITH_MEDIUM, [MEDIUM.id]), WITH_MEDIUM, kept=kept)
    assert (found.refusals, found.spare) == ((), (MEDIUM,))


@pytest.mark.parametrize("name", ["raid", "nested"])
def test_one_of_several_disks_of_an_array_cannot_go(name: str) -> None:
    layout = recorded(name)
    one = layout.all(Disk)[0].id
    assert {node.id.partition(":")[0] for node in shared(layout, [one])} >= {"md", "vg", "lv"}
    with pytest.raises(LayoutInvalid, match="and on others"):
        without(layout, [one])


@pytest.mark.parametrize("name", MACHINES)
def test_all_disks_go_with_everything(name: str) -> None:
    layout = recorded(name)
    assert without(layout, [one.id for one in layout.all(Disk)]).nodes == ()
