"""What a backup of ``/`` learns of the machine: kept, refused, or said to be missing."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from archive.errors import CannotRead
from archive.machine.layout import AnyNode, Layout, Unsupported
from archive.machine.layoutfiles import Mount
from archive.machine.layoutnodes import Opaque
from archive.machine.probeprofile import probe_machine
from archive.mounts import Mount as KernelMount
from archive.mounts import MountTable, Nature, read_mounts
from archive.run import NOT_RUN, Ended
from mindi.backup.machine import capture, refuse_unsupported
from tests.support.layouts import disk, simple
from tests.support.mondoarchive import backup, backup_json, manifest, sets
from tests.support.recording import Recorded
from tests.support.tools import require_tool

RECORDED = Path(__file__).parent / "recorded"
ZFS = "opaque:sdb"
NOBODY = 65534


def recorded(name: str) -> Recorded:
    return Recorded(RECORDED / f"{name}.json")


def with_zfs() -> Layout:
    """A second disk holds what nobody mounted, and no restore makes."""
    nodes: list[AnyNode] = [*simple(), disk("sdb"), Opaque(id=ZFS, on=("disk:sdb",), what="zfs")]
    return Layout.of(nodes, [Unsupported(ZFS, "zfs cannot be made anew")])


class WithoutLsblk(Recorded):
    def run(self, *argv: str) -> Ended:
        return Ended(NOT_RUN, "", "") if argv[0] == "lsblk" else super().run(*argv)


class Closed(Recorded):
    """As in a container: devices are there, and may not be read."""

    def block(self, path: str, offset: int, size: int) -> bytes | None:
        return None if path.startswith("/dev/") else super().block(path, offset, size)


class Elsewhere(Recorded):
    """Shows the disks of the machine, and runs on an overlay."""

    def read(self, path: str) -> str | None:
        if path == "/proc/self/mountinfo":
            return "1 0 0:30 / / rw - overlay overlay rw,lowerdir=/l"
        return super().read(path)


def nobody() -> tuple[str, ...]:
    """Return what, in front of a command, runs it as another than root, who gets at all files."""
    if os.geteuid() != 0:
        return ()
    setpriv = require_tool("setpriv", package="util-linux")
    rights = "+dac_override,+dac_read_search"
    return (
        os.fspath(setpriv),
        f"--reuid={NOBODY}",
        f"--inh-caps={rights}",
        f"--ambient-caps={rights}",
    )


# What may not be missing


def test_what_cannot_be_restored_is_refused_by_name() -> None:
    with pytest.raises(CannotRead) as caught:
        refuse_unsupported(with_zfs(), ())
    assert caught.value.exit_code == 4
    assert "opaque:sdb: zfs cannot be made anew" in caught.value.message
    assert "--allow-unsupported opaque:sdb" in str(caught.value.hint)


@pytest.mark.parametrize("name", [ZFS, "opaque:*", "opaque:sd[ab]"])
def test_what_is_allowed_is_not(name: str) -> None:
    assert refuse_unsupported(with_zfs(), (name,)) == ()


def test_others_than_those_allowed_are_named_alone() -> None:
    held = with_zfs()
    nodes = [*held.nodes, disk("sdc"), Opaque(id="opaque:sdc", on=("disk:sdc",), what="a b")]
    layout = Layout.of(nodes, [*held.unsupported, Unsupported("opaque:sdc", "words")])
    with pytest.raises(CannotRead) as caught:
        refuse_unsupported(layout, (ZFS,))
    assert ZFS not in f"{caught.value.message} {caught.value.hint}"


def test_a_name_with_characters_of_patterns_is_itself() -> None:
    name = "opaque:pool/[a]"
    layout = Layout.of([Opaque(id=name, on=(), what="zfs")], [Unsupported(name, "words")])
    assert refuse_unsupported(layout, (name,)) == ()


def test_a_name_of_nothing_is_a_warning() -> None:
    [warning] = refuse_unsupported(with_zfs(), (ZFS, "opaque:sdz"))
    assert "--allow-unsupported opaque:sdz names nothing" in warning


def test_a_machine_without_such_is_well() -> None:
    assert refuse_unsupported(Layout.of(simple()), ()) == ()


# A recorded machine, seen and not


class Settled(Recorded):
    """A recorded machine, which was one mounted on /mnt, running from its own /."""

    def read(self, path: str) -> str | None:
        text = super().read(path)
        if path != "/proc/self/mountinfo" or text is None:
            return text
        rows = [row.split(" ") for row in text.splitlines()]
        shown = [row for row in rows if row[4] == "/mnt" or row[4].startswith("/mnt/")]
        for row in shown:
            row[4] = row[4].removeprefix("/mnt") or "/"
        return "\n".join(" ".join(row) for row in shown)


def test_a_machine_is_described() -> None:
    system = Settled(RECORDED / "mbr.json")
    machine = capture(system, allowed=("opaque:*",), is_root=True)
    assert machine.profile == probe_machine(system)
    assert machine.profile.layout.get("mount:/", Mount).source == "fs:vda2"


def test_one_that_was_recorded_in_an_initramfs_is_not() -> None:
    machine = capture(recorded("mbr"), allowed=(), is_root=True)
    assert machine.profile is None
    assert "/ is on none of its disks" in machine.warnings[0]


def test_a_machine_with_what_cannot_be_restored_is_refused() -> None:
    system = Settled(RECORDED / "luks-lvm.json")
    with pytest.raises(CannotRead, match="lv:vg0/data-snap: a snapshot is not restored"):
        capture(system, allowed=(), is_root=True)


@pytest.mark.parametrize(
    ("system", "is_root", "says"),
    [
        pytest.param(Recorded, False, "only root may read", id="no-root"),
        pytest.param(WithoutLsblk, True, "needs lsblk, which is not there (`mindi", id="no-tool"),
        pytest.param(Closed, True, "no disk can be read", id="closed"),
        pytest.param(Elsewhere, True, "/ is on none of its disks", id="overlay"),
    ],
)
def test_where_it_cannot_be_seen_there_are_files_and_a_warning(
    system: type[Recorded], is_root: bool, says: str
) -> None:
    machine = capture(system(RECORDED / "mbr.json"), allowed=("opaque:*",), is_root=is_root)
    assert machine.profile is None
    [warning] = machine.warnings
    assert "restores files, not the machine, because" in warning
    assert says in warning


def test_that_may_be_well_known() -> None:
    machine = capture(recorded("mbr"), allowed=("/",), is_root=False)
    assert (machine.profile, machine.warnings) == (None, ())


def test_well_known_is_no_name_of_nothing() -> None:
    assert refuse_unsupported(with_zfs(), (ZFS, "/")) == ()


def test_well_known_allows_no_node() -> None:
    with pytest.raises(CannotRead):
        refuse_unsupported(with_zfs(), ("/",))


# The command


def test_less_than_the_root_has_no_description(tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    made = backup_json(tmp_path / "medium", "-I", "/etc/hostname", "--allow-unsupported", "a:b")
    assert (made["machine"], made["warnings"]) == (False, [])
    [name] = sets(tmp_path / "medium")
    assert manifest(tmp_path / "medium", name).profile is None


def test_the_root_without_rights_goes_on_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    (tmp_path / "list").write_text("/\n")
    words = ("-J", tmp_path / "list", "-E", "/*", "--json")
    ran = backup(tmp_path / "medium", *words, before=nobody())
    made = json.loads(ran.out)
    assert (ran.status, made["machine"], made["complete"]) == (1, False, False)
    assert "not the machine, because only root may read" in made["warnings"][0]
    assert made["warnings"][0] in ran.err


def test_that_it_is_well_known_makes_it_complete(tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    words = ("-I", "/", "-E", "/*", "--json", "--allow-unsupported", "/")
    ran = backup(tmp_path / "medium", *words, before=nobody())
    made = json.loads(ran.out)
    assert (ran.status, made["machine"], made["warnings"]) == (0, False, [])


@pytest.mark.parametrize(
    ("words", "left"), [((), 2), (("--allow-unsupported", "/"), 1)], ids=["kept", "known"]
)
def test_sets_that_may_have_the_machine_outlive_one_that_has_not(
    tmp_path: Path, words: tuple[str, ...], left: int
) -> None:
    (tmp_path / "medium").mkdir()
    for _ in range(2):
        more = ("-I", "/", "-E", "/*", "--keep", "1")
        backup(tmp_path / "medium", *more, *words, before=nobody())
    assert len(sets(tmp_path / "medium")) == left


@pytest.mark.parametrize(
    ("words", "needed"),
    [(("-I", "/etc/hostname"), False), (("-I", "/", "-E", "/*"), True)],
    ids=["less", "root"],
)
def test_the_probe_is_imported_for_the_root_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], needed: bool
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    (tmp_path / "medium").mkdir()
    ran = backup(tmp_path / "medium", *words, before=nobody())
    assert ("archive.machine" in ran.err) == needed


# The command where a disk can be seen: that of / is said to be one that anybody may read


@pytest.fixture
def shown(tmp_path: Path) -> tuple[str, ...]:
    """Return what, in front of a command, has it run where / lies on a disk with ZFS."""
    if kernel_mount().nature is not Nature.LOCAL or kernel_mount().kind == "btrfs":
        pytest.skip("the root is on no disk of its own")
    number = Path("/").stat().st_dev
    row = {
        **dict.fromkeys(("model", "serial", "wwn", "tran")),
        **{"name": "zero", "kname": "zero", "path": "/dev/zero", "type": "disk", "size": 1 << 30},
        **{"maj:min": f"{os.major(number)}:{os.minor(number)}", "rota": False},
        **{"log-sec": 512, "phy-sec": 512},
    }
    fake(tmp_path / "lsblk", json.dumps({"blockdevices": [row]}))
    fake(tmp_path / "blkid", "ID_FS_TYPE=zfs_member\nID_FS_USAGE=filesystem\n")
    (tmp_path / "medium").mkdir()
    unshare = os.fspath(require_tool("unshare", package="util-linux"))
    script = ""
    for name in ("lsblk", "blkid"):
        program = require_tool(name, package="util-linux").resolve()
        script += f"mount --bind {shlex.quote(str(tmp_path / name))} {program} && "
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    return (unshare, *rights, "--mount", "sh", "-c", script + 'exec "$@"', "sh")


def kernel_mount() -> KernelMount:
    found = MountTable(read_mounts()).holder(b"/")
    assert found is not None
    return found


def fake(path: Path, output: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    path.chmod(0o755)


def test_a_backup_is_refused_and_leaves_nothing(shown: tuple[str, ...], tmp_path: Path) -> None:
    ran = backup(tmp_path / "medium", "-I", "/", "-E", "/*", before=shown)
    assert ran.status == 4
    assert "could not bring back all of this machine:\n  opaque:zero: " in ran.err
    assert "hint: --allow-unsupported opaque:zero" in ran.err
    assert list((tmp_path / "medium").iterdir()) == []


def test_what_is_allowed_is_in_the_set_and_told(shown: tuple[str, ...], tmp_path: Path) -> None:
    words = ("-I", "/", "-E", "/*", "--allow-unsupported", "opaque:zero")
    ran = backup(tmp_path / "medium", *words, before=shown)
    assert (ran.status, ran.err) == (0, "")
    assert "not restored, as allowed: opaque:zero" in ran.out
    [name] = sets(tmp_path / "medium")
    profile = manifest(tmp_path / "medium", name).profile
    assert profile is not None
    assert [one.node for one in profile.layout.unsupported] == ["opaque:zero"]
    assert profile.layout.get("mount:/", Mount).source == "opaque:zero"


def test_the_configuration_file_allows_too(shown: tuple[str, ...], tmp_path: Path) -> None:
    settings = tmp_path / "mindi.toml"
    settings.write_text('[mondoarchive]\nallow-unsupported = ["opaque:z*"]\n')
    words = ("-I", "/", "-E", "/*", "--config", settings)
    assert backup(tmp_path / "medium", *words, before=shown).status == 0
