"""What an image is made of is chosen and told."""

from __future__ import annotations

from mindi.sources import absence


def test_few_absent_packages_are_all_named() -> None:
    assert absence(("a", "b")).endswith("2 packages (a, b)")


def test_many_absent_packages_are_counted() -> None:
    names = [f"firmware-{letter}" for letter in "abcdefg"]
    assert absence(names).endswith(
        "7 packages (firmware-a, firmware-b, firmware-c, firmware-d, firmware-e and 2 more)"
    )
