"""The rules of the house that a reader cannot be asked to check: imports, sizes, linters."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import require_tool

HOUSE = Path(__file__).parent.parent
PACKAGES = ("initramfs", "archive", "restore", "mindi")

# Which of ours a package may import, itself aside (docs/design.md).
ALLOWED = {
    "initramfs": set(),
    "archive": set(),
    "restore": {"archive"},
    "mindi": {"initramfs", "restore", "archive"},
}

# What travels into the rescue image may use these besides the standard library.
TRAVELS = {"archive", "restore"}
TRAVELLING_LIBRARIES = {"lzo", "zstandard", "urwid"}
# What it may use where it is: these modules work without, by the standard library.
OPTIONAL = {"archive/codec.py": {"deflate"}}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
BANNED_NAMES = {"util.py", "utils.py", "common.py"}

SCRIPTS = ("scripts/setup", ".ci/run")


def modules() -> list[Path]:
    """Return our modules, relative to the checkout."""
    return [
        path.relative_to(HOUSE)
        for package in PACKAGES
        for path in sorted((HOUSE / package).rglob("*.py"))
    ]


def imported(source: str) -> set[str]:
    """Return the top names of all that a module imports, at its top or late."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def wrong_ways(package: str, source: str) -> set[str]:
    """Return what a module of ``package`` imports of ours against the house's direction."""
    return imported(source) & set(PACKAGES) - {package} - ALLOWED[package]


def foreign(source: str) -> set[str]:
    """Return what a travelling module imports that does not travel."""
    known = set(sys.stdlib_module_names) | TRAVELLING_LIBRARIES | set(PACKAGES)
    return imported(source) - known


def long_functions(source: str) -> list[str]:
    """Return the functions of a module that are too long, their docstrings not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        first = node.body[0]
        has_words = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        words = ((first.end_lineno or 0) - first.lineno + 1) if has_words else 0
        lines = (node.end_lineno or 0) - node.lineno + 1 - words
        if lines > MAX_FUNCTION_LINES:
            found.append(f"{node.name}: {lines} lines")
    return found


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_run_one_way(module: Path) -> None:
    assert not wrong_ways(module.parts[0], (HOUSE / module).read_text())


def test_a_wrong_import_is_seen() -> None:
    assert wrong_ways("restore", "def late():\n    from mindi.iso import write\n") == {"mindi"}


@pytest.mark.parametrize("module", [m for m in modules() if m.parts[0] in TRAVELS], ids=str)
def test_what_travels_needs_nothing_that_stays(module: Path) -> None:
    assert not foreign((HOUSE / module).read_text()) - OPTIONAL.get(module.as_posix(), set())


def test_a_library_that_stays_is_seen() -> None:
    assert foreign("import json\nimport jinja2\n") == {"jinja2"}


@pytest.mark.parametrize("module", modules(), ids=str)
def test_modules_and_functions_stay_small(module: Path) -> None:
    source = (HOUSE / module).read_text()
    assert module.name not in BANNED_NAMES
    assert len(source.splitlines()) <= MAX_MODULE_LINES
    assert not long_functions(source)


def test_a_long_function_is_seen() -> None:
    body = "".join(f"    x = {number}\n" for number in range(60))
    assert long_functions(f"def f():\n{body}") == ["f: 61 lines"]


@pytest.mark.parametrize(
    "init", [m for m in modules() if m.name == "__init__.py"], ids=lambda m: str(m.parent)
)
def test_a_package_has_no_code_of_its_own(init: Path) -> None:
    body = ast.parse((HOUSE / init).read_text()).body
    assert all(isinstance(node, ast.Expr) for node in body)


def lint(*argv: str) -> str:
    """Run a linter over the checkout; return what it found fault with."""
    done = subprocess.run(
        argv, cwd=HOUSE, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize(
    "arguments",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["ruff-check", "ruff-format", "mypy"],
)
def test_linters_find_no_fault(arguments: tuple[str, ...]) -> None:
    assert lint(sys.executable, "-m", *arguments) == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_no_fault(script: str) -> None:
    assert lint(str(require_tool("shellcheck")), script) == ""


def test_mindi_answers_without_what_is_heavy() -> None:
    """``mindi --help`` must be quick: what is heavy is imported by the command that needs it."""
    heavy = {"rich", "jinja2", "elftools", "pycdlib", "plumbum", "pexpect", "zstandard"}
    program = (
        "import sys; from mindi.cli import parsers; parsers();"
        f"print(*sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=HOUSE, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
