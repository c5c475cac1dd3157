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


def test_imports_run_one_way() -> None:
    wrong = {each: wrong_ways(each.parts[0], (HOUSE / each).read_text()) for each in modules()}
    assert [(str(each), ways) for each, ways in wrong.items() if ways] == []


def test_a_wrong_import_is_seen() -> None:
    assert wrong_ways("restore", "def late():\n    from mindi.iso import write\n") == {"mindi"}


def test_what_travels_needs_nothing_that_stays() -> None:
    wrong = {
        each.as_posix(): foreign((HOUSE / each).read_text()) - OPTIONAL.get(each.as_posix(), set())
        for each in modules()
        if each.parts[0] in TRAVELS
    }
    assert [(name, libraries) for name, libraries in wrong.items() if libraries] == []


def test_a_library_that_stays_is_seen() -> None:
    assert foreign("import json\nimport jinja2\n") == {"jinja2"}


def test_modules_and_functions_stay_small() -> None:
    sources = {each: (HOUSE / each).read_text() for each in modules()}
    assert [str(each) for each in sources if each.name in BANNED_NAMES] == []
    lines = {str(each): len(source.splitlines()) for each, source in sources.items()}
    assert [(name, count) for name, count in lines.items() if count > MAX_MODULE_LINES] == []
    long = {str(each): long_functions(source) for each, source in sources.items()}
    assert [(name, functions) for name, functions in long.items() if functions] == []


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
    [
        pytest.param(("ruff", "check", "."), id="ruff-check"),
        pytest.param(("ruff", "format", "--check", "."), id="ruff-format"),
        pytest.param(("mypy",), id="mypy", marks=pytest.mark.slow),
    ],
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
