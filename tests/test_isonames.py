"""Names on an ISO fit the standards, and differ where the paths differ."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mindi.isonames import IsoNames

NAMES = st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80
).filter(lambda name: name not in (".", ".."))


def test_a_boot_file_keeps_its_name() -> None:
    names = IsoNames().file("/boot/initrd.img")
    assert (names.iso, names.rock_ridge) == ("/BOOT/INITRD.IMG;1", "initrd.img")
    assert names.joliet == "/boot/initrd.img"


def test_a_file_without_a_suffix_has_its_dot() -> None:
    assert IsoNames().file("/vmlinuz").iso == "/VMLINUZ.;1"


def test_a_directory_has_neither_dot_nor_version() -> None:
    assert IsoNames().directory("/.disk").iso == "/_DISK"


def test_names_alike_in_capitals_are_told_apart() -> None:
    names = IsoNames()
    one, other = names.file("/a-b.x"), names.file("/A_B.x")
    assert one.iso != other.iso
    assert one.joliet.casefold() != other.joliet.casefold()


def test_the_same_question_has_the_same_answer() -> None:
    names = IsoNames()
    assert names.file("/a") == names.file("/a")


@given(st.lists(NAMES, unique=True, max_size=20))
def test_any_names_fit_and_differ(given_names: list[str]) -> None:
    names = IsoNames()
    found = [names.file(f"/{name}") for name in given_names]
    for place in found:
        stem, suffix = place.iso[1:].removesuffix(";1").split(".")
        assert re.fullmatch(r"[A-Z0-9_]+", stem)
        assert re.fullmatch(r"[A-Z0-9_]*", suffix)
        assert len(stem) + len(suffix) <= 30
        assert 1 <= len(place.joliet[1:]) <= 64
        assert not set(place.joliet[1:]) & set("*/:;?\\")
    assert len({place.iso for place in found}) == len(found)
    assert len({place.joliet.casefold() for place in found}) == len(found)
