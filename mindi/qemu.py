"""The machine that an image is tried in, and the QEMU command line that makes it.

The machine is a q35 PC with a VGA screen, or QEMU's own "virt" board for 64-bit ARM, with a
serial console on standard input and output, a virtio-serial port for the guest's report
(restore.contract.VERDICT_PORT), a QMP monitor on a UNIX socket, and boot words in fw_cfg. It is
on no network unless it is given one.
Options are those of qemu(1), 7.2 and later.
"""

from __future__ import annotations

import enum
import shutil
from dataclasses import dataclass
from pathlib import Path

from initramfs.errors import MissingDependency, UsageError
from restore.contract import FW_CFG_CMDLINE, VERDICT_PORT

QEMU = "qemu-system-x86_64"
QEMU_ARM = "qemu-system-aarch64"
PACKAGES = "apt install qemu-system-x86 ovmf"
PACKAGES_ARM = "apt install qemu-system-arm"
FIRMWARE_FILES = Path("/usr/share/OVMF")
"""Where Debian's package ovmf puts the UEFI firmware."""

MIN_MEMORY_MIB = 128
"""Less holds no kernel and initrd of ours."""

MAX_MEMORY_MIB = 1 << 20
"""What an emulated x86-64 processor can address: 40 bits."""

MAX_PORT = 65535

SERIAL_LOG = "serial.log"
VERDICT_LOG = "verdict.jsonl"


class Architecture(enum.StrEnum):
    """Whose instructions the machine runs, as uname(2) calls it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"

    @property
    def serial_port(self) -> str:
        """Linux's name of the serial console."""
        return "ttyS0" if self is Architecture.X86_64 else "ttyAMA0"


class Firmware(enum.StrEnum):
    """What starts the machine."""

    BIOS = "bios"
    """What QEMU brings: SeaBIOS; for 64-bit ARM no more than what starts a kernel."""

    UEFI = "uefi"
    SECURE_BOOT = "secure-boot"

    @property
    def files(self) -> tuple[str, str] | None:
        """Names of the UEFI code and of its pristine variables in FIRMWARE_FILES."""
        match self:
            case Firmware.BIOS:
                return None
            case Firmware.UEFI:
                return "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"
            case Firmware.SECURE_BOOT:
                return "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"


class Medium(enum.StrEnum):
    """What the image is for the machine."""

    CDROM = "cdrom"
    USB = "usb"
    DISK = "disk"
    KERNEL = "kernel"
    """A kernel and an initrd, loaded by QEMU itself."""


class Console(enum.StrEnum):
    """What is on standard input and output."""

    SERIAL = "serial"
    """The serial port alone: what a program talks to."""

    TERMINAL = "terminal"
    """The serial port and, after ctrl-a c, QEMU's monitor; ctrl-a x ends the machine."""


class Engine(enum.StrEnum):
    """What runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An engine that works here; timeouts meant for hardware are multiplied by ``factor``."""

    name: Engine
    factor: float

    def options(self, architecture: Architecture = Architecture.X86_64) -> tuple[str, ...]:
        """Return the options that select it for a machine of ``architecture``.

        ``max`` is every feature the engine has: guests built for x86-64-v2 and later need it.
        """
        if self.name is Engine.KVM:
            return ("-accel", "kvm", "-cpu", "host")
        # Pointers signed by the architecture's own algorithm make a guest three times as slow.
        processor = "max" if architecture is Architecture.X86_64 else "max,pauth-impdef=on"
        return ("-accel", "tcg,thread=multi", "-cpu", processor)


KVM = Accelerator(Engine.KVM, 1.0)
TCG = Accelerator(Engine.TCG, 6.0)


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """A kernel that QEMU loads itself, with its initrd and its command line."""

    kernel: Path
    initrd: Path
    cmdline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A card on a network of QEMU's own, which needs no right here (qemu(1), -netdev user).

    DHCP gives the guest 10.0.2.15, the gateway 10.0.2.2 and the resolver 10.0.2.3; at the
    gateway's address it reaches what listens on this host's loopback. ``ssh_port`` of this
    host's loopback leads to port 22 of 10.0.2.15: 0 for one that is free (Vm.ssh_port tells
    which), None for none.
    """

    ssh_port: int | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for a port that cannot be."""
        if self.ssh_port is not None and not 0 <= self.ssh_port <= MAX_PORT:
            raise UsageError(
                f"there is no port {self.ssh_port} that could lead to a machine's ssh server",
                hint=f"take one of 1 to {MAX_PORT}, or 0 for any that is free",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One computer: what it boots, from what, and what it has.

    ``image`` is never written to; None boots from ``disks``. ``disks`` (raw or qcow2 by
    their suffix ``.qcow2``) are written to. ``words`` are added to the boot words through
    fw_cfg. ``logs`` is a directory that keeps what the machine said. None for ``network`` is no
    card at all. One for 64-bit ARM boots a kernel and an initrd, and has no screen.
    """

    image: Path | DirectBoot | None
    logs: Path
    firmware: Firmware = Firmware.BIOS
    medium: Medium = Medium.CDROM
    memory_mib: int = 1024
    cpus: int = 2
    disks: tuple[Path, ...] = ()
    words: tuple[str, ...] = ()
    network: Network | None = None
    architecture: Architecture = Architecture.X86_64

    def __post_init__(self) -> None:
        """Raise UsageError for a machine that cannot boot."""
        if (self.medium is Medium.KERNEL) != isinstance(self.image, DirectBoot):
            raise UsageError(
                f"a machine cannot boot {self.image} as {self.medium}",
                hint="a kernel and an initrd go with the medium 'kernel', an image with any other",
            )
        if self.architecture is Architecture.AARCH64 and (
            self.medium is not Medium.KERNEL or self.firmware is not Firmware.BIOS
        ):
            raise UsageError(
                f"a machine for {self.architecture} cannot boot from {self.medium} with firmware "
                f"{self.firmware}",
                hint="give it a kernel and an initrd (--output initramfs)",
            )
        if not MIN_MEMORY_MIB <= self.memory_mib <= MAX_MEMORY_MIB:
            raise UsageError(
                f"a machine with {self.memory_mib} MiB of memory cannot be had",
                hint=f"give it {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB",
            )
        if self.image is None and not self.disks:
            raise UsageError("a machine with no image and no disk has nothing to boot from")

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that the machine reads."""
        match self.image:
            case None:
                return self.disks
            case DirectBoot(kernel=kernel, initrd=initrd):
                return (kernel, initrd, *self.disks)
            case _:
                return (self.image, *self.disks)


@dataclass(frozen=True, slots=True)
class Channels:
    """Files that one run of a machine uses: QMP socket and writable UEFI variables."""

    qmp: Path
    variables: Path


def find_qemu(architecture: Architecture = Architecture.X86_64) -> str:
    """Return QEMU's path; raise MissingDependency where it is not installed."""
    is_pc = architecture is Architecture.X86_64
    name = QEMU if is_pc else QEMU_ARM
    found = shutil.which(name)
    if found is None:
        raise MissingDependency(
            f"{name} is not installed, no image for {architecture} can be booted",
            hint=PACKAGES if is_pc else PACKAGES_ARM,
        )
    return found


def find_firmware(firmware: Firmware, *, folder: Path = FIRMWARE_FILES) -> tuple[Path, Path] | None:
    """Return the UEFI code and the pristine variables; None for BIOS, which QEMU brings.

    Raises MissingDependency where a file is not there.
    """
    if firmware.files is None:
        return None
    code, variables = (folder / name for name in firmware.files)
    for file in (code, variables):
        if not file.is_file():
            raise MissingDependency(
                f"firmware '{firmware}' needs {file}, which is not there", hint=PACKAGES
            )
    return code, variables


def arguments(
    machine: Machine,
    accelerator: Accelerator,
    *,
    channels: Channels,
    code: Path | None,
    console: Console = Console.SERIAL,
) -> tuple[str, ...]:
    """Return QEMU's arguments for ``machine``; ``code`` is the UEFI firmware, if it has one."""
    return (
        *("-name", "mindi", "-nodefaults", "-no-user-config", "-no-reboot"),
        *_board(machine),
        *accelerator.options(machine.architecture),
        *("-m", str(machine.memory_mib), "-smp", str(machine.cpus)),
        *("-display", "none"),
        *_firmware(machine.firmware, code, channels.variables),
        *_console(machine.logs, console),
        *("-chardev", f"socket,id=qmp,path={_value(channels.qmp)},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"file,id=verdict,path={_value(machine.logs / VERDICT_LOG)}"),
        *("-device", f"virtserialport,chardev=verdict,name={VERDICT_PORT}"),
        *("-device", "virtio-rng-pci"),
        *_words(machine.words),
        *_network(machine.network),
        *_image(machine),
        *_disks(machine),
    )


def _board(machine: Machine) -> tuple[str, ...]:
    if machine.architecture is Architecture.AARCH64:
        return ("-machine", "virt")
    secure = machine.firmware is Firmware.SECURE_BOOT
    return ("-machine", "q35,smm=on" if secure else "q35", "-vga", "std")


def _value(value: object) -> str:
    # In an option of QEMU a comma ends the value unless it is doubled.
    return str(value).replace(",", ",,")


def _firmware(firmware: Firmware, code: Path | None, variables: Path) -> tuple[str, ...]:
    if code is None:
        return ()
    options = (
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(code)}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={_value(variables)}"),
    )
    if firmware is not Firmware.SECURE_BOOT:
        return options
    return (
        *("-global", "driver=cfi.pflash01,property=secure,value=on"),
        # The firmware's SMM build has no S3 resume that is safe (OvmfPkg/README).
        *("-global", "ICH9-LPC.disable_s3=1"),
        *options,
    )


def _console(logs: Path, console: Console) -> tuple[str, ...]:
    log = f"logfile={_value(logs / SERIAL_LOG)}"
    if console is Console.SERIAL:
        return ("-chardev", f"stdio,id=console,signal=off,{log}", "-serial", "chardev:console")
    return (
        *("-chardev", f"stdio,id=console,mux=on,signal=off,{log}"),
        *("-serial", "chardev:console", "-mon", "chardev=console,mode=readline"),
    )


def _words(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        return ()
    return ("-fw_cfg", f"name={FW_CFG_CMDLINE},string={_value(' '.join(words))}")


def _network(network: Network | None) -> tuple[str, ...]:
    if network is None:
        return ("-nic", "none")
    backend = "user,id=network"
    if network.ssh_port is not None:
        backend += f",hostfwd=tcp:127.0.0.1:{network.ssh_port}-:22"
    # Without its boot ROM, for what a machine boots is its image or a disk.
    return ("-netdev", backend, "-device", "virtio-net-pci,netdev=network,romfile=")


def _image(machine: Machine) -> tuple[str, ...]:
    match machine.image:
        case None:
            return ()
        case DirectBoot(kernel=kernel, initrd=initrd, cmdline=cmdline):
            return ("-kernel", str(kernel), "-initrd", str(initrd), "-append", cmdline)
        case image:
            drive = f"if=none,id=medium,format=raw,file={_value(image)}"
    devices: tuple[str, ...]
    match machine.medium:
        case Medium.CDROM:
            drive += ",media=cdrom,readonly=on"
            devices = ("ide-cd,drive=medium,bootindex=0",)
        case Medium.USB:
            drive += ",snapshot=on"
            devices = ("qemu-xhci", "usb-storage,drive=medium,removable=on,bootindex=0")
        case _:
            drive += ",snapshot=on"
            devices = ("ide-hd,drive=medium,bootindex=0",)
    return ("-drive", drive, *(word for device in devices for word in ("-device", device)))


def _disks(machine: Machine) -> tuple[str, ...]:
    words: list[str] = []
    for number, disk in enumerate(machine.disks):
        form = "qcow2" if disk.suffix == ".qcow2" else "raw"
        name = f"disk{number}"
        words += ["-drive", f"if=none,id={name},format={form},file={_value(disk)}"]
        words += [
            "-device",
            f"virtio-blk-pci,drive={name},serial=mindi-{name},bootindex={number + 1}",
        ]
    return tuple(words)
