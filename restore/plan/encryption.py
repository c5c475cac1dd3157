"""Encrypted volumes as they were: cryptsetup(8) 2.6, LUKS 1 and 2.

Each gets the UUID, the cipher and the place of its data that it had, a new volume key, and one
passphrase in one key slot. Not kept, as nothing that is started by the system needs it: the AF
hash, the slot's own cipher and priority, the size of LUKS 2's metadata. cryptsetup itself takes
fewer threads and less memory for Argon2 where the machine has less.
"""

from __future__ import annotations

from collections.abc import Iterator

from archive.errors import LayoutInvalid
from archive.machine.layout import Layout
from archive.machine.layoutfiles import Mount
from archive.machine.layoutnodes import Luks, LuksSlot, Node
from archive.machine.layoutview import size_words
from restore.plan.actions import Action, Command, Phase, Refusal
from restore.plan.devices import Devices

_SECTOR = 512
_ALIGNED_BYTES = 4096
"""What cryptsetup wants the data to begin at a multiple of."""
_STRIPES = 4000
_SLOTS = {1: 8, 2: 32}
_PBKDF2 = "pbkdf2"
_ARGON2 = ("argon2i", "argon2id")
_LEAST_ITERATIONS = 1000
_MOST_ITERATIONS = (1 << 32) - 1
_LEAST_TIME = 4
_LEAST_MEMORY_KIB = 32
_MOST_MEMORY_KIB = 4 << 20
_MOST_THREADS = 4
_FLAGS = {
    "allow-discards": "--allow-discards",
    "same-cpu-crypt": "--perf-same_cpu_crypt",
    "submit-from-crypt-cpus": "--perf-submit_from_crypt_cpus",
    "no-read-workqueue": "--perf-no_read_workqueue",
    "no-write-workqueue": "--perf-no_write_workqueue",
}
"""Flags in the header of LUKS 2, and what sets them when the volume is opened."""
_REQUIREMENTS = "mandatory"
_INTEGRITY = "integrity:"
_ENROLL = {
    "systemd-tpm2": ("a key in the TPM", "systemd-cryptenroll --tpm2-device=auto "),
    "systemd-fido2": ("a FIDO2 key", "systemd-cryptenroll --fido2-device=auto "),
    "systemd-pkcs11": ("a smart card", "systemd-cryptenroll --pkcs11-token-uri=auto "),
    "systemd-recovery": ("a recovery key", "systemd-cryptenroll --recovery-key "),
    "clevis": ("a binding of Clevis", "clevis luks bind, as it was done for "),
}
"""Kinds of tokens: what they are, and what makes one for the device that is named next."""


def luks_actions(layout: Layout, volume: Luks, devices: Devices) -> tuple[Action, ...]:
    """Return what makes an encrypted volume and opens it: one action each.

    Both are given its passphrase, as the whole of their standard input: without a newline, which
    would be a part of it. Raises LayoutInvalid for one that ``luks_refusals`` refuses.
    """
    for refusal in luks_refusals(layout, volume):
        raise LayoutInvalid(f"{volume.id[:80]} cannot be made: {refusal.words}")
    on = devices.path(volume.on)
    mapped = devices.path(volume.id)
    # Behind the two dashes nothing is an option, whatever it is called.
    make = ("cryptsetup", "luksFormat", "--batch-mode", *_settings(layout, volume))
    enter = ("cryptsetup", "open", "--type=luks", *_persistent(volume))
    return (
        Action.of(
            "luks",
            volume,
            phase=Phase.STORAGE,
            words=f"make the encrypted volume (LUKS {volume.version}) on {on}",
            commands=(Command(argv=(*make, "--key-file=-", "--", on), secret=volume.id),),
            destroys=(on,),
        ),
        Action.of(
            "open",
            volume,
            phase=Phase.STORAGE,
            words=f"open the encrypted volume on {on} as {mapped}",
            commands=(
                Command(
                    argv=(*enter, "--key-file=-", "--", on, str(volume.mapper)), secret=volume.id
                ),
            ),
        ),
    )


def luks_refusals(layout: Layout, volume: Luks) -> tuple[Refusal, ...]:
    """Return why an encrypted volume cannot be made as it was."""
    del layout
    return tuple(Refusal(volume.id, words) for words in _lacking(volume))


def luks_notes(volume: Luks, *, memory_bytes: int | None = None) -> tuple[str, ...]:
    """Return what will be otherwise, in sentences, with what to do after the restore.

    ``memory_bytes``: of the target, where it is known.
    """
    return tuple(_notes(volume, memory_bytes))


def _lacking(volume: Luks) -> Iterator[str]:
    if volume.mapper is None:
        yield (
            "it was locked when it was saved: nothing that is in it was seen or saved; "
            "restore the files alone (--all --to DIR), or a set for which it was open"
        )
    if volume.offset_bytes == 0:
        yield (
            "its header is on another device, or in a file; make it by hand, with "
            "`cryptsetup luksFormat --header`"
        )
    elif volume.offset_bytes % _ALIGNED_BYTES or volume.offset_bytes < _least_offset(volume):
        yield (
            f"its data begin at byte {volume.offset_bytes}, where cryptsetup lets none begin; "
            "make it by hand, and the files can be restored into it"
        )
    if any(flag.startswith(_INTEGRITY) for flag in volume.flags):
        yield "it keeps checksums of its data (dm-integrity), which this program does not make"
    if _REQUIREMENTS in volume.flags:
        yield (
            "it was being encrypted anew, or is of a newer kind than cryptsetup 2.6 knows; end "
            "that (`cryptsetup reencrypt --resume-only`) and make another backup"
        )
    if not volume.slots or volume.key_bits == 0 or volume.key_bits % 8:
        yield "it had no key slot, so that nothing tells how large its key was"
    if volume.version == 1 and volume.sector_bytes != _SECTOR:
        yield f"its sectors are of {volume.sector_bytes} bytes, and LUKS 1 has none such"


def _least_offset(volume: Luks) -> int:
    """Return where data may begin at the earliest: behind the header and its key slots."""
    area = -(-volume.key_bits // 8 * _STRIPES // _ALIGNED_BYTES) * _ALIGNED_BYTES
    if volume.version == 1:
        return _ALIGNED_BYTES + _SLOTS[1] * area
    return 2 * (16 << 10) + area


def _settings(layout: Layout, volume: Luks) -> Iterator[str]:
    yield f"--type=luks{volume.version}"
    yield f"--uuid={volume.uuid}"
    yield f"--cipher={volume.cipher}"
    yield f"--key-size={volume.key_bits}"
    yield f"--hash={volume.hash}"
    yield f"--offset={volume.offset_bytes // _SECTOR}"
    if volume.version == 2:
        yield f"--sector-size={volume.sector_bytes}"
        if volume.label:
            yield f"--label={volume.label}"
        if volume.subsystem:
            yield f"--subsystem={volume.subsystem}"
    by_loader = _holds_kernel(layout, volume)
    slot = _model(volume, by_loader=by_loader)
    if slot is None:
        # cryptsetup measures what takes this machine two seconds.
        yield f"--pbkdf={_PBKDF2 if by_loader or volume.version == 1 else 'argon2id'}"
        return
    # /etc/crypttab may name the slot.
    if slot.number < _SLOTS[volume.version]:
        yield f"--key-slot={slot.number}"
    yield from _costs(slot)


def _costs(slot: LuksSlot) -> Iterator[str]:
    yield f"--pbkdf={slot.kdf}"
    if slot.kdf == _PBKDF2:
        iterations = min(max(slot.iterations, _LEAST_ITERATIONS), _MOST_ITERATIONS)
        yield f"--pbkdf-force-iterations={iterations}"
        return
    memory_kib = min(max(slot.memory_kib or 0, _LEAST_MEMORY_KIB), _MOST_MEMORY_KIB)
    yield f"--pbkdf-force-iterations={min(max(slot.iterations, _LEAST_TIME), _MOST_ITERATIONS)}"
    yield f"--pbkdf-memory={memory_kib}"
    yield f"--pbkdf-parallel={min(max(slot.threads or 1, 1), _MOST_THREADS)}"


def _model(volume: Luks, *, by_loader: bool) -> LuksSlot | None:
    """Return the slot that the new one is to be like: the dearest to guess at.

    Slots of tokens and key files are cheap, as nobody guesses those; a passphrase in a slot like
    them would be. None where there are no others. ``by_loader``: GRUB opens the volume, which
    knows PBKDF2 only.
    """
    least = _LEAST_ITERATIONS if volume.tokens else 0
    known = [slot for slot in volume.slots if slot.kdf == _PBKDF2 and slot.iterations > least]
    argon2 = [slot for slot in volume.slots if slot.kdf in _ARGON2]
    if argon2 and volume.version == 2 and not (by_loader and known):
        return max(argon2, key=lambda slot: slot.iterations * (slot.memory_kib or 0))
    return max(known, key=lambda slot: slot.iterations, default=None)


def _holds_kernel(layout: Layout, volume: Luks) -> bool:
    """Tell whether /boot is in a volume, so that a boot loader must open it."""
    points = {mount.point: mount for mount in layout.all(Mount)}
    mount = points.get("/boot") or points.get("/")
    waiting: list[Node] = [] if mount is None else [mount]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node.id not in seen:
            seen.add(node.id)
            waiting += layout.below(node)
    return volume.id in seen


def _persistent(volume: Luks) -> Iterator[str]:
    found = [_FLAGS[flag] for flag in volume.flags if flag in _FLAGS]
    if found and volume.version == 2:
        yield "--persistent"
        yield from found


def _notes(volume: Luks, memory_bytes: int | None) -> Iterator[str]:
    device = f"/dev/disk/by-uuid/{volume.uuid}"
    name = volume.mapper or volume.id
    slots = ""
    if len(volume.slots) > 1:
        slots = f" It had {len(volume.slots)} key slots, and will have one."
    yield (
        f"The encrypted volume {name} gets a new key, which one passphrase opens: the one that "
        f"this restore is given.{slots} Copies of its old header no longer open it. Other "
        "passphrases, and key files that /etc/crypttab names, are to be added after the restore: "
        f"cryptsetup luksAddKey {device} [KEYFILE]"
    )
    for token in dict.fromkeys(volume.tokens):
        what, how = _ENROLL.get(token, (f"a token of kind {token}", "with what made it"))
        yield (
            f"The encrypted volume {name} had {what}, which no restore can make: it asks for the "
            f"passphrase until that is made anew: {how}{device if how.endswith(' ') else ''}"
        )
    most = max((slot.memory_kib or 0 for slot in volume.slots), default=0) << 10
    if memory_bytes is not None and most > memory_bytes // 2:
        yield (
            f"The encrypted volume {name} took {size_words(most)} of memory to open, and this "
            f"machine has {size_words(memory_bytes)}: it will take less, so its passphrase is "
            "cheaper to guess. Where there is more memory again: "
            f"cryptsetup luksConvertKey {device}"
        )
    lost = [flag for flag in volume.flags if flag not in _FLAGS]
    if lost:
        yield (
            f"The encrypted volume {name} had settings that are not known here, and goes without: "
            f"{', '.join(lost)}"
        )
