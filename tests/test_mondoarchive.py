"""The command ``mondoarchive`` as a user meets it: results, exit codes, what it leaves behind."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from archive.catalog import Catalog
from archive.reader import BackupSet, contents
from archive.slicing import SLICE_ITEMS
from tests.support.mondoarchive import (
    PREFIX,
    argv_of,
    backup,
    backup_json,
    bound,
    hidden,
    manifest,
    mondoarchive,
    sets,
)
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    folder = tmp_path / "medium"
    folder.mkdir()
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a small tree."""
    folder = tmp_path / "tree"
    (folder / "sub folder").mkdir(parents=True)
    (folder / "one").write_bytes(b"one" * 1000)
    (folder / "two.iso").write_bytes(b"two" * 2000)
    (folder / "sub folder/three").write_bytes(b"three")
    (folder / "link").symlink_to("one")
    return folder


def names(medium: Path, name: str, tree: Path) -> set[str]:
    """Return what a set holds below ``tree``."""
    with BackupSet.open(medium / PREFIX / name) as backup_set:
        paths = {Path("/", os.fsdecode(entry.path)) for entry in backup_set.catalog.entries()}
    return {str(path.relative_to(tree)) for path in paths if path.is_relative_to(tree)} - {"."}


def content(medium: Path, name: str, path: Path) -> bytes:
    """Return a file's bytes as a set has them."""
    with BackupSet.open(medium / PREFIX / name) as backup_set:
        entry = backup_set.catalog.find(os.fsencode(path).lstrip(b"/"))
        assert entry is not None
        with backup_set.frame_reader() as frames:
            return b"".join(data for _, data in contents(backup_set, entry, frames))


# What is said


def test_help_is_quick_and_names_what_there_is() -> None:
    ran = mondoarchive("--help", before=("env", "PYTHONPROFILEIMPORTTIME=1"))
    loaded = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    heavy = {"zstandard", "rich", "plumbum", "sqlite3", "json", "archive.codec"}
    assert ran.status == 0
    assert loaded & heavy == set()
    assert "argparse" in loaded
    for word in ("--backup", "--set", "--dir", "--include", "--differential", "--resume"):
        assert word in ran.out


def test_version() -> None:
    ran = mondoarchive("--version")
    assert (ran.status, ran.out.split()[0]) == (0, "mondoarchive")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-O", "--set", "-d", "m", "--kep", "1"), "unknown argument --kep; did you mean --keep"),
        (("-O", "--set", "-d", "m", "-i"), "unknown argument -i"),
        (("-O", "--set", "-d", "m", "-I", "'x"), "No closing quotation"),
    ],
    ids=["misspelled", "unknown", "quotation"],
)
def test_wrong_usage_is_named(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    ran = mondoarchive(*words, cwd=tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert "mondoarchive: hint: " in ran.err
    assert list((tmp_path / "m").iterdir()) == []


# What is made


def test_a_full_set(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree)
    assert (ran.status, ran.err) == (0, "")
    [name] = sets(medium)
    assert ran.out.splitlines()[0] == str(medium / PREFIX / name)
    assert "full, complete" in ran.out
    assert names(medium, name, tree) == {
        *("one", "two.iso", "link", "sub folder", "sub folder/three")
    }
    assert content(medium, name, tree / "one") == b"one" * 1000
    assert hidden(medium) == []


def test_the_summary_is_json(medium: Path, tree: Path) -> None:
    summary = backup_json(medium, "-I", tree)
    [name] = sets(medium)
    told = manifest(medium, name)
    assert summary["set"] == str(medium / PREFIX / name)
    assert summary["set_id"] == told.set_id
    assert (summary["kind"], summary["complete"], summary["parent"]) == ("full", True, None)
    assert (summary["files"], summary["codec"], summary["level"]) == (3, "zstd", 3)
    assert summary["slices_bytes"] == told.slices.size
    assert "/proc" in [one["mount_point"] for one in summary["coverage"] if not one["taken"]]


def test_names_that_are_no_utf8_are_whole_in_json(medium: Path, tree: Path) -> None:
    odd = tree / os.fsdecode(b"\xff")
    exact = base64.b64encode(os.fsencode(odd)).decode()
    odd.write_bytes(b"odd")
    backup_json(medium, "-I", tree)
    odd.chmod(0)
    [issue] = json.loads(backup(medium, "-I", tree, "--json", before=bound()).out)["first_issues"]
    odd.unlink()
    (medium / PREFIX / sets(medium)[1]).rename(medium / "aside")
    told = json.loads(mondoarchive("-V", "-d", medium, "-p", PREFIX, "--json").out)
    [missing] = [one for one in told["differences"] if one["kind"] == "missing"]
    for one in (issue, missing):
        assert one["path"] == f"{tree}/\N{REPLACEMENT CHARACTER}"
        assert one["path_base64"] == exact


def test_nobody_else_may_read_a_set(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    modes = {path.stat().st_mode & 0o777 for path in (medium / PREFIX).rglob("*")}
    assert modes == {0o700, 0o600}


@pytest.mark.parametrize(
    ("words", "codec", "level", "suffix"),
    [
        (("-G",), "gzip", 3, ".afio.gz"),
        (("-L", "-9"), "lzo", 9, ".afio.lzo"),
        (("--per-file", "-G"), "gzip", 3, ".afio"),
    ],
    ids=["gzip", "lzo-9", "per-file"],
)
def test_packing(
    words: tuple[str, ...], codec: str, level: int, suffix: str, medium: Path, tree: Path
) -> None:
    summary = backup_json(medium, "-I", tree, *words)
    assert (summary["codec"], summary["level"]) == (codec, level)
    assert Path(summary["set"], f"slices/0000001{suffix}").is_file()
    assert content(medium, sets(medium)[0], tree / "one") == b"one" * 1000


def test_what_is_in_and_what_is_out(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", f'"{tree}/sub folder" {tree}/one', "-I", tree / "two.iso")
    backup_json(medium, "-I", tree, "-E", "*.iso", "-E", f'"{tree}/sub folder"')
    one, other = sets(medium)
    assert names(medium, one, tree) == {"sub folder", "sub folder/three", "one", "two.iso"}
    assert names(medium, other, tree) == {"one", "link"}


@pytest.mark.parametrize(
    ("word", "left"), [("u/x", set()), ("./u/x", {"below/u/x"}), ("./u/*", {"below/u/x"})]
)
def test_what_is_left_out_is_the_same_wherever_one_is(
    word: str, left: set[str], medium: Path, tmp_path: Path
) -> None:
    """A relative name that is there is a pattern as it is elsewhere."""
    here = tmp_path / "he[r]e"
    for folder in (here / "u", here / "below/u"):
        folder.mkdir(parents=True)
        (folder / "x").touch()
    assert backup(medium, "-I", here, "-E", word, cwd=here).status == 0
    found = names(medium, sets(medium)[0], here)
    assert {path for path in found if path.endswith("x")} == left


def test_names_with_spaces_given_one_by_one(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree / "sub folder")
    assert names(medium, sets(medium)[0], tree) == {"sub folder", "sub folder/three"}


def test_a_list_of_files(medium: Path, tree: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{tree}/one\n{tree}/sub folder\n")
    backup_json(medium, "-J", listed)
    given = f"{tree}/link\0".encode()
    assert backup(medium, "-J", "-", given=given).status == 0
    one, other = sets(medium)
    assert names(medium, one, tree) == {"one", "sub folder", "sub folder/three"}
    assert names(medium, other, tree) == {"link"}


def test_own_output_stays_out(tree: Path) -> None:
    """Its own, that of other prefixes beside it, and the log; what else lies there is saved."""
    medium = tree / "backups"
    (medium / "papers").mkdir(parents=True)
    assert mondoarchive("-O", "--set", "-d", medium, "-p", "other", "-I", tree / "one").status == 0
    backup_json(medium, "-I", tree, "-K", tree / "log")
    found = names(medium, sets(medium)[0], tree)
    assert {path for path in found if path.startswith(("backups", "log"))} == {
        "backups",
        "backups/papers",
    }


def test_the_prefix_is_by_default_the_host(medium: Path, tree: Path) -> None:
    assert mondoarchive("-O", "--set", "-d", medium, "-I", tree / "one").status == 0
    assert [path.name for path in medium.iterdir()] == [os.uname().nodename.partition(".")[0]]


def test_settings_come_from_a_file_and_options_win(
    medium: Path, tree: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mindi.toml"
    config.write_text(
        f'[build]\noutput = "iso"\n[mondoarchive]\ndir = "{medium}"\nprefix = "{PREFIX}"\n'
        f'include = ["{tree}"]\nexclude = ["*.iso"]\ncodec = "gzip"\nlevel = 9\nno-network = true\n'
    )
    ran = mondoarchive("-O", "--set", "--config", config, "-1", "--json")
    assert ran.status == 0, ran.err
    summary = json.loads(ran.out)
    assert (summary["codec"], summary["level"], summary["files"]) == ("gzip", 1, 2)
    assert manifest(medium, sets(medium)[0]).selection.no_network


def test_a_wrong_key_of_the_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "mindi.toml"
    config.write_text("[mondoarchive]\nkeeps = 3\n")
    ran = mondoarchive("-O", "--set", "--config", config)
    assert ran.status == 2
    assert "unknown key 'keeps'; did you mean keep" in ran.err


def test_the_log_says_what_happened(medium: Path, tree: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    backup_json(medium, "-I", tree, "-K", log)
    assert backup(medium, "-I", tree / "none", "--log", log).status == 4
    lines = log.read_text()
    assert f"{medium / PREFIX / sets(medium)[0]}" in lines
    assert "ERROR" in lines
    assert log.stat().st_mode & 0o777 == 0o600


def test_progress_is_json_where_that_is_asked_for(medium: Path, tree: Path) -> None:
    (medium / PREFIX).mkdir(0o700)
    (medium / PREFIX / ".partial-20200101T000000Z-full/slices").mkdir(parents=True)
    ran = backup(medium, "-I", tree, "--json")
    assert [json.loads(line)["event"] for line in ran.err.splitlines()] == ["note"]


def test_it_gives_way_to_others(medium: Path, tree: Path) -> None:
    require_tool("ionice", package="util-linux")
    hook = 'echo "nice $(nice)"; ionice'
    ran = backup(medium, "-I", tree, "--nice", "7", "--ionice", "idle", "-B", hook)
    assert ran.status == 0
    assert ran.err.splitlines() == ["nice 7", "idle"]


def test_an_output_that_takes_nothing_costs_no_set(medium: Path, tree: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = backup(medium, "-I", tree, stdout=full.fileno())
    assert ran.status == 5
    assert "standard output" in ran.err
    assert len(sets(medium)) == 1


# What cannot be read


def test_what_may_not_be_read_is_a_warning(medium: Path, tree: Path) -> None:
    (tree / "bad\nname").write_bytes(b"secret")
    (tree / "bad\nname").chmod(0)
    ran = backup(medium, "-I", tree, before=bound())
    assert ran.status == 1
    assert "full, complete, with 1 warning" in ran.out
    assert f"{tree}/bad\\x0aname: Permission denied" in ran.out
    assert "bad\nname" not in names(medium, sets(medium)[0], tree)


def test_a_path_that_is_not_there_is_an_error(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-I", tree / "none")
    assert (ran.status, ran.out) == (4, "")
    assert f"{tree}/none" in ran.err
    assert (sets(medium), hidden(medium)) == ([], [])


def test_a_path_of_which_nothing_is_left_is_a_warning(medium: Path, tree: Path) -> None:
    own = medium / PREFIX
    own.mkdir(0o700)
    ran = backup(medium, "-I", tree, "-I", tree / "two.iso", "-I", own, "-E", "*.iso")
    assert ran.status == 1
    assert f"{tree}/two.iso: nothing of it is saved: it is excluded" in ran.out
    assert f"{own}: nothing of it is saved: it is the sets' own folder" in ran.out


def test_what_a_pattern_stands_for_may_be_excluded(medium: Path, tree: Path) -> None:
    assert backup_json(medium, "-I", f"{tree}/*", "-E", "*.iso")["complete"]


def test_a_link_to_a_folder_is_told(medium: Path, tree: Path) -> None:
    (tree / "to").symlink_to("sub folder")
    [note] = backup_json(medium, "-I", tree / "to")["notes"]
    assert f"{tree}/to is a link" in note
    assert f"-I {tree}/sub folder saves that" in note
    assert names(medium, sets(medium)[0], tree) == {"to"}


def test_a_link_to_what_is_saved_is_nothing_to_tell(medium: Path, tree: Path) -> None:
    (tree / "to").symlink_to("sub folder")
    assert backup_json(medium, "-I", tree / "to", "-I", tree)["notes"] == []


def test_an_excluded_path_that_is_not_there_is_told(medium: Path, tree: Path) -> None:
    summary = backup_json(medium, "-I", tree, "-E", tree / "tow.iso", "-E", "*.none")
    assert summary["notes"] == [f"there is no {tree}/tow.iso, which is to be left out"]


# Differential sets


def test_a_differential_holds_what_changed(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    (tree / "one").write_bytes(b"new")
    (tree / "two.iso").unlink()
    summary = backup_json(medium, "-I", tree, "-D")
    full, differential = sets(medium)
    assert (summary["kind"], summary["parent"]) == ("differential", full)
    assert (summary["packed_files"], summary["packed_bytes"]) == (1, 3)
    assert summary["unchanged"] > 0
    assert names(medium, differential, tree) == {"one", "link", "sub folder", "sub folder/three"}
    assert content(medium, differential, tree / "one") == b"new"
    assert content(medium, differential, tree / "sub folder/three") == b"three"


def test_a_differential_is_against_the_newest_full_set(medium: Path, tree: Path) -> None:
    for words in ((), ("-D",), (), ("-D",), ("-D",)):
        backup_json(medium, "-I", tree, *words)
    made = [manifest(medium, name) for name in sets(medium)]
    assert [one.parent_id for one in made] == [
        *(None, made[0].set_id, None, made[2].set_id, made[2].set_id)
    ]


def test_a_differential_against_a_parent_by_name(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    backup_json(medium, "-I", tree, "-D")
    backup_json(medium, "-I", tree)
    first, second, _ = sets(medium)
    backup_json(medium, "-I", tree, "-D", "--parent", second)
    backup_json(medium, "-I", tree, "-D", "--parent", medium / PREFIX / first)
    *_, on_second, on_first = (manifest(medium, name).parent_id for name in sets(medium))
    assert (on_first, on_second) == (
        manifest(medium, first).set_id,
        manifest(medium, second).set_id,
    )
    assert content(medium, sets(medium)[3], tree / "one") == b"one" * 1000


def test_a_change_that_no_clock_shows_is_seen_by_checksum(medium: Path, tree: Path) -> None:
    """The catalog of the parent is told that the changed file's times are what it knows."""
    backup_json(medium, "-I", tree)
    summary = backup_json(medium, "-I", tree, "-D", "--checksum")
    assert summary["read_bytes"] >= 9005
    assert summary["packed_bytes"] == 0


def test_without_a_full_set_there_is_no_differential(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-D")
    assert ran.status == 4
    assert "there is no full set" in ran.err
    assert "without -D" in ran.err
    assert (sets(medium), hidden(medium)) == ([], [])


def test_a_parent_that_is_not_there_is_an_error(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    ran = backup(medium, "-I", tree, "-D", "--parent", "20200101T000000Z-full")
    assert ran.status == 4
    assert sets(medium)[0] in ran.err


def test_a_parent_elsewhere_is_refused(medium: Path, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    backup_json(medium, "-I", tree)
    backup_json(other, "-I", tree)
    ran = backup(medium, "-I", tree, "-D", "--parent", other / PREFIX / sets(other)[0])
    assert ran.status == 2
    assert "does not lie in" in ran.err


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_parent_is_an_error(medium: Path, tree: Path) -> None:
    """It is named, nothing is written, and no older full set takes its place."""
    backup_json(medium, "-I", tree)
    parent = Path(backup_json(medium, "-I", tree)["set"])
    (parent / "slices/0000001.afio.zst").unlink()
    before = len(list((medium / PREFIX).iterdir()))
    ran = backup(medium, "-I", tree, "-D")
    assert (ran.status, ran.out) == (4, "")
    assert str(parent) in ran.err
    assert "without -D" in ran.err
    assert len(list((medium / PREFIX).iterdir())) == before


# Keeping


def test_keep_removes_whole_chains_only(medium: Path, tree: Path) -> None:
    for words in ((), ("-D",), (), ("-D",)):
        backup_json(medium, "-I", tree, *words)
    old = sets(medium)
    summary = backup_json(medium, "-I", tree, "--keep", "2")
    assert sorted(summary["removed"]) == old[:2]
    assert sets(medium)[:2] == old[2:]
    assert len(sets(medium)) == 3
    assert hidden(medium) == []


def test_keep_never_takes_the_parent_of_the_new_set(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    backup_json(medium, "-I", tree)
    first, second = sets(medium)
    summary = backup_json(medium, "-I", tree, "-D", "--parent", first, "--keep", "1")
    assert summary["removed"] == []
    assert sets(medium)[:2] == [first, second]
    assert mondoarchive("-V", "-d", medium, "-p", PREFIX).status == 0


def test_a_run_that_fails_removes_nothing(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    backup_json(medium, "-I", tree)
    before = sets(medium)
    assert backup(medium, "-I", tree / "none", "--keep", "1").status == 4
    assert sets(medium) == before


def test_keep_removes_nothing_where_the_new_set_has_warnings(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    before = sets(medium)
    (tree / "closed").touch(0o000)
    (tree / "closed").write_bytes(b"closed")
    ran = backup(medium, "-I", tree, "--keep", "1", before=bound())
    assert ran.status == 1
    assert "kept all older sets, whatever --keep says: the new set has 1 warning" in ran.out
    assert len(sets(medium)) == 2
    assert sets(medium)[:1] == before


def test_keep_does_not_mind_what_vanished(medium: Path, tree: Path, tmp_path: Path) -> None:
    backup_json(medium, "-I", tree)
    (tmp_path / "list").write_text(f"{tree}\n{tree}/gone\n")
    ran = backup(medium, "-J", tmp_path / "list", "--keep", "1")
    assert ran.status == 1
    assert "vanished" in ran.out
    assert len(sets(medium)) == 1


@pytest.mark.parametrize("given", [b"", b"\n\n"], ids=["empty", "lines"])
def test_an_empty_list_makes_no_set(given: bytes, medium: Path, tree: Path) -> None:
    """It is what a find that failed leaves: no older set may go for it."""
    backup_json(medium, "-I", tree)
    before = sets(medium)
    ran = backup(medium, "-J", "-", "--keep", "1", given=given)
    assert (ran.status, ran.out) == (4, "")
    assert "names none" in ran.err
    assert (sets(medium), hidden(medium)) == (before, [])


@pytest.mark.parametrize("words", ["-I {tree}/one -E one", "-I {sets}", "-J -"])
def test_where_nothing_is_left_to_save_there_is_no_set(
    words: str, medium: Path, tree: Path
) -> None:
    backup_json(medium, "-I", tree)
    before = sets(medium)
    own = medium / PREFIX
    given = f"{tree}/none\n{own}\n".encode()
    ran = backup(medium, *words.format(tree=tree, sets=own).split(), "--keep", "1", given=given)
    assert (ran.status, ran.out) == (4, "")
    assert "nothing of what is to be saved" in ran.err
    assert (sets(medium), hidden(medium)) == (before, [])


# Verifying


def test_verify_after_writing(medium: Path, tree: Path) -> None:
    summary = backup_json(medium, "-I", tree, "-V")
    assert summary["verified"]["sound"]
    assert (summary["verified"]["files"], summary["verified"]["bytes"]) == (3, 9005)


def test_words_for_one_and_for_empty_files(medium: Path, tree: Path) -> None:
    """What is verified is as many files as the set holds."""
    one = backup(medium, "-I", tree / "sub folder", "-V")
    assert "holds     1 file (5 bytes)" in one.out
    assert "verified  1 file, 5 bytes, 1 slice: all" in one.out
    assert "of its files" not in one.out
    (tree / "empty").touch()
    (tree / "sub folder/three").write_bytes(b"3")
    both = backup(medium, "-I", tree / "sub folder", "-I", tree / "empty", "-V")
    assert "holds     2 files (1 byte)" in both.out
    assert "verified  2 files, 1 byte, 1 slice: all" in both.out


def test_verify_of_a_set_that_is_there(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    backup_json(medium, "-I", tree, "-D")
    ran = mondoarchive("-V", "-d", medium, "-p", PREFIX)
    assert (ran.status, ran.err) == (0, "")
    assert "3 files" in ran.out
    assert "all digests are right" in ran.out


def test_verify_names_what_is_lost(medium: Path, tree: Path) -> None:
    """In the parent too, without which the newest set is worth nothing."""
    full = backup_json(medium, "-I", tree, "--codec", "none")
    backup_json(medium, "-I", tree, "-D")
    flip(Path(full["set"], "slices/0000001.afio"))
    ran = mondoarchive("-V", "-d", medium, "-p", PREFIX, "--json")
    assert ran.status == 4
    told = json.loads(ran.out)
    assert not told["sound"]
    assert len(told["lost"]) == 1
    assert "reads back other than it was written" in ran.err


def test_verify_names_what_is_other_now(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    (tree / "link").unlink()
    ran = mondoarchive("-V", "-d", medium, "-p", PREFIX)
    assert (ran.status, ran.err) == (1, "")
    assert f"{tree}/link: missing" in ran.out


def test_verify_passes_over_the_times_of_what_leads_there(medium: Path, tree: Path) -> None:
    """The times of the tree itself count."""
    backup_json(medium, "-I", tree / "sub folder")
    (tree / "beside").touch()
    assert mondoarchive("-V", "-d", medium, "-p", PREFIX).status == 0
    (tree / "sub folder/beside").touch()
    ran = mondoarchive("-V", "-d", medium, "-p", PREFIX, "--json")
    assert ran.status == 1
    found = [(one["path"], one["kind"]) for one in json.loads(ran.out)["differences"]]
    assert found == [
        (f"{tree}/sub folder", "times"),
        (f"{tree}/sub folder/beside", "extra"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_verify_passes_over_the_times_of_what_is_mounted(medium: Path, tree: Path) -> None:
    """A folder on which a memory filesystem is mounted is saved, empty, with what is seen there."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree / "sub folder"], check=True)
    try:
        assert backup(medium, "-I", tree).status == 0
        (tree / "sub folder/new").touch()
        ran = mondoarchive("-V", "-d", medium, "-p", PREFIX)
        assert (ran.status, ran.err) == (0, "")
    finally:
        subprocess.run(["umount", tree / "sub folder"], check=True)


def test_there_is_nothing_to_verify(medium: Path) -> None:
    ran = mondoarchive("-V", "-d", medium, "-p", PREFIX)
    assert (ran.status, ran.out) == (4, "")


# Hooks

TELL = 'echo "$MONDOARCHIVE_STATUS $MONDOARCHIVE_EXIT_CODE $MONDOARCHIVE_KIND $MONDOARCHIVE_SET"'


def test_hooks_are_told_what_happens(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-B", TELL, "-A", TELL)
    assert ran.status == 0
    made = medium / PREFIX / sets(medium)[0]
    assert ran.err.splitlines() == ["begun  full ", f"complete 0 full {made}"]
    assert "begun" not in ran.out


def test_where_the_hook_before_fails_nothing_is_written(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-B", "exit 3", "-A", TELL)
    assert (ran.status, ran.out) == (6, "")
    assert "--before ended with status 3: exit 3" in ran.err
    assert "failed 6 full " in ran.err
    assert (sets(medium), hidden(medium)) == ([], [])


def test_where_the_hook_after_fails_the_set_stays(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-A", "kill -9 $$")
    assert ran.status == 6
    assert "--after was ended by signal 9" in ran.err
    assert "full, complete" in ran.out
    assert len(sets(medium)) == 1


def test_the_hook_after_runs_where_the_backup_fails(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-B", ":", "-I", tree / "none", "-A", TELL)
    assert ran.status == 4
    assert "failed 4 full " in ran.err


def test_a_hook_may_make_what_is_saved(medium: Path, tree: Path) -> None:
    made = tree / "made"
    backup_words = ("-I", made, "-B", f"mkdir '{made}'", "-A", f"rmdir '{made}'")
    assert backup(medium, *backup_words).status == 0
    assert names(medium, sets(medium)[0], tree) == {"made"}
    assert not made.exists()


def test_a_hook_may_bring_the_medium(medium: Path, tree: Path) -> None:
    """What is on it counts: the parent, the unfinished set, the other prefixes."""
    backup_json(medium, "-I", tree)
    away = medium.rename(medium.with_name("away"))
    words = ("-B", f"mv '{away}' '{medium}'", "-A", f"mv '{medium}' '{away}'")
    ran = backup(medium, "-I", tree, "-D", *words)
    assert ran.status == 0, ran.err
    assert not medium.exists()
    assert len(sets(away)) == 2


def test_a_hook_is_told_the_whole_path_of_the_set(medium: Path, tree: Path) -> None:
    ran = backup(Path(medium.name), "-I", tree, "-A", TELL, cwd=medium.parent)
    assert ran.err.splitlines() == [f"complete 0 full {medium / PREFIX / sets(medium)[0]}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_the_hook_after_may_unmount_the_medium(medium: Path, tree: Path) -> None:
    """Nothing of it is open any more, the lock neither."""
    words = ("-B", f"mount -t tmpfs tmpfs '{medium}'", "-A", f"umount '{medium}'")
    ran = backup(medium, "-I", tree, *words)
    assert (ran.status, ran.err) == (0, "")
    assert list(medium.iterdir()) == []


def test_a_wrong_pattern_runs_no_hook(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "-E", "/", "-B", "echo never", "-A", "echo never")
    assert ran.status == 2
    assert "never" not in ran.err.splitlines()


@pytest.mark.parametrize("what", ["folder", "lock", "parent", "selection"])
def test_the_hook_after_runs_whatever_fails(what: str, medium: Path, tree: Path) -> None:
    folder = medium / "none" if what == "folder" else medium
    words = ["-D"] if what == "parent" else []
    if what == "selection":
        words += ["-I", f"{tree}/none"]
    (medium / PREFIX).mkdir(0o700)
    with (medium / PREFIX / ".lock").open("wb") as lock:
        if what == "lock":
            fcntl.flock(lock, fcntl.LOCK_EX)
        ran = backup(folder, "-I", tree, *words, "-B", "echo begun", "-A", TELL)
    assert ran.status in (4, 5)
    lines = ran.err.splitlines()
    assert lines[0] == "begun"
    assert lines[1].startswith(f"failed {ran.status} ")


# Media that fail


def test_a_medium_that_is_not_there(tmp_path: Path, tree: Path) -> None:
    ran = backup(tmp_path / "unmounted", "-I", tree)
    assert ran.status == 5
    assert "mount the medium" in ran.err
    assert not (tmp_path / "unmounted").exists()


def test_a_medium_that_may_not_be_written(medium: Path, tree: Path) -> None:
    medium.chmod(0o500)
    ran = backup(medium, "-I", tree, before=bound())
    medium.chmod(0o700)
    assert (ran.status, ran.out) == (5, "")
    assert "Permission denied" in ran.err


def test_another_run_writes_there(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    with (medium / PREFIX / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = backup(medium, "-I", tree)
    assert ran.status == 5
    assert "another run writes to" in ran.err
    assert len(sets(medium)) == 1


@pytest.mark.parametrize(("mode", "warned"), [(0o755, False), (0o770, True), (0o1777, True)])
def test_a_folder_that_others_may_write_to(
    mode: int, warned: bool, medium: Path, tree: Path
) -> None:
    (medium / PREFIX).mkdir()
    (medium / PREFIX).chmod(mode)
    ran = backup(medium, "-I", tree)
    assert ran.status == 0
    assert (f"WARNING: others may write to {medium / PREFIX}" in ran.err) == warned


def test_a_link_in_place_of_the_folder_is_refused(medium: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (medium / PREFIX).symlink_to(tmp_path / "elsewhere")
    ran = backup(medium, "-I", tree)
    assert (ran.status, ran.out) == (5, "")
    assert f"{medium / PREFIX} is a symbolic link" in ran.err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def random_files(folder: Path, count: int, size: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"random{number:03}").write_bytes(os.urandom(size))


def test_a_full_medium_and_the_way_on(medium: Path, tree: Path) -> None:
    """What can be written at once is bounded, as where a medium is full: here by a limit."""
    prlimit = os.fspath(require_tool("prlimit", package="util-linux"))
    backup_json(medium, "-I", tree)
    random_files(tree / "more", 4, 1 << 20)
    ran = backup(medium, "-I", tree, before=(prlimit, "--fsize=2000000"))
    assert (ran.status, ran.out) == (5, "")
    assert "File too large" in ran.err
    assert "--resume" in ran.err
    assert "Traceback" not in ran.err
    assert (len(sets(medium)), len(hidden(medium))) == (1, 1)
    assert backup(medium, "-I", tree, "--resume", "-V").status == 0
    assert (len(sets(medium)), hidden(medium)) == (2, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_medium_without_room(medium: Path, tree: Path) -> None:
    random_files(tree / "more", 8, 1 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", medium], check=True)
    try:
        ran = backup(medium, "-I", tree)
        assert (ran.status, ran.out) == (5, "")
        assert "No space left on device" in ran.err
        assert sets(medium) == []
    finally:
        subprocess.run(["umount", medium], check=True)


# Interrupted


def test_what_an_earlier_run_left_is_discarded_with_a_word(medium: Path, tree: Path) -> None:
    left = medium / PREFIX / ".partial-20200101T000000Z-full"
    (left / "slices").mkdir(parents=True)
    ran = backup(medium, "-I", tree)
    assert ran.status == 0
    assert "discarding the unfinished set 20200101T000000Z-full (--resume" in ran.err
    assert hidden(medium) == []


def test_there_may_be_nothing_to_resume(medium: Path, tree: Path) -> None:
    ran = backup(medium, "-I", tree, "--resume")
    assert ran.status == 0
    assert "there is no unfinished set" in ran.err


def test_an_unfinished_set_of_another_kind_is_not_gone_on_with(medium: Path, tree: Path) -> None:
    (medium / PREFIX / ".partial-20200101T000000Z-differential/slices").mkdir(parents=True)
    ran = backup(medium, "-I", tree, "--resume")
    assert ran.status == 2
    assert "add -D; or leave --resume out" in ran.err
    assert len(hidden(medium)) == 1


SLOW = ("--codec", "xz", "-9")


def slow_tree(tree: Path) -> None:
    """Add what fills a first slice by the number of its files, and makes the second one slow."""
    (tree / "empty").mkdir()
    for number in range(SLICE_ITEMS):
        (tree / f"empty/{number:05}").touch()
    random_files(tree / "more", 4, 1 << 20)


def interrupt(
    medium: Path, *words: str | Path, number: signal.Signals, worker: bool = False
) -> tuple[int, str]:
    """Begin a set, and send a signal when its second slice is begun; return status and errors.

    The signal is sent to the command, or to its ``worker``.
    """
    argv = argv_of("-O", "--set", "-d", medium, "-p", PREFIX, "--jobs", "1", *SLOW, *words)
    run = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((medium / PREFIX).glob(".partial-*/slices/0000002.*")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    os.kill(int(children.read_text().split()[0]) if worker else run.pid, number)
    _, err = run.communicate(timeout=120)
    return run.returncode, err


def test_interrupted_and_resumed(medium: Path, tree: Path) -> None:
    slow_tree(tree)
    status, err = interrupt(medium, "-I", tree, "-A", TELL, number=signal.SIGTERM)
    assert status == 130
    assert "mondoarchive: error: interrupted" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert "interrupted 130 full" in err
    assert (len(sets(medium)), len(hidden(medium))) == (0, 1)
    first = next((medium / PREFIX).glob(".partial-*/slices/0000001.*"))
    written = first.stat()
    summary = json.loads(backup(medium, "-I", tree, *SLOW, "--resume", "-V", "--json").out)
    assert summary["complete"]
    assert summary["verified"]["sound"]
    assert summary["files"] == 3 + SLICE_ITEMS + 4
    again = Path(summary["set"], "slices", first.name).stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert hidden(medium) == []


def test_a_worker_that_is_killed_is_told(medium: Path, tree: Path) -> None:
    slow_tree(tree)
    status, err = interrupt(medium, "-I", tree, number=signal.SIGKILL, worker=True)
    assert status == 6
    assert "a worker process was killed" in err
    assert "--resume" in err
    assert (len(sets(medium)), len(hidden(medium))) == (0, 1)


def test_killed_before_anything_was_written(medium: Path, tree: Path) -> None:
    (medium / PREFIX / ".partial-20200101T000000Z-full").mkdir(parents=True)
    (medium / PREFIX / ".partial-20200101T000000Z-full/catalog-1.sqlite").write_bytes(b"half")
    assert backup(medium, "-I", tree, "--resume", "-V").status == 0
    assert (sets(medium), hidden(medium)) == (["20200101T000000Z-full"], [])


def test_killed_and_begun_anew(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    slow_tree(tree)
    words = ("-I", tree, "-T", medium.parent)
    status, _ = interrupt(medium, *words, number=signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert len(sets(medium)) == 1
    assert backup(medium, "-I", tree / "one", "-V").status == 0
    assert (len(sets(medium)), hidden(medium)) == (2, [])


def test_what_killed_runs_left_elsewhere_goes(medium: Path, tree: Path, tmp_path: Path) -> None:
    """Not what a run still uses, nor what may be about to be used."""
    for name in ("left", "used", "young"):
        (tmp_path / f"mondoarchive-{name}").mkdir()
        (tmp_path / f"mondoarchive-{name}/catalog").touch()
        if name != "young":
            os.utime(tmp_path / f"mondoarchive-{name}", (0, 0))
    used = os.open(tmp_path / "mondoarchive-used", os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_EX)
    assert backup(medium, "-I", tree, "-T", tmp_path).status == 0
    os.close(used)
    left = sorted(path.name for path in tmp_path.glob("mondoarchive-*"))
    assert left == ["mondoarchive-used", "mondoarchive-young"]


def test_a_resumed_differential_keeps_its_parent(medium: Path, tree: Path) -> None:
    backup_json(medium, "-I", tree)
    parent, *_ = sets(medium)
    slow_tree(tree)
    interrupt(medium, "-I", tree, "-D", number=signal.SIGTERM)
    [left] = hidden(medium)
    aside = (medium / PREFIX / left).rename(medium / left)
    backup_json(medium, "-I", tree / "one")
    newest = sets(medium)[-1]
    aside.rename(medium / PREFIX / left)
    refused = backup(medium, "-I", tree, *SLOW, "-D", "--resume", "--parent", newest)
    assert refused.status == 2
    assert f"was begun against {parent}" in refused.err
    packed = backup(medium, "-I", tree, "-D", "--resume", "-G")
    assert packed.status == 2
    assert "is packed in another way" in packed.err
    made = json.loads(backup(medium, "-I", tree, *SLOW, "-D", "--resume", "-V", "--json").out)
    assert made["parent"] == parent
    assert made["verified"]["sound"]


def test_the_catalog_lists_every_issue(medium: Path, tree: Path) -> None:
    for number in range(12):
        (tree / f"closed{number:02}").touch(0o000)
    ran = backup(medium, "-I", tree, before=bound())
    assert ran.status == 1
    assert "and 2 more" in ran.out
    with BackupSet.open(medium / PREFIX) as backup_set:
        catalog: Catalog = backup_set.catalog
        [(count,)] = catalog.connection.execute("SELECT count(*) FROM issue")
    assert count == 12
