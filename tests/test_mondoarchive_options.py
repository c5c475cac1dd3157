"""The options of ``mondoarchive``: what they mean, alone and together, and what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archive.codec import Codec
from archive.errors import ArchiveError, WrongUsage
from initramfs.errors import ImageError
from mindi.backup.options import ArchiveOptions, make_parser, read_table, read_words, resolve
from mindi.backup.table import OPTIONS, CodecName, IoClass

MAKE = ("-O", "--set", "-d", "/m")


def parsed(*words: str, **file: object) -> ArchiveOptions:
    """Return the options of a command line and of a configuration file's table."""
    given = vars(make_parser().parse_args(words))
    table = {key.replace("_", "-"): value for key, value in file.items()}
    return resolve(read_words(given), read_table(table, where="file"), host="box", cores=2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to do: give -O"),
        (("-O",), "no medium is given"),
        (("-O", "--set"), "no folder for the sets"),
        ((*MAKE, "--keep", "0"), "--keep: '0' is no number"),
        ((*MAKE, "--keep", "x"), "--keep: 'x' is no number"),
        ((*MAKE, "--jobs", "0"), "--jobs: '0' is no number"),
        ((*MAKE, "--nice", "20"), "--nice: '20' is no number"),
        ((*MAKE, "--ionice", "realtime"), "--ionice: 'realtime' is none of idle"),
        ((*MAKE, "--level", "10"), "--level: '10' is no number"),
        ((*MAKE, "--codec", "zip"), "--codec: 'zip' is none of zstd"),
        ((*MAKE, "-G", "-L"), "not allowed with"),
        ((*MAKE, "-G", "--codec", "xz"), "not allowed with"),
        ((*MAKE, "-1", "-2"), "not allowed with"),
        ((*MAKE, "-p", "a/b"), "--prefix: 'a/b' is no name"),
        ((*MAKE, "-p", ".a"), "--prefix: '.a' is no name"),
        ((*MAKE, "-p", ""), "--prefix: '' is no name"),
        ((*MAKE, "-I", ""), "--include: '' is empty"),
        ((*MAKE, "-d", ""), "--dir: '' is no path"),
        ((*MAKE, "--checksum"), "--checksum is for differential sets"),
        ((*MAKE, "--parent", "x"), "--parent is for differential sets"),
        ((*MAKE, "--per-file", "--codec", "none"), "makes no difference"),
        ((*MAKE, "--level", "9", "--codec", "none"), "--level makes no difference with --codec"),
        (("-V", "-d", "/m", "-E", "x"), "--exclude makes no difference to -V without -O"),
        (("-V", "-d", "/m", "--keep", "1"), "--keep makes no difference to -V without -O"),
        (("-V", "-d", "/m", "-3"), "--level makes no difference to -V without -O"),
    ],
)
def test_what_makes_no_sense_is_named(words: tuple[str, ...], says: str) -> None:
    with pytest.raises((ArchiveError, ImageError)) as caught:
        parsed(*words)
    assert says in caught.value.message
    assert caught.value.exit_code == 2


def test_the_defaults() -> None:
    assert parsed(*MAKE) == ArchiveOptions(backup=True, folder=Path("/m"), prefix="box", jobs=2)
    assert (parsed(*MAKE).codec, parsed(*MAKE).level) == (CodecName.ZSTD, 3)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("-I", "a b", "-I", "c", "-E", "d"), {"include": ("a b", "c"), "exclude": ("d",)}),
        (("-N", "--one-file-system"), {"no_network": True, "one_file_system": True}),
        (("-DV", "--checksum"), {"differential": True, "verify": True, "checksum": True}),
        (("-D", "--parent", "x"), {"differential": True, "parent": "x"}),
        (("-G", "-9"), {"codec": CodecName.GZIP, "level": 9}),
        (("-L0",), {"codec": CodecName.LZO, "level": 0}),
        (("--codec", "none"), {"codec": CodecName.NONE}),
        (("-B", "x y", "-A", "z"), {"before": "x y", "after": "z"}),
        (("-S", "/s", "-T", "/t"), {"scratch_dir": Path("/s"), "tmp_dir": Path("/t")}),
        (("-J", "-", "-K", "/l"), {"file_list": Path("-"), "log": Path("/l")}),
        (("--nice", "19", "--ionice", "idle"), {"nice": 19, "ionice": IoClass.IDLE}),
        (("--jobs", "7", "-p", "x", "--keep", "2"), {"jobs": 7, "prefix": "x", "keep": 2}),
    ],
)
def test_what_options_mean(words: tuple[str, ...], fields: dict[str, Any]) -> None:
    options = parsed(*MAKE, *words)
    assert {name: getattr(options, name) for name in fields} == fields


def test_options_win_over_the_file() -> None:
    options = parsed("-O", "--set", "-1", dir="/f", level=9, codec="xz", include=["a", "b"])
    assert options.folder == Path("/f")
    assert (options.level, options.codec, options.include) == (1, CodecName.XZ, ("a", "b"))


def test_what_a_file_has_for_sets_does_not_hinder_verifying() -> None:
    assert parsed("-V", dir="/f", exclude=["a"], keep=3).verify


def test_a_list_of_files_in_the_file_gives_way_to_paths() -> None:
    assert parsed(*MAKE, file_list="/l").file_list == Path("/l")
    assert parsed(*MAKE, "-I", "/x", file_list="/l").file_list is None


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"keeps": 3}, "unknown key 'keeps'; did you mean keep"),
        ({"resume": True}, "unknown key 'resume'"),
        ({"verify": "yes"}, "expected true or false"),
        ({"keep": True}, "expected a word"),
        ({"include": [1.5]}, "expected a word"),
    ],
    ids=lambda value: str(value),
)
def test_a_wrong_table_is_named(table: dict[str, object], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        read_table(table, where="file")


def test_every_codec_has_its_name() -> None:
    assert {name.value for name in CodecName} == {codec.name.lower() for codec in Codec}


def test_every_option_has_a_field() -> None:
    others = {"to_set", "gzip", "lzo"}
    fields = set(ArchiveOptions.__dataclass_fields__)
    assert {option.place for option in OPTIONS} - others == fields
