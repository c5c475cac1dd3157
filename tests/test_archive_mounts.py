"""What is mounted where, and what it holds."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from archive.errors import CannotRead
from archive.mounts import (
    Mount,
    MountTable,
    Nature,
    parse_mountinfo,
    read_mounts,
    unescaped,
    visible,
    with_uuids,
)
from tests.support import mountinfo
from tests.support.tools import require_tool


def at(table: bytes, point: bytes) -> Mount:
    """Return the topmost mount at a point."""
    return next(mount for mount in visible(parse_mountinfo(table)) if mount.point == point)


@pytest.mark.parametrize(
    ("point", "nature"),
    [
        (b"/", Nature.LOCAL),
        (b"/boot/efi", Nature.LOCAL),
        (b"/home", Nature.LOCAL),
        (b"/proc", Nature.PSEUDO),
        (b"/net", Nature.PSEUDO),
        (b"/run", Nature.MEMORY),
        (b"/dev", Nature.MEMORY),
        (b"/snap/core22/1380", Nature.IMAGE),
        (b"/run/media/ann/DISC", Nature.IMAGE),
        (b"/srv/share", Nature.NETWORK),
        (b"/mnt/nas", Nature.NETWORK),
        (b"/home/ann/remote", Nature.NETWORK),
        (b"/home/ann/.mount_edit", Nature.USER),
        (b"/run/user/1000/doc", Nature.PSEUDO),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else value.name,
)
def test_a_filesystem_has_its_nature(point: bytes, nature: Nature) -> None:
    assert at(mountinfo.SERVER, point).nature is nature


@pytest.mark.parametrize(
    ("kind", "source", "nature"),
    [
        ("fuse.thing", b"ann@host:/srv", Nature.NETWORK),
        ("fuse.thing", b"//host/share", Nature.NETWORK),
        ("fuse", b"https://host/dav", Nature.NETWORK),
        ("fuse.thing", b"thing", Nature.USER),
        ("fuse.encfs", b"/home/ann/.secret", Nature.USER),
        ("fuseblk", b"/dev/sdb1", Nature.LOCAL),
        ("filesystem-of-tomorrow", b"/dev/sdb1", Nature.LOCAL),
    ],
)
def test_unknown_kinds_are_told_by_their_source(kind: str, source: bytes, nature: Nature) -> None:
    mount = Mount(number=1, parent=0, device=1, root=b"/", point=b"/m", kind=kind, source=source)
    assert mount.nature is nature


def test_a_udf_disk_that_can_be_written_is_local() -> None:
    line = b"1 0 8:1 / /m %s,relatime - udf /dev/sdb1 rw\n"
    assert parse_mountinfo(line % b"rw")[0].nature is Nature.LOCAL
    assert parse_mountinfo(line % b"ro")[0].nature is Nature.IMAGE


def test_escapes_are_undone() -> None:
    assert unescaped(rb"/run/My\040Stick\134040") == rb"/run/My Stick\040"


def test_a_line_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(CannotRead, match="makes no sense"):
        parse_mountinfo(b"1 0 8:1 / /\n")


def test_what_is_automounted_hides_the_automount_point() -> None:
    assert at(mountinfo.SERVER, b"/mnt/nas").kind == "cifs"


def test_a_mount_hides_what_was_mounted_below_it_before() -> None:
    table = b"""1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /a/b rw - ext4 /dev/sda2 rw
3 1 8:3 / /a rw - ext4 /dev/sda3 rw
4 3 8:4 / /a/c rw - ext4 /dev/sda4 rw
"""
    assert [mount.number for mount in visible(parse_mountinfo(table))] == [1, 3, 4]


def test_a_mount_over_the_root_hides_all_that_was() -> None:
    table = b"""1 0 0:1 / / rw - rootfs rootfs rw
2 1 8:1 / / rw - ext4 /dev/sda1 rw
3 1 0:2 / /old rw - tmpfs tmpfs rw
"""
    assert [mount.number for mount in visible(parse_mountinfo(table))] == [2]


def test_a_path_lies_in_the_deepest_mount_above_it() -> None:
    table = MountTable(parse_mountinfo(mountinfo.SERVER))
    found = [table.holder(path) for path in (b"/boot/efi/EFI", b"/boot/x", b"/bootx", b"/")]
    assert [mount and mount.point for mount in found] == [b"/boot/efi", b"/boot", b"/", b"/"]


def test_findmnt_finds_the_same_mounts() -> None:
    tool = require_tool("findmnt", package="util-linux")
    done = subprocess.run(
        [tool, "--raw", "--noheadings", "--output", "ID,TARGET,FSTYPE"],
        check=True,
        capture_output=True,
    )
    rows = sorted(line.split(b" ") for line in done.stdout.splitlines())
    ours = [
        [b"%d" % mount.number, mount.point, mount.kind.encode()]
        for mount in parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    ]
    assert [
        [row[0], row[1].decode("unicode_escape").encode("latin-1"), row[2]] for row in rows
    ] == (sorted(ours))


HOLDERS = """
import os, re, sys
from pathlib import Path
from archive.mounts import MountTable, parse_mountinfo
table = MountTable(parse_mountinfo(Path("/proc/self/mountinfo").read_bytes()))
seen = 0
for point in {mount.point for mount in parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())}:
    try:
        fd = os.open(point, os.O_PATH)
    except OSError:
        continue
    number = int(re.search(r"mnt_id:\\s*(\\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())[1])
    os.close(fd)
    seen += 1
    if table.holder(point).number != number:
        print(point, number, table.holder(point))
print(seen > 3)
"""
"""Compares what the kernel says of each mount point with what we make of mountinfo."""

STACKED = """
set -e
mkdir "$1/a" "$1/a/b"
mount -t tmpfs one "$1/a/b"
mkdir "$1/a/b/c"
mount -t tmpfs two "$1/a/b/c"
mount -t tmpfs three "$1/a"
mkdir "$1/a/b" "$1/a/x"
mount -t tmpfs four "$1/a/x"
mount -t tmpfs five "$1/a/x"
mount -t tmpfs six "$1/a/x"
"""


def test_the_kernel_sees_the_same_mounts_at_their_points() -> None:
    done = subprocess.run([sys.executable, "-c", HOLDERS], check=True, capture_output=True)
    assert done.stdout == b"True\n"


def test_the_kernel_sees_the_same_mounts_where_they_are_stacked(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    unshare = require_tool("unshare", package="util-linux")
    script = f"{STACKED}\nexec {shlex.quote(sys.executable)} -c {shlex.quote(HOLDERS)}"
    argv = [unshare, "--mount", "sh", "-c", script, "sh", tmp_path]
    done = subprocess.run(argv, check=False, capture_output=True)
    if done.returncode and b"ermi" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert (done.stdout, done.stderr) == (b"True\n", b"")


# Identities


def test_a_subvolume_is_a_filesystem_of_its_own() -> None:
    names = {at(mountinfo.BTRFS, point).identity for point in (b"/", b"/home", b"/mnt/pool")}
    assert names == {"0:33:/@", "0:33:/@home", "0:33:/"}


def test_a_bound_directory_is_no_filesystem_of_its_own() -> None:
    assert at(mountinfo.SERVER, b"/srv/www").identity == at(mountinfo.SERVER, b"/home").identity


def test_a_uuid_is_preferred_to_a_number() -> None:
    mounts = with_uuids(parse_mountinfo(mountinfo.SERVER), uuids={os.makedev(253, 2): "c0ffee"})
    assert {mount.point: mount.uuid for mount in mounts if mount.uuid} == {
        b"/home": "c0ffee",
        b"/srv/www": "c0ffee",
    }


def test_a_network_filesystem_is_known_by_its_source() -> None:
    assert at(mountinfo.SERVER, b"/srv/share").identity == "nfs4 filer:/export/share"


def test_udev_s_links_name_the_uuids(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_bytes(b"1 0 1:3 / / rw - ext4 /dev/null rw\n")
    (tmp_path / "by-uuid").mkdir()
    (tmp_path / "by-uuid/12-34").symlink_to("/dev/null")
    (mount,) = read_mounts(tmp_path / "mountinfo", by_uuid=tmp_path / "by-uuid")
    assert mount.identity == "12-34"


def test_no_proc_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="Cannot tell what is mounted"):
        read_mounts(tmp_path / "mountinfo")
