"""Says what this machine lacks for building, trying and using rescue images, and who has it.

``gather_facts`` reads the machine; ``examine`` judges what it is given, and looks itself at the
root tree, the cache folder, the programs in ``Facts.search``, this Python's libraries and, by a
short run of it, at QEMU. It changes nothing but what QEMU's probe leaves in the cache.
"""

from __future__ import annotations

import enum
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from initramfs.errors import ImageError, MissingDependency
from initramfs.rootfs import Root
from mindi.cachefolder import check_cache

# The fetched packages and the unpacked tree of a fail-safe root, with room for its successor.
FAILSAFE_BYTES = 2 * 1024**3

# Packages of Debian, by the library of ours that travels in an image.
_TRAVELLING = {"lzo": "python-lzo", "urwid": "urwid", "zstandard": "zstandard"}

# What fetches and unpacks a fail-safe root, and where Debian has it.
_FETCHERS = {"apt-get": "apt", "dpkg-deb": "dpkg", "tar": "tar", "depmod": "kmod"}

# Every machine with disks has partitions.
_PARTITIONER = "sfdisk"

# The tools that storage in use cannot be restored without, by what tells that it is used.
_DM_TOOLS = {"LVM-": "lvm", "CRYPT-": "cryptsetup", "mpath-": "multipath", "DMRAID-": "dmraid"}


class Purpose(enum.StrEnum):
    """What a finding bears on."""

    BUILD = "build"
    BOOT = "boot"
    RESTORE = "restore"


class State(enum.StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    """There, or good as it is."""

    NOTE = "note"
    """Missing, and there is another way, or it may not matter here."""

    MISSING = "missing"
    """Missing, and what it is for will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``package`` would bring what is missing."""

    purpose: Purpose
    state: State
    subject: str
    words: str
    package: str | None = None


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """All that was found, in the order of the purposes."""

    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Tell whether nothing is missing that something here needs."""
        return all(finding.state is not State.MISSING for finding in self.findings)

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that would bring what is missing, sorted."""
        lacking = (f for f in self.findings if f.state is State.MISSING and f.package)
        return tuple(sorted({word for f in lacking for word in (f.package or "").split()}))

    def to_text(self) -> str:
        """Return the report for people."""
        marks = {State.FINE: "ok     ", State.NOTE: "note   ", State.MISSING: "MISSING"}
        titles = {
            Purpose.BUILD: "Building an image",
            Purpose.BOOT: "Trying it in QEMU",
            Purpose.RESTORE: "What an image of this machine can restore",
        }
        lines = []
        for purpose, title in titles.items():
            lines.append(f"{title}:")
            for finding in self.findings:
                if finding.purpose is purpose:
                    source = f" (package {finding.package})" if finding.package else ""
                    lines.append(
                        f"  {marks[finding.state]}  {finding.subject}: {finding.words}{source}"
                    )
        if self.packages:
            lines.append(f"Install what is missing: apt install {' '.join(self.packages)}")
        else:
            lines.append("Nothing that is needed is missing." if self.is_well else "See above.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Return the report for programs; docs/commands.md says what the keys mean."""
        return {
            "well": self.is_well,
            "packages": list(self.packages),
            "findings": [
                {
                    "purpose": finding.purpose.value,
                    "state": finding.state.value,
                    "subject": finding.subject,
                    "words": finding.words,
                    "package": finding.package,
                }
                for finding in self.findings
            ],
        }


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be known of a machine beforehand.

    ``release`` is that of the running kernel and ``machine`` its architecture (uname(2)),
    ``loaded`` its modules; ``filesystems`` are the types of what is mounted from block devices;
    ``storage`` names the tools of what is stacked on the disks; ``search`` is a PATH.
    """

    root: Path
    cache: Path
    release: str
    machine: str
    loaded: tuple[str, ...]
    filesystems: frozenset[str]
    storage: frozenset[str]
    search: str
    is_superuser: bool


def gather_facts(
    cache: Path,
    *,
    environ: Mapping[str, str],
    sys: Path = Path("/sys"),
    proc: Path = Path("/proc"),
) -> Facts:
    """Read the facts of the running machine."""
    from initramfs.hostmodules import gather_host

    return Facts(
        root=Path("/"),
        cache=cache,
        release=platform.release(),
        machine=platform.machine(),
        loaded=gather_host(sys, proc).loaded,
        filesystems=mounted_filesystems(proc / "mounts"),
        storage=stacked_storage(sys / "class/block"),
        search=environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin",
        is_superuser=os.geteuid() == 0,
    )


def mounted_filesystems(mounts: Path) -> frozenset[str]:
    """Return the types of the filesystems on block devices that proc_mounts(5) lists."""
    rows = (line.split() for line in mounts.read_text(errors="replace").splitlines())
    return frozenset(row[2] for row in rows if len(row) > 2 and row[0].startswith("/dev/"))


def stacked_storage(block: Path) -> frozenset[str]:
    """Return the tools for the md arrays and device-mapper devices in ``/sys/class/block``."""
    found = set()
    for device in block.glob("*"):
        if (device / "md").is_dir():
            found.add("mdadm")
        try:
            uuid = (device / "dm/uuid").read_text(encoding="ascii", errors="replace")
        except OSError:  # not of the device mapper
            continue
        found.update(tool for prefix, tool in _DM_TOOLS.items() if uuid.startswith(prefix))
    return frozenset(found)


def examine(facts: Facts) -> DoctorReport:
    """Look for all that building, booting and restoring need; what cannot be read is a finding."""
    root = Root(facts.root)
    parts: tuple[tuple[Purpose, str, Callable[[], Iterator[Finding]]], ...] = (
        (Purpose.BUILD, "kernel", lambda: _examine_kernel(facts, root)),
        (Purpose.BUILD, "fail-safe kernel and tools", lambda: _examine_failsafe(facts, root)),
        (Purpose.BUILD, "contents", lambda: _examine_contents(facts, root)),
        (Purpose.BUILD, "boot loaders", lambda: _examine_loaders(facts, root)),
        (Purpose.BUILD, "cache folder", lambda: _examine_cache(facts)),
        (Purpose.BOOT, "QEMU", lambda: _examine_qemu(facts)),
        (Purpose.RESTORE, "tools", lambda: _examine_tools(facts, root)),
        (Purpose.RESTORE, "firmware", lambda: _examine_firmware(facts, root)),
    )
    findings: list[Finding] = []
    for purpose, subject, look in parts:
        try:
            findings += look()
        except ImageError as error:
            words = f"{error.message} ({error.hint})" if error.hint else error.message
            findings.append(Finding(purpose, State.MISSING, subject, words))
    return DoctorReport(tuple(findings))


def _examine_kernel(facts: Facts, root: Root) -> Iterator[Finding]:
    subject = f"running kernel {facts.release}"
    lacking = _lacking_of_kernel(facts, root)
    if not lacking:
        yield Finding(Purpose.BUILD, State.FINE, subject, "image and modules are on disk")
        return
    words = f"{' and '.join(lacking)} not on disk: images get the fail-safe kernel"
    yield Finding(Purpose.BUILD, State.NOTE, subject, words)


def _lacking_of_kernel(facts: Facts, root: Root) -> list[str]:
    from mindi.kernel import find_image, has_modules

    return [
        *([] if find_image(root, facts.release) else ["its image"]),
        *([] if has_modules(root, facts.release) else ["its modules"]),
    ]


def _examine_failsafe(facts: Facts, root: Root) -> Iterator[Finding]:
    subject = "fail-safe kernel and tools"
    lacking = [name for name in _FETCHERS if _which(name, facts) is None]
    if lacking:
        packages = " ".join(sorted(_FETCHERS[name] for name in lacking))
        words = f"cannot be fetched without {', '.join(lacking)}; --root DIR is another way"
        state = State.MISSING if _lacking_of_kernel(facts, root) else State.NOTE
        yield Finding(Purpose.BUILD, state, subject, words, packages)
        return
    stamps = sorted(path.parent.name for path in facts.cache.glob("roots/[!.]*/root.json"))
    words = f"cached: {', '.join(stamps)}" if stamps else "will be fetched when they are needed"
    yield Finding(Purpose.BUILD, State.FINE, subject, words)


def _examine_contents(facts: Facts, root: Root) -> Iterator[Finding]:
    from initramfs.busybox import PLACES

    if any(root.is_file(place) for place in PLACES):
        yield Finding(Purpose.BUILD, State.FINE, "BusyBox", "is here")
    else:
        words = "no image can be made of this machine"
        yield Finding(Purpose.BUILD, State.MISSING, "BusyBox", words, "busybox-static")
    lacking = [name for module, name in _TRAVELLING.items() if find_spec(module) is None]
    if lacking:
        words = f"{', '.join(lacking)} not in this Python: run scripts/setup build"
        yield Finding(Purpose.BUILD, State.MISSING, "libraries that travel", words)
    if not facts.is_superuser:
        words = "some files of this machine can be read by root only; try as root"
        yield Finding(Purpose.BUILD, State.NOTE, "rights", words)


def _examine_loaders(facts: Facts, root: Root) -> Iterator[Finding]:
    from mindi.bootfiles import find_boot_files

    try:
        files = find_boot_files([root], architecture=facts.machine)
    except MissingDependency as error:
        for line in error.message.splitlines():
            yield Finding(Purpose.BUILD, State.MISSING, "boot loaders", line)
        return
    for line in files.lacking:
        yield Finding(Purpose.BUILD, State.NOTE, "boot loaders", line)
    kinds = [
        *(["BIOS"] if files.bios else []),
        *(["UEFI"] if files.uefi else []),
        *(["Secure Boot"] if files.has_secure_boot else []),
    ]
    yield Finding(Purpose.BUILD, State.FINE, "boot loaders", f"for {', '.join(kinds)}")


def _examine_cache(facts: Facts) -> Iterator[Finding]:
    check_cache(facts.cache)
    subject = f"cache folder {facts.cache}"
    try:
        there = next(path for path in (facts.cache, *facts.cache.parents) if path.exists())
    except OSError as error:
        words = f"cannot be reached: {error.strerror}; name another in MINDI_CACHE"
        yield Finding(Purpose.BUILD, State.MISSING, subject, words)
        return
    if not os.access(there, os.W_OK | os.X_OK):
        words = "cannot be written; name another in MINDI_CACHE"
        yield Finding(Purpose.BUILD, State.MISSING, subject, words)
        return
    free = shutil.disk_usage(there).free
    words = f"{free / 1024**3:.1f} GiB free"
    if free < FAILSAFE_BYTES:
        words += f", fail-safe packages take up to {FAILSAFE_BYTES / 1024**3:.0f}"
        yield Finding(Purpose.BUILD, State.NOTE, subject, words)
    else:
        yield Finding(Purpose.BUILD, State.FINE, subject, words)


def _examine_qemu(facts: Facts) -> Iterator[Finding]:
    from mindi.accelerator import probe_accelerator
    from mindi.qemu import FIRMWARE_FILES, QEMU, Engine, Firmware

    if _which(QEMU, facts) is None:
        words = "`mindi boot` has nothing to run images in"
        yield Finding(Purpose.BOOT, State.MISSING, QEMU, words, "qemu-system-x86")
    else:
        try:
            engine = probe_accelerator(facts.cache).name
        except ImageError as error:
            yield Finding(Purpose.BOOT, State.NOTE, "acceleration", error.message)
        else:
            words = "KVM works" if engine is Engine.KVM else "none that works: boots are slow"
            yield Finding(Purpose.BOOT, State.FINE, "acceleration", words)
    for firmware in Firmware:
        lacking = [name for name in firmware.files or () if not (FIRMWARE_FILES / name).exists()]
        if lacking:
            words = f"{', '.join(lacking)} not in {FIRMWARE_FILES}"
            yield Finding(Purpose.BOOT, State.MISSING, f"firmware {firmware}", words, "ovmf")
        else:
            yield Finding(Purpose.BOOT, State.FINE, f"firmware {firmware}", "is here")


def _examine_tools(facts: Facts, root: Root) -> Iterator[Finding]:
    from mindi.toolbox import find_tool
    from mindi.tools import KITS

    absent: dict[str, list[str]] = {}
    found = 0
    for kit in KITS:
        for tool in kit.tools:
            if find_tool(root, tool) is None:
                absent.setdefault(kit.package, []).append(tool.name.rpartition("/")[2])
            else:
                found += 1
    needed = {_PARTITIONER, *facts.storage, *(f"mkfs.{name}" for name in facts.filesystems)}
    for package, names in absent.items():
        for name in sorted(needed.intersection(names)):
            words = "without it an image of this machine could not make its disks anew"
            yield Finding(Purpose.RESTORE, State.MISSING, name, words, package)
    yield Finding(Purpose.RESTORE, State.FINE, "tools", f"{found} of them are here")
    for package, names in absent.items():
        words = f"not here, so not in its images: {', '.join(names)}"
        yield Finding(Purpose.RESTORE, State.NOTE, package, words)


def _examine_firmware(facts: Facts, root: Root) -> Iterator[Finding]:
    from initramfs.closure import Because
    from initramfs.firmware import find_firmware
    from initramfs.kmod import ModuleTree, Wanted, resolve_modules
    from mindi.kernel import has_modules

    if not has_modules(root, facts.release):
        return
    because = Because("loaded on this machine")
    try:
        tree = ModuleTree(root, facts.release)
        chosen = resolve_modules(tree, [Wanted(name, because) for name in facts.loaded])
    except ImageError as error:
        yield Finding(Purpose.RESTORE, State.MISSING, "modules", error.message)
        return
    report = find_firmware(root, chosen, version=facts.release)
    words = f"{len(report.found)} files for the modules that are loaded"
    yield Finding(Purpose.RESTORE, State.FINE, "firmware", words)
    for module in _unique(absent.module for absent in report.absent):
        names = [absent.name for absent in report.absent if absent.module == module]
        words = f"{module} may ask for {', '.join(names)}: not here"
        yield Finding(Purpose.RESTORE, State.NOTE, "firmware", words)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _which(name: str, facts: Facts) -> str | None:
    return shutil.which(name, path=facts.search)
