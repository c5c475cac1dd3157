"""The images that the tests boot: built by the project's own command, each once a session."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindi.boot import DIRECT_CMDLINE
from mindi.qemu import DirectBoot
from tests.support.tools import require_tool

MINDI = Path(sys.executable).with_name("mindi")


@dataclass(frozen=True, slots=True)
class Images:
    """A folder of built images, shared by all workers of a session."""

    folder: Path

    def build(self, name: str, *options: str, before: tuple[str, ...] = ()) -> Path:
        """Return the image that ``mindi build`` makes with ``options``, built if it is not there.

        ``name`` is its file name, and stands for its options; ``before`` is a command that runs
        the one behind it.
        """
        image = self.folder / name
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not image.exists():
                argv = [*before, str(MINDI), "build", "--quiet", *options, "-o", str(image)]
                done = subprocess.run(argv, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.fail(f"mindi build {' '.join(options)}:\n{done.stderr}", pytrace=False)
        return image

    def iso(self) -> Path:
        """Return the ISO for any machine, of the distribution's kernel and tools."""
        return self.build("generic.iso", "--output", "iso", "--kernel", "failsafe", "--generic")

    def host_only_iso(self) -> Path:
        """Return the ISO for this machine, of its own tools, as `mindi build` makes it."""
        return self.build("host-only.iso", "--output", "iso", "--host-only")

    def kernel(self) -> Path:
        """Return the kernel of that ISO."""
        return self._taken_from_iso("boot/vmlinuz")

    def initrd(self) -> Path:
        """Return the initrd of that ISO."""
        return self._taken_from_iso("boot/initrd.img")

    def direct(self, *, initrd: Path | None = None, kernel: Path | None = None) -> DirectBoot:
        """Return a direct boot of that ISO's kernel and initrd, or of others in their place."""
        return DirectBoot(kernel or self.kernel(), initrd or self.initrd(), DIRECT_CMDLINE)

    def _taken_from_iso(self, path: str) -> Path:
        iso = self.iso()
        file = self.folder / Path(path).name
        with (self.folder / f"{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                argv = [str(require_tool("xorriso")), "-osirrox", "on", "-indev", str(iso)]
                argv += ["-extract", f"/{path}", str(file)]
                subprocess.run(argv, check=True, capture_output=True)
        return file


def overlaid(initrd: Path, files: Mapping[str, bytes], *, folder: Path) -> Path:
    """Return a copy of ``initrd`` in which ``files`` (canonical path: content) are replaced.

    The kernel unpacks concatenated archives one over the other (buffer-format.rst).
    """
    tree = folder / "overlay"
    names = set()
    for path, content in files.items():
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755)
        names |= {str(part) for part in file.relative_to(tree).parents} | {path.lstrip("/")}
    listing = "\n".join(sorted(names - {"."})) + "\n"
    argv = [str(require_tool("cpio")), "--create", "--format=newc", "--quiet", "--owner=0:0"]
    archive = subprocess.run(
        argv, cwd=tree, input=listing.encode(), capture_output=True, check=True
    ).stdout
    data = initrd.read_bytes()
    result = folder / f"overlaid-{initrd.name}"
    result.write_bytes(data + bytes(-len(data) % 4) + archive)
    return result


def flipped(source: Path, target: Path, *, offset: int) -> Path:
    """Return a copy of ``source`` in which one bit of the byte at ``offset`` is flipped."""
    data = bytearray(source.read_bytes())
    data[offset] ^= 0x10
    target.write_bytes(data)
    return target
