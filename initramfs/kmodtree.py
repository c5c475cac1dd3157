"""The modules of one kernel in a root tree, read as they lie there.

Where depmod ran, its text files are used (modules.dep, modules.alias, modules.order): they
know dependencies exactly, symbol by symbol. Where it did not (packages that were unpacked and
never installed), every module's own ``.modinfo`` says the same. Format of the files:
depmod.d(5), modules.dep(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from initramfs.decompress import decompressed
from initramfs.errors import InputError, MissingDependency
from initramfs.modalias import AliasTable
from initramfs.modinfo import (
    Modinfo,
    modinfo_of,
    name_of,
    normalise,
    parse_modinfo,
    read_exports,
    read_modinfo,
)
from initramfs.modwalk import find_modules
from initramfs.rootfs import Root

FOLDERS = ("/lib/modules", "/usr/lib/modules")
"""Where kernels have their modules; the second for unpacked packages of a merged /usr."""


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module: ``name`` as the kernel knows it ("dm_mod").

    ``path`` is the file in the root, canonical unless it is a link; ``relative`` is where the
    image has it below its /lib/modules/VERSION: uncompressed, so without .xz, .zst or .gz.
    """

    name: str
    path: str
    relative: str

    @property
    def is_compressed(self) -> bool:
        """Whether the file has to be decompressed on its way into the image."""
        return not self.path.endswith(".ko")


class ModuleTree:
    """All modules of one kernel; look-ups are cached, so build one per tree and build.

    ``directory`` is the canonical folder in the root, ``modules`` maps names to modules,
    ``builtin`` holds the names of what is in the kernel's image, ``has_index`` tells that
    depmod ran here.
    """

    def __init__(self, root: Root, version: str) -> None:
        """Open /lib/modules/``version``; MissingDependency where it is not, InputError unreadable.

        A kernel with nothing but built-in modules is fine.
        """
        self.root = root
        self.version = version
        self.directory = _find_directory(root, version)
        dep = self._text("modules.dep")
        self.has_index = dep is not None
        self._dep_lines: dict[str, str] = {}
        self._infos: dict[str, Modinfo] = {}
        self._contents: dict[str, bytes] = {}
        self._located: dict[str, str | None] = {}
        self._prefix = os.fspath(root.path).rstrip("/")
        paths = self._read_dep(dep) if dep is not None else None
        if paths is None:
            paths = find_modules(root, self.directory, version)
        self.modules: Mapping[str, Module] = MappingProxyType(
            {name: self._module(name, path) for name, path in paths.items()}
        )
        builtin = self._text("modules.builtin")
        self.builtin = frozenset(_names(builtin or ""))
        if not self.modules and not self.builtin:
            raise MissingDependency(
                f"{self.directory} in {root.path} holds no kernel modules",
                hint=f"install the modules of kernel {version} in that tree",
            )

    def matching(self, modalias: str) -> tuple[str, ...]:
        """Return the names of modules with an alias that matches, as libkmod would find them."""
        return self._aliases.matching(modalias)

    def lookup(self, word: str) -> tuple[str, ...]:
        """Return what modprobe would load for ``word``: the module of that name, else by alias.

        Aliases count even where something of that name is built in ("crc32"). Nothing where the
        kernel has it built in alone, or nobody has it.
        """
        name = normalise(word)
        return (name,) if name in self.modules else self.matching(word)

    def is_builtin(self, word: str) -> bool:
        """Tell whether ``word`` is a module in the kernel's image, or the alias of one."""
        return normalise(word) in self.builtin or bool(self.builtin_matching(word))

    def builtin_matching(self, modalias: str) -> tuple[str, ...]:
        """Return the names of built-in modules with an alias that matches."""
        return self._builtin_aliases.matching(modalias)

    def info(self, name: str) -> Modinfo:
        """Return what the module says of itself.

        Raises MissingDependency where its file is gone, InputError where it is damaged.
        """
        known = self._infos.get(name)
        if known is not None:
            return known
        module = self.modules[name]
        path = self.host_path(module)
        try:
            if module.is_compressed:
                info = modinfo_of(self._unpack(module), origin=path)
            else:
                info = read_modinfo(path, origin=path)
        except FileNotFoundError as error:
            raise self.gone(name, "it was there a moment ago") from error
        self._infos[name] = info
        return info

    def preload(self, names: Iterable[str], *, jobs: int) -> None:
        """Decompress those of ``names`` that are compressed, ``jobs`` at a time.

        Raises InputError for a damaged one.
        """
        modules = [self.modules[n] for n in names if n in self.modules and n not in self._infos]
        there = [m for m in modules if m.is_compressed and self.locate(m) is not None]
        if there:
            from concurrent.futures import ThreadPoolExecutor  # few trees need it

            with ThreadPoolExecutor(max(jobs, 1)) as pool:
                for _ in pool.map(lambda module: self.info(module.name), there):
                    pass

    def _unpack(self, module: Module) -> bytes:
        """Decompress a module, and keep it for ``content``: only what is chosen comes by here."""
        content = decompressed(Path(self.host_path(module)))
        if self.has_index:
            self._contents[module.name] = content
        return content

    def locate(self, module: Module) -> str | None:
        """Return the canonical path of the module's file; None where it is gone."""
        try:
            return self._located[module.name]
        except KeyError:
            found = self.root.locate(module.path)
            path = self._located[module.name] = found.path if found is not None else None
            return path

    def host_path(self, module: Module) -> str:
        """Return the build host's path of the module's file; MissingDependency if it is gone."""
        path = self.locate(module)
        if path is None:
            raise self.gone(module.name, "it is wanted in the image")
        return self._prefix + path

    def content(self, module: Module) -> bytes:
        """Return the module as the kernel takes it, decompressed; raise InputError.

        What was kept since it was read is given away: ask once.
        """
        kept = self._contents.pop(module.name, None)
        return decompressed(Path(self.host_path(module))) if kept is None else kept

    def exports(self, module: Module) -> tuple[str, ...]:
        """Return the symbols that the module exports, sorted; raise InputError."""
        path = self.host_path(module)
        return read_exports(path, origin=path)

    def listed(self, name: str) -> tuple[str, ...]:
        """Return the names in the module's line of modules.dep: all that it needs, last first."""
        return tuple(_names(self._dep_lines.get(name, "").replace(" ", "\n")))

    def read_index(self, file_name: str) -> bytes | None:
        """Return the bytes of one of the tree's modules.* files, None where it has none."""
        path = f"{self.directory}/{file_name}"
        return self.root.read(path) if self.root.is_file(path) else None

    @cached_property
    def order(self) -> Mapping[str, int]:
        """Rank of each name in modules.order, the order of linking; empty without that file."""
        text = self._text("modules.order") or ""
        return MappingProxyType({name: rank for rank, name in enumerate(_names(text))})

    @cached_property
    def order_paths(self) -> Mapping[str, str]:
        """Path of each name in modules.order: where its source tree has it."""
        text = self._text("modules.order") or ""
        return MappingProxyType({name_of(path) or path: path for path in text.splitlines()})

    @cached_property
    def builtin_info(self) -> Mapping[str, Modinfo]:
        """What built-in modules say of themselves (modules.builtin.modinfo), by name."""
        grouped: dict[bytes, list[bytes]] = {}
        for record in (self.read_index("modules.builtin.modinfo") or b"").split(b"\0"):
            name, dot, field = record.partition(b".")
            if dot:
                grouped.setdefault(name, []).append(field)
        return MappingProxyType(
            {
                normalise(name.decode("utf-8", "surrogateescape")): parse_modinfo(b"\0".join(rest))
                for name, rest in grouped.items()
            }
        )

    @cached_property
    def _aliases(self) -> AliasTable:
        text = self._text("modules.alias") if self.has_index else None
        return AliasTable(self._own_aliases() if text is None else text)

    @cached_property
    def _builtin_aliases(self) -> AliasTable:
        return AliasTable(
            "".join(
                f"alias {alias} {name}\n"
                for name, info in self.builtin_info.items()
                for alias in info.aliases
            )
        )

    def _own_aliases(self) -> str:
        ranks, last = self.order, len(self.order)
        names = sorted(self.modules, key=lambda name: (ranks.get(name, last), name))
        return "".join(
            f"alias {alias} {name}\n" for name in names for alias in self.info(name).aliases
        )

    def _module(self, name: str, path: str) -> Module:
        stem, dot, _ = path.rpartition(".ko")
        return Module(name, f"{self.directory}/{path}", stem + dot)

    def _read_dep(self, text: str) -> dict[str, str]:
        paths: dict[str, str] = {}
        for line in text.splitlines():
            path, colon, needs = line.partition(":")
            # Before kmod (module-init-tools 3.4) paths were absolute.
            path = path.removeprefix(f"/lib/modules/{self.version}/")
            name = name_of(path)
            if not colon or name is None:
                raise InputError(
                    f"{self.directory}/modules.dep in {self.root.path} is damaged: {line[:80]!r}",
                    hint=f"write it anew: depmod -b {self.root.path} {self.version}",
                )
            paths[name] = path
            self._dep_lines[name] = needs
        return paths

    def _text(self, file_name: str) -> str | None:
        content = self.read_index(file_name)
        return None if content is None else content.decode("utf-8", "surrogateescape")

    def gone(self, name: str, why: str) -> MissingDependency:
        """Return the error for a module whose file is not there, wanted because of ``why``."""
        return MissingDependency(
            f"the module {name} is named by modules.dep, "
            f"but {self.modules[name].path} is not in {self.root.path}: {why}",
            hint=f"install it again, or write the index anew: "
            f"depmod -b {self.root.path} {self.version}",
        )


def _names(paths: str) -> list[str]:
    """Return the names of the modules in a text of one path a line."""
    return [name for path in paths.splitlines() if (name := name_of(path)) is not None]


def _find_directory(root: Root, version: str) -> str:
    for folder in FOLDERS:
        found = root.locate(f"{folder}/{version}")
        if found is not None and root.is_dir(found.path):
            root.list(found.path)
            return found.path
    present = sorted({name for folder in FOLDERS for name in root.list(folder)})
    raise MissingDependency(
        f"the kernel {version} has no modules in {root.path}: {FOLDERS[0]}/{version} is missing",
        hint=f"modules are there for: {', '.join(present)}"
        if present
        else "install the modules of that kernel, or take the fail-safe one: --kernel failsafe",
    )
