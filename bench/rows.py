"""What is measured: each function runs its pairs and returns its rows of the table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.chroot import NO_CACHE, Chroot
from bench.measure import Row, alternate, median, repeat, timed_row

# Where things are written in the tree.
_OUTPUT = "/tmp/bench"  # noqa: S108 in a root tree of our own

_MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Bench:
    """The tree to measure in, where logs go, how often to run, and mindi's path."""

    chroot: Chroot
    logs: Path
    runs: int
    mindi: str

    def size_mb(self, name: str) -> float:
        """Return the size in MB (10^6 bytes) of a file of the tree."""
        return (self.chroot.path / name.lstrip("/")).stat().st_size / _MEGA

    def run(self, name: str, *argv: str, cache: str = NO_CACHE) -> float:
        """Run a program in the tree, its output in the log ``name``; return seconds."""
        return self.chroot.run(argv, log=self.logs / f"{name}.log", cache=cache)

    def build(self, output: str, file: str, *more: str, cache: str = NO_CACHE) -> float:
        """Run ``mindi build --generic`` in the tree with the tree's kernel; return seconds."""
        return self.run(
            f"mindi-{output}",
            self.mindi,
            "build",
            "--output",
            output,
            "--generic",
            "--kernel",
            f"/boot/vmlinuz-{self.chroot.release}",
            "-o",
            file,
            *more,
            cache=cache,
        )


def initrd_rows(bench: Bench) -> list[Row]:
    """Compare the generic initrd with dracut's and mkinitramfs's; the same tree and kernel."""
    release = bench.chroot.release
    file, dracuts, mkinitramfss = (f"{_OUTPUT}/{n}.img" for n in ("mindi", "dracut", "mkinitramfs"))

    def ours() -> float:
        return bench.build("initramfs", file, "--no-cache")

    def dracut() -> float:
        return bench.run("dracut", "dracut", "--no-hostonly", "--force", "--kver", release, dracuts)

    def mkinitramfs() -> float:
        return bench.run("mkinitramfs", "mkinitramfs", "-o", mkinitramfss, release)

    against_dracut = alternate(ours, dracut, bench.runs)
    against_mkinitramfs = alternate(ours, mkinitramfs, bench.runs)
    size = bench.size_mb(file)
    return [
        timed_row("generic initrd", "dracut --no-hostonly", against_dracut, share=1 / 10),
        timed_row("generic initrd", "mkinitramfs", against_mkinitramfs),
        Row("generic initrd, size", "MB", size, "dracut", bench.size_mb(dracuts)),
        Row("generic initrd, size", "MB", size, "mkinitramfs", bench.size_mb(mkinitramfss)),
    ]


def warm_rows(bench: Bench) -> list[Row]:
    """Measure the generic initrd once more, with the cache of an earlier build."""
    cache = f"{_OUTPUT}/cache"
    runs = repeat(lambda: bench.build("initramfs", f"{_OUTPUT}/warm.img", cache=cache), bench.runs)
    return [Row("generic initrd, warm cache", "s", median(runs), at_most=0.7, runs=(runs,))]


def iso_rows(bench: Bench) -> list[Row]:
    """Compare the rescue ISO with ReaR's, both with all modules of the same kernel."""
    file = f"{_OUTPUT}/mindi.iso"
    pairs = alternate(
        lambda: bench.build("iso", file, "--no-cache"),
        lambda: bench.run("rear", "rear", "mkrescue"),
        bench.runs,
    )
    (rears,) = (bench.chroot.path / "var/lib/rear/output").glob("*.iso")
    theirs = rears.stat().st_size / _MEGA
    return [
        timed_row("rescue ISO", "rear mkrescue", pairs, share=1 / 12),
        Row("rescue ISO, size", "MB", bench.size_mb(file), "rear mkrescue", theirs, share=1),
    ]


def start_rows(bench: Bench) -> list[Row]:
    """Measure how soon ``mindi --help`` answers."""
    runs = repeat(lambda: bench.run("help", bench.mindi, "--help"), max(bench.runs, 5))
    return [Row("mindi --help", "s", median(runs), at_most=0.15, runs=(runs,))]


def prepare_output(bench: Bench) -> None:
    """Make the folder of the results in the tree, empty."""
    bench.run("prepare", "rm", "-rf", _OUTPUT)
    bench.run("prepare", "mkdir", "-p", _OUTPUT)
