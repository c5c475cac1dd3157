"""LUKS headers as cryptsetup(8) shows them: parameters alone, nothing that unlocks anything."""

from __future__ import annotations

import json
import re

from archive.errors import CannotRead
from archive.machine.layoutnodes import Luks, LuksSlot

_FIELD = re.compile(r"^([A-Z][\w /.-]*?):[ \t]*(.*)$", re.MULTILINE)
_SLOT = re.compile(r"^Key Slot (\d+): ENABLED\n((?:\t.*\n?)*)", re.MULTILINE)
_SECTOR = 512


def parse_luks1(text: str, *, on: str, name: str) -> Luks:
    """Return what ``cryptsetup luksDump`` says of a LUKS 1 volume. Raises CannotRead."""
    try:
        fields = dict(_FIELD.findall(text))
        cipher = f"{fields['Cipher name']}-{fields['Cipher mode']}"
        bits = int(fields["MK bits"])
        hashed = fields["Hash spec"]
        return Luks(
            id=f"luks:{name}",
            on=on,
            version=1,
            uuid=fields["UUID"],
            cipher=cipher,
            key_bits=bits,
            hash=hashed,
            sector_bytes=_SECTOR,
            offset_bytes=int(fields["Payload offset"]) * _SECTOR,
            slots=tuple(
                LuksSlot(
                    number=int(number),
                    key_bits=bits,
                    cipher=cipher,
                    kdf="pbkdf2",
                    hash=hashed,
                    iterations=_after(body, "Iterations"),
                    stripes=_after(body, "AF stripes"),
                )
                for number, body in _SLOT.findall(text)
            ),
        )
    except (KeyError, ValueError) as error:
        raise CannotRead(f"what cryptsetup says of {on} makes no sense: {error!r}") from error


def _after(body: str, name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+)", body)
    if found is None:
        raise ValueError(f"no {name}")
    return int(found[1])


def parse_luks2(text: str, metadata: str, *, on: str, name: str) -> Luks:
    """Return a LUKS 2 volume: ``text`` of luksDump, ``metadata`` of its --dump-json-metadata.

    Raises CannotRead, also for a volume without a segment, or of several (which is being
    encrypted anew).
    """
    try:
        fields = dict(_FIELD.findall(text.partition("Data segments:")[0]))
        told = json.loads(metadata)
        (segment,) = told["segments"].values()
        slots = tuple(
            _slot(int(number), slot)
            for number, slot in sorted(told["keyslots"].items(), key=lambda one: int(one[0]))
        )
        digests = [one for one in told["digests"].values() if one["segments"]]
        flags = [*told["config"].get("flags", ()), *told["config"].get("requirements", ())]
        if "integrity" in segment:
            flags.append(f"integrity:{segment['integrity']['type']}")
        return Luks(
            id=f"luks:{name}",
            on=on,
            version=2,
            uuid=fields["UUID"],
            cipher=segment["encryption"],
            key_bits=slots[0].key_bits if slots else 0,
            hash=digests[0]["hash"],
            sector_bytes=int(segment["sector_size"]),
            offset_bytes=int(segment["offset"]),
            label=_named(fields.get("Label", "")),
            subsystem=_named(fields.get("Subsystem", "")),
            slots=slots,
            flags=tuple(sorted(flags)),
            tokens=tuple(sorted(str(one["type"]) for one in told["tokens"].values())),
        )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise CannotRead(f"what cryptsetup says of {on} makes no sense: {error!r}") from error


def _slot(number: int, slot: dict[str, dict[str, object]]) -> LuksSlot:
    kdf = slot["kdf"]
    priority = {0: "ignore", 1: "normal", 2: "prefer"}
    is_pbkdf2 = kdf["type"] == "pbkdf2"
    return LuksSlot(
        number=number,
        key_bits=int(str(slot["key_size"])) * 8,
        cipher=str(slot["area"]["encryption"]),
        kdf=str(kdf["type"]),
        hash=str(kdf["hash"]) if is_pbkdf2 else None,
        iterations=int(str(kdf["iterations" if is_pbkdf2 else "time"])),
        memory_kib=None if is_pbkdf2 else int(str(kdf["memory"])),
        threads=None if is_pbkdf2 else int(str(kdf["cpus"])),
        stripes=int(str(slot["af"]["stripes"])),
        priority=priority[int(str(slot.get("priority", 1)))],
    )


def _named(value: str) -> str:
    return "" if value.startswith("(no ") else value
