"""Encrypted volumes of a plan: cryptsetup makes them, and our probe reads back what was saved."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import LayoutInvalid
from archive.machine.layout import AnyNode, Layout
from archive.machine.layoutnodes import Luks, LuksSlot
from archive.machine.probe import probe_layout
from archive.machine.probeluks import parse_luks1, parse_luks2
from restore.plan.actions import Command, Phase
from restore.plan.devices import Devices
from restore.plan.encryption import luks_actions, luks_notes, luks_refusals
from tests.support.layouts import MIB, disk, ext4, mount, partition, table
from tests.support.recording import Recorded
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parent / "recorded"
PASSPHRASE = b"correct horse\xc3\xa4"
UUID = "aef1cb41-a3ad-4405-b748-16d57d9f261f"
GIB = 1 << 30

CHEAP = LuksSlot(
    number=0, key_bits=512, cipher="aes-xts-plain64", kdf="pbkdf2", hash="sha256", iterations=1000
)
ARGON2 = replace(CHEAP, kdf="argon2id", hash=None, iterations=4, memory_kib=64, threads=1)
LUKS2 = Luks(
    id="luks:crypt",
    on="part:sda1",
    version=2,
    uuid=UUID,
    cipher="aes-xts-plain64",
    key_bits=512,
    hash="sha256",
    sector_bytes=512,
    offset_bytes=16 * MIB,
    mapper="crypt",
    size_bytes=MIB,
    slots=(ARGON2,),
)
LUKS1 = replace(LUKS2, version=1, offset_bytes=2 * MIB, slots=(CHEAP,))


def layout_of(volume: Luks, *more: AnyNode) -> Layout:
    return Layout.of([disk(), table(), partition(), volume, *more])


def commands(volume: Luks, *more: AnyNode) -> tuple[Command, Command]:
    """Return what makes the volume, and what opens it."""
    layout = layout_of(volume, *more)
    made, opened = luks_actions(layout, volume, Devices(layout, {"disk:sda": "/dev/sda"}))
    return made.commands[0], opened.commands[0]


def settings(volume: Luks, *more: AnyNode) -> list[str]:
    """Return the options of luksFormat."""
    argv = commands(volume, *more)[0].argv
    return [word for word in argv[: argv.index("--")] if word.startswith("--")]


# What cryptsetup makes of it


@dataclass
class Image:
    """A file that cryptsetup takes for a device."""

    path: Path

    def run(self, *argv: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        program = require_tool("cryptsetup", package="cryptsetup-bin")
        return subprocess.run([program, *argv], input=given, capture_output=True, check=False)

    def make(self, command: Command) -> None:
        """Run the very command, with the file in the device's place."""
        assert command.argv[0] == "cryptsetup"
        assert command.argv[-2:] == ("--", "/dev/sda1")
        ended = self.run(*command.argv[1:-1], str(self.path), given=PASSPHRASE)
        assert ended.returncode == 0, ended.stderr.decode()

    def opens(self, passphrase: bytes) -> bool:
        argv = ("luksOpen", "--test-passphrase", "--key-file=-", str(self.path))
        return self.run(*argv, given=passphrase).returncode == 0

    def seen(self, volume: Luks) -> Luks:
        """Return what the probe sees in it; what it is called is as in ``volume``."""
        text = self.run("luksDump", str(self.path)).stdout.decode()
        name = volume.id.partition(":")[2]
        if volume.version == 1:
            found = parse_luks1(text, on=volume.on, name=name)
        else:
            told = self.run("luksDump", "--dump-json-metadata", str(self.path)).stdout.decode()
            found = parse_luks2(text, told, on=volume.on, name=name)
        # Flags are set when it is opened, which needs the kernel's device mapper.
        return replace(
            found, mapper=volume.mapper, size_bytes=volume.size_bytes, flags=volume.flags
        )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    return Image(path)


VOLUMES = {
    "luks1": LUKS1,
    "luks1-small": replace(
        LUKS1,
        key_bits=256,
        hash="sha1",
        offset_bytes=2056 * 512,
        slots=(replace(CHEAP, key_bits=256, hash="sha1", iterations=1234),),
    ),
    "luks1-slot": replace(LUKS1, slots=(replace(CHEAP, number=7),)),
    "luks2": LUKS2,
    "luks2-4k": replace(LUKS2, sector_bytes=4096),
    "luks2-pbkdf2": replace(
        LUKS2, hash="sha512", slots=(replace(CHEAP, hash="sha512", iterations=2000),)
    ),
    "luks2-argon2i": replace(LUKS2, slots=(replace(ARGON2, kdf="argon2i", iterations=5),)),
    "luks2-slot": replace(LUKS2, slots=(replace(ARGON2, number=31),)),
    "luks2-near": replace(LUKS2, offset_bytes=MIB),
    "luks2-far": replace(LUKS2, offset_bytes=32 * MIB),
    "luks2-cbc": replace(
        LUKS2,
        cipher="aes-cbc-essiv:sha256",
        key_bits=256,
        slots=(replace(ARGON2, key_bits=256, cipher="aes-cbc-essiv:sha256"),),
    ),
    "luks2-names": replace(LUKS2, label="--label mit Ä", subsystem="-q"),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_what_is_made_is_what_was_saved(image: Image, name: str) -> None:
    volume = VOLUMES[name]
    image.make(commands(volume)[0])
    assert image.seen(volume) == volume


@pytest.mark.parametrize("volume", [LUKS1, LUKS2], ids=["luks1", "luks2"])
def test_the_passphrase_opens_it_and_no_other(image: Image, volume: Luks) -> None:
    image.make(commands(volume)[0])
    assert image.opens(PASSPHRASE)
    assert not image.opens(PASSPHRASE + b"\n")
    assert not image.opens(b"wrong")


def test_what_differs_is_seen(image: Image) -> None:
    image.make(commands(replace(LUKS2, sector_bytes=4096))[0])
    assert image.seen(LUKS2) != LUKS2


def recorded() -> dict[str, tuple[Layout, Luks]]:
    found = {}
    for file in sorted(RECORDED.glob("*.json")):
        layout = probe_layout(Recorded(file))
        for volume in layout.all(Luks):
            found[f"{file.stem}-{volume.id}"] = (layout, volume)
    return found


MACHINES = recorded()
OPEN = sorted(name for name, (_, volume) in MACHINES.items() if volume.mapper is not None)


def test_there_are_recorded_volumes() -> None:
    assert {volume.version for _, volume in MACHINES.values()} == {1, 2}
    assert len(OPEN) > 2


@pytest.mark.parametrize("name", OPEN)
def test_recorded_volumes_are_made_as_they_were(image: Image, name: str) -> None:
    layout, volume = MACHINES[name]
    assert luks_refusals(layout, volume) == ()
    disks = {one.id: f"/dev/{one.kernel_name}" for one in layout.disks_of(volume)}
    made, _ = luks_actions(layout, volume, Devices(layout, disks))
    [command] = made.commands
    image.make(replace(command, argv=(*command.argv[:-1], "/dev/sda1")))
    seen = image.seen(volume)
    assert replace(seen, slots=()) == replace(volume, slots=())
    assert len(seen.slots) == 1
    assert seen.slots[0] in volume.slots


# Which slot is the model


def test_the_dearest_slot_is_the_model() -> None:
    slots = (CHEAP, replace(ARGON2, number=1), replace(ARGON2, number=2, memory_kib=128))
    held = settings(replace(LUKS2, slots=slots))
    assert {"--key-slot=2", "--pbkdf=argon2id", "--pbkdf-memory=128"} <= {*held}


def test_a_boot_loader_has_a_slot_that_it_can_open() -> None:
    volume = replace(LUKS2, slots=(ARGON2, replace(CHEAP, number=1)))
    held = settings(volume, ext4("luks:crypt"), mount("fs:crypt", "/"))
    assert {"--key-slot=1", "--pbkdf=pbkdf2"} <= {*held}


def test_a_kernel_outside_needs_none() -> None:
    volume = replace(LUKS2, slots=(ARGON2, replace(CHEAP, number=1)))
    held = settings(
        volume,
        ext4("luks:crypt"),
        mount("fs:crypt", "/"),
        partition(2, start=8192),
        ext4("part:sda2"),
        mount("fs:sda2", "/boot"),
    )
    assert "--pbkdf=argon2id" in held


def test_the_slot_of_a_token_is_no_model_for_a_passphrase() -> None:
    held = settings(replace(LUKS2, slots=(CHEAP,), tokens=("systemd-tpm2",)))
    assert "--pbkdf=argon2id" in held
    assert not any("iterations" in word for word in held)


def test_nor_where_a_boot_loader_opens_it() -> None:
    volume = replace(LUKS2, slots=(CHEAP, replace(ARGON2, number=1)), tokens=("systemd-tpm2",))
    held = settings(volume, ext4("luks:crypt"), mount("fs:crypt", "/"))
    assert "--pbkdf=argon2id" in held


# The steps


def test_the_steps_are_told_and_destroy_one_device() -> None:
    layout = layout_of(LUKS2)
    made, opened = luks_actions(layout, LUKS2, Devices(layout, {"disk:sda": "/dev/sdx"}))
    assert (made.id, opened.id) == ("luks:luks:crypt", "open:luks:crypt")
    assert {made.phase, opened.phase} == {Phase.STORAGE}
    assert made.words == "make the encrypted volume (LUKS 2) on /dev/sdx1"
    assert opened.words == "open the encrypted volume on /dev/sdx1 as /dev/mapper/crypt"
    assert (made.destroys, opened.destroys) == (("/dev/sdx1",), ())


def test_no_passphrase_is_in_a_step() -> None:
    for command in commands(LUKS2):
        assert (command.secret, command.given) == ("luks:crypt", "")
        assert "--key-file=-" in command.argv


def test_flags_that_were_kept_in_the_header_are_again() -> None:
    volume = replace(LUKS2, flags=("allow-discards", "no-read-workqueue"))
    assert commands(volume)[1].argv == (
        *("cryptsetup", "open", "--type=luks", "--persistent", "--allow-discards"),
        *("--perf-no_read_workqueue", "--key-file=-", "--", "/dev/sda1", "crypt"),
    )


def test_without_flags_nothing_is_made_persistent() -> None:
    assert "--persistent" not in commands(LUKS2)[1].argv


@pytest.mark.parametrize("name", ["--perf-same_cpu_crypt", "--perf-submit_from_crypt_cpus"])
def test_cryptsetup_knows_the_options_of_flags(image: Image, name: str) -> None:
    assert f"      {name}" in image.run("--help").stdout.decode()


WORDS = st.sampled_from(["aes-xts-plain64", "a(b)", "0"])
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)


@given(
    label=NAMES | st.sampled_from(["--help", "-"]),
    mapper=st.from_regex(r"[^\x00-\x20/\x7f]{1,9}", fullmatch=True) | st.just("--help"),
    cipher=WORDS,
    iterations=st.integers(0, (1 << 64) - 1),
    number=st.integers(0, (1 << 64) - 1),
)
def test_no_value_is_an_option(
    label: str, mapper: str, cipher: str, iterations: int, number: int
) -> None:
    slot = replace(ARGON2, iterations=iterations, memory_kib=iterations, number=number)
    volume = replace(LUKS2, label=label, mapper=mapper, cipher=cipher, slots=(slot,))
    made, opened = (command.argv for command in commands(volume))
    assert made[-2:] == ("--", "/dev/sda1")
    assert opened[-3:] == ("--", "/dev/sda1", mapper)
    assert (made.count("--"), opened.count("--")) == (1, 1 + (mapper == "--"))
    known = "type uuid cipher key-size hash offset sector-size label subsystem key-slot key-file"
    known += " batch-mode pbkdf pbkdf-force-iterations pbkdf-memory pbkdf-parallel"
    options = [word.partition("=")[0] for word in made[2:-2]]
    assert {*options} <= {f"--{name}" for name in known.split()}
    assert len(set(options)) == len(options)


# What cannot be


REFUSED = {
    "locked": (replace(LUKS2, mapper=None, size_bytes=None), "was locked"),
    "detached": (replace(LUKS2, offset_bytes=0), "header is on another device"),
    "unaligned": (replace(LUKS1, offset_bytes=4100 * 512), "begin at byte 2099200"),
    "near": (replace(LUKS2, offset_bytes=512 * 512), "begin at byte 262144"),
    "near-luks1": (replace(LUKS1, offset_bytes=MIB), "begin at byte"),
    "integrity": (replace(LUKS2, flags=("integrity:hmac(sha256)",)), "dm-integrity"),
    "anew": (replace(LUKS2, flags=("mandatory",)), "being encrypted anew"),
    "no-slot": (replace(LUKS2, slots=(), key_bits=0), "no key slot"),
    "sectors": (replace(LUKS1, sector_bytes=4096), "sectors are of 4096"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused(name: str) -> None:
    volume, words = REFUSED[name]
    layout = layout_of(volume)
    [refusal] = luks_refusals(layout, volume)
    assert refusal.node == "luks:crypt"
    assert words in refusal.words
    with pytest.raises(LayoutInvalid, match="luks:crypt cannot be made"):
        luks_actions(layout, volume, Devices(layout, {"disk:sda": "/dev/sda"}))


@pytest.mark.parametrize("name", ["unaligned", "near", "near-luks1"])
def test_cryptsetup_refuses_those_places_too(image: Image, name: str) -> None:
    volume, _ = REFUSED[name]
    before = commands(replace(volume, offset_bytes=16 * MIB))[0].argv
    argv = [word for word in before[1:-1] if not word.startswith("--offset")]
    argv.insert(1, f"--offset={volume.offset_bytes // 512}")
    assert image.run(*argv, str(image.path), given=PASSPHRASE).returncode == 1


@pytest.mark.parametrize("name", VOLUMES)
def test_what_can_be_made_is_not(name: str) -> None:
    assert luks_refusals(layout_of(VOLUMES[name]), VOLUMES[name]) == ()


# What is said of it


def test_a_volume_has_one_passphrase_and_what_to_do_about_it() -> None:
    [note] = luks_notes(LUKS2)
    assert "one passphrase" in note
    assert f"cryptsetup luksAddKey /dev/disk/by-uuid/{UUID}" in note


def test_slots_that_are_lost_are_counted() -> None:
    [note] = luks_notes(replace(LUKS2, slots=(ARGON2, replace(CHEAP, number=1))))
    assert "had 2 key slots, and will have one" in note
    assert "key slots" not in luks_notes(LUKS2)[0]


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("systemd-tpm2", f"systemd-cryptenroll --tpm2-device=auto /dev/disk/by-uuid/{UUID}"),
        ("systemd-fido2", f"systemd-cryptenroll --fido2-device=auto /dev/disk/by-uuid/{UUID}"),
        ("clevis", "clevis luks bind"),
        ("other", "a token of kind other"),
    ],
)
def test_each_kind_of_token_is_told_with_what_makes_it(token: str, says: str) -> None:
    _, note = luks_notes(replace(LUKS2, tokens=(token, token)))
    assert says in note


def test_more_memory_than_there_is_is_told() -> None:
    volume = replace(LUKS2, slots=(replace(ARGON2, memory_kib=1 << 20),))
    _, note = luks_notes(volume, memory_bytes=GIB)
    assert "took 1 GiB of memory to open, and this machine has 1 GiB" in note
    assert len(luks_notes(volume, memory_bytes=4 * GIB)) == 1


def test_flags_of_newer_programs_are_told() -> None:
    _, note = luks_notes(replace(LUKS2, flags=("allow-discards", "high-priority")))
    assert "goes without: high-priority" in note


def test_braces_in_a_name_are_no_matter() -> None:
    notes = luks_notes(replace(LUKS2, mapper="{0}{x}", tokens=("systemd-tpm2",)))
    assert all("{0}{x}" in note for note in notes)
