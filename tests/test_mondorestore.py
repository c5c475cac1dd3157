"""The command mondorestore: as a process, on real sets; its words and exit codes are interface."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from archive.codec import Codec, Packing
from archive.reader import BackupSet
from tests.support.backup import save
from tests.support.sets import SetBuilder
from tests.support.snapshot import differences, snapshot
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

ODD = b"od\xffd\n\x1b[31m"


def grow(tree: Path) -> None:
    (tree / "etc/ssh").mkdir(parents=True)
    (tree / "etc/passwd").write_bytes(b"root:x:0:0\n")
    (tree / "etc/hosts").write_bytes(b"127.0.0.1 localhost\n")
    (tree / "etc/ssh/hosts").write_bytes(b"keys")
    (tree / "etc/localtime").symlink_to("../usr/zone")
    (tree / "usr").mkdir()
    (tree / "usr/zone").write_bytes(random.Random(1).randbytes(200_000))  # noqa: S311
    os.link(tree / "usr/zone", tree / "usr/same")
    os.mknod(tree / "usr/null", 0o020640, os.makedev(1, 3))
    Path(os.fsdecode(os.fsencode(tree) + b"/" + ODD)).write_bytes(b"odd")
    (tree / "star*").write_bytes(b"a star")
    os.utime(tree / "etc/passwd", ns=(0, 1_700_000_000_000_000_007))
    os.setxattr(tree / "etc/hosts", b"user.name", b"value")
    (tree / "etc/passwd").chmod(0o4640)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a tree and the folder of a prefix with a set of it."""
    top = tmp_path_factory.mktemp("mondorestore")
    grow(top / "tree")
    save(top / "tree", top / "set")
    return top / "tree", top / "set"


def mondorestore(*words: str | bytes | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "restore.cli", *words]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", **more.pop("env", {})}
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=120, env=environment, check=False, **more
    )


def listed(folder: Path, *patterns: str | bytes) -> list[str]:
    done = mondorestore("--from", folder, "--list", *patterns)
    assert done.stderr == ""
    return [line.split(" /", 1)[1] for line in done.stdout.splitlines()]


# Listing


def test_list_shows_everything_like_ls(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.sub(" +", " ", line) for line in done.stdout.splitlines()]
    assert "-rwSr----- 1 0 0 11 2023-11-14 22:13:20 /etc/passwd" in lines
    assert any(line.startswith("-rw-r--r--+ 1 0 0 20 ") for line in lines)
    assert any(
        line.startswith("lrwxrwxrwx ") and line.endswith(" /etc/localtime -> ../usr/zone")
        for line in lines
    )
    assert any(line.startswith("crw-r----- 1 0 0 1, 3 ") for line in lines)
    assert len(lines) == 1 + sum(1 for _ in original[0].rglob("*"))


def test_names_that_cannot_be_shown_are_escaped(original: tuple[Path, Path]) -> None:
    assert "od\\xffd\\x0a\\x1b[31m" in listed(original[1])


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["/etc/hosts"], ["etc/hosts"]),
        (["etc/hosts"], ["etc/hosts"]),
        (["/etc/ssh"], ["etc/ssh", "etc/ssh/hosts"]),
        (["etc/ssh/"], ["etc/ssh", "etc/ssh/hosts"]),
        (["hosts"], ["etc/hosts", "etc/ssh/hosts"]),
        (["/etc/*s"], ["etc/hosts"]),
        (["/**/hosts"], ["etc/hosts", "etc/ssh/hosts"]),
        (["ssh/*"], ["etc/ssh/hosts"]),
        (["star*"], ["star*"]),
        (["usr/zone", "/etc/passwd"], ["etc/passwd", "usr/zone"]),
        ([ODD], ["od\\xffd\\x0a\\x1b[31m"]),
        (["/etc/ssh", "/etc/ssh/hosts"], ["etc/ssh", "etc/ssh/hosts"]),
        (["/etc/s*", "/etc/ssh/h*"], ["etc/ssh", "etc/ssh/hosts"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_patterns(
    original: tuple[Path, Path], patterns: list[str | bytes], expected: list[str]
) -> None:
    assert listed(original[1], *patterns) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--list", "--", "-dash"], ["-dash"]),
        (["--list", "-q", "hosts"], ["etc/hosts"]),
        (["--list", "star", "-q", "hosts"], ["etc/hosts", "star"]),
        (["--list", "star", "-q", "--", "-dash", "hosts"], ["-dash", "etc/hosts", "star"]),
        (["--list", "--", "--"], ["--"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_patterns_behind_options(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    for name in ("-dash", "etc/hosts", "star", "--"):
        (tree / name).touch()
    save(tree, tmp_path / "set")
    done = mondorestore("--from", tmp_path / "set", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(" /", 1)[1] for line in done.stdout.splitlines()] == expected
    selected = ["--to", tmp_path / "out", "--select", *words[1:]]
    assert mondorestore("--from", tmp_path / "set", *selected).returncode == 0
    assert all((tmp_path / "out" / name).exists() for name in expected)


def test_the_root_is_everything(original: tuple[Path, Path]) -> None:
    assert listed(original[1], "/") == listed(original[1])


def test_a_pattern_that_matches_nothing_is_named(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--list", "/etc/hosts", "/etc/nothing")
    assert done.returncode == 1
    assert done.stdout.endswith(" /etc/hosts\n")
    assert done.stderr == "mondorestore: nothing in the set matches /etc/nothing\n"


def test_json_has_a_line_for_each_path(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--list", "--json")
    records = {held["path"]: held for held in map(json.loads, done.stdout.splitlines())}
    passwd = records["/etc/passwd"]
    assert re.fullmatch("[0-9a-f]{64}", passwd.pop("sha256"))
    assert passwd == {
        "path": "/etc/passwd",
        "type": "file",
        "mode": "104640",
        "uid": 0,
        "gid": 0,
        "mtime_s": 1_700_000_000,
        "mtime_ns": 7,
        "size": 11,
        "links": 1,
        "xattrs": [],
    }
    assert records["/etc/localtime"]["target"] == "../usr/zone"
    assert records["/usr/null"]["device"] == [1, 3]
    assert records["/etc/hosts"]["xattrs"] == ["user.name"]
    (odd,) = [held for held in records.values() if "path_base64" in held]
    assert base64.b64decode(odd["path_base64"]) == b"/" + ODD


def test_find_is_a_regular_expression_on_the_whole_path(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--find", "^/etc/.*hosts$")
    paths = [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()]
    assert (done.returncode, paths) == (0, ["/etc/hosts", "/etc/ssh/hosts"])


def test_find_that_finds_nothing(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--find", "^hosts")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_reader_who_has_seen_enough(original: tuple[Path, Path]) -> None:
    argv = [sys.executable, "-m", "restore.cli", "--from", os.fspath(original[1]), "--list"]
    done = subprocess.run(
        ["sh", "-c", '"$@" | true; exit "${PIPESTATUS:-0}"', "sh", *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_an_ascii_terminal(original: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/ümläut").touch()
    save(tmp_path / "tree", tmp_path / "set")
    done = mondorestore(
        "--from", tmp_path / "set", "--list", env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    )
    assert done.returncode == 0
    assert done.stdout.endswith("/\\xfcml\\xe4ut\n")


# Restoring


def test_all_comes_back_below_the_directory(original: tuple[Path, Path], tmp_path: Path) -> None:
    done = mondorestore("--from", original[1], "--all", "--to", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(
        rf"mondorestore: restored to {tmp_path}/out: 9 files and 4 directories, .*\n", done.stderr
    )
    assert differences(snapshot(original[0]), snapshot(tmp_path / "out")) == []


def test_some_comes_back_with_its_directories(original: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("--select", "/etc/ssh", "zone", "--to", tmp_path / "out")
    done = mondorestore("--from", original[1], *words)
    assert done.returncode == 0
    found = snapshot(tmp_path / "out")
    assert found.keys() == {b".", b"etc", b"etc/ssh", b"etc/ssh/hosts", b"usr", b"usr/zone"}


def test_patterns_that_match_nothing_are_not_complete(
    original: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("--select", "/nothing", "--to", tmp_path / "out", "--json", "-q")
    done = mondorestore("--from", original[1], *words)
    assert (done.returncode, json.loads(done.stdout)["complete"]) == (1, False)


def test_quiet_says_nothing(original: tuple[Path, Path], tmp_path: Path) -> None:
    done = mondorestore("--from", original[1], "--all", "--to", tmp_path / "out", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_matches_nothing_is_told_and_the_rest_restored(
    original: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("--select", "/etc/hosts", "/nothing", "--to", tmp_path / "out", "--json", "-q")
    done = mondorestore("--from", original[1], *words)
    assert done.returncode == 1
    assert "nothing in the set matches /nothing" in done.stderr
    assert (tmp_path / "out/etc/hosts").read_bytes() == (original[0] / "etc/hosts").read_bytes()
    assert json.loads(done.stdout)["unmatched"] == ["/nothing"]


def test_json_of_a_restore(original: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("--all", "--to", tmp_path / "out", "--json")
    held = json.loads(mondorestore("--from", original[1], *words).stdout)
    assert (held["complete"], held["files"], held["directories"]) == (True, 9, 4)
    assert (held["lost"], held["warnings"], held["unmatched"]) == ([], [], [])
    assert held["target"] == str(tmp_path / "out")


def test_a_chain_is_given_as_one(original: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    grow(tree)
    full = save(tree, tmp_path / "set").path
    (tree / "etc/hosts").write_bytes(b"other")
    (tree / "etc/passwd").unlink()
    (tree / "etc/new").touch()
    newest = save(tree, tmp_path / "set", parent=full).path
    for source in (tmp_path / "set", newest):
        done = mondorestore("--from", source, "--all", "--to", tmp_path / source.name / "out")
        assert done.returncode == 0, done.stderr
        assert differences(snapshot(tree), snapshot(tmp_path / source.name / "out")) == []
        shutil.rmtree(tmp_path / source.name / "out")
    done = mondorestore("--from", full, "--select", "etc/passwd", "--to", tmp_path / "old")
    assert (tmp_path / "old/etc/passwd").exists()


def test_a_parent_that_is_missing_is_named(original: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    grow(tree)
    full = save(tree, tmp_path / "set").path
    save(tree, tmp_path / "set", parent=full)
    full.rename(tmp_path / full.name)
    done = mondorestore("--from", tmp_path / "set", "--all", "--to", tmp_path / "out")
    assert done.returncode == 4
    assert "is a differential; the set " in done.stderr
    assert "mondorestore: hint: bring that set's folder there" in done.stderr


def harm(folder: Path) -> Path:
    """Flip a byte in the middle of the data of usr/zone; return the slice."""
    with BackupSet.open(folder) as backup:
        entry = backup.catalog.find(b"usr/zone")
        assert entry is not None
        assert entry.frame is not None
        assert entry.start is not None
        frame = backup.catalog.frame(entry.frame)
        assert frame is not None
        path = next((backup.folder / "slices").iterdir())
        at = frame.start + entry.start + entry.size // 2
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return path


@pytest.fixture
def damaged(original: tuple[Path, Path], tmp_path: Path) -> Path:
    """Return a set without compression in which usr/zone is damaged."""
    save(original[0], tmp_path / "set", packing=Packing(Codec.NONE))
    harm(tmp_path / "set")
    return tmp_path / "set"


def test_lost_files_are_named_and_the_rest_restored(
    original: tuple[Path, Path], damaged: Path, tmp_path: Path
) -> None:
    done = mondorestore("--from", damaged, "--all", "--to", tmp_path / "out", "-q")
    assert done.returncode == 1
    lost = re.findall(r"^mondorestore: lost: (\S+): .+$", done.stderr, re.MULTILINE)
    assert lost == ["/usr/same", "/usr/zone"]
    assert "2 paths are lost" in done.stderr
    missing = differences(snapshot(original[0]), snapshot(tmp_path / "out"))
    assert missing == ["missing: b'usr/same'", "missing: b'usr/zone'"]


def test_lost_files_in_json(damaged: Path, tmp_path: Path) -> None:
    done = mondorestore("--from", damaged, "--all", "--to", tmp_path / "out", "--json")
    held = json.loads(done.stdout)
    assert not held["complete"]
    assert [lost["path"] for lost in held["lost"]] == ["/usr/same", "/usr/zone"]


@pytest.mark.parametrize("harm_it", ["cut", "missing"])
def test_slices_cut_or_missing(original: tuple[Path, Path], tmp_path: Path, harm_it: str) -> None:
    saved = save(original[0], tmp_path / "set").path
    harmed = next((saved / "slices").iterdir())
    if harm_it == "cut":
        harmed.write_bytes(harmed.read_bytes()[:-3000])
    else:
        harmed.unlink()
    restored = mondorestore("--from", saved, "--all", "--to", tmp_path / "out", "--json")
    checked = mondorestore("--from", saved, "--verify", "--json")
    assert (restored.returncode, checked.returncode) == (1, 4)
    lost = [one["path"] for one in json.loads(restored.stdout)["lost"]]
    held = json.loads(checked.stdout)
    assert [one["path"] for one in held["lost"]] == lost != []
    assert [(one["file"], one["missing"]) for one in held["faults"]] == [
        (str(harmed), harm_it == "missing")
    ]
    assert (tmp_path / "out/etc/localtime").is_symlink()


def test_a_target_that_cannot_be_written(original: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mondorestore("--from", original[1], "--all", "--to", tmp_path / "file/below")
    assert done.returncode == 5
    assert str(tmp_path / "file") in done.stderr


def test_what_cannot_be_set_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").touch()
    os.chown(tmp_path / "tree/file", 5, 5)
    save(tmp_path / "tree", tmp_path / "set")
    words = ("--from", tmp_path / "set", "--all", "--to", tmp_path / "out", "--json")
    setpriv = require_tool("setpriv", package="util-linux")
    argv = [setpriv, "--bounding-set=-chown", sys.executable, "-m", "restore.cli", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "warning: owner of 1 could not be set, such as of /file: " in done.stderr
    assert [one["attribute"] for one in json.loads(done.stdout)["warnings"]] == ["owner"]


# Comparing


def test_compare_of_equal_trees(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--compare", "--to", original[0])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(": all is as it was saved\n")


def test_compare_names_each_difference_by_its_kind(
    original: tuple[Path, Path], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", original[0], tree], check=True)
    (tree / "etc/passwd").chmod(0o600)
    (tree / "etc/new").touch()
    (tree / "etc/hosts").unlink()
    done = mondorestore("--from", original[1], "--compare", "--to", tree)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[1:] == [
        "missing    /etc/hosts",
        "extra      /etc/new",
        "mode       /etc/passwd (4640 in the set, 0600 here)",
    ]
    assert lines[0].startswith("times      /etc (")
    assert done.stderr.endswith("1 missing, 1 extra, 1 mode, 1 times\n")


def test_compare_in_json(original: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", original[0], tree], check=True)
    Path(os.fsdecode(os.fsencode(tree) + b"/" + ODD)).unlink()
    time_ns = original[0].stat().st_mtime_ns
    os.utime(tree, ns=(time_ns, time_ns))
    done = mondorestore("--from", original[1], "--compare", "--to", tree, "--json")
    held = json.loads(done.stdout)
    (one,) = held["differences"]
    assert (held["same"], held["counts"], one["kind"]) == (False, {"missing": 1}, "missing")
    assert base64.b64decode(one["path_base64"]) == b"/" + ODD


def test_compare_with_what_is_no_directory(original: tuple[Path, Path], tmp_path: Path) -> None:
    done = mondorestore("--from", original[1], "--compare", "--to", tmp_path / "nothing")
    assert done.returncode == 4


# Sets that an enemy made, or that are damaged


def hostile(tmp_path: Path, *rows: tuple[bytes, dict[str, object]]) -> Path:
    """Return the folder of a set of small files of which rows are wrong."""
    made = SetBuilder(tmp_path / "set")
    made.row(b"", stat.S_IFDIR | 0o755)
    for path, wrong in rows:
        made.row(path, stat.S_IFREG | 0o644)
        made.rows[-1] |= wrong
    return made.write()[0]


@pytest.mark.parametrize("json_too", [(), ("--json",)], ids=["lines", "json"])
@pytest.mark.parametrize(
    ("path", "wrong", "words"),
    [
        (b"../../evic", {}, "leads out of the tree"),
        (b"b", {"mode": 0o644}, "out of range"),
        (b"b", {"xattrs": b"\0\x09cut"}, "/b: "),
    ],
    ids=["path", "mode", "xattrs"],
)
def test_list_names_what_is_wrong_and_goes_on(
    tmp_path: Path, path: bytes, wrong: dict[str, object], words: str, json_too: tuple[str, ...]
) -> None:
    folder = hostile(tmp_path, (b"a", {}), (path, wrong), (b"z", {}))
    for patterns in ((), ("z",)):
        done = mondorestore("--from", folder, "--list", *patterns, *json_too)
        if patterns == ("z",) and "xattrs" in wrong:
            assert done.returncode == 0
        else:
            assert done.returncode == 4
            assert re.search(f"^mondorestore: damaged: .*{words}", done.stderr, re.MULTILINE)
            assert f"error: {folder}: the catalog is wrong in 1 entries" in done.stderr
        assert "/z" in done.stdout
        assert "/a" in done.stdout or patterns == ("z",)


def test_compare_names_the_set_that_is_wrong(tmp_path: Path) -> None:
    folder = hostile(tmp_path, (b"a", {}), (b"../../evic", {}))
    (tmp_path / "tree").mkdir()
    done = mondorestore("--from", folder, "--compare", "--to", tmp_path / "tree")
    assert done.returncode == 4
    assert f"error: {folder}: the catalog " in done.stderr or f"of {folder}" in done.stderr


# Standard output


def to_full(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "restore.cli", *words]
    with Path("/dev/full").open("w") as full:
        return subprocess.run(
            argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )


@pytest.mark.parametrize("action", ["--list", "--compare", "--verify", "--all"])
def test_an_output_that_is_full(original: tuple[Path, Path], tmp_path: Path, action: str) -> None:
    to = {"--compare": ("--to", tmp_path), "--all": ("--to", tmp_path / "out")}.get(action, ())
    done = to_full("--from", original[1], action, "--json", *to, "-q")
    assert done.returncode == 5
    lines = done.stderr.splitlines()
    assert lines[0] == (
        "mondorestore: error: standard output cannot be written: No space left on device"
    )
    assert len(lines) == 2


# Verifying


def test_verify_of_a_sound_set(original: tuple[Path, Path]) -> None:
    done = mondorestore("--from", original[1], "--verify")
    assert (done.returncode, done.stdout) == (0, "")
    assert "read back and found right: 7 files" in done.stderr


def test_verify_names_what_is_damaged_and_what_is_lost(damaged: Path) -> None:
    done = mondorestore("--from", damaged, "--verify")
    assert done.returncode == 4
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"damaged    .*/slices/0000001\.afio: has a wrong digest", lines[0])
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "lost       /usr/same",
        "lost       /usr/zone",
    ]
    assert "mondorestore: error: " in done.stderr


def test_verify_reads_the_parents_too(original: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    grow(tree)
    for path in tree.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    time.sleep(2.1)  # what has just changed is saved again, whatever its times
    full = save(tree, tmp_path / "set", packing=Packing(Codec.NONE)).path
    newest = save(tree, tmp_path / "set", packing=Packing(Codec.NONE), parent=full).path
    assert mondorestore("--from", newest, "--verify").returncode == 0
    harm(full)
    done = mondorestore("--from", newest, "--verify", "--json")
    assert done.returncode == 4
    assert [one["path"] for one in json.loads(done.stdout)["lost"]] == ["/usr/same", "/usr/zone"]


def test_a_copy_of_the_catalog_will_do(original: tuple[Path, Path], tmp_path: Path) -> None:
    saved = save(original[0], tmp_path / "set").path
    (saved / "catalog.sqlite.zst").write_bytes(b"no catalog")
    done = mondorestore("--from", saved, "--list")
    assert done.returncode == 0
    assert "mondorestore: warning: " in done.stderr
    assert "catalog-copy.sqlite.zst" in done.stderr


# Usage and errors


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--list"], "no set is named"),
        (["--from", "x"], "nothing to do is named"),
        (["--from", "x", "--all"], "where to restore to is not named"),
        (["--from", "x", "--select", "y"], "where to restore to is not named"),
        (["--from", "x", "--select", "--to", "y"], "expected at least one argument"),
        (["--from", "x", "--all", "--verify", "--to", "y"], "not allowed with"),
        (["--from", "x", "--all", "--to", "y", "--in-place"], "are two places"),
        (["--from", "x", "--list", "--to", "y"], "--to has no meaning with --list"),
        (["--from", "x", "--verify", "--to", "y"], "--to has no meaning with --verify"),
        (["--from", "x", "--compare", "--in-place"], "--in-place has no meaning"),
        (["--from", "x", "--all", "--to", ""], "--to names no directory"),
        (["--from", "x", "--list", "--jobs", "0"], "at least one is needed"),
        (["--from", "x", "--list", "--jobs", "many"], "invalid int value"),
        (["--from", "x", "--lst"], "unrecognized arguments: --lst"),
        (["--from", "x", "--list", "-x"], "unrecognized arguments: -x"),
        (["--from", "x", "--verify", "y"], "unrecognized arguments: y"),
        (["--from", "x", "--verify", "--", "-y"], "unrecognized arguments: -y"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(words: list[str], reason: str) -> None:
    done = mondorestore(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mondorestore: error: ")
    assert reason in done.stderr


@pytest.mark.parametrize(
    "words", [["--list", "[z-a]/x"], ["--list", ""], ["--find", "("]], ids=" ".join
)
def test_patterns_that_make_no_sense(original: tuple[Path, Path], words: list[str]) -> None:
    done = mondorestore("--from", original[1], *words)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr


def test_what_is_no_set(tmp_path: Path) -> None:
    done = mondorestore("--from", tmp_path, "--list")
    assert done.returncode == 4
    assert f"{tmp_path} is no backup set and holds none" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = mondorestore("--from", tmp_path, "--list", "--debug")
    assert done.stderr.startswith("Traceback ")


def test_no_room_for_the_catalog(original: tuple[Path, Path], tmp_path: Path) -> None:
    done = mondorestore("--from", original[1], "--list", "--scratch", tmp_path / "nothing")
    assert done.returncode == 5


def test_the_catalog_is_unpacked_in_scratch_and_taken_away(
    original: tuple[Path, Path], tmp_path: Path
) -> None:
    done = mondorestore("--from", original[1], "--verify", "--scratch", tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])


def test_help() -> None:
    done = mondorestore("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--from SET" in done.stdout


def living(session: int) -> list[str]:
    """Return the processes of a session that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(text)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("action", ["--all", "--verify", "--compare"])
def test_an_interrupted_run_says_so_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals, action: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in range(40):
        (tree / str(name)).write_bytes(os.urandom(1 << 20) * 3)
    save(tree, tmp_path / "set")
    to = () if action == "--verify" else ("--to", tree if action == "--compare" else tree / "x")
    argv = [sys.executable, "-m", "restore.cli", "--from", tmp_path / "set", action, *to]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [*argv, "--scratch", scratch],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(scratch.glob("*/*.sqlite")):
        time.sleep(0.005)
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    if process.returncode:  # else it was quicker
        assert process.returncode == 130
        assert words.endswith("mondorestore: error: interrupted\n")
    assert list(scratch.iterdir()) == []
    deadline = time.monotonic() + 20
    while left := living(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_an_interrupted_restore_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in range(40):
        (tmp_path / f"tree/{name}").write_bytes(os.urandom(1 << 20) * 3)
    save(tmp_path / "tree", tmp_path / "set")
    out = tmp_path / "out"
    words = ("--from", tmp_path / "set", "--all", "--to", out, "-q", "--jobs", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "restore.cli", *words], stderr=subprocess.PIPE, text=True
    )
    while not (out.is_dir() and list(out.iterdir())) and process.poll() is None:
        time.sleep(0.001)
    process.terminate()
    _, said = process.communicate(timeout=60)
    if process.returncode:  # else it was quicker
        first, second, last = said.splitlines()
        assert first.startswith(f"mondorestore: unfinished: {out} has ")
        assert second.startswith("mondorestore: running the same command again is safe")
        assert last == "mondorestore: error: interrupted"
    assert mondorestore(*words).returncode == 0
    assert {path.name for path in out.iterdir()} == {str(number) for number in range(40)}


def test_progress_on_a_terminal(original: tuple[Path, Path], tmp_path: Path) -> None:
    script = require_tool("script", package="bsdutils")
    command = f"{sys.executable} -m restore.cli --from {original[1]} --verify"
    done = subprocess.run(
        [script, "-qec", command, "/dev/null"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "read back and found right" in done.stdout
