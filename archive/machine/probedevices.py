"""Block devices as lsblk(8) tells them: what there is, and what lies on what.

Parses ``lsblk -J -b``, with the columns below or all (``-O``): a tree in which a device that lies
on several is there under each. What holds nothing of the machine (optical drives, memory, loop
devices) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from archive.errors import CannotRead
from archive.machine.probesystem import Asker

# Not all columns: what lies on many devices is told below each of them, with all that lies on it.
_COLUMNS = "NAME,KNAME,PATH,MAJ:MIN,TYPE,SIZE,MODEL,SERIAL,WWN,TRAN,LOG-SEC,PHY-SEC,ROTA"
COMMAND = ("lsblk", "-J", "-b", "-o", _COLUMNS)

_LEFT_OUT = ("loop", "rom", "ram", "zram", "fd")
_DEFAULT_SECTOR = 512
_NUMBER = re.compile(r"(\d+)$")
_MAPPED_PARTITION = re.compile(r"part(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A block device; ``parents`` are kernel names of what it lies on, in lsblk's order."""

    kernel_name: str
    path: str
    number: str
    """Major and minor, as ``254:1``."""
    kind: str
    """lsblk's TYPE: ``disk``, ``part``, ``crypt``, ``lvm``, ``raid1``, ``mpath``, ..."""
    size_bytes: int
    logical_sector: int
    physical_sector: int
    parents: tuple[str, ...]
    model: str | None
    serial: str | None
    wwn: str | None
    transport: str | None
    rotational: bool
    name: str
    """Of device-mapper its own name for it."""
    mapper_uuid: str = ""
    """Of device-mapper: ``CRYPT-LUKS2-...``, ``LVM-...``."""

    @property
    def partition_number(self) -> int:
        """Of a partition its number in the table; 0 where its name has none."""
        found = _MAPPED_PARTITION.match(self.mapper_uuid) or _NUMBER.search(self.kernel_name)
        return int(found[1]) if found else 0


def parse_lsblk(text: str) -> tuple[Device, ...]:
    """Return the devices, each after those that it lies on. Raises CannotRead."""
    try:
        tree = json.loads(text)["blockdevices"]
        rows: dict[str, dict[str, object]] = {}
        parents: dict[str, list[str]] = {}
        for row, parent in _walk(tree, None):
            name = str(row["kname"])
            rows.setdefault(name, row)
            above = parents.setdefault(name, [])
            if parent is not None and parent not in above:
                above.append(parent)
        devices = {name: _device(row, tuple(parents[name])) for name, row in rows.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CannotRead(f"what lsblk says makes no sense: {error!r}") from error
    return tuple(_ordered(devices))


def read_devices(asker: Asker) -> tuple[Device, ...]:
    """Return the devices of a machine. Raises CannotRead."""
    # Without any device lsblk ends with 32 in some versions, and says nothing.
    text = asker.output(*COMMAND, statuses=(0, 32))
    devices = parse_lsblk(text or '{"blockdevices": []}')
    return tuple(_completed(asker, device) for device in devices)


def _walk(rows: object, parent: str | None) -> Iterator[tuple[dict[str, object], str | None]]:
    if not isinstance(rows, list):
        raise TypeError("no list of devices")
    for row in rows:
        if not isinstance(row, dict):
            raise TypeError("no device")
        yield row, parent
        if row.get("children"):
            yield from _walk(row["children"], str(row["kname"]))


def _device(row: dict[str, object], parents: tuple[str, ...]) -> Device:
    return Device(
        kernel_name=str(row["kname"]),
        path=str(row["path"]),
        number=str(row["maj:min"]),
        kind=str(row["type"]),
        size_bytes=_number(row.get("size")),
        logical_sector=_number(row.get("log-sec")) or _DEFAULT_SECTOR,
        physical_sector=_number(row.get("phy-sec")) or _DEFAULT_SECTOR,
        parents=parents,
        model=_text(row.get("model")),
        serial=_text(row.get("serial")),
        wwn=_text(row.get("wwn")),
        transport=_text(row.get("tran")),
        rotational=row.get("rota") in (True, "1"),
        name=str(row["name"]),
    )


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, str)) else 0


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _ordered(devices: dict[str, Device]) -> Iterator[Device]:
    waiting = [device for device in devices.values() if _wanted(device)]
    names = {device.kernel_name for device in waiting}
    done: set[str] = set()
    while waiting:
        ready = [one for one in waiting if done.issuperset(names.intersection(one.parents))]
        if not ready:
            raise ValueError(f"{waiting[0].kernel_name} lies on itself")
        yield from ready
        done.update(one.kernel_name for one in ready)
        waiting = [one for one in waiting if one.kernel_name not in done]


def _wanted(device: Device) -> bool:
    if device.kernel_name.startswith(_LEFT_OUT) or device.kind in _LEFT_OUT:
        return False
    return device.size_bytes > 0


def _completed(asker: Asker, device: Device) -> Device:
    """Return a device with what lsblk does not tell, or not without udev."""
    block = f"/sys/class/block/{device.kernel_name}"
    if device.kernel_name.startswith("dm-"):
        uuid = asker.system.read(f"{block}/dm/uuid") or ""
        name = asker.system.read(f"{block}/dm/name") or device.name
        return replace(device, mapper_uuid=uuid, name=name)
    if device.kind != "disk":
        return device

    def first(value: str | None, *files: str) -> str | None:
        for file in files if value is None else ():
            value = _text(asker.system.read(f"{block}/{file}"))
            if value is not None:
                break
        return value

    return replace(
        device,
        serial=first(device.serial, "serial", "device/serial"),
        model=first(device.model, "device/model"),
        wwn=first(device.wwn, "wwid", "device/wwid"),
    )
