"""What the running machine says of its modules: the aliases of its devices, what is loaded.

Sources: the ``modalias`` files below /sys/devices (Documentation/ABI/testing/sysfs-bus-*), and
proc_modules(5). Both folders are arguments, so that recorded machines can be read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import InputError


@dataclass(frozen=True, slots=True)
class HostModules:
    """What a machine uses: ``modaliases`` of its devices, sorted; ``loaded`` module names in the

    order of loading; ``filesystems`` types of what is mounted or in its fstab, sorted.
    """

    modaliases: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()


def gather_host(
    sys: Path = Path("/sys"), proc: Path = Path("/proc"), fstab: Path = Path("/etc/fstab")
) -> HostModules:
    """Read the machine whose sysfs, procfs and fstab(5) are at ``sys``, ``proc`` and ``fstab``.

    A kernel without modules has no ``modules`` file in ``proc``. Raises InputError without sysfs.
    """
    devices = sys / "devices"
    if not devices.is_dir():
        raise InputError(
            f"{devices} is missing: the devices of this machine are not known",
            hint="mount sysfs (mount -t sysfs sysfs /sys), or build with --generic",
        )
    return HostModules(
        _modaliases(os.fspath(devices)),
        _loaded(proc / "modules"),
        tuple(sorted(_filesystems(proc / "mounts") | _filesystems(fstab))),
    )


def _modaliases(devices: str) -> tuple[str, ...]:
    found: set[str] = set()
    pending = [devices]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name == "modalias":
                        found.add(_read(entry.path))
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:  # a device that was unplugged meanwhile, or is root's alone
            continue
    return tuple(sorted(found - {""}))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:  # unplugged meanwhile
        return ""


def _filesystems(table: Path) -> set[str]:
    """Return the types in a table of mounts (fstab(5)); a machine may have none."""
    rows = (line.split() for line in _read(os.fspath(table)).splitlines())
    return {row[2] for row in rows if len(row) > 2 and not row[0].startswith("#")}


def _loaded(modules: Path) -> tuple[str, ...]:
    try:
        lines = modules.read_text(encoding="ascii", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InputError(f"cannot read {modules}: {error.strerror}") from error
    # The newest comes first.
    return tuple(line.split()[0] for line in reversed(lines) if line.strip())
