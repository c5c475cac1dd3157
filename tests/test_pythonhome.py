"""The interpreter of an image: which one, and what of its library."""

from __future__ import annotations

import importlib.util
import py_compile
import struct
import sys
from pathlib import Path

import pytest

import restore
from initramfs.closure import ClosureBuilder, FileClosure, Kind
from initramfs.errors import MissingDependency
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from mindi.pythonhome import PythonHome, PythonReport, add_python, python_of, running_python
from mindi.strip import stripped
from tests.support.rights import run_bound
from tests.support.tree import Tree

OURS = Path(restore.__file__ or "").parent.parent
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def python_tree(tree: Tree, version: str = OWN) -> Tree:
    """Make a tree with a Python of Debian's kind."""
    tree.program(f"/usr/bin/python{version}")
    tree.link("/usr/bin/python3", f"python{version}")
    for name in ("os", "json/__init__", "test/test_os", "idlelib/idle", "encodings/big5"):
        tree.file(f"/usr/lib/python{version}/{name}.py", "answer = 42\n")
    tree.library(f"/usr/lib/python{version}/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so")
    tree.library(f"/usr/lib/python{version}/lib-dynload/_tkinter.cpython-311-x86_64-linux-gnu.so")
    return tree


def add(builder: ClosureBuilder, home: PythonHome) -> tuple[FileClosure, PythonReport]:
    report = add_python(builder, home, ours=OURS, cache=None, jobs=1)
    return builder.build(), report


def image(tree: Tree) -> FileClosure:
    return add(tree.builder(), python_of(tree.root()))[0]


@pytest.fixture(scope="module")
def own() -> FileClosure:
    root = Root(Path("/"))
    return add(ClosureBuilder(root, Libraries(root)), running_python())[0]


def test_own_interpreter_is_the_one_that_runs_this() -> None:
    home = running_python()
    assert home.version == sys.version_info[:2]
    assert Path(home.library, "os.py").is_file()


def test_own_library_is_bytecode_alone(own: FileClosure) -> None:
    library = running_python().library
    files = [entry.path for entry in own if entry.kind is Kind.FILE]
    suffixes = {Path(path).suffix for path in files if path.startswith(library)}
    assert suffixes == {".pyc", ".so"}


def test_own_library_has_no_tests_and_no_desktop(own: FileClosure) -> None:
    library = running_python().library
    unwanted = [f"{library}/{name}" for name in ("test", "idlelib", "tkinter", "pydoc_data")]
    assert [path for path in unwanted if path in own] == []


def test_two_builds_are_equal(own: FileClosure) -> None:
    root = Root(Path("/"))
    again, _ = add(ClosureBuilder(root, Libraries(root)), running_python())
    assert again == own


def test_compiled_modules_bring_their_libraries(own: FileClosure) -> None:
    assert [path for path in own.entries if "/libsqlite3.so" in path]
    assert [path for path in own.entries if "/liblzo2.so" in path]


def test_python_of_a_root_is_found(tree: Tree) -> None:
    home = python_of(python_tree(tree).root())
    assert (home.executable, home.library) == (f"/usr/bin/python{OWN}", f"/usr/lib/python{OWN}")


def test_a_root_without_python_names_the_package(tree: Tree) -> None:
    with pytest.raises(MissingDependency, match="no Python in") as caught:
        python_of(tree.root())
    assert "python3" in (caught.value.hint or "")


def test_a_root_with_an_old_python_is_refused(tree: Tree) -> None:
    with pytest.raises(MissingDependency, match=r"is 3\.9; what runs in the image needs 3\.11"):
        python_of(python_tree(tree, "3.9").root())


def test_a_root_without_the_library_names_what_lacks(tree: Tree) -> None:
    tree.program("/usr/bin/python3.11")
    tree.link("/usr/bin/python3", "python3.11")
    with pytest.raises(MissingDependency, match=r"no standard library for /usr/bin/python3\.11"):
        python_of(tree.root())


def test_same_version_is_compiled(tree: Tree) -> None:
    closure = image(python_tree(tree))
    assert f"/usr/lib/python{OWN}/os.pyc" in closure
    assert f"/usr/lib/python{OWN}/os.py" not in closure


def test_another_version_comes_as_source(tree: Tree) -> None:
    closure = image(python_tree(tree, "3.99"))
    assert closure.entries["/usr/lib/python3.99/os.py"].content == b"answer = 42\n"


@pytest.mark.parametrize("name", ["test", "idlelib/idle.pyc", "encodings/big5.pyc"])
def test_what_no_restore_needs_stays_out(tree: Tree, name: str) -> None:
    assert f"/usr/lib/python{OWN}/{name}" not in image(python_tree(tree))


def test_compiled_modules_that_need_a_screen_stay_out(tree: Tree) -> None:
    names = [path.rpartition("/")[2] for path in image(python_tree(tree)).entries]
    assert [name.partition(".")[0] for name in names if name.endswith("gnu.so")] == ["_ssl"]


def test_our_own_code_travels(tree: Tree) -> None:
    assert f"/usr/lib/python{OWN}/restore/selfcheck.pyc" in image(python_tree(tree))


def test_what_travels_lies_where_no_site_is_needed(tree: Tree) -> None:
    packages = "/usr/lib/python3/dist-packages"
    python_tree(tree)
    tree.file(f"{packages}/urwid/__init__.py", "answer = 42\n")
    tree.file(f"{packages}/urwid/tests/__init__.py", "answer = 42\n")
    tree.library("/usr/lib/x86_64-linux-gnu/liblzo2.so.2")
    tree.library(f"{packages}/lzo.cpython-311-x86_64-linux-gnu.so", "liblzo2.so.2")
    closure = image(tree)
    library = f"/usr/lib/python{OWN}"
    assert f"{library}/urwid/__init__.pyc" in closure
    assert f"{library}/urwid/tests/__init__.pyc" not in closure
    assert f"{library}/lzo.cpython-311-x86_64-linux-gnu.so" in closure
    assert "/usr/lib/x86_64-linux-gnu/liblzo2.so.2" in closure


def test_packages_that_a_root_lacks_are_told(tree: Tree) -> None:
    _, report = add(python_tree(tree).builder(), python_of(tree.root()))
    packages = {absent.package for absent in report.absent}
    assert packages == {"python3-lzo", "python3-zstandard", "python3-urwid"}


def test_links_of_another_root_stay_in_it(tree: Tree) -> None:
    python_tree(tree)
    library = f"/usr/lib/python{OWN}"
    tree.file("/proc/version", "answer = 42\n")
    tree.link(f"{library}/there.py", "/proc/version")
    tree.link(f"{library}/lost.py", "/proc/cpuinfo")
    tree.file("/srv/package/inside.py", "answer = 42\n")
    tree.link(f"{library}/package", "/srv/package")
    closure = image(tree)
    assert f"{library}/there.pyc" in closure
    assert f"{library}/lost.pyc" not in closure
    assert "/srv/package/inside.pyc" in closure


def test_links_that_lead_back_are_left_out(tree: Tree) -> None:
    python_tree(tree)
    library = f"/usr/lib/python{OWN}"
    tree.link(f"{library}/self", ".")
    tree.link(f"{library}/json/up", "..")
    packages = "/usr/lib/python3/dist-packages"
    tree.library(f"{packages}/zstandard/backend.so")
    for name in ("one", "two"):
        tree.link(f"{packages}/zstandard/{name}", ".")
    closure = image(tree)
    assert f"{library}/json/__init__.pyc" in closure
    assert f"{library}/zstandard/backend.so" in closure
    below = (f"{library}/self/", f"{library}/json/up/", f"{library}/zstandard/one/")
    assert [path for path in closure.entries if path.startswith(below)] == []


def test_a_library_that_cannot_be_listed_is_named(tree: Tree) -> None:
    python_tree(tree)
    tree.host(f"/usr/lib/python{OWN}/json").chmod(0o111)
    program = """
import sys, pathlib
from initramfs.errors import InputError
from tests.support.tree import Tree
from tests.test_pythonhome import image
try:
    image(Tree(pathlib.Path(sys.argv[1])))
except InputError as error:
    print(error)
"""
    assert run_bound(program, tree.path).startswith(f"cannot read /usr/lib/python{OWN}/json in")


def test_bytecode_of_another_root_is_not_read(tree: Tree) -> None:
    python_tree(tree)
    source = tree.host(f"/usr/lib/python{OWN}/os.py")
    py_compile.compile(str(source), doraise=True)
    before = image(tree).entries[f"/usr/lib/python{OWN}/os.pyc"].content
    made = Path(importlib.util.cache_from_source(source))
    made.write_bytes(made.read_bytes()[:16] + b"no code at all")
    assert image(tree).entries[f"/usr/lib/python{OWN}/os.pyc"].content == before


def test_python_elsewhere_gets_its_usual_name(tree: Tree) -> None:
    python_tree(tree)
    tree.program("/opt/python/bin/python3.11")
    home = PythonHome("/opt/python/bin/python3.11", (3, 11), f"/usr/lib/python{OWN}", (), True)
    closure, _ = add(tree.builder(), home)
    assert closure.entries["/usr/bin/python3"].target == "/opt/python/bin/python3.11"


def test_stripping_takes_sections_and_nothing_else() -> None:
    import zstandard.backend_c

    data = Path(zstandard.backend_c.__file__).read_bytes()
    short = stripped(data)
    assert short[64:] == data[64 : len(short)]
    assert stripped(short) == short


@pytest.mark.parametrize("kind", [1, 2], ids=["32 bits", "64 bits"])
def test_an_elf_file_without_segments_stays_as_it_is(kind: int) -> None:
    size = 56 if kind == 2 else 32
    layout = "<QQIHHHHHH" if kind == 2 else "<IIIHHHHHH"
    data = bytearray(b"\x7fELF" + bytes([kind, 1]) + bytes(90))
    struct.pack_into(layout, data, 32 if kind == 2 else 28, 0, 0, 0, 0, size, 0, 0, 0, 0)
    assert stripped(bytes(data)) == data


def test_an_elf_file_keeps_its_header() -> None:
    data = bytearray(b"\x7fELF\x02\x01" + bytes(130))
    struct.pack_into("<QQIHHHHHH", data, 32, 0, 0, 0, 0, 56, 1, 0, 0, 0)
    assert len(stripped(bytes(data))) == 64


@pytest.mark.parametrize(
    "data", [b"", b"no ELF", b"\x7fELF\x02\x01", b"\x7fELF\x02\x01" + b"\xff" * 90]
)
def test_what_cannot_be_stripped_stays_as_it_is(data: bytes) -> None:
    assert stripped(data) == data
