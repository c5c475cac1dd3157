"""What differs between two images (``mindi diff``).

Files are compared by the digest of what they hold, and all files of both images are read for it.
Two builds of one input at two times are equal: dates are not compared, nor what is made of the date
and the identity of an ISO (mindi/timeless.py).
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from initramfs.cpio import CpioMember
from mindi.image import ON_MEDIUM, Image, open_image
from mindi.record import ImageRecord
from mindi.timeless import Timeless
from restore.contract import IMAGE_RECORD
from restore.words import shown_text, size_words

_DATES = frozenset({"created_s"})


@dataclass(frozen=True, slots=True)
class State:
    """What one path is in one image; ``digest`` (SHA-256) only of a file."""

    mode: int
    owner: tuple[int, int]
    size_bytes: int
    target: str | None
    device: tuple[int, int]
    digest: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs, with what it is in each image; None where it is not in it."""

    path: str
    one: State | None
    other: State | None

    @property
    def size_change_bytes(self) -> int:
        """How much more the second image holds for it."""
        sizes = [state.size_bytes if state else 0 for state in (self.one, self.other)]
        return sizes[1] - sizes[0]

    @property
    def what(self) -> str:
        """What differs: added, removed, or the names of what changed."""
        if self.one is None:
            return "added"
        if self.other is None:
            return "removed"
        named = {
            "type": stat.S_IFMT(self.one.mode) != stat.S_IFMT(self.other.mode),
            "content": self.one.digest != self.other.digest,
            "target": self.one.target != self.other.target,
            "device": self.one.device != self.other.device,
            "mode": stat.S_IMODE(self.one.mode) != stat.S_IMODE(self.other.mode),
            "owner": self.one.owner != self.other.owner,
        }
        return ", ".join(name for name, differs in named.items() if differs)


@dataclass(frozen=True, slots=True)
class Fact:
    """A field of the two records that differs; of a list, the names that only one of them has."""

    name: str
    one: str
    other: str


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs between two images, by path."""

    one: Path
    other: Path
    changes: tuple[Change, ...]
    facts: tuple[Fact, ...]

    @property
    def equal(self) -> bool:
        """Whether the two hold the same and were made the same way, dates aside."""
        return not self.changes and all(fact.name in _DATES for fact in self.facts)

    @property
    def size_change_bytes(self) -> int:
        """How much more the second image holds, unpacked."""
        return sum(change.size_change_bytes for change in self.changes)

    def to_text(self) -> str:
        """Return the differences for a terminal; the last line is the verdict."""
        lines = [
            f"{fact.name}: {shown_text(fact.one)} -> {shown_text(fact.other)}"
            for fact in self.facts
        ]
        signs = {"added": "+", "removed": "-"}
        for change in self.changes:
            sign = signs.get(change.what, "~")
            how = f"{_signed(change.size_change_bytes)}"
            if sign == "~":
                how += f", {change.what}"
            lines.append(f"{sign} {shown_text(change.path)} ({how})")
        verdict = "equal" if self.equal else f"different ({_signed(self.size_change_bytes)})"
        return "\n".join([*lines, verdict]) + "\n"

    def to_json(self) -> dict[str, object]:
        """Return one, other, equal, size_change_bytes, record, changes.

        ``record`` is a list of name, one, other; ``changes`` of path, what ("added", "removed",
        or which of type, content, target, device, mode, owner), one, other: each null or
        mode (octal), size_bytes, target, sha256. Paths on the ISO begin with "iso:".
        """
        return {
            "one": str(self.one),
            "other": str(self.other),
            "equal": self.equal,
            "size_change_bytes": self.size_change_bytes,
            "record": [
                {"name": fact.name, "one": fact.one, "other": fact.other} for fact in self.facts
            ],
            "changes": [
                {
                    "path": change.path,
                    "what": change.what,
                    "one": _state_json(change.one),
                    "other": _state_json(change.other),
                }
                for change in self.changes
            ],
        }


def diff(one: Path, other: Path) -> Difference:
    """Compare two images, each ISO or initrd; raise InputError if one cannot be read whole.

    Files on the medium are compared where both are ISOs; of the initrds always what they hold. The
    digests of changed files on a medium are of what is compared, which is not all that they hold.
    """
    images = open_image(one), open_image(other)
    states = [_states(image.members()) for image in images]
    if all(image.files for image in images):
        for image, found in zip(images, states, strict=True):
            found.update(_medium_states(image))
    changes = [
        Change(path, states[0].get(path), states[1].get(path))
        for path in sorted(states[0].keys() | states[1].keys())
        if states[0].get(path) != states[1].get(path)
    ]
    return Difference(one, other, tuple(changes), _facts(images[0].record, images[1].record))


def _states(members: Iterable[CpioMember]) -> dict[str, State]:
    """Return what each path is; the hard links of a file all have its content."""
    states: dict[str, State] = {}
    groups: dict[tuple[int, tuple[int, int]], list[CpioMember]] = {}
    contents: dict[tuple[int, tuple[int, int]], tuple[int, str]] = {}
    for member in members:
        # The record tells of both builds; what it says is compared, not how.
        if member.path == IMAGE_RECORD:
            continue
        size, digest = member.size_bytes, None
        if stat.S_ISREG(member.mode):
            digest = _digest(member.chunks)
            if member.links > 1:
                group = (member.inode, member.filesystem)
                groups.setdefault(group, []).append(member)
                if member.size_bytes or group not in contents:
                    contents[group] = (size, digest)
        states[member.path] = _state(member, size, digest)
    for group, linked in groups.items():
        for member in linked:
            states[member.path] = _state(member, *contents[group])
    return states


def _state(member: CpioMember, size_bytes: int, digest: str | None) -> State:
    owner = (member.uid, member.gid)
    return State(member.mode, owner, size_bytes, member.target, member.device, digest)


def _medium_states(image: Image) -> dict[str, State]:
    timeless = Timeless(image)
    return {
        f"{ON_MEDIUM}{path}": State(
            mode=stat.S_IFREG,
            owner=(0, 0),
            size_bytes=extent.size_bytes,
            target=None,
            device=(0, 0),
            digest=_digest(timeless.chunks(path, extent)),
        )
        for path, extent in timeless.files()
    }


def _digest(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _facts(one: ImageRecord, other: ImageRecord) -> tuple[Fact, ...]:
    pairs = zip(_words(one).items(), _words(other).values(), strict=True)
    facts = [Fact(name, mine, its) for (name, mine), its in pairs if mine != its]
    for (name, mine_all), its_all in zip(_names(one).items(), _names(other).values(), strict=True):
        mine, its = " ".join(sorted(mine_all - its_all)), " ".join(sorted(its_all - mine_all))
        if mine or its:
            facts.append(Fact(name, mine, its))
    return tuple(facts)


def _words(record: ImageRecord) -> dict[str, str]:
    return {
        "mindi_version": record.mindi_version,
        "created_s": str(record.created_s),
        "architecture": record.architecture,
        "kernel_version": record.kernel_version,
        "selection": record.selection.value,
        "output": record.output.value,
        "codec": record.codec.value,
        "level": str(record.level),
        "label": record.label,
    }


def _names(record: ImageRecord) -> dict[str, frozenset[str]]:
    """Return the lists of a record; of these only what one image has and the other has not."""
    return {
        "modules": frozenset(record.modules),
        "tools": frozenset(tool.name for tool in record.tools),
        "tools_absent": frozenset(tool.name for tool in record.tools_absent),
        "firmware_absent": frozenset(blob.name for blob in record.firmware_absent),
    }


def _signed(size_bytes: int) -> str:
    return ("-" if size_bytes < 0 else "+") + size_words(abs(size_bytes))


def _state_json(state: State | None) -> dict[str, object] | None:
    if state is None:
        return None
    return {
        "mode": f"{state.mode:06o}",
        "size_bytes": state.size_bytes,
        "target": state.target,
        "sha256": state.digest,
    }
