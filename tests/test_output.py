"""Outputs are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from initramfs.errors import OutputError
from mindi.output import check_writable, part_file, written_whole
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


STALE = ".a.iso.0123456789abcdef.part"
HOLDER = """
import sys
from pathlib import Path
from mindi.output import part_file
with part_file(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    print(part, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_build(target: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Give a process that writes a part of ``target``, and that part."""
    argv = [sys.executable, "-c", HOLDER, str(target)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().rstrip("\n"))
        finally:
            process.kill()


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "a.iso"
    with another_build(target) as (process, part):
        process.kill()
        process.wait()
        assert part.read_bytes() == b"half"
        with written_whole(target):
            assert not part.exists()
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_living_build_writes_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.iso"
    with another_build(target) as (_, part):
        with written_whole(target):
            pass
        assert part.read_bytes() == b"half"


def test_two_parts_of_one_file_stand_beside_each_other(tmp_path: Path) -> None:
    target = tmp_path / "a.iso"
    with part_file(target) as one, written_whole(target) as other:
        assert one.exists()
        other.write_bytes(b"whole")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize(
    "name",
    [
        ".b.iso.0123456789abcdef.part",
        ".a.iso.b.0123456789abcdef.part",
        ".a.iso.0123456789abcde.part",
        ".a.iso.0123456789ABCDEF.part",
        "a.iso.0123456789abcdef.part",
        ".axiso.0123456789abcdef.part",
    ],
)
def test_what_is_no_part_of_this_file_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with written_whole(tmp_path / "a.iso"):
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_stays(kind: str, tmp_path: Path) -> None:
    place, kept = tmp_path / STALE, tmp_path / "kept"
    kept.touch()
    if kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to("kept")
    else:
        os.mkfifo(place)
    with written_whole(tmp_path / "a.iso"):
        assert place.lstat()
        assert kept.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_left_stays(tmp_path: Path) -> None:
    (tmp_path / STALE).touch()
    os.chown(tmp_path / STALE, 12345, 12345)
    with written_whole(tmp_path / "a.iso"):
        assert (tmp_path / STALE).exists()


def test_a_part_that_is_taken_for_stale_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and locking it, another build may lock and remove it."""
    lock, made = fcntl.flock, []

    def overtaken(held: int, kind: int) -> None:
        made.append(Path(f"/proc/self/fd/{held}").readlink())
        if len(made) == 1:
            made[0].unlink()
        if len(made) == 2:
            raise BlockingIOError
        lock(held, kind)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with part_file(tmp_path / "a.iso") as part:
        assert part == made[2]
        assert part.exists()


def test_a_folder_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(held: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / STALE).touch()
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with written_whole(tmp_path / "a.iso") as part:
        part.write_bytes(b"whole")
    assert (tmp_path / "a.iso").read_bytes() == b"whole"
    assert (tmp_path / STALE).exists()


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
