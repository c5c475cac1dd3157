"""The storage layout of a machine: a flat tuple of nodes that name each other by id.

The nodes are ordered: each comes after all that it lies on. A layout that makes no sense cannot be
built: an id twice or unknown, a cycle, two things on one device, partitions that overlap or
lie outside of their table, mounts of what holds no files. Its JSON is one object, ``version``,
``nodes`` and ``unsupported``, as archive/strictjson.py writes and reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from archive import strictjson
from archive.errors import LayoutInvalid, SetDamaged
from archive.machine import layoutgraph
from archive.machine.layoutfiles import Filesystem, Mount, Subvolume, Swap
from archive.machine.layoutlvm import LogicalVolume, PhysicalVolume, VolumeGroup
from archive.machine.layoutnodes import Disk, Luks, MdArray, Node, Opaque, Partition, PartitionTable

VERSION = 1
MAX_BYTES = 16 << 20
"""The JSON of a layout is not larger than this."""

AnyNode = (
    Disk
    | PartitionTable
    | Partition
    | MdArray
    | PhysicalVolume
    | VolumeGroup
    | LogicalVolume
    | Luks
    | Filesystem
    | Subvolume
    | Swap
    | Mount
    | Opaque
)

_ORDER: tuple[type[Node], ...] = (
    *(Disk, PartitionTable, Partition, MdArray, Luks, PhysicalVolume, VolumeGroup, LogicalVolume),
    *(Opaque, Filesystem, Subvolume, Swap, Mount),
)
_DIGITS = re.compile(r"(\d+)")

N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """What a restore could not bring back: the node, and why, in words.

    A backup is refused unless its user names the node.
    """

    node: str
    words: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A machine's storage, bottom up. ``Layout.of`` sorts; the constructor wants the order."""

    nodes: tuple[AnyNode, ...]
    unsupported: tuple[Unsupported, ...] = ()
    version: int = VERSION
    _by_id: dict[str, AnyNode] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise LayoutInvalid for a graph that cannot be."""
        if self.version != VERSION:
            raise LayoutInvalid(f"a layout of version {self.version} is not known")
        object.__setattr__(self, "_by_id", layoutgraph.check(self.nodes))
        for one in self.unsupported:
            if one.node not in self._by_id:
                raise LayoutInvalid(f"{one.node[:80]} is not supported, and not there")

    @classmethod
    def of(cls, nodes: Iterable[AnyNode], unsupported: Iterable[Unsupported] = ()) -> Layout:
        """Build a layout of nodes in any order. Raises LayoutInvalid."""
        ordered = _sorted(tuple(nodes))
        place = {node.id: number for number, node in enumerate(ordered)}
        told = sorted(set(unsupported), key=lambda one: (place.get(one.node, -1), one.words))
        return cls(ordered, tuple(told))

    def get(self, name: str, kind: type[N]) -> N:
        """Return the node of that id, which is of that kind. Raises LayoutInvalid."""
        node = self._by_id.get(name)
        if not isinstance(node, kind):
            raise LayoutInvalid(f"{name[:80]} is no {kind.__name__} of this layout")
        return node

    def all(self, kind: type[N]) -> tuple[N, ...]:
        """Return all nodes of a kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    def below(self, node: Node) -> tuple[AnyNode, ...]:
        """Return what a node lies on."""
        return tuple(self._by_id[name] for name in node.below)

    def above(self, node: Node) -> tuple[AnyNode, ...]:
        """Return what lies on a node, in order."""
        return tuple(one for one in self.nodes if node.id in one.below)

    def disks_of(self, node: Node) -> tuple[Disk, ...]:
        """Return the disks that a node needs, in order."""
        wanted = {node.id}
        for one in reversed(self.nodes):
            if one.id in wanted:
                wanted.update(one.below)
        return tuple(disk for disk in self.all(Disk) if disk.id in wanted)

    def size_of(self, node: Node) -> int | None:
        """Return the bytes that a device has, where it is one and tells."""
        size = getattr(node, "size_bytes", None)
        return size if isinstance(size, int) else None

    def to_object(self) -> object:
        """Return the layout as ``json.dumps`` takes it."""
        return {
            "version": self.version,
            "nodes": [strictjson.dump(node, tagged=True) for node in self.nodes],
            "unsupported": [strictjson.dump(one) for one in self.unsupported],
        }

    @classmethod
    def from_object(cls, held: object, *, where: str = "layout") -> Layout:
        """Return the layout that parsed JSON holds. Raises SetDamaged."""
        version = held.get("version") if isinstance(held, dict) else None
        if type(version) is int and version > VERSION:
            raise SetDamaged(
                f"{where} is of version {version}, this program knows versions up to {VERSION}",
                hint="use the newer program that wrote it",
            )
        stored = strictjson.load(_Stored, held, where=where, place="the layout")
        return cls(stored.nodes, stored.unsupported, stored.version)

    def to_json(self) -> bytes:
        """Return the layout as a file's bytes."""
        return json.dumps(self.to_object(), sort_keys=True, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, where: str = "layout") -> Layout:
        """Read what ``to_json`` wrote. Raises SetDamaged."""
        held = strictjson.parse(data, where=where, most_bytes=MAX_BYTES)
        return cls.from_object(held, where=where)


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    nodes: tuple[AnyNode, ...]
    unsupported: tuple[Unsupported, ...]


def _sorted(nodes: Sequence[AnyNode]) -> tuple[AnyNode, ...]:
    """Return nodes so that each follows what it lies on, otherwise by kind and id."""
    waiting = sorted(nodes, key=_rank)
    known = {node.id for node in nodes}
    done: set[str] = set()
    found: list[AnyNode] = []
    while waiting:
        ready = [one for one in waiting if all(n in done or n not in known for n in one.below)]
        if not ready:
            raise LayoutInvalid(f"{waiting[0].id[:80]} lies on itself")
        chosen = {id(one) for one in ready}
        found += ready
        done.update(one.id for one in ready)
        waiting = [one for one in waiting if id(one) not in chosen]
    return tuple(found)


def _rank(node: Node) -> tuple[int, list[tuple[int, str]]]:
    parts = (part for part in _DIGITS.split(node.id) if part)
    natural = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return _ORDER.index(type(node)), natural


def files_of(layout: Layout, node: Node) -> Iterator[Mount]:
    """Yield the mounts that show a filesystem or its subvolumes."""
    names = {node.id, *(one.id for one in layout.above(node) if isinstance(one, Subvolume))}
    yield from (mount for mount in layout.all(Mount) if mount.source in names)


def partitions_of(layout: Layout, table: PartitionTable) -> tuple[Partition, ...]:
    """Return the partitions of a table by number: an extended one comes before those in it."""
    mine = (one for one in layout.all(Partition) if one.table == table.id)
    return tuple(sorted(mine, key=lambda one: one.number))
