"""Swap space as it was: mkswap(8), on devices and in files.

A file of swap is written, not allocated: it must have no holes, and on btrfs no copy on write
either, which is only to be had for a file that is empty (btrfs(5)).
"""

from __future__ import annotations

from collections.abc import Iterator

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutfiles import Family, Filesystem, Swap
from archive.machine.layoutnodes import Node
from archive.machine.layoutview import size_words
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices
from restore.plan.mounts import ROOT, chosen, place_of
from restore.words import shown_text

_MIB = 1 << 20
_PAGES = frozenset({4096, 8192, 16384, 32768, 65536})
_LEAST_PAGES = 10
_LABEL_BYTES = 15
_REMOVE = "remove it, and make another backup"


def swap_action(layout: Layout, swap: Swap, devices: Devices, *, root: str = ROOT) -> Action:
    """Return what makes a swap area. Of a file it comes after the mounts, which are at ``root``.

    Raises LayoutInvalid for what ``swap_refusals`` names.
    """
    refused = swap_refusals(layout, swap)
    if refused:
        raise LayoutInvalid(f"{swap.id[:80]} cannot be made: {refused[0].words}")
    if swap.path is None:
        device = devices.path(swap.on)
        return Action.of(
            "swap",
            swap,
            phase=Phase.FORMAT,
            words=f"make swap of {size_words(swap.size_bytes)} on {device}",
            # Its size is in KiB.
            commands=(Command(argv=(*_mkswap(swap), device, str(swap.size_bytes // 1024))),),
            destroys=(device,),
        )
    place = _place(layout, swap, root) or ""
    return Action.of(
        "swap",
        swap,
        phase=Phase.MOUNT,
        words=f"make swap of {size_words(swap.size_bytes)} in {shown_text(place)}",
        commands=tuple(_file(layout, swap, place)),
    )


def _mkswap(swap: Swap) -> list[str]:
    argv = ["mkswap", "-p", str(swap.page_bytes), "-U", swap.uuid or "clear"]
    argv += ["-L", swap.label] if swap.label else []
    return argv


def _file(layout: Layout, swap: Swap, place: str) -> Iterator[Command]:
    yield Command(argv=("mkdir", "-p", place.rpartition("/")[0]))
    yield Command(argv=("truncate", "-s", "0", place))
    # It holds what was in memory: nobody else may read it, from the first byte.
    yield Command(argv=("chmod", "0600", place))
    if layout.get(swap.on, Filesystem).family is Family.BTRFS:
        yield Command(argv=("chattr", "+C", place))
    counted = (f"bs={_MIB}", f"count={swap.size_bytes}", "iflag=count_bytes")
    written = ("dd", "if=/dev/zero", f"of={place}", *counted, "conv=notrunc,fsync")
    yield Command(argv=written, timeout_s=7200)
    yield Command(argv=(*_mkswap(swap), place))


def swap_refusals(layout: Layout, swap: Swap) -> tuple[Refusal, ...]:
    """Return why a swap area cannot be made as it was: empty where it can."""
    return tuple(Refusal(swap.id, words) for words in _lacking(layout, swap))


def _lacking(layout: Layout, swap: Swap) -> Iterator[str]:
    if swap.page_bytes not in _PAGES:
        yield f"mkswap makes no swap of pages of {swap.page_bytes} bytes; {_REMOVE}"
    elif swap.size_bytes < _LEAST_PAGES * swap.page_bytes:
        yield f"swap of {swap.size_bytes} bytes is too small to be made; {_REMOVE}"
    if len(swap.label.encode("utf-8", "surrogateescape")) > _LABEL_BYTES:
        yield f"its label is longer than mkswap's {_LABEL_BYTES} bytes; {_REMOVE}"
    room = layout.size_of(layout.get(swap.on, Node))
    if swap.path is None and room is not None and swap.size_bytes > room:
        yield f"it is larger than its device, which has {size_words(room)}; {_REMOVE}"
    if swap.path is not None and _place(layout, swap, ROOT) is None:
        yield f"its file lies where nothing was mounted; {_REMOVE}"


def _place(layout: Layout, swap: Swap, root: str) -> str | None:
    """Return where its file is seen below ``root``; None where no mount shows it."""
    path = swap.path or ""
    every = chosen(layout)
    for one in every:
        top = "" if one.subvolume is None else f"/{one.subvolume.path}"
        if one.filesystem.id != swap.on or not path.startswith(f"{top}/"):
            continue
        seen = f"{one.mount.point.rstrip('/')}{path[len(top) :]}"
        # Another mount below this one would get the file.
        covering = [other for other in every if _lies_in(seen, other.mount.point)]
        if covering[-1] == one:
            return place_of(seen, root)
    return None


def _lies_in(path: str, point: str) -> bool:
    return path.startswith(f"{point.rstrip('/')}/")
