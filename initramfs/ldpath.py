"""Where the dynamic loader of a root tree looks for a library.

The order is that of ld.so(8): DT_RPATH of the object that asks and of those that loaded it
(unless the asking one has DT_RUNPATH), its DT_RUNPATH, the directories of /etc/ld.so.conf,
the default directories. musl has an order of its own (ldso/dynlink.c): DT_RUNPATH or else
DT_RPATH of the object and of those that loaded it, then /etc/ld-musl-ARCH.path or a default.

/etc/ld.so.cache is not read: it may lack, be stale, or belong to other files, and says no
more than ld.so.conf and the directories do. LD_LIBRARY_PATH belongs to a process, not to a
tree. Elements relative to the working directory, the empty one among them, are left out.
"""

from __future__ import annotations

import enum
import os
import re
from dataclasses import dataclass
from functools import cache

from initramfs.elf import Abi, ByteOrder, ElfFile
from initramfs.rootfs import Root

LD_SO_CONF = "/etc/ld.so.conf"
MUSL_DIRECTORIES = ("/lib", "/usr/local/lib", "/usr/lib")

# Folders for some processors only, below any directory of the search: those of glibc before
# 2.37 may be nested; those below glibc-hwcaps may not.
_HWCAPS = "glibc-hwcaps"
_OLD_HWCAPS = (
    *("tls", "i686", "sse2", "haswell", "xeon_phi", "avx512_1", "x86_64", "neon", "vfp", "v7l"),
    *("power6", "power7", "power8", "power9", "ppc64le", "z10", "z13", "z14", "z15", "ultra3"),
)

_TOKEN = re.compile(
    r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))", re.ASCII
)

_EF_ARM_SOFT, _EF_ARM_HARD = 0x200, 0x400
_MUSL_LOADER = re.compile(r"ld-musl-(.+)\.so\.1")


class Machine(enum.IntEnum):
    """The machines whose directories have names of their own (e_machine of the gABI)."""

    SPARC = 2
    I386 = 3
    M68K = 4
    MIPS = 8
    PARISC = 15
    SPARC32PLUS = 18
    PPC = 20
    PPC64 = 21
    S390 = 22
    ARM = 40
    SH = 42
    SPARCV9 = 43
    IA64 = 50
    X86_64 = 62
    AARCH64 = 183
    ARC = 195
    RISCV = 243
    CSKY = 252
    LOONGARCH = 258
    ALPHA = 0x9026


class LibC(enum.Enum):
    """Whose search order a process follows."""

    GLIBC = "glibc"
    MUSL = "musl"


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An object in a process: ``path`` as the search found it, ``canonical`` where that leads.

    ``loader`` is the object that first asked for it; the executable has none.
    """

    path: str
    canonical: str
    elf: ElfFile
    loader: Loaded | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Directory names of one machine: multiarch triplets, names for $LIB, and for $PLATFORM."""

    triplets: tuple[str, ...] = ()
    libs: tuple[str, ...] = ("lib",)
    platforms: tuple[str, ...] = ()


_LITTLE, _BIG = ByteOrder.LITTLE, ByteOrder.BIG
_LIB64 = ("lib64", "lib")
_X86 = ("haswell", "xeon_phi", "x86_64")

# Debian's triplets: https://wiki.debian.org/Multiarch/Tuples; the other names are glibc's slibdir.
_PLACES: dict[tuple[int, int, ByteOrder], Places] = {
    (Machine.X86_64, 64, _LITTLE): Places(("x86_64-linux-gnu",), _LIB64, _X86),
    (Machine.X86_64, 32, _LITTLE): Places(("x86_64-linux-gnux32",), ("libx32", "lib"), _X86),
    (Machine.I386, 32, _LITTLE): Places(
        ("i386-linux-gnu",), ("lib32", "lib"), ("i686", "i586", "i486", "i386")
    ),
    (Machine.AARCH64, 64, _LITTLE): Places(("aarch64-linux-gnu",), _LIB64, ("aarch64",)),
    (Machine.AARCH64, 64, _BIG): Places(("aarch64_be-linux-gnu",), _LIB64, ("aarch64_be",)),
    (Machine.AARCH64, 32, _LITTLE): Places(("aarch64-linux-gnu_ilp32",), ("libilp32", "lib")),
    (Machine.RISCV, 64, _LITTLE): Places(
        ("riscv64-linux-gnu",), ("lib64/lp64d", "lib64/lp64", *_LIB64)
    ),
    (Machine.RISCV, 32, _LITTLE): Places(("riscv32-linux-gnu",), ("lib32/ilp32d", "lib32", "lib")),
    (Machine.PPC64, 64, _LITTLE): Places(
        ("powerpc64le-linux-gnu",), _LIB64, ("power10", "power9", "power8")
    ),
    (Machine.PPC64, 64, _BIG): Places(("powerpc64-linux-gnu",), _LIB64, ("power8", "power7")),
    (Machine.PPC, 32, _BIG): Places(("powerpc-linux-gnu",)),
    (Machine.S390, 64, _BIG): Places(("s390x-linux-gnu",), _LIB64, ("z16", "z15", "z14", "z13")),
    (Machine.S390, 32, _BIG): Places(("s390-linux-gnu",)),
    (Machine.LOONGARCH, 64, _LITTLE): Places(
        ("loongarch64-linux-gnu",), ("lib64/lp64d", *_LIB64), ("loongarch",)
    ),
    (Machine.MIPS, 64, _LITTLE): Places(
        ("mips64el-linux-gnuabi64", "mipsisa64r6el-linux-gnuabi64"), _LIB64
    ),
    (Machine.MIPS, 64, _BIG): Places(("mips64-linux-gnuabi64",), _LIB64),
    (Machine.MIPS, 32, _LITTLE): Places(
        ("mipsel-linux-gnu", "mipsisa32r6el-linux-gnu", "mips64el-linux-gnuabin32"),
        ("lib32", "lib"),
    ),
    (Machine.MIPS, 32, _BIG): Places(
        ("mips-linux-gnu", "mips64-linux-gnuabin32"), ("lib32", "lib")
    ),
    (Machine.SPARCV9, 64, _BIG): Places(("sparc64-linux-gnu",), _LIB64),
    (Machine.SPARC32PLUS, 32, _BIG): Places(("sparc-linux-gnu",)),
    (Machine.SPARC, 32, _BIG): Places(("sparc-linux-gnu",)),
    (Machine.PARISC, 32, _BIG): Places(("hppa-linux-gnu",)),
    (Machine.M68K, 32, _BIG): Places(("m68k-linux-gnu",)),
    (Machine.SH, 32, _LITTLE): Places(("sh4-linux-gnu",)),
    (Machine.ALPHA, 64, _LITTLE): Places(("alpha-linux-gnu",)),
    (Machine.IA64, 64, _LITTLE): Places(("ia64-linux-gnu",)),
    (Machine.ARC, 32, _LITTLE): Places(("arc-linux-gnu",)),
    (Machine.CSKY, 32, _LITTLE): Places(("csky-linux-gnuabiv2",)),
}


def places(abi: Abi, flags: int = 0) -> Places:
    """Return the directory names of a machine; ``flags`` (e_flags) tell ARM's two ABIs apart."""
    if abi.machine == Machine.ARM:
        prefix = "arm" if abi.byte_order is _LITTLE else "armeb"
        hard, soft = f"{prefix}-linux-gnueabihf", f"{prefix}-linux-gnueabi"
        triplets: tuple[str, ...] = (hard, soft)
        if flags & _EF_ARM_SOFT:
            triplets = (soft,)
        elif flags & _EF_ARM_HARD:
            triplets = (hard,)
        return Places(triplets, platforms=("v8l", "v7l", "v6l", "v5l"))
    known = _PLACES.get((abi.machine, abi.bits, abi.byte_order))
    return known or Places(libs=_LIB64 if abi.bits == 64 else ("lib",))


@cache
def default_directories(abi: Abi, flags: int = 0) -> tuple[str, ...]:
    """Return the directories that glibc's loaders for ``abi`` search without being told.

    Distributions build one of several sets into their loader; this is all of them in an
    order that suits each, since the sets of the others do not exist, or hold nothing of
    the same ``abi``, in a tree of one of them.
    """
    names = places(abi, flags)
    subs = [f"lib/{triplet}" for triplet in names.triplets] + list(names.libs)
    return tuple(f"{top}/{sub}" for sub in subs for top in ("", "/usr"))


def expand(text: str, asker: Loaded) -> tuple[str, ...]:
    """Replace $ORIGIN, $LIB and $PLATFORM in ``text``, part of the object ``asker``.

    What $LIB and $PLATFORM are is known to the running loader alone, so each may give
    several results, best first.
    """
    if "$" not in text:
        return (text,)
    names = places(asker.elf.abi, asker.elf.flags)
    values = {
        "ORIGIN": (asker.path.rpartition("/")[0] or "/",),
        "LIB": (*(f"lib/{triplet}" for triplet in names.triplets), *names.libs),
        "PLATFORM": names.platforms,
    }
    found = [text]
    for token in dict.fromkeys(one[0] or one[1] for one in _TOKEN.findall(text)):
        found = [_put_in(one, token, value) for one in found for value in values[token]]
    return tuple(found)


def _put_in(text: str, token: str, value: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        return value if token in (match[1], match[2]) else match[0]

    return _TOKEN.sub(replaced, text)


def read_ld_so_conf(root: Root, path: str = LD_SO_CONF) -> tuple[str, ...]:
    """Return the directories that ld.so.conf names, in order, with its includes (ldconfig(8)).

    Nothing where the file is not. Raises InputError if a file cannot be read.
    """
    found: dict[str, None] = {}
    _read_conf(root, path, found, frozenset())
    return tuple(found)


def _read_conf(root: Root, path: str, found: dict[str, None], inside: frozenset[str]) -> None:
    # A file that includes itself is read once, where ldconfig would never end.
    if path in inside or not root.is_file(path):
        return
    for line in os.fsdecode(root.read(path)).splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] == "hwcap":
            continue
        if words[0] != "include":
            # "DIRECTORY=TYPE" is what libc5's ldconfig read.
            directory = line.partition("#")[0].strip().partition("=")[0].strip()
            if directory.startswith("/"):
                found[directory.rstrip("/") or "/"] = None
            continue
        folder = path.rpartition("/")[0]
        for pattern in words[1:]:
            absolute = pattern if pattern.startswith("/") else f"{folder}/{pattern}"
            for included in root.glob(absolute):
                _read_conf(root, included, found, inside | {path})


class SearchOrder:
    """The search order in one root tree; what it read is cached, so build one per tree."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._conf: tuple[str, ...] | None = None
        self._defaults: dict[tuple[Abi, int, bool, str | None], tuple[str, ...]] = {}
        self._variants: dict[str, tuple[str, ...]] = {}
        self._has_musl_only: bool | None = None

    def libc(self, main: Loaded) -> LibC:
        """Tell whose search order the process of ``main`` follows.

        Its interpreter says so; a library that is looked at alone says it by the C library
        that it needs, or else it is what the tree has.
        """
        interpreter = main.elf.interpreter
        if interpreter is not None:
            is_musl = "/ld-musl-" in interpreter
        elif any(name == "libc.so" or name.startswith("libc.musl-") for name in main.elf.needed):
            is_musl = True
        elif any(name.startswith("libc.so.") for name in main.elf.needed):
            is_musl = False
        else:
            is_musl = self._is_musl_tree()
        return LibC.MUSL if is_musl else LibC.GLIBC

    def directories(self, asker: Loaded, main: Loaded) -> tuple[str, ...]:
        """Return where a library that ``asker`` needs is looked for in the process of ``main``."""
        if self.libc(main) is LibC.MUSL:
            return (*_musl_run_path(asker), *self._musl_defaults(main))
        elf = asker.elf
        first: list[str] = []
        if not elf.runpath:
            by: Loaded | None = asker
            while by is not None:
                first += _rpath(by)
                if by is main:
                    break
                by = by.loader
            else:
                first += _rpath(main)
        for element in elf.runpath:
            first += _usable(element, asker)
        defaults = self._glibc_defaults(elf)
        return (*dict.fromkeys(first), *defaults) if first else defaults

    def defaults(self, main: Loaded) -> tuple[str, ...]:
        """Return the directories that are searched for whoever asks in the process of ``main``."""
        if self.libc(main) is LibC.MUSL:
            return self._musl_defaults(main)
        return self._glibc_defaults(main.elf)

    def variants(self, directory: str) -> tuple[str, ...]:
        """Return the folders below ``directory`` whose libraries are for some processors only.

        An image may run on another processor than its build host's, so a search never ends in
        one of these; what is in them under the same name comes along with the library.
        """
        known = self._variants.get(directory)
        if known is None:
            folder = f"{directory}/{_HWCAPS}"
            new = [f"{folder}/{name}" for name in self._root.list(folder)]
            known = tuple(new) + self._old_variants(directory, _OLD_HWCAPS)
            self._variants[directory] = known
        return known

    def _old_variants(self, directory: str, names: tuple[str, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            folder = f"{directory}/{name}"
            if self._root.is_dir(folder):
                rest = tuple(other for other in names if other != name)
                found += (folder, *self._old_variants(folder, rest))
        return tuple(found)

    def _glibc_defaults(self, elf: ElfFile) -> tuple[str, ...]:
        key = (elf.abi, elf.flags, elf.nodeflib, None)
        known = self._defaults.get(key)
        if known is None:
            if self._conf is None:
                self._conf = read_ld_so_conf(self._root)
            system = default_directories(elf.abi, elf.flags)
            if elf.nodeflib:
                known = tuple(one for one in self._conf if one not in system)
            else:
                known = tuple(dict.fromkeys((*self._conf, *system)))
            self._defaults[key] = known
        return known

    def _musl_defaults(self, main: Loaded) -> tuple[str, ...]:
        loader = main.elf.interpreter or next(iter(self._musl_loaders()), "")
        key = (main.elf.abi, 0, False, loader)
        known = self._defaults.get(key)
        if known is None:
            known = MUSL_DIRECTORIES
            named = _MUSL_LOADER.fullmatch(loader.rpartition("/")[2])
            path = f"/etc/ld-musl-{named[1]}.path" if named else None
            if path is not None and self._root.is_file(path):
                lines = re.split(r"[:\n]", os.fsdecode(self._root.read(path)))
                known = tuple(line for line in lines if line.startswith("/"))
            self._defaults[key] = known
        return known

    def _musl_loaders(self) -> tuple[str, ...]:
        return self._root.glob("/lib/ld-musl-*.so.1")

    def _is_musl_tree(self) -> bool:
        if self._has_musl_only is None:
            glibc = self._root.glob("/lib*/ld-linux*.so.*") + self._root.glob("/lib*/ld64.so.*")
            self._has_musl_only = bool(self._musl_loaders()) and not glibc
        return self._has_musl_only


def _rpath(by: Loaded) -> list[str]:
    if by.elf.runpath:
        return []
    return [one for element in by.elf.rpath for one in _usable(element, by)]


def _musl_run_path(asker: Loaded) -> tuple[str, ...]:
    found: list[str] = []
    by: Loaded | None = asker
    while by is not None:
        for element in by.elf.runpath or by.elf.rpath:
            found += _usable(element, by)
        by = by.loader
    return tuple(dict.fromkeys(found))


def _usable(element: str, by: Loaded) -> list[str]:
    return [one.rstrip("/") or "/" for one in expand(element, by) if one.startswith("/")]
