"""md arrays made anew by ``mdadm --create``: mdadm(8), md(4).

Each comes back with its UUID and name, its geometry, and the place of its data on each member.
What nothing that is restored depends on is mdadm's choice: how much of an array a bit of its
bitmap stands for, and the name of an array of metadata 1.x that had none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from archive.machine.layout import Layout
from archive.machine.layoutnodes import MdArray, MdLevel, MdMember, Opaque
from archive.machine.layoutview import device_path, size_words
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices

_KERNEL_NAME = re.compile(r"md[0-9]{1,7}")
_NAME_BYTES = 32
"""Of a name in metadata 1.x, its home host included."""
_KIB = 1024
_SECTORS_A_KIB = 2
_STRIPED = frozenset({MdLevel.RAID0, MdLevel.LINEAR})
_WITH_PARITY = frozenset({MdLevel.RAID4, MdLevel.RAID5, MdLevel.RAID6})
_PARITY_LAYOUT = re.compile(r"(left|right)-(a?symmetric)|parity-(first|last)")
_LAYOUTS = {
    MdLevel.RAID5: _PARITY_LAYOUT,
    MdLevel.RAID6: _PARITY_LAYOUT,
    MdLevel.RAID10: re.compile(r"[nfo][1-9][0-9]?"),
}
_MAY_LACK = {MdLevel.RAID4: 1, MdLevel.RAID5: 1, MdLevel.RAID6: 2}


def array_action(layout: Layout, array: MdArray, devices: Devices) -> Action:
    """Return the step that makes an array and starts it."""
    path = devices.path(array.id)
    names = [devices.path(member.on) for member in array.members]
    lacks = array.slots - len(_filled(array))
    words = f"make the array {path}: {array.level} of {' and '.join(names)}"
    if lacks:
        words += f", {lacks} missing as it was when it was saved"
    argv = ("mdadm", "--create", path, *_options(array), *_members(array, devices))
    return Action.of(
        "array",
        array,
        phase=Phase.STORAGE,
        words=words,
        commands=(Command(argv=argv),),
        destroys=tuple(names),
    )


def array_refusals(layout: Layout, array: MdArray) -> tuple[Refusal, ...]:
    """Return why an array cannot be made as it was."""
    return tuple(Refusal(array.id, words) for words in _faults(layout, array))


def _filled(array: MdArray) -> dict[int, MdMember]:
    return {member.slot: member for member in array.members if member.slot is not None}


def _options(array: MdArray) -> Iterator[str]:
    # Without --run it asks whether it should go on where a member was in an array, or sizes differ.
    yield "--run"
    # Neither the rescue environment's name nor its configuration belongs into the metadata.
    yield "--config=none"
    yield "--homehost=<none>"
    yield f"--metadata={array.metadata}"
    yield f"--uuid={array.uuid}"
    if array.name and array.metadata != "0.90":
        yield f"--name={array.name}"
    yield f"--level={array.level}"
    if array.layout is not None and array.level in _LAYOUTS:
        yield f"--layout={array.layout}"
    if array.chunk_bytes:
        yield f"--chunk={array.chunk_bytes // _KIB}"
    if array.level not in _STRIPED:
        if array.component_bytes:
            yield f"--size={array.component_bytes // _KIB}"
        # Otherwise it is mdadm's choice, by the array's size.
        yield f"--bitmap={array.bitmap}"
    offset = _offset(array)
    if offset is not None:
        yield f"--data-offset={offset}"
    # An array of one member is refused without it, and one of RAID 4 or 5 made with a spare in
    # place of its last member, and which spare that is when there are more is up to the kernel.
    # It must stand before the number of members.
    if array.slots == 1 or array.level in (MdLevel.RAID4, MdLevel.RAID5):
        yield "--force"
    yield f"--raid-devices={array.slots}"
    spares = len(array.members) - len(_filled(array))
    if spares:
        yield f"--spare-devices={spares}"
    # Never --assume-clean: with parity, what is written next would be protected by parity that
    # was never computed. Mirrors would be safe, as nothing reads what was not written; but their
    # halves would differ in what was not, and each later check of the array would report so
    # many mismatches that a true one would not be seen. The kernel resyncs behind the restore's
    # back and gives way to it.


def _members(array: MdArray, devices: Devices) -> Iterator[str]:
    """Yield the devices by slot, then the spares. They are paths: mdadm knows no ``--``."""
    filled = _filled(array)
    spares = [member for member in array.members if member.slot is None]
    each = _offset(array) == "variable"
    for member in (*(filled.get(slot) for slot in range(array.slots)), *spares):
        if member is None:
            yield "missing"
        elif each:
            yield f"{devices.path(member.on)}:{_sectors(member.data_offset_sectors or 0)}"
        else:
            yield devices.path(member.on)


def _offset(array: MdArray) -> str | None:
    """Return what mdadm is told of where data begins; None where that is the member's start."""
    if array.metadata == "0.90":
        return None
    offsets = {member.data_offset_sectors or 0 for member in array.members}
    if offsets == {0}:
        return None
    return _sectors(offsets.pop()) if len(offsets) == 1 else "variable"


def _sectors(number: int) -> str:
    """Return a number of sectors of 512 bytes as mdadm takes it."""
    return f"{number}s" if number % _SECTORS_A_KIB else f"{number // _SECTORS_A_KIB}K"


def _faults(layout: Layout, array: MdArray) -> Iterator[str]:
    path = device_path(array)
    if _KERNEL_NAME.fullmatch(array.kernel_name) is None:
        yield (
            f"{path} is called by a name instead of a number, which mdadm gives to no array "
            "without a configuration of its own: assemble it as /dev/md127 or the like, and save "
            "the machine anew"
        )
    if len(array.name.encode("utf-8", "replace")) > _NAME_BYTES:
        yield f"{path} has a name of more than {_NAME_BYTES} bytes"
    if not array.name.isprintable():
        yield f"{path} has a name with characters that no program writes"
    for node in layout.below(array):
        if isinstance(node, Opaque):
            yield f"{path} has a member, {node.id}, that cannot be made: {node.what}"
    if _offset(array) == "variable":
        yield from (
            f"{path} has a member, {device_path(node)}, whose name mdadm cannot tell from the "
            "place of its data, which differs between the members"
            for node in layout.below(array)
            if ":" in device_path(node)
        )
    yield from _geometry_faults(array, path)


def _geometry_faults(array: MdArray, path: str) -> Iterator[str]:
    known = _LAYOUTS.get(array.level)
    if known and array.layout is not None and known.fullmatch(array.layout) is None:
        yield f"{path} is laid out as {array.layout}, which mdadm does not make with {array.level}"
    if (array.chunk_bytes or 0) % _KIB or array.component_bytes % _KIB:
        yield f"{path} has a geometry that mdadm cannot be told: it counts in {size_words(_KIB)}"
    lacks = array.slots - len(_filled(array))
    if array.level in (MdLevel.RAID1, MdLevel.RAID10):
        may_lack = array.slots - 1
    else:
        may_lack = _MAY_LACK.get(array.level, 0)
    if lacks > may_lack:
        yield (
            f"{path} lacks {lacks} of its {array.slots} members and does not run without: "
            "save the machine with the array whole"
        )
