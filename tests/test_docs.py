"""docs/commands.md has what it promises: every option, setting, exit code and JSON key."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import restore.options
from initramfs.codec import Codec
from initramfs.errors import ImageError
from mindi.backup.options import make_parser
from mindi.boot import BootReport
from mindi.build import BuildReport
from mindi.cli import parsers
from mindi.config import SETTINGS
from mindi.diff import diff
from mindi.doctor import DoctorReport, Finding, Purpose, State
from mindi.inspect import inspect
from mindi.mains import EXIT_BUG, EXIT_INTERRUPTED
from mindi.qemu import Engine, Firmware, Medium
from mindi.record import AbsentTool
from mindi.spec import Output, Selection
from mindi.verdict import judge
from mindi.why import why
from tests.support.initrds import odd_tree, packed, recorded, written_iso

PAGE = (Path(__file__).parent.parent / "docs/commands.md").read_text()
COMMANDS = ("build", "inspect", "why", "diff", "boot", "doctor")


def section(name: str) -> str:
    """Return the part of the page whose title begins with ``name``."""
    [found] = [part for part in PAGE.split("\n## ")[1:] if part.startswith(name)]
    return found


def command(name: str) -> str:
    return section(f"`mindi {name}")


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command, without those that all have."""
    every = {word for action in parser._actions for word in action.option_strings}
    return every - {"-h", "--help", "--debug", "-q", "--quiet", "--json"}


def written_options(text: str) -> set[str]:
    """Return the options that have a row or a word of their own."""
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(re.findall(r"`[^`]+`", text))))


def keys(value: object) -> Iterator[str]:
    """Yield the keys of a JSON value, at any depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from keys(item)


def written_keys(name: str) -> set[str]:
    """Return the keys in the description of a command's JSON, its last block."""
    blocks = re.findall(r"```\n(\{.*?)```", command(name), re.DOTALL)
    return set(re.findall(r'"(\w+)":', blocks[-1]))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_on_the_page(name: str) -> None:
    assert options(parsers()[1][name]) - written_options(command(name)) == set()


@pytest.mark.parametrize("option", ["--debug", "-q", "--quiet", "--json", "--version"])
def test_the_options_of_all_commands_are_on_the_page(option: str) -> None:
    assert f"`{option}`" in PAGE.split("\n## ")[0] or f"mindi {option}`" in PAGE


def test_no_option_is_on_the_page_that_no_command_has() -> None:
    known = {word for parser in parsers()[1].values() for word in parser.format_help().split()}
    known |= set(make_parser().format_help().split())
    known |= set(restore.options.make_parser().format_help().split())
    known = {word.strip("[],|") for word in known} | {"--version"}
    assert written_options(PAGE) - known - {"-c"} == set()


@pytest.mark.parametrize("key", [setting.key for setting in SETTINGS])
def test_every_key_of_the_configuration_is_on_the_page(key: str) -> None:
    rows = [row.split(" | ") for row in command("build").splitlines() if row.startswith("| `-")]
    assert [row for row in rows if re.match(f"`{key}[` ]", row[1])] != []


@pytest.mark.parametrize("key", [setting.key for setting in SETTINGS])
def test_every_option_of_a_build_has_its_words(key: str) -> None:
    """In a row of its own on the page, what it means last; and in the help."""
    [setting] = [setting for setting in SETTINGS if setting.key == key]
    text = parsers()[1]["build"].format_help()
    for flag in setting.words or (f"--{key}",):
        first = re.compile(rf"\| (`[^`]+`, )*`{flag}[` ]")
        [row] = [row for row in command("build").splitlines() if first.match(row)]
        assert len(row.strip("| ").rpartition(" | ")[2].split()) >= 2, row
        assert re.search(rf"^  .*{flag}\b", text, re.MULTILINE), flag
    assert setting.help.split()[0] in text


@pytest.mark.parametrize("key", [*(s.key for s in SETTINGS if s.many), "ssh-key"])
def test_what_an_image_may_hold_has_an_example(key: str) -> None:
    examples = re.findall(r"^mindi build .*$", command("build"), re.MULTILINE)
    assert [line for line in examples if f" --{key} " in line] != []


def test_every_exit_code_is_on_the_page() -> None:
    errors: list[type[ImageError]] = [ImageError]
    for error in errors:
        errors += error.__subclasses__()
    codes = {0, 1, EXIT_BUG, EXIT_INTERRUPTED, *(error.exit_code for error in errors)}
    rows = re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)
    assert {int(row) for row in rows} == codes


def build_json() -> object:
    return BuildReport(
        file=Path("a.iso"),
        output=Output.ISO,
        size_bytes=1,
        initrd_bytes=1,
        initrd_sha256="",
        unpacked_bytes=1,
        kernel=Path("vmlinuz"),
        kernel_version="6.1",
        kernel_package="linux-image-6.1 6.1-1",
        selection=Selection.GENERIC,
        codec=Codec.ZSTD,
        level=4,
        entries=1,
        modules=1,
        libraries=1,
        tools=1,
        tools_absent=(AbsentTool("nvme", "nvme-cli"),),
        firmware=1,
        firmware_absent=1,
        frames=1,
        frames_from_cache=1,
        boots=(),
        seconds=1.0,
    ).to_json()


def boot_json() -> object:
    return BootReport(
        image=Path("a.iso"),
        firmware=Firmware.BIOS,
        medium=Medium.USB,
        engine=Engine.TCG,
        memory_mib=1024,
        ok=False,
        reasons=(),
        ready_s=None,
        total_s=1.0,
        verdict=judge(()),
        screenshots=(),
        logs=Path("logs"),
    ).to_json()


def doctor_json() -> object:
    finding = Finding(Purpose.BUILD, State.FINE, "subject", "words")
    return DoctorReport((finding,)).to_json()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Give a JSON result of each command that has all its keys."""
    folder = tmp_path_factory.mktemp("docs")
    closure = odd_tree(folder / "root").build()
    iso = written_iso(folder / "iso", closure)
    tree = odd_tree(folder / "root2")
    tree.add_content("/etc/more", b"more", tree.build().entries["/init"].because[0])
    other = folder / "other.img"
    other.write_bytes(packed(recorded(tree.build(), architecture="aarch64"))[0])
    return {
        "build": build_json(),
        "inspect": inspect(iso, verify=True).to_json(),
        "why": why(iso, "/init").to_json(),
        "diff": diff(iso, other).to_json(),
        "boot": boot_json(),
        "doctor": doctor_json(),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_the_keys_of_the_json_and_no_other(
    name: str, results: dict[str, object]
) -> None:
    assert written_keys(name) == set(keys(results[name]))
