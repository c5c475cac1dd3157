"""What becomes of every mounted filesystem."""

from __future__ import annotations

import pytest

from archive.coverage import Covered, Verdict, decide
from archive.mounts import MountTable, parse_mountinfo
from archive.patterns import Patterns
from archive.selection import Selection
from tests.support import mountinfo


def judge(
    table: bytes,
    *starts: bytes,
    selection: Selection | None = None,
    root: bytes = b"",
) -> dict[bytes, Covered]:
    """Return what becomes of each mount, by its point."""
    decided = decide(
        MountTable(parse_mountinfo(table)),
        selection or Selection(),
        starts=frozenset(starts or (b"/",)),
        root=root,
    )
    return {covered.mount.point: covered for covered in decided}


def verdicts(found: dict[bytes, Covered]) -> dict[str, Verdict]:
    """Return the verdicts alone, readable."""
    return {point.decode(): covered.verdict for point, covered in found.items()}


SERVER = {
    "/sys": Verdict.PSEUDO,
    "/proc": Verdict.PSEUDO,
    "/dev": Verdict.MEMORY,
    "/dev/pts": Verdict.PSEUDO,
    "/run": Verdict.MEMORY,
    "/": Verdict.TAKEN,
    "/dev/shm": Verdict.MEMORY,
    "/sys/fs/cgroup": Verdict.PSEUDO,
    "/proc/sys/fs/binfmt_misc": Verdict.PSEUDO,
    "/snap/core22/1380": Verdict.IMAGE,
    "/boot": Verdict.TAKEN,
    "/boot/efi": Verdict.TAKEN,
    "/home": Verdict.TAKEN,
    "/srv/share": Verdict.TAKEN,
    "/net": Verdict.PSEUDO,
    "/mnt/nas": Verdict.TAKEN,
    "/run/user/1000": Verdict.MEMORY,
    "/run/user/1000/gvfs": Verdict.PSEUDO,
    "/run/user/1000/doc": Verdict.PSEUDO,
    "/home/ann/remote": Verdict.TAKEN,
    "/home/ann/.mount_edit": Verdict.TAKEN,
    "/run/media/ann/My Stick": Verdict.TAKEN,
    "/run/media/ann/DISC": Verdict.IMAGE,
    "/srv/www": Verdict.SAME,
}


def test_all_of_a_server() -> None:
    assert verdicts(judge(mountinfo.SERVER)) == SERVER


def test_no_network() -> None:
    found = verdicts(judge(mountinfo.SERVER, selection=Selection(no_network=True)))
    network = ("/srv/share", "/mnt/nas", "/home/ann/remote")
    assert found == SERVER | dict.fromkeys(network, Verdict.NETWORK)


def test_one_filesystem() -> None:
    found = judge(mountinfo.SERVER, selection=Selection(one_filesystem=True))
    taken = [point for point, covered in found.items() if covered.verdict.taken]
    assert taken == [b"/"]
    assert found[b"/home"].verdict is Verdict.OTHER


def test_excluded_with_what_is_mounted_below() -> None:
    selection = Selection(exclude=Patterns((b"/boot",)))
    found = verdicts(judge(mountinfo.SERVER, selection=selection))
    assert found == SERVER | {"/boot": Verdict.EXCLUDED, "/boot/efi": Verdict.EXCLUDED}


def test_outside_of_what_was_asked() -> None:
    found = verdicts(judge(mountinfo.SERVER, b"/boot"))
    taken = {point: verdict for point, verdict in found.items() if verdict.taken}
    assert taken == {"/boot": Verdict.TAKEN, "/boot/efi": Verdict.TAKEN}
    assert found["/home"] is Verdict.OUTSIDE


def test_part_of_a_filesystem() -> None:
    assert judge(mountinfo.SERVER, b"/home/ann")[b"/home"].verdict is Verdict.PART


@pytest.mark.parametrize(
    ("start", "point", "verdict"),
    [
        (b"/run/user/1000/state", b"/run/user/1000", Verdict.PART),
        (b"/run/user/1000", b"/run/user/1000", Verdict.TAKEN),
        (b"/run/media/ann/DISC", b"/run/media/ann/DISC", Verdict.TAKEN),
        (b"/proc/cpuinfo", b"/proc", Verdict.PSEUDO),
    ],
    ids=["in-memory", "memory-itself", "disc", "pseudo"],
)
def test_what_is_asked_for_by_name(start: bytes, point: bytes, verdict: Verdict) -> None:
    assert judge(mountinfo.SERVER, b"/", start)[point].verdict is verdict


def test_a_bind_mount_says_where_its_files_are() -> None:
    assert judge(mountinfo.SERVER)[b"/srv/www"].words == "the same as /home/ann/site"


def test_a_bind_mount_of_what_was_asked_for_in_part_is_not_taken_twice() -> None:
    table = mountinfo.SERVER + b"600 28 253:0 /srv/x /srv/y rw - ext4 /dev/mapper/vg0-root rw\n"
    assert judge(table, b"/srv")[b"/srv/y"].verdict is Verdict.SAME
    assert judge(table, b"/srv/y")[b"/srv/y"].verdict is Verdict.TAKEN


def test_a_bind_mount_is_taken_if_its_files_are_not_taken_elsewhere() -> None:
    selection = Selection(exclude=Patterns((b"/home",)))
    assert judge(mountinfo.SERVER, selection=selection)[b"/srv/www"].verdict is Verdict.TAKEN


def test_a_bind_mount_is_taken_if_just_its_files_are_excluded_elsewhere() -> None:
    selection = Selection(exclude=Patterns((b"/home/*/site",)))
    assert judge(mountinfo.SERVER, selection=selection)[b"/srv/www"].verdict is Verdict.TAKEN


def test_the_top_of_a_pool_is_taken_without_the_subvolumes_mounted_elsewhere() -> None:
    found = judge(mountinfo.BTRFS)
    assert verdicts(found) == {
        "/proc": Verdict.PSEUDO,
        "/": Verdict.TAKEN,
        "/home": Verdict.TAKEN,
        "/mnt/pool": Verdict.TAKEN,
        "/boot/efi": Verdict.TAKEN,
        "/tmp": Verdict.MEMORY,
    }
    assert found[b"/mnt/pool"].stops == (b"/mnt/pool/@", b"/mnt/pool/@home")
    assert found[b"/mnt/pool"].words == "taken, but for what is taken elsewhere: /, /home"


def test_a_container_s_overlay_is_taken_where_its_directories_lie() -> None:
    assert verdicts(judge(mountinfo.DOCKER)) == {
        "/": Verdict.TAKEN,
        "/run": Verdict.MEMORY,
        "/var/lib/docker/overlay2": Verdict.TAKEN,
        "/var/lib/docker/overlay2/8cdb/merged": Verdict.VIEW,
        "/run/docker/netns/ef36": Verdict.PSEUDO,
    }


@pytest.mark.parametrize(
    "options",
    [b"lowerdir=/srv/low,upperdir=/run/up", b"lowerdir=/etc,upperdir=/up", b"", b"lowerdir=low"],
    ids=["in-memory", "below-itself", "none", "relative"],
)
def test_an_overlay_is_taken_if_what_it_shows_is_not(options: bytes) -> None:
    table = mountinfo.DOCKER + b"200 25 0:99 / /etc rw - overlay overlay rw,%s\n" % options
    assert judge(table)[b"/etc"].verdict is Verdict.TAKEN


def test_inside_a_container() -> None:
    assert verdicts(judge(mountinfo.CONTAINER)) == {
        "/": Verdict.TAKEN,
        "/proc": Verdict.PSEUDO,
        "/dev": Verdict.MEMORY,
        "/etc/hosts": Verdict.TAKEN,
        "/data": Verdict.TAKEN,
    }


def test_own_output() -> None:
    table = mountinfo.DOCKER + b"200 25 8:17 / /backup rw - ext4 /dev/sdb1 rw\n"
    found = judge(table, selection=Selection(always_out=(b"/backup",)))
    assert found[b"/backup"].verdict is Verdict.OWN


def test_another_root_than_the_machine_s() -> None:
    table = mountinfo.DOCKER + b"200 25 8:17 / /mnt/old rw - ext4 /dev/sdb1 rw\n"
    table += b"201 200 8:18 / /mnt/old/tmp rw - ext4 /dev/sdb2 rw\n"
    selection = Selection(exclude=Patterns((b"/tmp",)))
    found = judge(table, b"/mnt/old", selection=selection, root=b"/mnt/old")
    assert found[b"/mnt/old"].verdict is Verdict.TAKEN
    assert found[b"/mnt/old/tmp"].verdict is Verdict.EXCLUDED
    assert found[b"/"].verdict is Verdict.OUTSIDE


def test_the_manifest_gets_it_in_words() -> None:
    stored = judge(mountinfo.SERVER)[b"/run/media/ann/My Stick"].stored
    assert (stored.mount_point, stored.source, stored.taken) == (
        "/run/media/ann/My Stick",
        "/dev/sdb1",
        True,
    )
