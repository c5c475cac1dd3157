"""Outputs are there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from initramfs.errors import OutputError
from mindi.output import check_writable, written_whole
from tests.support.rights import run_bound


def test_a_whole_file_takes_its_name(tmp_path: Path) -> None:
    target = tmp_path / "a.iso"
    with written_whole(target) as part:
        part.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_private_file_is_its_owners_alone(tmp_path: Path, private: bool, mode: int) -> None:
    before = os.umask(0o022)
    try:
        with written_whole(tmp_path / "a.iso", private=private) as part:
            assert part.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)
    assert (tmp_path / "a.iso").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    "failure",
    [ValueError("bug"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")],
    ids=["bug", "interrupt", "full"],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: BaseException
) -> None:
    target = tmp_path / "a.iso"
    target.write_bytes(b"old")
    with pytest.raises((ValueError, KeyboardInterrupt, OutputError)), written_whole(target) as part:
        part.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    target = tmp_path / "a.iso"
    with (
        pytest.raises(OutputError, match="No space left on device") as caught,
        written_whole(target),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "free some room" in (caught.value.hint or "")


def test_an_error_of_another_file_is_not_taken_for_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "a.iso"):
        (tmp_path / "other").read_bytes()


def test_a_missing_folder_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is no directory"):
        check_writable(tmp_path / "none" / "a.iso")


def test_a_directory_is_no_output_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a directory"):
        check_writable(tmp_path)


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    """As root, -o onto a device put a file in its place."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no regular file"):
        check_writable(tmp_path / "pipe")


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OutputError, match="it is a link to file"):
        check_writable(tmp_path / "link")


def test_a_regular_file_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "file")


@pytest.mark.parametrize("name", ["a.iso", "below/a.iso"])
def test_a_closed_folder_is_an_output_error(name: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from initramfs.errors import OutputError\n"
        "from mindi.output import check_writable\n"
        "try: check_writable(Path(sys.argv[1]))\n"
        "except OutputError as error: print(error.message)"
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        said = run_bound(program, closed / name)
    finally:
        closed.chmod(0o755)
    assert "Permission denied" in said
