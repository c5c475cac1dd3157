"""Aliases match as libkmod's do: fnmatch(3), and '-' equals '_' outside of brackets."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initramfs.modalias import AliasTable, normalise_alias


def _matches(pattern: str, name: str) -> bool:
    return AliasTable(f"alias {pattern} m\n").matching(name) == ("m",)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("fs-ext4", "fs-ext4", True),
        ("fs-ext4", "fs_ext4", True),
        ("fs-ext4", "fs-ext", False),
        ("fs-ext4", "fs-ext4x", False),
        ("pci:v00008086d*sv*", "pci:v00008086d000010D3sv00008086sd0", True),
        ("pci:v00008086d*sv*", "pci:v00008087d000010D3sv00008086sd0", False),
        ("usb:v*p*d*ic08isc06ip50in*", "usb:v0781p5567d0126dc00ic08isc06ip50in00", True),
        ("usb:v*ab", "usb:vab", True),
        ("usb:v*ab*ab", "usb:vab", False),
        ("*", "anything", True),
        ("usb:v05ACp12[9a-c]*", "usb:v05ACp129d", True),
        ("usb:v05ACp12[!9a-c]*", "usb:v05ACp129d", False),
        ("usb:v05ACp12[!9a-c]*", "usb:v05ACp12Zd", True),
        ("of:N?T*", "of:NxT<NULL>C", True),
        ("of:N?T*", "of:NT<NULL>C", False),
        ("a[b-d]-e", "ac_e", True),
        ("a[z-a]*", "az", False),
        ("a[!z-a]b", "axb", True),
        ("a[z-ab]", "ab", True),
        ("a[--a]", "aZ", True),
        ("a[x-]", "a-", False),
        ("dmi*:svnA(B)*", "dmi:x:svnA(B).c", True),
    ],
)
def test_matches(pattern: str, name: str, expected: bool) -> None:
    assert _matches(pattern, name) is expected


def test_answers_in_the_order_of_the_file_each_once() -> None:
    table = AliasTable("# head\nalias usb:v* z\nalias usb:v1 a\nalias u* z\nalias usb* b\n")

    assert table.matching("usb:v1") == ("z", "a", "b")


def test_brackets_keep_their_dash() -> None:
    assert normalise_alias("a-b[c-d]e-f") == "a_b[c-d]e_f"


_libc = ctypes.CDLL(None)


@given(
    st.text(alphabet="ab:*?[]!x", min_size=1, max_size=20),
    st.text(alphabet="ab:x", max_size=20),
)
def test_agrees_with_the_c_library(pattern: str, name: str) -> None:
    expected = _libc.fnmatch(pattern.encode(), name.encode(), 0) == 0

    assert _matches(pattern, name) is expected
