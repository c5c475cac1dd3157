"""What a user without rights is told of what was not saved."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from archive.errors import CannotWrite
from archive.manifest import Kind
from archive.setfolder import new_partial
from tests.support.rights import run_bound

SAVE = """
import sys
from pathlib import Path
from tests.support.backup import save
saved = save(Path(sys.argv[1]), Path(sys.argv[2]))
for path, kind, words in sorted(saved.issues):
    print(path.decode(), kind)
"""


def test_what_was_denied_is_told_once_and_by_its_kind(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "inside").write_text("x")
    (tree / "private").write_text("x")
    (tree / "open").write_text("x")
    (tree / "closed").chmod(0)
    (tree / "private").chmod(0)
    said = run_bound(SAVE, tree, tmp_path / "set")
    assert said.splitlines() == ["closed denied", "private denied"]


def test_a_set_of_the_last_second_of_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "99991231T235959Z-full").mkdir()
    with pytest.raises(CannotWrite, match="no time that exists"):
        new_partial(tmp_path, Kind.FULL, datetime.now(UTC))
