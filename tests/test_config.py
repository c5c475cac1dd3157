"""The settings table: files, options, and what goes wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from initramfs.codec import Codec
from initramfs.errors import InputError, UsageError
from mindi.config import SETTINGS, Host, combine, read_file, read_values, resolve
from mindi.spec import KernelChoice, Output, Selection

HOST = Host(name="atlas", cores=4, cache=Path("/cache"), now_s=1_700_000_000)


def test_defaults_make_an_iso_of_this_machine() -> None:
    spec = resolve({}, HOST)
    assert (spec.output, spec.kernel, spec.selection) == (
        Output.ISO,
        KernelChoice.RUNNING,
        Selection.HOST_ONLY,
    )
    assert spec.file == Path("mindi-atlas.iso")
    assert (spec.root, spec.codec, spec.use_cache, spec.jobs) == (None, None, True, 4)


@pytest.mark.parametrize(
    "words",
    [{"kernel": "failsafe"}, {"root": "/srv/tree"}, {"kernel": "/boot/vmlinuz"}],
    ids=["failsafe", "root", "kernel path"],
)
def test_an_image_not_of_this_system_is_generic(words: dict[str, str]) -> None:
    spec = resolve(read_values(words, where="test"), HOST)
    assert spec.selection is Selection.GENERIC
    assert (spec.file, spec.host_name) == (Path("mindi-generic.iso"), "mindi")


def test_a_file_sets_what_options_set(tmp_path: Path) -> None:
    file = tmp_path / "mindi.toml"
    file.write_text(
        '[build]\noutput = "initramfs"\ncodec = "xz"\nlevel = 4\ncache = false\n'
        'add-module = ["megaraid_sas", "ice"]\nkernel-arguments = "quiet nomodeset"\n'
    )
    spec = resolve(read_file(file, required=True), HOST)
    assert spec.output is Output.INITRAMFS
    assert (spec.codec, spec.level, spec.use_cache) == (Codec.XZ, 4, False)
    assert spec.add_modules == ("megaraid_sas", "ice")
    assert spec.kernel_arguments == ("quiet", "nomodeset")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[build]\noutptu = "iso"\n', "unknown key 'outptu'; did you mean output"),
        ("[bulid]\n", "unknown table or key 'bulid'"),
        ("[build]\nlevel = 12\n", "level: '12' is no number from 0 to 9"),
        ('[build]\noutput = "floppy"\n', "output: 'floppy' is none of iso"),
        ("[build]\noutput = []\n", "output: expected a word"),
        ("[build]\nlevel = \n", "not valid TOML"),
        ("build = 3\n", "build is not a table"),
        ('[build]\nlabel = "much too long for a volume label of an ISO"\n', "no volume label"),
        ('[build]\nlabel = "a\\nb"\n', "no volume label"),
        ('[build]\nlabel = ""\n', "no volume label"),
        ('[build]\nlabel = "ü"\n', "no volume label"),
        ('[build]\nlevel = "٣"\n', "is no number from 0 to 9"),
        ('[build]\nfile = ""\n', "file: '' is no path"),
        ('[build]\nroot = ""\n', "root: '' is no path"),
        ('[build]\nadd = [""]\n', "add: '' is no path"),
        ('[build]\nkeymap = ""\n', "keymap: '' is no name"),
        ('[build]\nomit-tool = [" "]\n', "omit-tool: ' ' is no name"),
        ('[build]\nadd = ["etc/fstab"]\n', "add: 'etc/fstab' is no absolute path"),
        ('[build]\nkernel-arguments = ["a"]\n', "expected a word"),
    ],
    ids=lambda value: value.strip().splitlines()[-1] if "\n" in value else "",
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "mindi.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_file(file, required=True)
    assert complaint in caught.value.message
    assert str(file) in caught.value.message


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_file(tmp_path / "none.toml", required=True)


def test_the_system_file_need_not_exist(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none.toml", required=False) == {}


def test_root_and_failsafe_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        resolve(read_values({"root": "/x", "kernel": "failsafe"}, where="test"), HOST)


def test_every_setting_has_help_and_its_own_key() -> None:
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    assert all(setting.help for setting in SETTINGS)


ISO_ONLY = {"kernel-arguments": "quiet", "label": "OTHER"}


def test_these_settings_are_for_an_iso_alone() -> None:
    assert {setting.key for setting in SETTINGS if setting.only is Output.ISO} == set(ISO_ONLY)


@pytest.mark.parametrize("key", ISO_ONLY)
@pytest.mark.parametrize("where", ["option", "file"])
def test_an_option_without_effect_is_refused(key: str, where: str) -> None:
    """It was passed over in silence, wherever it was said that an initrd is to be written."""
    output = read_values({"output": "initramfs"}, where="test")
    option = read_values({key: ISO_ONLY[key]}, where="test")
    file, options = ({}, {**output, **option}) if where == "option" else (output, option)
    with pytest.raises(UsageError, match=f"--{key}: is for --output iso, not for initramfs"):
        combine(file, options)


@pytest.mark.parametrize("key", ISO_ONLY)
def test_a_file_may_have_what_is_for_another_output(key: str) -> None:
    file = read_values({key: ISO_ONLY[key]}, where="test")
    assert combine(file, {"output": Output.INITRAMFS}) == {**file, "output": Output.INITRAMFS}


@pytest.mark.parametrize("key", ISO_ONLY)
def test_an_option_wins_over_the_file(key: str) -> None:
    option = read_values({key: ISO_ONLY[key]}, where="test")
    file = {**read_values({key: "FILE"}, where="test"), "output": Output.INITRAMFS}
    options = {**option, "output": Output.ISO}
    assert combine(file, options) == options
