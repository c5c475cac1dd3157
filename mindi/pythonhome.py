"""The Python of a rescue image: an interpreter, the part of its library that is needed, and
the packages that travel with it.

Of the running system it is the interpreter that runs this program, for the compiled packages
match it and no other; of another root tree it is that tree's own. In the image there is no
site-packages: everything lies in the standard library's directory, so that ``python3 -I -S``
finds all of it, and as .pyc alone where this interpreter can compile for that one (PEP 3147;
the header is that of an unchecked hash-based file, PEP 552, so it holds no time).
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from initramfs.closure import Because, ClosureBuilder
from initramfs.errors import InputError, MissingDependency
from initramfs.rootfs import Root
from mindi.bytecode import Source, compile_sources
from mindi.strip import stripped
from mindi.toolbox import AbsentTool
from mindi.tools import Family

PYTHON = "/usr/bin/python3"
"""Where Python is in every image."""

OLDEST = (3, 11)
"""The oldest Python that what travels runs on."""

TRAVELLERS = (
    ("lzo", "python3-lzo"),
    ("zstandard", "python3-zstandard"),
    ("urwid", "python3-urwid"),
)
"""Modules that what travels imports besides the standard library, with Debian's package."""

# What those import themselves, where their version does.
_COMPANIONS = ("wcwidth", "typing_extensions")

# Ours: the packages of this project that travel.
OUR_PACKAGES = ("archive", "restore")

# Of the standard library: what no restore needs. Names of modules and packages, as patterns.
_DROPPED = (
    *("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "distutils", "turtledemo"),
    *("pydoc_data", "pydoc", "unittest", "doctest", "venv", "msilib", "wsgiref", "xmlrpc", "dbm"),
    *("__phello__", "turtle", "antigravity", "this", "webbrowser", "mailbox", "mailcap", "nntplib"),
    *("imaplib", "poplib", "smtplib", "smtpd", "telnetlib", "aifc", "audioop", "sunau", "sndhdr"),
    *("wave", "chunk", "colorsys", "imghdr", "cgi", "cgitb", "xdrlib", "pipes", "uu", "pdb", "bdb"),
    *("profile", "cProfile", "pstats", "trace", "modulefinder", "pyclbr", "tabnanny", "zipapp"),
    *("symtable", "pickletools", "_sysconfigdata*", "config-*", "site-packages", "dist-packages"),
    *("_pyio", "_aix_support", "_osx_support", "_bootsubprocess", "nturtl2path", "asynchat"),
    *("asyncore", "__pycache__", "*.dist-info", "*.egg-info", "sqlite3.dump", "plistlib"),
    *("_pyrepl", "curses.textpad", "ctypes.macholib", "multiprocessing.dummy", "EXTERNALLY-*"),
    # Encodings of other machines and other centuries; UTF-8, Latin, Cyrillic and DOS stay.
    *("encodings.mac_*", "encodings.big5*", "encodings.gb*", "encodings.euc_*", "encodings.hz"),
    *("encodings.iso2022*", "encodings.shift_*", "encodings.johab", "encodings.cp9[345]*"),
    *("encodings.cp0*", "encodings.cp1006", "encodings.cp1026", "encodings.cp11*"),
    *("encodings.cp273", "encodings.cp424", "encodings.cp500", "encodings.cp7*"),
    *("encodings.cp85[5678]", "encodings.cp86[01345]", "encodings.cp87*", "encodings.palmos"),
    *("encodings.ptcp154", "encodings.kz1048", "encodings.hp_roman8", "encodings.mbcs"),
    *("encodings.oem", "encodings.tis_620"),
    # Other back ends than the compiled one; tables by terminal emulator, which may be missing.
    *("zstandard._cffi", "zstandard.backend_cffi", "zstandard.backend_rust"),
    *("wcwidth._wcwidth_c", "wcwidth.table_grapheme_overrides._known_*"),
)

# Compiled modules of the library that nothing needs, or that need libraries of their own.
_DROPPED_COMPILED = (
    *("_test*", "_ctypes_test*", "xx*", "_xx*", "_tkinter*", "_codecs_*", "_multibytecodec*"),
    *("audioop*", "ossaudiodev*", "nis.*", "_dbm*", "_gdbm*", "_lsprof*", "spwd.*"),
)


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


_IS_DROPPED = _any_of(_DROPPED)
_IS_DROPPED_COMPILED = _any_of(_DROPPED_COMPILED)


@dataclass(frozen=True, slots=True)
class PythonHome:
    """An interpreter in a root tree; all paths are of that tree, links not followed.

    ``travellers`` are the files and directories of the packages that travel.
    ``compiles`` tells that bytecode of the running interpreter is right for this one;
    ``is_running`` that this is the running one, so that bytecode which lies there can be trusted.
    """

    executable: str
    version: tuple[int, int]
    library: str
    travellers: tuple[str, ...]
    compiles: bool
    is_running: bool = False

    @property
    def compiled(self) -> str:
        """The directory of the library's compiled modules."""
        return f"{self.library}/lib-dynload"


@dataclass(frozen=True, slots=True)
class PythonReport:
    """What of Python is in the image: ``version`` and the modules that can be imported."""

    path: str
    version: str
    modules: tuple[str, ...]
    absent: tuple[AbsentTool, ...]


def running_python() -> PythonHome:
    """Describe the interpreter that runs this program, be it in a virtual environment or not."""
    version = (sys.version_info.major, sys.version_info.minor)
    name = f"python{version[0]}.{version[1]}"
    executable = Path(sys.base_exec_prefix, "bin", name)
    library = sysconfig.get_path("stdlib")
    if not executable.exists() or not library:
        raise InputError(
            f"cannot find the interpreter that runs this program: no {executable}",
            hint="run mindi with a Python that is installed with its standard library",
        )
    places = []
    for name in (*(name for name, _ in TRAVELLERS), *_COMPANIONS):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        places.append(str(origin.parent if spec.submodule_search_locations else origin))
    return PythonHome(
        str(executable), version, library, tuple(places), compiles=True, is_running=True
    )


def python_of(root: Root) -> PythonHome:
    """Find the Python of ``root`` by its files; raise MissingDependency if there is none."""
    found = root.locate(PYTHON)
    named = re.search(r"python(\d+)\.(\d+)$", found.path if found else "")
    if found is None or named is None:
        raise MissingDependency(
            f"no Python in {root.path}: {PYTHON} is not there, or leads to no python3.N",
            hint="install Python 3.11 or later in that root tree (Debian: python3)",
        )
    version = (int(named[1]), int(named[2]))
    if version < OLDEST:
        raise MissingDependency(
            f"the Python of {root.path} is {version[0]}.{version[1]}; what runs in the image"
            f" needs {OLDEST[0]}.{OLDEST[1]} or later",
            hint="take a root tree of a newer distribution",
        )
    name = f"python{version[0]}.{version[1]}"
    libraries = [f"/usr/{lib}/{name}" for lib in ("lib", "lib64")]
    library = next((path for path in libraries if root.exists(f"{path}/os.py")), None)
    if library is None:
        raise MissingDependency(
            f"no standard library for {found.path} in {root.path}: no os.py in"
            f" {' or '.join(libraries)}",
            hint="install it there (Debian: libpython3-stdlib)",
        )
    sites = ("/usr/lib/python3/dist-packages", *(f"{path}/site-packages" for path in libraries))
    places = []
    for module in (*(module for module, _ in TRAVELLERS), *_COMPANIONS):
        place = next((place for site in sites for place in _module(root, site, module)), None)
        if place is not None:
            places.append(place)
    same = version == (sys.version_info.major, sys.version_info.minor)
    return PythonHome(found.path, version, library, tuple(places), compiles=same)


def _module(root: Root, site: str, module: str) -> Iterator[str]:
    for name in root.list(site):
        if name == module or (name.startswith(f"{module}.") and name.endswith((".py", ".so"))):
            yield f"{site}/{name}"


def add_python(
    builder: ClosureBuilder, home: PythonHome, *, ours: Path, cache: Path | None, jobs: int
) -> PythonReport:
    """Add the interpreter, its library and what travels; ``ours`` holds our own packages.

    Compiled code of other paths than the library's is kept under ``cache``, if there is one.
    """
    because = Because("the interpreter of the restore code")
    path = builder.add(home.executable, because)
    if path is None:
        raise MissingDependency(f"{home.executable} is not in {builder.root.path}")
    if builder.root.locate(PYTHON) is None or home.executable != PYTHON:
        where = builder.root.locate(PYTHON)
        if where is not None and where.path == path:
            builder.add(PYTHON, because)
        else:
            builder.add_link(PYTHON, path, Because("name of Python in every image, link to", path))
    sources = [*_library(builder.root, home)]
    for place in home.travellers:
        sources.extend(_package(builder.root, place, home.library))
    for package in OUR_PACKAGES:
        sources.extend(_ours(ours / package, f"{home.library}/{package}"))
    _add_sources(builder, home, sources, by=path, cache=cache, jobs=jobs)
    _add_compiled(builder, home, by=path)
    there = {place.rpartition("/")[2].partition(".")[0] for place in home.travellers}
    absent = tuple(
        AbsentTool(f"python3 -m {module}", Family.PYTHON, package)
        for module, package in TRAVELLERS
        if module not in there
    )
    modules = tuple(module for module, _ in TRAVELLERS if module in there)
    version = f"{home.version[0]}.{home.version[1]}"
    return PythonReport(PYTHON, version, modules, absent)


def _add_sources(
    builder: ClosureBuilder,
    home: PythonHome,
    sources: list[Source],
    *,
    by: str,
    cache: Path | None,
    jobs: int,
) -> None:
    because = Because("library of", by)
    if not home.compiles:
        for source in sources:
            builder.add_content(source.image_path, source.read(), because)
        return
    for image_path, code in compile_sources(
        sources, cache=cache, jobs=jobs, take_compiled=home.is_running
    ):
        builder.add_content(image_path + "c", code, because)


def _library(root: Root, home: PythonHome) -> Iterator[Source]:
    top = root.locate(home.library)
    if top is not None:
        yield from _walk(root, top.path, home.library, "")


def _package(root: Root, place: str, library: str) -> Iterator[Source]:
    found = root.locate(place)
    if found is None:
        return
    name = place.rpartition("/")[2]
    if root.is_dir(place):
        yield from _walk(root, found.path, f"{library}/{name}", f"{name}.")
    elif name.endswith(".py"):
        yield Source(root.host(found.path), f"{library}/{name}")


def _ours(directory: Path, image: str) -> Iterator[Source]:
    yield from _walk(Root(directory), "/", image, f"{directory.name}.")


def _walk(
    root: Root, directory: str, image: str, prefix: str, *, above: tuple[str, ...] = ()
) -> Iterator[Source]:
    """Yield the sources below ``directory`` that are wanted, in the order of their names.

    ``above`` are the directories on the way to it: a link that leads back to one is left out.
    """
    if directory in above:
        return
    for entry in root.scan(directory):
        module = prefix + entry.name.removesuffix(".py")
        if _IS_DROPPED.match(module) or entry.name in ("tests", "test", "__pycache__"):
            continue
        place = f"{directory.rstrip('/')}/{entry.name}"
        is_directory = entry.is_dir(follow_symlinks=False)
        if entry.is_symlink():
            found = root.locate(place)
            if found is None:
                continue
            place, is_directory = found.path, root.is_dir(found.path)
        if is_directory:
            below = f"{image}/{entry.name}"
            yield from _walk(root, place, below, f"{module}.", above=(*above, directory))
        elif entry.name.endswith(".py"):
            yield Source(root.host(place), f"{image}/{entry.name}")


def _add_compiled(builder: ClosureBuilder, home: PythonHome, *, by: str) -> None:
    """Add the shared objects of the library, and those of what travels, at its place."""
    root = builder.root
    for name in root.list(home.compiled):
        if name.endswith(".so") and not _IS_DROPPED_COMPILED.match(name):
            builder.add(f"{home.compiled}/{name}", Because("compiled module of", by))
    for place in home.travellers:
        for shared, image in _shared_objects(root, place, home.library, ""):
            because = Because("module that travels, imported by", by)
            added = builder.add_content(image, stripped(root.read(shared)), because)
            builder.add_needs_of(shared, Because("needed by", added))


def _shared_objects(
    root: Root, place: str, library: str, prefix: str, *, above: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (path in the root, path in the image) of the compiled modules at ``place``.

    ``above`` as in ``_walk``.
    """
    name = place.rpartition("/")[2]
    module = prefix + name.partition(".")[0]
    if _IS_DROPPED.match(module):
        return
    if name.endswith(".so"):
        yield place, f"{library}/{name}"
    elif root.is_dir(place) and (found := root.locate(place)) and found.path not in above:
        way = (*above, found.path)
        image = f"{library}/{name}"
        for entry in root.list(place):
            below = f"{place}/{entry}"
            yield from _shared_objects(root, below, image, f"{module}.", above=way)
