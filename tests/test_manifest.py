"""Manifests: written and read back, and what is none is refused with words, whatever it is."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.codec import Codec
from archive.errors import SetDamaged
from archive.machine.probeprofile import probe_machine
from archive.manifest import Kind, Manifest
from tests.support.recording import Recorded
from tests.support.sets import manifest

RECORDED = Path(__file__).parent / "recorded"
MACHINES = sorted(file.stem for file in RECORDED.glob("*.json"))
PARENT = "0b8e5a1c-7c50-4f0e-9d3c-111111111111"


def sealed(held: object) -> bytes:
    """Return JSON with a right digest of itself, as an enemy can make it."""
    if isinstance(held, dict):
        held.pop("sha256", None)
        text = json.dumps(held, sort_keys=True, separators=(",", ":"))
        held["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(held).encode()


def plain() -> dict[str, Any]:
    held: dict[str, Any] = json.loads(manifest().to_json())
    return held


def test_what_is_written_is_read() -> None:
    told = manifest(kind=Kind.DIFFERENTIAL, parent_id=PARENT, codec=Codec.XZ)
    assert Manifest.from_json(told.to_json()) == told


def test_names_that_are_no_utf8_survive() -> None:
    told = manifest()
    assert Manifest.from_json(told.to_json()).selection.exclude == ("*.o", "/caf\udce9")


def test_the_digest_is_as_the_format_says() -> None:
    held = plain()
    told = held.pop("sha256")
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == told


@pytest.mark.parametrize("place", range(0, 1000, 53))
def test_a_flipped_bit_is_seen(place: int) -> None:
    data = bytearray(manifest().to_json())
    data[place] ^= 1
    with pytest.raises(SetDamaged):
        Manifest.from_json(bytes(data))


def test_a_cut_one_is_refused() -> None:
    with pytest.raises(SetDamaged, match=r"set/manifest\.json is damaged"):
        Manifest.from_json(manifest().to_json()[:-20], where="set/manifest.json")


def test_a_newer_version_is_told_from_damage() -> None:
    with pytest.raises(SetDamaged, match="version 2") as caught:
        Manifest.from_json(sealed({**plain(), "version": 2, "new": 1}))
    assert "newer program" in str(caught.value.hint)


def change(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def do(held: dict[str, Any]) -> None:
        *way, last = place.split(".")
        for step in way:
            held = held[int(step)] if isinstance(held, list) else held[step]
        held[int(last) if isinstance(held, list) else last] = value

    return do


WRONG = {
    "set_id": "../../etc",
    "parent_id": PARENT,
    "kind": "nonsense",
    "created": "yesterday",
    "codec": "ZSTD",
    "level": 10,
    "per_file": 1,
    "host": None,
    "selection": [],
    "selection.include": ["/", 3],
    "selection.one_filesystem": None,
    "slices.count": -1,
    "slices.size": 1 << 63,
    "slices.raw_size": 1.5,
    "slices.more": 1,
    "totals.files": True,
    "coverage": {},
    "coverage.0.taken": "yes",
    "coverage.0": 5,
    "issues.0.count": "2",
    "catalog.sha256": "0" * 63,
    "catalog.size": "10",
    "profile": {},
    "version": "1",
    "foreign": 0,
}


@pytest.mark.parametrize("place", sorted(WRONG))
def test_wrong_values_are_refused(place: str) -> None:
    held = plain()
    if place.startswith("coverage.0") and place.count(".") == 1:
        held["coverage"][0] = WRONG[place]
    else:
        change(place, WRONG[place])(held)
    with pytest.raises(SetDamaged):
        Manifest.from_json(sealed(held))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Manifest)])
def test_a_missing_field_is_refused(name: str) -> None:
    held = plain()
    del held[name]
    with pytest.raises(SetDamaged):
        Manifest.from_json(sealed(held))


HOSTILE = {
    "empty": b"",
    "no-utf8": b"\xff\xfe",
    "deep-lists": b"[" * 200_000,
    "deep-objects": b'{"version":' * 100_000,
    "just-deep-enough": b'{"version":1,"a":' + b"[" * 900 + b"]" * 900 + b"}",
    "huge-number": b'{"version":' + b"9" * 100_000 + b"}",
    "nan": b'{"version":NaN}',
    "twice": b'{"version":1,"version":1}',
    "list": b"[]",
    "null": b"null",
    "too-large": b" " * (17 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused(name: str) -> None:
    with pytest.raises(SetDamaged):
        Manifest.from_json(HOSTILE[name])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SetDamaged):
        Manifest.from_json(data)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["0" * 64, "full", "zstd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.data())
def test_any_structure_is_read_or_refused(data: st.DataObject) -> None:
    held = plain()
    for name in data.draw(st.sets(st.sampled_from(sorted(held)), min_size=1, max_size=3)):
        held[name] = data.draw(VALUES)
    try:
        read = Manifest.from_json(sealed(held))
    except SetDamaged:
        return
    assert json.loads(read.to_json()) == held


# The machine


@functools.cache
def of_machine(name: str) -> Manifest:
    profile = probe_machine(Recorded(RECORDED / f"{name}.json"))
    return dataclasses.replace(manifest(), profile=profile)


def plain_machine(name: str) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(of_machine(name).to_json())
    return held


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_read_as_it_was_written(name: str) -> None:
    told = of_machine(name)
    assert Manifest.from_json(told.to_json()) == told


MACHINE_WRONG = {
    "profile.version": 2,
    "profile.facts.memory_bytes": "1",
    "profile.facts.firmware": "coreboot",
    "profile.layout.version": 2,
    "profile.layout.nodes": {},
    "profile.layout.nodes.0.is": "System",
    "profile.layout.nodes.0.id": "-o",
    "profile.layout.nodes.0.size_bytes": 1 << 64,
    "profile.layout.nodes.1.on": "disk:none",
    "profile.layout.unsupported": [{"node": "disk:none", "words": ""}],
}


@pytest.mark.parametrize("place", sorted(MACHINE_WRONG))
def test_a_machine_that_cannot_be_is_refused(place: str) -> None:
    held = plain_machine("mbr")
    change(place, MACHINE_WRONG[place])(held)
    with pytest.raises(SetDamaged, match=r"set/manifest\.json"):
        Manifest.from_json(sealed(held), where="set/manifest.json")


def places(held: object, way: str) -> list[str]:
    """Return the places of all that a JSON value holds."""
    items = held.items() if isinstance(held, dict) else enumerate(held)  # type: ignore[arg-type]
    found = []
    for name, value in items:
        found.append(f"{way}.{name}")
        if isinstance(value, dict | list):
            found += places(value, found[-1])
    return found


MACHINE_PLACES = places(plain_machine("luks-lvm")["profile"], "profile")


@given(st.sampled_from(MACHINE_PLACES), VALUES | st.sampled_from(["disk:vda", "-", "a\0b", "\n"]))
def test_any_value_in_a_machine_is_read_or_refused(place: str, value: object) -> None:
    held = plain_machine("luks-lvm")
    change(place, value)(held)
    try:
        read = Manifest.from_json(sealed(held))
    except SetDamaged:
        return
    assert json.loads(read.to_json()) == held
