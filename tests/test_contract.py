"""The builder and the rescue environment know the contract, and nothing else, of each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mindi

CONTRACT = "restore.contract"
# How words are put is no knowledge of the other side; mindi/backup is no builder.
WORDS = "restore.words"


def imported_of_restore(source: str) -> Iterator[str]:
    """Yield the modules of ``restore`` that a module imports; the bare package has no code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.startswith("restore."))
            case ast.ImportFrom(module=str(module)) if module.startswith("restore."):
                yield module
            case ast.ImportFrom(module="restore", names=names):
                yield from (f"restore.{name.name}" for name in names)


def test_the_builder_imports_the_contract_alone() -> None:
    folder = Path(mindi.__file__ or "").parent
    found = {
        (file.name, module)
        for file in folder.glob("*.py")
        for module in imported_of_restore(file.read_text())
    }
    assert found, "nothing imports the contract: the search is broken"
    assert {(name, module) for name, module in found if module not in (CONTRACT, WORDS)} == set()


def test_another_import_is_seen() -> None:
    source = "from restore import verdict\ndef late():\n    from restore.run import run\n"
    assert [*imported_of_restore(source)] == ["restore.verdict", "restore.run"]
