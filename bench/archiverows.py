"""What is measured of backup sets: the same tree, codec and level, the page cache warm.

Ours writes with all digests, attributes and a catalog, and sees its slices to the disk; the
peers do what they do.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import Row, alternate, timed_row
from bench.peak import peak_mib
from initramfs.errors import ToolError

TREE = ("/usr/lib/x86_64-linux-gnu", "/usr/share")
"""Some 60,000 files: programs' libraries, and small texts of all kinds."""
_MEGA = 1e6
_MILLION = 1_000_000
_FOLDERS = 1000

Argv = list[str]


class ArchiveBench:
    """Where results go, and how the commands are called."""

    def __init__(self, room: Path, commands: Path, runs: int) -> None:
        self.room = room
        self.runs = runs
        self._archive = str(commands / "mondoarchive")
        self._restore = str(commands / "mondorestore")

    def archive(self, prefix: str, *more: str, tree: tuple[str, ...] = TREE) -> Argv:
        """Return the command that saves the tree; the set lies in ``room``/``prefix``."""
        include = [word for path in tree for word in ("-I", path)]
        folder = ["-d", str(self.room), "-p", prefix]
        return [self._archive, "-O", "--set", "-q", *folder, *include, *more]

    def restore(self, prefix: str, *more: str) -> Argv:
        """Return the command that reads the newest set of a prefix."""
        return [self._restore, "-q", "--from", str(self.room / prefix), *more]

    def fresh(self, prefix: str, argv: Argv) -> Callable[[], float]:
        """Return a measurement of a command that makes a folder of ``room`` anew."""

        def measured() -> float:
            shutil.rmtree(self.room / prefix, ignore_errors=True)
            return timed(argv)

        return measured

    def shell(self, result: str, script: str) -> Callable[[], float]:
        """Return a measurement of a pipe of peers that makes ``result`` in ``room``."""
        return self.fresh(result, ["bash", "-o", "pipefail", "-c", script])

    def slices_mb(self, prefix: str) -> float:
        """Return the size of all that lies below a folder, in MB."""
        files = (path for path in (self.room / prefix).rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) / _MEGA

    def size_mb(self, name: str) -> float:
        """Return the size of a file, in MB."""
        return (self.room / name).stat().st_size / _MEGA


def timed(argv: Argv) -> float:
    """Run a command; return seconds. Raises ToolError with its last words."""
    start = time.monotonic()
    done = subprocess.run(  # noqa: S603 our own commands and the peers
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    taken = time.monotonic() - start
    if done.returncode:
        raise ToolError(f"{argv[0]} ended with {done.returncode}: {done.stderr[-800:]}")
    return taken


def version_of(program: str) -> str:
    """Return the first line that a peer prints of its version."""
    done = subprocess.run(  # noqa: S603 the peers
        [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[0]


def _tar() -> str:
    names = " ".join(path.lstrip("/") for path in TREE)
    return f"cd / && tar --xattrs --acls -C / -cf - {names}"


def zstd_rows(bench: ArchiveBench) -> list[Row]:
    """Compare saving and extracting with tar and zstd."""
    room = bench.room
    pairs = alternate(
        bench.fresh("zstd", bench.archive("zstd", "--codec", "zstd", "-3")),
        bench.shell("tar.zst", f"{_tar()} | zstd -q -T0 -3 -f -o {room}/tar.zst"),
        bench.runs,
    )
    extract = alternate(
        bench.fresh("ours", bench.restore("zstd", "--all", "--to", str(room / "ours"))),
        bench.shell(
            "theirs",
            f"mkdir {room}/theirs && zstd -q -dc {room}/tar.zst"
            f" | tar -x --xattrs --acls --numeric-owner -C {room}/theirs",
        ),
        bench.runs,
    )
    for name in ("ours", "theirs"):
        shutil.rmtree(room / name)
    ours, theirs = bench.slices_mb("zstd"), bench.size_mb("tar.zst")
    return [
        timed_row("archive, zstd -3", "tar --xattrs --acls | zstd -T0 -3", pairs, share=1),
        Row("archive, zstd -3, size", "MB", ours, "tar | zstd", theirs, share=1.05),
        timed_row("extract, zstd", "zstd -dc | tar x --xattrs --acls", extract, share=1),
    ]


def gzip_rows(bench: ArchiveBench) -> list[Row]:
    """Compare saving with what ReaR and Mondo do: gzip, one file or stream at a time."""
    room = bench.room
    ours = bench.fresh("gzip", bench.archive("gzip", "--codec", "gzip"))
    tar = bench.shell("tar.gz", f"{_tar()} | gzip >{room}/tar.gz")
    names = " ".join(path.lstrip("/") for path in TREE)
    afio = bench.shell("afio", f"cd / && find {names} -print0 | afio -o -0 -Z {room}/afio")
    against_tar = alternate(ours, tar, 1, warm=False)
    against_afio = alternate(ours, afio, 1, warm=False)
    size = bench.slices_mb("gzip")
    return [
        timed_row("archive, gzip", "tar | gzip", against_tar, share=1 / 8),
        Row("archive, gzip, size", "MB", size, "tar | gzip", bench.size_mb("tar.gz"), share=1.05),
        timed_row("archive, gzip", "afio -o -Z", against_afio, share=1 / 10),
    ]


def again_rows(bench: ArchiveBench) -> list[Row]:
    """Compare a second run with nothing changed with borg's; and a compare with mere reading."""
    room = bench.room
    timed(["rm", "-rf", str(room / "again"), str(room / "borg")])
    timed(bench.archive("again"))
    # Files that were changed within two seconds before they were read are read again.
    time.sleep(3)
    borg = f"export BORG_BASE_DIR={room}/borg-home BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"
    create = f"{borg}; borg create -C zstd,3 {room}/borg::$(date +%s%N) {' '.join(TREE)}"
    timed(["bash", "-c", f"{borg}; borg init -e none {room}/borg && {create[len(borg) + 2 :]}"])
    pairs = alternate(
        lambda: timed(bench.archive("again", "-D")),
        lambda: timed(["bash", "-c", create]),
        bench.runs,
    )
    reading = f"find {' '.join(TREE)} -type f -print0 | xargs -0 cat >/dev/null"
    compare = alternate(
        lambda: timed(bench.restore("again", "--compare")),
        lambda: timed(["bash", "-c", reading]),
        bench.runs,
    )
    return [
        timed_row(
            "differential, nothing changed", "borg create, nothing changed", pairs, share=0.3
        ),
        timed_row("compare", "cat of all files", compare, share=2),
    ]


def million_rows(bench: ArchiveBench) -> list[Row]:
    """Measure the memory of the largest process at a million files."""
    tree = bench.room / "million"
    shutil.rmtree(tree, ignore_errors=True)
    for folder in range(_FOLDERS):
        below = tree / f"{folder:03}"
        below.mkdir(parents=True)
        for number in range(_MILLION // _FOLDERS):
            (below / f"file-{number:04}").write_bytes(b"%d %d\n" % (folder, number))
    rows = []
    place = (str(tree),)
    for what, argv in (
        ("archive", bench.archive("of-million", tree=place)),
        ("differential", bench.archive("of-million", "-D", tree=place)),
        ("extract", bench.restore("of-million", "--all", "--to", str(bench.room / "out"))),
        ("compare", bench.restore("of-million", "--compare")),
    ):
        start = time.monotonic()
        peak = peak_mib(argv)
        taken = time.monotonic() - start
        rows += [
            Row(f"{what}, a million files, peak of a process", "MiB", peak, at_most=200),
            Row(f"{what}, a million files", "s", taken),
        ]
    for name in ("million", "of-million", "out"):
        shutil.rmtree(bench.room / name)
    return rows
