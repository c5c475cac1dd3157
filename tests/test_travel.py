"""What travels runs from a tree that holds what travels, and nothing else of this machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import restore
from archive.version import VERSION
from initramfs.closure import ClosureBuilder
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from mindi.pythonhome import add_python, running_python
from tests.support.backup import save
from tests.support.snapshot import differences, snapshot
from tests.support.unpacked import unpack

pytestmark = pytest.mark.slow

OURS = Path(restore.__file__ or "").parent.parent
ENTRY_POINTS = ["restore.selfcheck", "restore.cli", "restore.deeds"]
STANDARD = [
    *("argparse", "bz2", "concurrent.futures", "ctypes", "curses", "hashlib", "http.client"),
    *("json", "logging", "lzma", "multiprocessing", "readline", "sqlite3", "ssl", "tarfile"),
    *("urllib.request", "zlib", "asyncio", "encodings.cp437", "encodings.idna"),
]
LIBRARIES = ["lzo", "zstandard", "urwid"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the image's Python; found by its own place, it looks nowhere else."""
    root = Root(Path("/"))
    builder = ClosureBuilder(root, Libraries(root))
    home = running_python()
    add_python(builder, home, ours=OURS, cache=None, jobs=1)
    tree = unpack(builder.build(), tmp_path_factory.mktemp("image"))
    return tree / home.executable.lstrip("/")


def run(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-S", "-c", code], capture_output=True, text=True, env={}, timeout=60
    )


def test_nothing_of_this_machine_is_on_its_path(python: Path) -> None:
    result = run(python, "import sys, json; print(json.dumps(sys.path))")
    tree = str(python.parents[2])
    assert [path for path in json.loads(result.stdout) if not path.startswith(tree)] == []


@pytest.mark.parametrize("module", [*ENTRY_POINTS, *LIBRARIES, *STANDARD])
def test_import(python: Path, module: str) -> None:
    result = run(python, f"import {module}")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("module", ["jinja2", "pycdlib", "elftools", "plumbum", "rich", "mindi"])
def test_what_stays_on_the_build_host_is_not_there(python: Path, module: str) -> None:
    assert "ModuleNotFoundError" in run(python, f"import {module}").stderr


def test_a_library_that_is_left_out_is_noticed(python: Path) -> None:
    assert run(python, "import idlelib").returncode != 0


def test_compressors_work(python: Path) -> None:
    code = (
        "import lzo, zstandard\n"
        "data = bytes(range(256)) * 100\n"
        "assert lzo.decompress(lzo.compress(data)) == data\n"
        "frame = zstandard.ZstdCompressor().compress(data)\n"
        "assert zstandard.ZstdDecompressor().decompress(frame) == data\n"
    )
    result = run(python, code)
    assert (result.returncode, result.stderr) == (0, "")


def test_other_processes_can_be_started_from_it(python: Path) -> None:
    code = (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(sum(pool.map(abs, range(-3, 3))))\n"
    )
    assert run(python, code).stdout == "9\n"


def save_some(folder: Path) -> Path:
    """Save a small tree; return it."""
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/fstab").write_text("here\n")
    (tree / "etc/link").symlink_to("fstab")
    save(tree, folder / "set")
    return tree


def mondorestore(python: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [python, "-I", "-S", "-m", "restore.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, env={}, timeout=60)


def test_mondorestore_knows_its_version(python: Path) -> None:
    done = mondorestore(python, "--version")
    assert (done.returncode, done.stdout) == (0, f"mondorestore {VERSION}\n"), done.stderr


def test_mondorestore_restores_with_what_travels_alone(python: Path, tmp_path: Path) -> None:
    tree = save_some(tmp_path)
    done = mondorestore(python, "--from", tmp_path / "set", "--all", "--to", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert differences(snapshot(tree), snapshot(tmp_path / "out")) == []


@pytest.mark.parametrize("words", [["--verify"], ["--list"], ["--find", "fstab"]])
def test_mondorestore_reads_with_what_travels_alone(
    python: Path, tmp_path: Path, words: list[str]
) -> None:
    save_some(tmp_path)
    done = mondorestore(python, "--from", tmp_path / "set", *words)
    assert done.returncode == 0, done.stderr


def test_mondorestore_compares_with_what_travels_alone(python: Path, tmp_path: Path) -> None:
    tree = save_some(tmp_path)
    words = ("--from", tmp_path / "set", "--compare", "--to", tree)
    assert mondorestore(python, *words).returncode == 0
    (tree / "etc/fstab").write_text("gone\n")
    done = mondorestore(python, *words)
    assert (done.returncode, "content    /etc/fstab\n" in done.stdout) == (1, True), done.stderr
