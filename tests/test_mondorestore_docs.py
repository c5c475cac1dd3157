"""docs/commands.md has every option, kind of difference and JSON key of ``mondorestore``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore.difference import Kind
from restore.options import make_parser
from restore.planning import plan_record
from tests.support.backup import save
from tests.test_mondorestore import mondorestore
from tests.test_plan_build import planned

PAGE = (Path(__file__).parent.parent / "docs/commands.md").read_text()
[SECTION] = [part for part in PAGE.split("\n## ")[1:] if part.startswith("`mondorestore`")]
EVERYWHERE = {"-h", "--help", "--json", "-q", "--quiet", "--debug", "--version"}


def keys(value: object) -> Iterator[str]:
    """Yield the keys of a JSON value, at any depth, but not those of counts by kind."""
    if isinstance(value, dict):
        yield from value
        value = [one for key, one in value.items() if key != "counts"]
    if isinstance(value, list):
        for item in value:
            yield from keys(item)


def test_every_option_has_its_row() -> None:
    options = {word for action in make_parser()._actions for word in action.option_strings}
    rows = [row for row in SECTION.splitlines() if row.startswith("| `-")]
    written = {word for row in rows for word in re.findall(r"^\| `(--[\w-]+)", row)}
    assert written == options - EVERYWHERE


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_difference_is_on_the_page(kind: Kind) -> None:
    assert f"`{kind.value}`" in SECTION


def test_the_json_has_the_keys_of_the_page(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"content")
    (tree / "link").symlink_to("file")
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.chown(tree / "file", 5, 5)
    saved = save(tree, tmp_path / "set").path
    listed = mondorestore("--from", saved, "--list", "--json").stdout.splitlines()
    found = {key for line in listed for key in keys(json.loads(line))}
    (piece,) = (saved / "slices").iterdir()
    piece.unlink()
    (tree / "file").unlink()
    for action, *words in (
        ("--all", "--to", tmp_path / "out"),
        ("--compare", "--to", tree),
        ("--verify",),
    ):
        done = mondorestore("--from", saved, action, *words, "--json")
        found |= set(keys(json.loads(done.stdout)))
    for machine in ("luks-lvm", "nested"):
        found |= set(keys(plan_record(planned(machine))))
    blocks = re.findall(r"```\n(\{.*?)```", SECTION, re.DOTALL)
    written = {key for block in blocks for key in re.findall(r'"(\w+)":', block)}
    assert written - found == {"attribute"}  # nothing that root restores lacks one
    assert found - written == set()
