"""What the commands do with their own output and their own folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.initrds import image_file, odd_tree
from tests.support.realtree import mindi


@pytest.mark.parametrize(
    ("where", "words"),
    [(">&-", "it is closed"), (">/dev/full", "No space left on device")],
    ids=["closed", "full"],
)
def test_a_result_that_cannot_be_printed_is_an_output_error(
    where: str, words: str, tmp_path: Path
) -> None:
    image = image_file(tmp_path / "a.img", odd_tree(tmp_path / "root").build())
    ran = mindi("inspect", image, before=("sh", "-c", f'exec "$0" "$@" {where}'))
    assert ran.status == 5, ran.err
    assert ran.err == f"mindi: error: cannot write to standard output: {words}\n"


def test_json_of_a_boot_needs_a_check(tmp_path: Path) -> None:
    ran = mindi("boot", tmp_path / "a.iso", "--json")
    assert ran.status == 2
    assert "boot --json needs --check" in ran.err


def test_a_check_that_fails_early_leaves_no_folder(tmp_path: Path) -> None:
    """A cache that others may write to ends it once the folder for the logs is there."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(510) + b"\x55\xaa")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    logs = tmp_path / "tmp"
    logs.mkdir()
    before = ("env", f"TMPDIR={logs}", f"MINDI_CACHE={tmp_path / 'cache'}")
    ran = mindi("boot", image, "--check", before=before)
    assert ran.status == 4, ran.err
    assert "cannot be trusted" in ran.err
    assert list(logs.iterdir()) == []
