"""The command as a user meets it: what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindi.cli import parsers
from tests.support.realtree import Ran, RealTree, mindi, real_tree
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> RealTree:
    return real_tree(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Give a folder for outputs; nothing half made may be in it afterwards."""
    folder = tmp_path / "out"
    folder.mkdir()
    yield folder
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert hidden == []


def moved_away(path: Path) -> Path:
    """Take a file out of a tree; the caller puts it back."""
    return path.rename(path.with_name(path.name + ".away"))


def build(tree: RealTree, out: Path, *words: str | Path, before: tuple[str, ...] = ()) -> Ran:
    return mindi(
        *("build", "--output", "initramfs", "--root", tree.path, "-o", out / "a.img", "--no-cache"),
        *words,
        before=before,
    )


def test_help_names_every_command() -> None:
    ran = mindi("--help")
    assert ran.status == 0
    for command in ("build", "inspect", "why", "diff", "boot", "doctor"):
        assert command in ran.out


@pytest.mark.parametrize("command", ["build", "inspect", "why", "diff", "boot", "doctor"])
def test_every_command_has_help(command: str) -> None:
    ran = mindi(command, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert f"usage: mindi {command}" in ran.out


def test_help_imports_nothing_heavy() -> None:
    ran = mindi("--help", before=("env", "PYTHONPROFILEIMPORTTIME=1"))
    loaded = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    heavy = {"pycdlib", "elftools", "jinja2", "rich", "plumbum", "pexpect", "zstandard", "json"}
    assert "argparse" in loaded
    assert loaded & heavy == set()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("build", "--hots-only"), "unknown argument --hots-only; did you mean --host-only"),
        (("build", "--level", "12"), "--level: '12' is no number from 0 to 9"),
        (("build", "--output", "floppy"), "'floppy' is none of iso, initramfs"),
        (("build", "--kernel"), "expected one argument"),
        (("biuld",), "invalid choice"),
        (("why", "image"), "the following arguments are required: PATH"),
        (("boot", "x", "--firmware", "coreboot"), "invalid choice: 'coreboot'"),
    ],
    ids=["option", "level", "output", "no value", "command", "argument", "choice"],
)
def test_a_wrong_word_is_a_usage_error(words: tuple[str, ...], says: str) -> None:
    ran = mindi(*words)
    assert ran.status == 2
    assert says in ran.err
    assert "Traceback" not in ran.err


def paths_of_commands() -> list[tuple[str, ...]]:
    """Return a command line with an empty word for each path that a command takes."""
    every = []
    for name, parser in sorted(parsers()[1].items()):
        needed = [action for action in parser._actions if not action.option_strings]
        for action in parser._actions:
            words = [name, *("" if other is action else "x" for other in needed)]
            if action.option_strings and action.metavar in ("FILE", "DIR", "PATH", PATHS):
                words.append(f"{action.option_strings[-1]}=")
            elif action not in needed:
                continue
            every.append(tuple(words))
    return every


PATHS = "running|failsafe|PATH"


def test_every_command_that_takes_a_path_is_tried() -> None:
    tried = {words[0] if "=" not in words[-1] else words[-1] for words in paths_of_commands()}
    assert tried == {
        *("inspect", "why", "diff", "boot"),
        *("--config=", "--file=", "--kernel=", "--root=", "--add=", "--ssh-key=", "--logs="),
    }


@pytest.mark.parametrize("words", paths_of_commands(), ids=" ".join)
def test_an_empty_path_is_a_usage_error(words: tuple[str, ...]) -> None:
    """An empty --logs was the folder one was in, an empty --config the system's own file."""
    ran = mindi(*words)
    assert (ran.status, "'' is no path" in ran.err) == (2, True), ran.err


def test_an_option_without_effect_is_a_usage_error(tmp_path: Path) -> None:
    ran = mindi("build", "--output", "initramfs", "--label", "OTHER", cwd=tmp_path)
    assert ran.status == 2
    assert "--label: is for --output iso" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_of_the_file_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "mindi.toml"
    file.write_text('[build]\nadd-modul = ["ext4"]\n')
    ran = mindi("build", "--config", file, cwd=tmp_path)
    assert ran.status == 2
    assert "unknown key 'add-modul'; did you mean add-module" in ran.err
    assert list(tmp_path.iterdir()) == [file]


def test_an_image_of_a_real_tree_says_what_it_holds(tree: RealTree, out: Path) -> None:
    ran = build(tree, out, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["kernel_version"] == tree.release
    assert report["size_bytes"] == (out / "a.img").stat().st_size
    shown = mindi("inspect", out / "a.img", "--json")
    assert json.loads(shown.out)["kernel_version"] == tree.release
    why = mindi("why", out / "a.img", "libdevmapper.so.1.02.1")
    assert "needed by /usr/sbin/lvm" in why.out or "needed by /usr/sbin/dmsetup" in why.out


@pytest.mark.parametrize("output", ["initramfs", "iso"])
def test_an_image_with_a_secret_is_its_owners_alone(tree: RealTree, out: Path, output: str) -> None:
    secret = tree.path / "etc/secret.key"
    secret.write_text("of no use\n")
    secret.chmod(0o600)
    for name, words, others in (("one", ("--add", "/etc/secret.key"), 0), ("two", (), 0o004)):
        ran = mindi(
            *("build", "--output", output, "--root", tree.path, "-o", out / name, *words),
            before=("sh", "-c", 'umask 022 && exec "$0" "$@"'),
        )
        assert ran.status == 0, ran.err
        assert (out / name).stat().st_mode & 0o004 == others


@pytest.mark.parametrize("epoch", ["yesterday", "99999999999"])
def test_a_date_that_is_none_is_a_usage_error(epoch: str, tmp_path: Path) -> None:
    script = 'SOURCE_DATE_EPOCH=$0 exec "$@"'
    ran = mindi("build", before=("sh", "-c", script, epoch), cwd=tmp_path)
    assert ran.status == 2
    assert "SOURCE_DATE_EPOCH" in ran.err


def test_what_is_not_in_an_image_is_said(tree: RealTree, out: Path) -> None:
    assert build(tree, out).status == 0
    ran = mindi("why", out / "a.img", "libdevmaper.so")
    assert ran.status == 1
    assert "libdevmapper" in ran.err


def test_a_removed_library_is_named_with_its_chain(tree: RealTree, out: Path) -> None:
    library = next((tree.path / "usr/lib/x86_64-linux-gnu").glob("libdevmapper-event.so.*"))
    away = moved_away(library)
    try:
        ran = build(tree, out)
    finally:
        away.rename(library)
    assert ran.status == 3
    assert "/usr/sbin/lvm" in ran.err
    assert f"needs {library.name}, not found in: " in ran.err
    assert list(out.iterdir()) == []


def test_a_module_without_its_dependency_is_named_with_its_chain(tree: RealTree, out: Path) -> None:
    module = next(tree.modules.rglob("libcrc32c.ko*"))
    away = moved_away(module)
    try:
        ran = build(tree, out)
    finally:
        away.rename(module)
    assert ran.status == 3
    assert "libcrc32c" in ran.err
    assert list(out.iterdir()) == []


def test_a_truncated_kernel_is_refused(tree: RealTree, out: Path) -> None:
    content = tree.kernel.read_bytes()
    tree.kernel.write_bytes(content[:-1000])
    try:
        ran = build(tree, out)
    finally:
        tree.kernel.write_bytes(content)
    assert ran.status == 4
    assert "cut short" in ran.err
    assert list(out.iterdir()) == []


def test_an_unknown_module_is_named_with_its_likes(tree: RealTree, out: Path) -> None:
    ran = build(tree, out, "--add-module", "virtio_blc")
    assert ran.status == 3
    assert "virtio_blk" in ran.err
    assert list(out.iterdir()) == []


def test_an_unreadable_root_is_named(tree: RealTree, out: Path) -> None:
    folder = tree.path / "usr/sbin"
    mode = folder.stat().st_mode
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:  # who is stopped by nothing but the lack of this right
        setpriv = require_tool("setpriv", package="util-linux")
        before = (str(setpriv), "--bounding-set=-dac_override,-dac_read_search")
    folder.chmod(0)
    try:
        ran = build(tree, out, before=before)
    finally:
        folder.chmod(mode)
    assert ran.status == 4
    assert "usr/sbin" in ran.err
    assert "Permission denied" in ran.err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("output", ["initramfs", "iso"])
def test_a_full_disk_is_said_and_nothing_stays(tree: RealTree, out: Path, output: str) -> None:
    unshare = str(require_tool("unshare", package="util-linux"))
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    script = (
        'mount -t tmpfs -o size=12m none "$1" && shift && "$@"; status=$?; '
        f'ls -A "{out}" >&2; exit $status'
    )
    before = (unshare, *rights, "--mount", "sh", "-c", script, "sh", str(out))
    ran = build(tree, out, "--output", output, before=before)
    assert ran.status == 5, ran.err
    assert "No space left on device" in ran.err
    assert ran.err.splitlines()[-1].startswith("mindi: hint: "), "a file was left behind"


def test_a_missing_output_folder_is_said_before_the_work(tree: RealTree, tmp_path: Path) -> None:
    ran = mindi("build", "--root", tree.path, "-o", tmp_path / "none/a.iso")
    assert ran.status == 5
    assert "is no directory" in ran.err


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.img"
    file.write_bytes(b"no image at all\n" * 100)
    for command in (("inspect", file), ("why", file, "lvm"), ("diff", file, file)):
        ran = mindi(*command)
        assert ran.status == 4, command
        assert str(file) in ran.err


def test_a_traceback_does_not_change_the_exit_code(tmp_path: Path) -> None:
    ran = mindi("inspect", tmp_path / "none.img", "--debug")
    assert ran.status == 4
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("mindi: error: cannot read")


@pytest.mark.parametrize("words", [(), ("--debug",)], ids=["plain", "debug"])
def test_a_hostile_name_in_an_error_does_not_steer_the_terminal(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    ran = mindi("inspect", tmp_path / "\x1b[2Jodd\udcff", *words)
    assert ran.status == 4
    assert "\\x1b[2Jodd\\xff" in ran.err
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("output", ["initramfs", "iso"])
def test_two_builds_are_byte_identical(tree: RealTree, out: Path, output: str) -> None:
    for name, jobs in (("one", "1"), ("two", "2")):
        ran = mindi(
            *("build", "--output", output, "--root", tree.path, "-o", out / name),
            *("--no-cache", "--jobs", jobs),
        )
        assert ran.status == 0, ran.err
    assert (out / "one").read_bytes() == (out / "two").read_bytes()
    assert mindi("diff", out / "one", out / "two").status == 0


def test_different_images_are_told_apart(tree: RealTree, out: Path) -> None:
    for name, words in (("one", ()), ("two", ("--omit-module", "xfs"))):
        ran = mindi(
            *("build", "--output", "initramfs", "--root", tree.path, "-o", out / name), *words
        )
        assert ran.status == 0, ran.err
    ran = mindi("diff", out / "one", out / "two")
    assert ran.status == 1
    assert "xfs.ko" in ran.out


def test_a_warm_cache_gives_the_same_bytes(tree: RealTree, out: Path, tmp_path: Path) -> None:
    before = ("env", f"MINDI_CACHE={tmp_path / 'cache'}")
    words = ("build", "--output", "initramfs", "--root", tree.path, "--json")
    reports = []
    for name in ("cold", "warm"):
        ran = mindi(*words, "-o", out / name, before=before)
        assert ran.status == 0, ran.err
        reports.append(json.loads(ran.out))
    assert (reports[0]["frames_from_cache"], reports[1]["frames_from_cache"]) == (
        0,
        reports[1]["frames"],
    )
    assert (out / "cold").read_bytes() == (out / "warm").read_bytes()


@pytest.mark.parametrize("state", ["closed", "full", "damaged"])
def test_a_cache_that_is_of_no_use_is_told_of_once(
    tree: RealTree, out: Path, tmp_path: Path, state: str
) -> None:
    """There was a line for each of thirty frames."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    before: tuple[str, ...] = ("env", f"MINDI_CACHE={cache}")
    words = ("build", "--output", "initramfs", "--root", tree.path, "-q", "-o", out / "a.img")
    if state in ("closed", "damaged"):
        assert mindi(*words, before=before).status == 0
    closed: list[Path] = []
    for entry in cache.glob("*/*"):
        if state == "closed":
            closed += [entry, entry.parent]
        else:
            os.truncate(entry, 100)
    if state == "full":
        unshare = str(require_tool("unshare", package="util-linux"))
        rights = () if os.geteuid() == 0 else ("--map-root-user",)
        script = 'mount -t tmpfs -o size=3m,mode=700 none "$MINDI_CACHE" && exec "$@"'
        before += (unshare, *rights, "--mount", "sh", "-c", script, "sh")
    elif os.geteuid() == 0:  # who is stopped by nothing but the lack of this right
        setpriv = require_tool("setpriv", package="util-linux")
        before += (str(setpriv), "--bounding-set=-dac_override,-dac_read_search")
    for path in closed:
        path.chmod(0o500 if path.is_dir() else 0)
    try:
        ran = mindi(*words, before=before)
    finally:
        for path in closed:
            path.chmod(0o700)
    why = {"full": "No space left on device", "damaged": "is damaged"}.get(state, "Permission")
    assert ran.status == 0, ran.err
    assert [why in line and str(cache) in line for line in ran.err.splitlines()] == [True], ran.err


def test_a_cache_has_a_few_folders_and_no_files(tree: RealTree, out: Path, tmp_path: Path) -> None:
    """Bytecode was kept beside them, file by file and without a limit."""
    before = ("env", f"MINDI_CACHE={tmp_path / 'cache'}")
    ran = mindi(
        *("build", "--output", "initramfs", "--root", tree.path, "-o", out / "a.img"), before=before
    )
    assert ran.status == 0, ran.err
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"bytecode", "frames"}


def of_session(session: int) -> list[int]:
    """Return the processes of a session that are still running, or stopped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def while_compiling(tree: RealTree, out: Path) -> subprocess.Popen[str]:
    """Start a build in a session of its own; return when a second process compiles."""
    process = subprocess.Popen(
        [
            *("env", "--default-signal=INT,TERM", sys.executable, "-m", "mindi.cli", "build"),
            *("--output", "initramfs", "--root", tree.path, "-o", out / "a.img"),
            *("--no-cache", "--jobs", "2"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(of_session(process.pid)) < 2:
        assert process.poll() is None, "it never compiled with a second process"
        time.sleep(0.002)
    return process


def all_gone(session: int) -> bool:
    """Wait for the last process of a session, at most for ten seconds."""
    until = time.monotonic() + 10
    while of_session(session) and time.monotonic() < until:
        time.sleep(0.02)
    return of_session(session) == []


@pytest.mark.parametrize("times", [1, 3], ids=["once", "thrice"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("later_s", [0.0, 0.02, 0.08, 0.15])
def test_an_interrupt_while_compiling_leaves_nothing(
    tree: RealTree, out: Path, later_s: float, number: signal.Signals, times: int
) -> None:
    # The processes of a pool took the signal too, and the build hung or went on.
    process = while_compiling(tree, out)
    try:
        time.sleep(later_s)
        for _ in range(times):
            os.killpg(process.pid, number)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said.splitlines()[-1]) == (130, "mindi: error: interrupted")
        assert "Traceback" not in said
        assert all_gone(process.pid)
        assert list(out.iterdir()) == []
    finally:
        for each in of_session(process.pid):
            os.kill(each, signal.SIGKILL)


def test_a_killed_build_leaves_no_process(tree: RealTree, out: Path) -> None:
    process = while_compiling(tree, out)
    try:
        process.kill()
        process.wait()
        assert all_gone(process.pid)
    finally:
        for each in of_session(process.pid):
            os.kill(each, signal.SIGKILL)
        process.communicate()


def while_writing(tree: RealTree, out: Path, *, parts: int = 1) -> subprocess.Popen[str]:
    """Start the build of an ISO; return when its initrd is being written, or that and the ISO."""
    process = subprocess.Popen(
        [
            *("env", "--default-signal=INT,TERM,HUP", sys.executable, "-m", "mindi.cli", "build"),
            *("--root", tree.path, "-o", out / "a.iso", "--no-cache"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(out.iterdir())) < parts:
        assert process.poll() is None, "it never wrote anything"
        time.sleep(0.002)
    return process


@pytest.mark.parametrize(
    ("number", "parts"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 2)],
    ids=["initrd", "ISO", "ISO of a closed terminal"],
)
def test_an_interrupt_while_writing_leaves_nothing(
    tree: RealTree, out: Path, parts: int, number: signal.Signals
) -> None:
    process = while_writing(tree, out, parts=parts)
    try:
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()[-1]) == (130, "mindi: error: interrupted")
        assert list(out.iterdir()) == []
    finally:
        for each in of_session(process.pid):
            os.kill(each, signal.SIGKILL)


def test_what_a_killed_build_left_is_gone_after_the_next(tree: RealTree, out: Path) -> None:
    process = while_writing(tree, out)
    process.kill()
    process.communicate()
    left = list(out.iterdir())
    assert [path.suffix for path in left] == [".part"]
    other = out / "b.iso.part"
    other.touch()
    ran = mindi("build", "--output", "initramfs", "--root", tree.path, "-o", out / "a.iso")
    assert ran.status == 0, ran.err
    assert set(out.iterdir()) == {out / "a.iso", other}
