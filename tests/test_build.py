"""What a build refuses before its work, and what it notices after it."""

from __future__ import annotations

import pytest

from initramfs.errors import UsageError
from mindi.build import check_host_only


@pytest.mark.parametrize("architecture", ["aarch64", "s390x"])
def test_an_image_of_another_architecture_is_not_for_this_machine(architecture: str) -> None:
    with pytest.raises(UsageError, match=f"the root tree is of {architecture}"):
        check_host_only(architecture, "x86_64")


@pytest.mark.parametrize(
    ("architecture", "machine"), [("x86_64", "x86_64"), ("i686", "x86_64"), ("aarch64", "aarch64")]
)
def test_an_image_of_its_own_architecture_is(architecture: str, machine: str) -> None:
    check_host_only(architecture, machine)
