"""What the running machine says of its modules: aliases of its devices, its layout, what is loaded.

Sources: the ``modalias`` files below /sys/devices (Documentation/ABI/testing/sysfs-bus-*), what
hoststorage.py and hostnetwork.py read, and proc_modules(5). The folders are arguments, so that
recorded machines can be read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import InputError
from initramfs.hostneeds import HostNeed, attribute, names_in, uevent_value
from initramfs.hostnetwork import network_needs
from initramfs.hoststorage import cipher_needs, storage_needs

# Buses whose devices give their alias to udev alone, and have no file for it.
_SILENT_BUSES = ("auxiliary", "mmc")


@dataclass(frozen=True, slots=True)
class HostModules:
    """What a machine uses: ``modaliases`` of its devices, sorted; ``loaded`` module names in the

    order of loading; ``filesystems`` types of what is mounted or in its fstab, sorted; ``needs``
    of its storage layout, its network and its ciphers.
    """

    modaliases: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    needs: tuple[HostNeed, ...] = ()


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
        _modaliases(sys),
        _loaded(proc / "modules"),
        tuple(sorted(_filesystems(proc / "mounts") | _filesystems(fstab))),
        (*storage_needs(sys), *network_needs(sys), *cipher_needs(proc)),
    )


def _modaliases(sys: Path) -> tuple[str, ...]:
    found: set[str] = set()
    for bus in _SILENT_BUSES:
        devices = sys / "bus" / bus / "devices"
        found.update(uevent_value(devices / name, "MODALIAS") for name in names_in(devices))
    pending = [os.fspath(sys / "devices")]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name == "modalias":
                        found.add(attribute(Path(entry.path)))
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:  # a device that was unplugged meanwhile, or is root's alone
            continue
    return tuple(sorted(found - {""}))


def _filesystems(table: Path) -> set[str]:
    """Return the types in a table of mounts (fstab(5)); a machine may have none."""
    rows = (line.split() for line in attribute(table).splitlines())
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
