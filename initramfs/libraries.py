"""What a file needs to start: shared libraries and interpreters, resolved by reading it.

The rules are those of ld.so(8) for ELF files and of execve(2) for scripts; nothing of the
tree is ever executed. Beyond what headers ask for, an answer holds what is known to be
loaded at run time (``.note.dlopen`` and initramfs/dlopened.py), and of each library the
variants for other processors (glibc-hwcaps), because the image may run on any.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from initramfs.dlopened import dlopened_by
from initramfs.elf import ElfFile, ElfKind
from initramfs.elfnotes import DlopenNote, Priority
from initramfs.ldpath import LibC, Loaded, expand
from initramfs.libsearch import Library, LibrarySearch
from initramfs.rootfs import Root
from initramfs.scripts import PATH_DIRECTORIES, Script

# musl's loader is these libraries itself and looks for none of them (ldso/dynlink.c).
_MUSL_OWN = tuple(f"lib{name}." for name in ("c", "pthread", "rt", "m", "dl", "util", "xnet"))


class Need(enum.StrEnum):
    """Why a dependency is one, in words that go before the name of who needs it."""

    LINKED = "needed by"
    INTERPRETER = "interpreter of"
    DLOPENED = "dlopened by"
    READ = "read by"
    STARTED = "started by"
    VARIANT = "for other processors, needed by"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A file that was found: ``name`` as asked for, ``by`` whom (canonical path in the root).

    ``path`` is where the loader's search finds it, links not yet followed. A ``leaf`` needs no
    look of its own: all its needs are in the same answer.
    """

    name: str
    by: str
    path: str
    leaf: bool = True
    need: Need = Need.LINKED


@dataclass(frozen=True, slots=True)
class Missing:
    """A need that nothing fulfils, and the directories that were searched, in order."""

    name: str
    by: str
    searched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """All that one file needs to start, directly and through others, in the loader's order."""

    found: tuple[Dependency, ...] = ()
    missing: tuple[Missing, ...] = ()


class Libraries:
    """Resolves needs in one root tree; look-ups are cached, so build one per tree and build."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._search = LibrarySearch(root)
        self._answers: dict[str, Dependencies] = {}

    def of(self, path: str) -> Dependencies:
        """Return what the file at the canonical ``path`` needs; nothing for a data file.

        Raises InputError if the file, or a library that it needs, cannot be read or is damaged.
        """
        known = self._answers.get(path)
        if known is None:
            content = self._search.examine(path)
            if isinstance(content, Script):
                known = self._needs_of_script(path, content)
            elif content is None or content.kind is ElfKind.OTHER or _is_syslinux(content):
                known = Dependencies()
            else:
                known = _Process(self._root, self._search, path, content).resolve()
            self._answers[path] = known
        return known

    def _needs_of_script(self, path: str, script: Script) -> Dependencies:
        found: list[Dependency] = []
        missing: list[Missing] = []
        wanted = [script.interpreter]
        if script.program is not None:
            wanted.append(script.program)
        for name in wanted:
            directories: tuple[str, ...] = PATH_DIRECTORIES
            if name.startswith("/"):
                directories = (name.rpartition("/")[0] or "/",)
            places = (f"{one.rstrip('/')}/{name.rpartition('/')[2]}" for one in directories)
            place = next((one for one in places if self._search.regular(one)), None)
            if place is None:
                missing.append(Missing(name, path, directories))
            else:
                found.append(Dependency(name, path, place, leaf=False, need=Need.INTERPRETER))
        return Dependencies(tuple(found), tuple(missing))


def _is_syslinux(elf: ElfFile) -> bool:
    """Tell a module of syslinux, which has a loader of its own, from what ld.so loads."""
    return any(name.endswith(".c32") for name in (*elf.needed, elf.soname or ""))


class _Process:
    """What the loader would do to start one file, in the order of ld.so.

    An object that is asked for again, by its soname or by a name that led to it, is not
    searched again. The first object that asks is its loader, whose DT_RPATH counts for it.
    """

    def __init__(self, root: Root, search: LibrarySearch, path: str, elf: ElfFile) -> None:
        self._root = root
        self._search = search
        self._main = Loaded(path, path, elf)
        self._objects = [self._main]
        self._names = {elf.soname} if elf.soname else set()
        self._paths = {path}
        self._canonical = {path}
        self._found: list[Dependency] = []
        self._missing: list[Missing] = []
        self._musl_loader = False

    def resolve(self) -> Dependencies:
        """Load the interpreter and all that is linked, then what all of these dlopen."""
        self._load_interpreter()
        self._load_needs(0)
        done = 0
        while done < len(self._objects):
            self._load_noted(self._objects[done])
            self._load_listed(self._objects[done])
            done += 1
        return Dependencies(tuple(self._found), tuple(self._missing))

    def _load_interpreter(self) -> None:
        name = self._main.elf.interpreter
        if name is None:
            return
        library = self._search.library(name, self._main.elf.abi) if name[:1] == "/" else None
        if library is None:
            directory = name.rpartition("/")[0]
            self._missing.append(Missing(name, self._main.canonical, (directory or "/",)))
            return
        self._musl_loader = self._search.order.libc(self._main) is LibC.MUSL
        self._add(name, library, self._main, Need.INTERPRETER)

    def _load_needs(self, first: int) -> None:
        done = first
        while done < len(self._objects):
            asker = self._objects[done]
            for name in asker.elf.needed:
                self._load(name, asker, Need.LINKED)
            done += 1

    def _load(self, name: str, asker: Loaded, need: Need) -> None:
        if name in self._names or (self._musl_loader and name.startswith(_MUSL_OWN)):
            return
        library, searched = self._look_for(name, asker)
        if library is None:
            self._missing.append(Missing(name, asker.canonical, searched))
        else:
            self._add(name, library, asker, need)

    def _look_for(self, name: str, asker: Loaded) -> tuple[Library | None, tuple[str, ...]]:
        abi = asker.elf.abi
        if "/" in name:
            # Never searched for; a relative one depends on a working directory nobody knows.
            paths = tuple(path for path in expand(name, asker) if path.startswith("/"))
            libraries = (self._search.library(path, abi) for path in paths)
            return next((one for one in libraries if one is not None), None), paths or (name,)
        directories = self._search.order.directories(asker, self._main)
        library = self._search.search(name, abi, directories)
        if library is not None:
            return library, ()
        there = tuple(one for one in directories if self._root.is_dir(one))
        return None, there or directories

    def _add(self, name: str, library: Library, asker: Loaded, need: Need) -> None:
        self._names.add(name)
        if library.path not in self._paths:
            # Another link to an object that is loaded already is opened all the same.
            self._paths.add(library.path)
            self._found.append(Dependency(name, asker.canonical, library.path, need=need))
        if library.canonical in self._canonical:
            return
        self._canonical.add(library.canonical)
        self._names.add(library.path)
        if library.elf.soname:
            self._names.add(library.elf.soname)
        self._objects.append(Loaded(library.path, library.canonical, library.elf, asker))
        for variant in library.variants:
            self._add(name, variant, asker, Need.VARIANT)

    def _load_noted(self, asker: Loaded) -> None:
        for note in asker.elf.dlopen:
            if note.priority is not Priority.SUGGESTED:
                self._load_alternative(note, asker)

    def _load_alternative(self, note: DlopenNote, asker: Loaded) -> None:
        is_optional = note.priority is not Priority.REQUIRED
        if any(self._load_optional(name, asker) for name in note.sonames) or is_optional:
            return
        # Once more, for the sake of the message: what lacks may be a need of the library.
        for name in note.sonames:
            if self._look_for(name, asker)[0] is not None:
                self._load(name, asker, Need.DLOPENED)
                self._load_needs(len(self._objects) - 1)
                return
        searched = self._look_for(note.sonames[0], asker)[1] if note.sonames else ()
        self._missing.append(Missing(" or ".join(note.sonames), asker.canonical, searched))

    def _load_optional(self, name: str, asker: Loaded) -> bool:
        """Load a library with all that it needs, or, if something lacks, nothing at all."""
        if name in self._names:
            return True
        library = self._look_for(name, asker)[0]
        return library is not None and self._load_found(name, library, asker)

    def _load_found(self, name: str, library: Library, asker: Loaded) -> bool:
        if library.canonical in self._canonical and library.path in self._paths:
            return True
        counts = len(self._objects), len(self._found), len(self._missing)
        names, paths, canonical = set(self._names), set(self._paths), set(self._canonical)
        self._add(name, library, asker, Need.DLOPENED)
        self._load_needs(counts[0])
        if len(self._missing) == counts[2]:
            return True
        del self._objects[counts[0] :]
        del self._found[counts[1] :]
        del self._missing[counts[2] :]
        self._names, self._paths, self._canonical = names, paths, canonical
        return False

    def _load_listed(self, asker: Loaded) -> None:
        patterns = dlopened_by(asker.elf.soname) if asker.elf.soname else ()
        for pattern in patterns or dlopened_by(asker.canonical):
            if "/" not in pattern and "*" not in pattern:
                self._load_optional(pattern, asker)
                continue
            directories = self._search.order.defaults(self._main)
            for path in self._search.below(pattern, directories):
                self._add_file(path, asker)

    def _add_file(self, path: str, asker: Loaded) -> None:
        located = self._search.regular(path)
        if located is None or located.path in self._canonical:
            return
        name = path.rpartition("/")[2]
        content = self._search.examine(located.path)
        if isinstance(content, ElfFile) and content.kind is ElfKind.SHARED:
            if content.abi == asker.elf.abi:
                self._load_found(name, Library(path, located.path, content), asker)
            return
        self._canonical.add(located.path)
        is_data = content is None
        need = Need.READ if is_data else Need.STARTED
        self._found.append(Dependency(name, asker.canonical, path, leaf=is_data, need=need))
