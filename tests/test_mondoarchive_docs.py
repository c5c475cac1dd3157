"""docs/commands.md has every option, key and JSON key of ``mondoarchive``, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindi.backup.hooks import Occasion, Status
from mindi.backup.table import OPTIONS, Option
from tests.support.mondoarchive import backup, bound, mondoarchive

PAGE = (Path(__file__).parent.parent / "docs/commands.md").read_text()
[SECTION] = [part for part in PAGE.split("\n## ")[1:] if part.startswith("`mondoarchive`")]
ROWS = [row.strip("| ").split(" | ") for row in SECTION.splitlines() if row.startswith("| `-")]


def keys(value: object) -> Iterator[str]:
    """Yield the keys of a JSON value, at any depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from keys(item)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_has_its_row(option: Option) -> None:
    [row] = [row for row in ROWS if re.search(rf"`{option.names[-1]}[` ]", row[0])]
    for name in option.names:
        assert re.search(rf"`{name}[` ]", row[0])
    key = re.match(r"`([\w-]+)`", row[1].strip())
    assert (key is not None and key[1] == option.key) == option.in_file


def test_no_row_is_of_nothing() -> None:
    known = {name for option in OPTIONS for name in option.names} | {"--config", "-0", "-9"}
    written = {word for row in ROWS for word in re.findall(r"(?<=`)--?[\w-]+", row[0])}
    assert written - known == set()


def test_the_json_has_the_keys_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/closed").touch(0o000)
    (tmp_path / "tree/changed").write_bytes(b"content")
    words = ("-I", tmp_path / "tree", "--codec", "none", "--json")
    made = json.loads(backup(tmp_path / "medium", *words, "-V", before=bound()).out)
    [piece] = Path(made["set"], "slices").iterdir()
    piece.write_bytes(piece.read_bytes().replace(b"content", b"CONTENT"))
    (tmp_path / "tree/changed").unlink()
    told = mondoarchive("-V", "-d", tmp_path / "medium", "-p", "box", "--json")
    found = {*keys(made), *keys(json.loads(told.out))}
    [block] = re.findall(r"```\n(\{.*?)```", SECTION, re.DOTALL)
    assert found == set(re.findall(r'"(\w+)":', block))


def test_every_variable_of_hooks_is_on_the_page() -> None:
    occasion = Occasion(status=Status.BEGUN, folder=Path("/"), prefix="a", kind="full")
    for name in occasion.environment():
        assert f"`{name}`" in SECTION
    for status in Status:
        assert f"`{status}`" in SECTION
