"""The command ``mindi layout``: this machine's storage as a tree, JSON, or Mondo's mountlist."""

from __future__ import annotations

from archive.machine.layout import Layout
from archive.machine.layoutview import mountlist, tree
from archive.machine.probe import probe_layout
from archive.machine.probesystem import System
from restore.words import shown_lines

NOTHING = (
    "no disk is seen on this machine: it has none, or this is a container that is not shown any"
)


def layout_result(system: System, *, as_json: bool, as_mountlist: bool) -> tuple[object, bool]:
    """Return what to print, and whether there is a layout all of which a restore can make anew.

    Raises CannotRead.
    """
    layout = probe_layout(system)
    is_well = bool(layout.nodes) and not layout.unsupported
    if as_json:
        return layout.to_object(), is_well
    return _text(layout, as_mountlist=as_mountlist), is_well


def _text(layout: Layout, *, as_mountlist: bool) -> str:
    if as_mountlist:
        return shown_lines(mountlist(layout))
    return shown_lines(tree(layout)) if layout.nodes else NOTHING
