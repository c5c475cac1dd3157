"""Which disks of a machine a saved layout is restored to.

A disk that is recognized by its serial or WWN is taken for the one that it is, and if it cannot
be used nothing else is taken in its place: it still holds the same UUIDs. All others are matched
by size, then in the order of their kernel names, the least of evidence; so a choice that could
destroy what is on one disk when another one was meant is refused, not made:

- what is empty goes before what is not, and of several that are not none is chosen;
- on the machine that was saved (another of its disks is recognized) a disk with something on it
  that is not the saved layout's was put there by someone;
- disks that hang on a cable (USB), memory cards and those of a network are taken only when they are
  empty, and in place of their like.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from archive.machine.layout import Layout
from archive.machine.layoutfiles import Mount, Swap
from archive.machine.layoutnodes import Disk, Opaque
from archive.machine.layoutview import device_path, size_words
from restore.plan.actions import Refusal
from restore.plan.candidates import Case, build_case, free_for, needed_disks, obstacle, stranger
from restore.plan.identity import natural, twins
from restore.words import shown_text

_MOST_POINTS = 3
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Match:
    """A saved disk, the one that it becomes, and why that one: ``same serial``, as words."""

    saved: Disk
    target: Disk
    why: str


@dataclass(frozen=True, slots=True)
class Matched:
    """What becomes of the disks; with a refusal there is nothing to restore by."""

    matches: tuple[Match, ...]
    refusals: tuple[Refusal, ...]
    spare: tuple[Disk, ...]
    """The disks of the target that are left alone."""

    def paths(self) -> Mapping[str, str]:
        """Return the target's device for the id of each saved disk, as ``/dev/sda``."""
        return {one.saved.id: device_path(one.target) for one in self.matches}


def match_disks(saved: Layout, target: Layout, *, kept: Mapping[str, str] = _NOTHING) -> Matched:
    """Return which disk of the target each saved disk becomes, or why none.

    Saved disks that hold nothing that a restore makes need none. ``kept``: by the id of a disk of
    the target words why it is not to be touched, as ``it holds the backup set``.
    """
    needed = needed_disks(saved)
    case = build_case(saved, target, needed, kept)
    matches: dict[str, Match] = {}
    refusals: dict[str, Refusal] = {}
    rest = []
    paths = twins(saved)
    for disk in needed:
        if disk.id in paths:
            refusals[disk.id] = _refused_path(disk, paths[disk.id])
        elif disk.id in case.known.disputed:
            refusals[disk.id] = _disputed(disk, case)
        elif disk.id not in case.known.found:
            rest.append(disk)
        else:
            found = case.known.found[disk.id]
            fault = obstacle(disk, found.disk, case)
            if fault is None:
                why = f"{found.why}{_size_words(disk, found.disk)}"
                matches[disk.id] = Match(disk, found.disk, why)
            else:
                refusals[disk.id] = _refused_own(disk, found.disk, fault, case)
    free = {disk.id: free_for(disk, case) for disk in rest}
    picks = _in_order(rest, _picks(rest, free, case), free, case)
    for disk in rest:
        rivals = _rivals(disk, picks, free, case)
        if disk.id in picks and not rivals:
            pick = picks[disk.id]
            matches[disk.id] = Match(disk, pick, _order_words(disk, pick, case))
        else:
            refusals[disk.id] = _refused(disk, picks, rivals, case)
    used = {one.target.id for one in matches.values()}
    return Matched(
        tuple(matches[disk.id] for disk in needed if disk.id in matches),
        tuple(refusals[disk.id] for disk in needed if disk.id in refusals),
        tuple(disk for disk in sorted(target.all(Disk), key=natural) if disk.id not in used),
    )


def in_use(target: Layout, *, swaps: Collection[str] = ()) -> Mapping[str, str]:
    """Return words for each disk of a machine that is in use, by its id.

    In use is what is mounted, through whatever lies between, and swap with a priority. Swap that
    was given none looks as if it were not in use: ``swaps`` are the ids of areas that are.
    """
    points: dict[str, list[str]] = {}
    vague: list[str] = []
    for mount in target.all(Mount):
        disks = target.disks_of(mount)
        for disk in disks:
            points.setdefault(disk.id, []).append(mount.point)
        if not disks:
            vague.append(mount.point)
    words = {name: f"{_listed(found)} mounted from it" for name, found in points.items()}
    for swap in target.all(Swap):
        if swap.priority is not None or swap.id in swaps:
            for disk in target.disks_of(swap):
                words.setdefault(
                    disk.id, f"swap on it is in use ({shown_text(swap.id.partition(':')[2])})"
                )
    if vague:
        # ZFS and others that do not tell where they lie: on something that we cannot read.
        for opaque in target.all(Opaque):
            for disk in target.disks_of(opaque):
                words.setdefault(
                    disk.id,
                    f"{shown_text(opaque.what)} on it may be what is on {shown_text(vague[0])}",
                )
    return words


def _listed(points: Sequence[str]) -> str:
    shown = ", ".join(shown_text(point) for point in points[:_MOST_POINTS])
    more = len(points) - _MOST_POINTS
    return f"{shown}{f' and {more} more' if more > 0 else ''} {'is' if len(points) == 1 else 'are'}"


def _picks(rest: Sequence[Disk], free: Mapping[str, Sequence[Disk]], case: Case) -> dict[str, Disk]:
    """Return a disk for each of the saved ones as far as there are: first those of its size."""
    picks: dict[str, Disk] = {}
    used: set[str] = set()
    # What needs most chooses first: what is large enough for that is so for all others.
    by_need = sorted(rest, key=lambda one: -case.least[one.id])
    for is_exact in (True, False):
        for disk in (one for one in by_need if one.id not in picks):
            for one in free[disk.id]:
                if one.id not in used and (one.size_bytes == disk.size_bytes) is is_exact:
                    picks[disk.id] = one
                    used.add(one.id)
                    break
    return picks


def _in_order(
    rest: Sequence[Disk],
    picks: Mapping[str, Disk],
    free: Mapping[str, Sequence[Disk]],
    case: Case,
) -> dict[str, Disk]:
    """Return the same disks of a size, but dealt out in order, where that can be."""
    groups: dict[tuple[int, int], list[Disk]] = {}
    for disk in rest:
        pick = picks.get(disk.id)
        if pick is not None and not case.is_own(disk, pick):
            groups.setdefault((disk.size_bytes, pick.size_bytes), []).append(disk)
    dealt = dict(picks)
    for disks in groups.values():
        ordered = sorted((picks[disk.id] for disk in disks), key=natural)
        pairs = list(zip(disks, ordered, strict=True))
        if all(pick in free[disk.id] for disk, pick in pairs):
            dealt.update({disk.id: pick for disk, pick in pairs})
    return dealt


def _rivals(
    saved: Disk, picks: Mapping[str, Disk], free: Mapping[str, Sequence[Disk]], case: Case
) -> tuple[Disk, ...]:
    """Return the disks that are left and that may be meant as well as the one that was picked."""
    pick = picks.get(saved.id)
    if pick is None:
        return ()
    used = {one.id for one in picks.values()}
    left = (one for one in free[saved.id] if one.id not in used)
    own = case.is_own(saved, pick)
    is_exact = pick.size_bytes == saved.size_bytes

    def may_be(disk: Disk) -> bool:
        if own or case.is_own(saved, disk):
            # Both would hold the same UUIDs, or one of them is somebody's copy.
            return case.is_own(saved, disk) or case.is_empty(disk)
        if case.is_empty(pick):
            return False
        return case.is_empty(disk) or not is_exact or disk.size_bytes == saved.size_bytes

    return tuple(one for one in left if may_be(one))


def _size_words(saved: Disk, disk: Disk) -> str:
    more = disk.size_bytes - saved.size_bytes
    return f", {size_words(abs(more))} {'larger' if more > 0 else 'smaller'}" if more else ""


def _order_words(saved: Disk, disk: Disk, case: Case) -> str:
    size = _size_words(saved, disk).removeprefix(", ") or "same size"
    return f"{size}, in order" if not case.is_own(saved, disk) else f"same content, {size}"


def _called(disk: Disk) -> str:
    names = [shown_text(disk.model)] if disk.model else []
    names += [f"serial {shown_text(disk.serial)}"] if disk.serial else []
    names += [f"WWN {shown_text(disk.wwn)}"] if disk.wwn and not disk.serial else []
    return f"{device_path(disk)} ({', '.join((*names, size_words(disk.size_bytes)))})"


def _disputed(saved: Disk, case: Case) -> Refusal:
    names = ", ".join(_called(disk) for disk in case.known.disputed[saved.id])
    words = f"serials and WWNs do not tell which disk here is {_called(saved)}: {names}"
    return Refusal(saved.id, f"{words}; disconnect what is not meant")


def _refused_path(saved: Disk, other: Disk) -> Refusal:
    words = f"{_called(saved)} is the same disk as {device_path(other)}, over another path"
    return Refusal(saved.id, f"{words}: what lies on such disks is not restored")


def _refused_own(saved: Disk, disk: Disk, fault: str, case: Case) -> Refusal:
    why = case.known.found[saved.id].why
    words = f"{_called(saved)} is here as {_called(disk)}, by the {why}, but {fault}"
    return Refusal(saved.id, f"{words}; no other disk is taken in its place while it is here")


def _refused(
    saved: Disk, picks: Mapping[str, Disk], rivals: Collection[Disk], case: Case
) -> Refusal:
    reasons = "; ".join(_reasons(saved, picks, rivals, case)) or "there is no disk"
    words = f"no disk here is taken for {_called(saved)}: {reasons}"
    if rivals:
        hint = "disconnect those that are not meant, or empty the one that is (wipefs --all)"
    else:
        least = case.least[saved.id]
        size = f"{size_words(least)} ({least} bytes)"
        sector = f"sectors of {saved.logical_sector} bytes"
        hint = f"connect an empty disk of at least {size} with {sector}"
    return Refusal(saved.id, f"{words}; {hint}")


def _reasons(
    saved: Disk, picks: Mapping[str, Disk], rivals: Collection[Disk], case: Case
) -> Iterator[str]:
    users = {pick.id: name for name, pick in picks.items() if name != saved.id}
    alike = {one.id for one in rivals} | ({picks[saved.id].id} if rivals else set())
    for disk in sorted(case.target.all(Disk), key=natural):
        why = stranger(saved, disk, case)
        if disk.id in alike:
            held = "it is empty" if case.is_empty(disk) else "there is something on it"
            why = f"it may be meant, {held}"
        elif why is None:
            user = case.saved.get(users[disk.id], Disk) if disk.id in users else None
            why = "it would do as well" if user is None else f"it becomes {device_path(user)}"
        yield f"{_called(disk)}: {why}"
