"""A plan for people: each disk before and after, every step with its commands, what is refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from archive.machine.layoutnodes import Disk
from archive.machine.layoutview import describe, device_path
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.build import Plan
from restore.plan.picture import moved, pictures
from restore.words import shown_text

_INPUT_LINES = 24
"""Of what a command is given no more lines are shown: LVM's metadata may take thousands."""


def plan_text(plan: Plan) -> str:
    """Return a plan as lines; without steps where something is refused."""
    return "\n".join(shown_text(line.expandtabs()) for line in _lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield from _disks(plan)
    if plan.refusals:
        yield "This cannot be restored here:"
        yield from _refused(plan.refusals)
        return
    yield f"Lost, with all that is on it: {', '.join(plan.destroys)}"
    yield ""
    yield "Steps:"
    yield from _steps(plan.actions)
    if plan.notes:
        yield ""
        yield "Not as it was:"
        yield from (f"  {note}" for note in plan.notes)


def _disks(plan: Plan) -> Iterator[str]:
    """Give what each disk holds now and then, and what lies on several."""
    now = pictures(plan.target)
    matches = {one.saved.id: one for one in plan.matched.matches}
    then = pictures(moved(plan.saved, {name: one.target for name, one in matches.items()}))
    for match in matches.values():
        path = device_path(match.target)
        yield f"{path} becomes what {device_path(match.saved)} was: {match.why}"
        yield "  now:"
        yield from (f"    {line}" for line in now.get(match.target.id, ())[1:] or ("(empty)",))
        yield "  then:"
        yield from (f"    {line}" for line in then.pop(f"disk:{match.target.kernel_name}")[1:])
        yield ""
    lost = {match.target.id for match in matches.values()}
    roots = {node.id: node for node in plan.target.nodes}
    across = {
        name: lines
        for name, lines in now.items()
        if not isinstance(roots[name], Disk)
        and any(disk.id in lost for disk in plan.target.disks_of(roots[name]))
    }
    for title, trees in (("now", across), ("then", then)):
        if trees:
            yield f"Over these disks, {title}:"
            for lines in trees.values():
                yield from (f"  {line}" for line in lines)
            yield ""
    for disk in plan.matched.spare:
        yield f"{describe(disk, plan.target)}: left alone"
        yield ""


def _steps(actions: Iterable[Action]) -> Iterator[str]:
    files = "      (here the files of the set are restored)"
    for number, action in enumerate(actions, 1):
        if files and action.phase is Phase.FINISH:
            yield files
            files = ""
        yield f"{number:4}. {action.words}"
        for command in action.commands:
            yield from _command(command)
    if files:
        yield files


def _command(command: Command) -> Iterator[str]:
    words = shlex.join(command.argv)
    if command.secret is not None:
        words += "   (is given the passphrase)"
    if command.may_fail:
        words += "   (may fail)"
    yield f"        {words}"
    given = command.given.removesuffix("\n").split("\n") if command.given else []
    yield from (f"        | {line}" for line in given[:_INPUT_LINES])
    if len(given) > _INPUT_LINES:
        yield f"        | and {len(given) - _INPUT_LINES} lines more"


def _refused(refusals: Iterable[Refusal]) -> Iterator[str]:
    for one in refusals:
        first, *more = one.words.split("\n")
        yield f"  {one.node}: {first}"
        yield from (f"    {line}" for line in more)
