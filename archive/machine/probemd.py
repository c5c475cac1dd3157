"""md arrays as ``mdadm --detail --export`` and sysfs tell them: md(4), the kernel's md.rst."""

from __future__ import annotations

from collections.abc import Mapping

from archive.errors import CannotRead
from archive.machine.layoutnodes import MdArray, MdBitmap, MdLevel, MdMember
from archive.machine.probedevices import Device
from archive.machine.probesystem import Asker

_PARITY = {
    0: "left-asymmetric",
    1: "right-asymmetric",
    2: "left-symmetric",
    3: "right-symmetric",
    4: "parity-first",
    5: "parity-last",
}
_WITH_PARITY = (MdLevel.RAID5, MdLevel.RAID6)
_WITHOUT_CHUNKS = (MdLevel.RAID1, MdLevel.LINEAR)
_OFFSET_BIT = 1 << 16


def parse_export(text: str) -> dict[str, str]:
    """Return the values that ``mdadm --export`` printed."""
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def layout_word(level: MdLevel, number: int) -> str | None:
    """Return mdadm's word for the number of a layout; None where there is only one.

    Raises ValueError for a layout that mdadm has no word for.
    """
    if level in _WITH_PARITY:
        if number not in _PARITY:
            raise ValueError(f"layout {number}")
        return _PARITY[number]
    if level is not MdLevel.RAID10:
        return None
    near, far = number & 0xFF, number >> 8 & 0xFF
    if far > 1:
        return f"{'o' if number & _OFFSET_BIT else 'f'}{far}"
    return f"n{near}"


def read_array(asker: Asker, device: Device, ids: Mapping[str, str]) -> MdArray | str:
    """Return an array; what keeps it from being one that can be made anew, in words, otherwise.

    ``ids`` are those of devices by kernel name. Raises CannotRead.
    """
    told = parse_export(asker.output("mdadm", "--detail", "--export", device.path))
    system = asker.system
    place = f"/sys/class/block/{device.kernel_name}/md"

    def value(name: str) -> str:
        return system.read(f"{place}/{name}") or ""

    metadata = value("metadata_version") or told.get("MD_METADATA", "")
    if metadata not in ("0.90", "1.0", "1.1", "1.2"):
        return f"an array whose metadata ({metadata}) is the firmware's"
    try:
        level = MdLevel(value("level"))
        members = tuple(
            _member(system.read(f"{place}/{name}/slot"), value(f"{name}/offset"), ids[kernel])
            for name in system.names(place)
            if name.startswith("dev-") and (kernel := name.removeprefix("dev-")) in ids
        )
        bitmap = value("bitmap/location")
        if bitmap == "file":
            return "an array whose bitmap is in a file"
        if value("consistency_policy") in ("journal", "ppl"):
            return f"an array with a {value('consistency_policy')}"
        return MdArray(
            id=ids[device.kernel_name],
            kernel_name=device.kernel_name,
            name=told.get("MD_NAME", ""),
            uuid=told["MD_UUID"],
            level=level,
            metadata=metadata,
            size_bytes=device.size_bytes,
            component_bytes=int(value("component_size") or 0) * 1024,
            slots=int(value("raid_disks")),
            members=tuple(
                sorted(members, key=lambda one: (one.slot is None, one.slot or 0, one.on))
            ),
            chunk_bytes=None if level in _WITHOUT_CHUNKS else int(value("chunk_size")),
            layout=layout_word(level, int(value("layout") or 0)),
            bitmap=MdBitmap.INTERNAL if bitmap[:1] in ("+", "-") else MdBitmap.NONE,
        )
    except (KeyError, ValueError) as error:
        raise CannotRead(f"what md says of {device.path} makes no sense: {error!r}") from error


def _member(slot: str | None, offset: str, on: str) -> MdMember:
    place = int(slot) if slot is not None and slot.isdecimal() else None
    return MdMember(on, place, int(offset) if offset.isdecimal() else None)
