"""The index files of a module tree, for what an image holds: what depmod would write there.

kmod's modprobe and udev read the binary tries (``modules.*.bin``: magic B007F457, version 2.1,
format told in libkmod/libkmod-index.c), BusyBox's modprobe the text files. Of built-in
modules, all is kept: modprobe must know that they are there.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType

from initramfs.kmod import Chosen, ModuleTree
from initramfs.modalias import normalise_alias

_MAGIC = 0xB007F457
_VERSION = 0x00020001
_HAS_PREFIX, _HAS_VALUES, _HAS_CHILDREN = 0x80000000, 0x40000000, 0x20000000
_U32 = struct.Struct(">I")
_SYMBOL_LINE = re.compile(r"^alias symbol:(\S+) (\S+)$", re.MULTILINE)

Pair = tuple[str, str, int]
"""Key, value, priority (the lowest is answered first)."""


def index_files(tree: ModuleTree, chosen: Iterable[Chosen]) -> Mapping[str, bytes]:
    """Return the index files for ``chosen`` by their names below /lib/modules/VERSION."""
    inserted = tuple(chosen)
    linked = _link_order(tree, inserted)
    names = [choice.module.name for choice in linked]
    files = {
        **_dependencies(inserted, linked),
        **_aliases(linked),
        **_symbols(tree, linked, names),
        **_soft(linked),
        **_builtin(tree),
        "modules.order": _lines(choice.module.relative for choice in linked),
        "modules.devname": _device_names(linked),
    }
    return MappingProxyType({name: files[name] for name in sorted(files)})


def _link_order(tree: ModuleTree, chosen: Sequence[Chosen]) -> tuple[Chosen, ...]:
    """Sort as the kernel's build linked them, which decides among several drivers of a device."""
    order = tree.order
    last = len(order)
    return tuple(sorted(chosen, key=lambda c: (order.get(c.module.name, last), c.module.relative)))


def _dependencies(inserted: Sequence[Chosen], linked: Sequence[Chosen]) -> dict[str, bytes]:
    """Write for each module all that it needs, what is inserted first at the end."""
    place = {choice.module.name: at for at, choice in enumerate(inserted)}
    paths = {choice.module.name: choice.module.relative for choice in inserted}
    needs: dict[str, frozenset[str]] = {}
    for choice in inserted:  # dependencies come first, so theirs are known
        direct = frozenset(choice.depends)
        needs[choice.module.name] = direct.union(*(needs[name] for name in direct))
    lines: list[str] = []
    pairs: list[Pair] = []
    for priority, choice in enumerate(linked):
        name = choice.module.name
        words = [paths[n] for n in sorted(needs[name], key=place.__getitem__, reverse=True)]
        line = f"{paths[name]}:" + "".join(f" {word}" for word in words)
        lines.append(line)
        pairs.append((name, line, priority))
    return {"modules.dep": _lines(lines), "modules.dep.bin": write_trie(pairs)}


def _aliases(linked: Sequence[Chosen]) -> dict[str, bytes]:
    lines = ["# Aliases extracted from modules themselves."]
    pairs: list[Pair] = []
    for priority, choice in enumerate(linked):
        name = choice.module.name
        for alias in choice.aliases:
            lines.append(f"alias {alias} {name}")
            pairs.append((normalise_alias(alias), name, priority))
    return {"modules.alias": _lines(lines), "modules.alias.bin": write_trie(pairs)}


def _symbols(tree: ModuleTree, linked: Sequence[Chosen], names: Sequence[str]) -> dict[str, bytes]:
    """Write who exports what, for the kernel's symbol_request()."""
    exports = _exports_of_index(tree)
    lines = ["# Aliases for symbols, used by symbol_request()."]
    pairs: list[Pair] = []
    for priority, (choice, name) in enumerate(zip(linked, names, strict=True)):
        if exports is None:
            symbols: Iterable[str] = tree.exports(choice.module)
        else:
            symbols = exports.get(name, ())
        for symbol in symbols:
            lines.append(f"alias symbol:{symbol} {name}")
            pairs.append((f"symbol:{symbol}", name, priority))
    return {"modules.symbols": _lines(lines), "modules.symbols.bin": write_trie(pairs)}


def _exports_of_index(tree: ModuleTree) -> dict[str, list[str]] | None:
    text = tree.read_index("modules.symbols") if tree.has_index else None
    if text is None:
        return None
    found: dict[str, list[str]] = {}
    for symbol, name in _SYMBOL_LINE.findall(text.decode("utf-8", "surrogateescape")):
        found.setdefault(name, []).append(symbol)
    return found


def _soft(linked: Sequence[Chosen]) -> dict[str, bytes]:
    lines = ["# Soft dependencies extracted from modules themselves."]
    weak = ["# Weak dependencies extracted from modules themselves."]
    for choice in linked:
        lines += [f"softdep {choice.module.name} {value}" for value in choice.info.softdeps]
        weak += [f"weakdep {choice.module.name} {value}" for value in choice.info.weakdeps]
    files = {"modules.softdep": _lines(lines)}
    if len(weak) > 1:
        files["modules.weakdep"] = _lines(weak)
    return files


def _builtin(tree: ModuleTree) -> dict[str, bytes]:
    names: list[Pair] = [(name, "", 0) for name in tree.builtin]
    aliases: list[Pair] = [
        (normalise_alias(alias), name, 0)
        for name, info in tree.builtin_info.items()
        for alias in info.aliases
    ]
    return {
        "modules.builtin": tree.read_index("modules.builtin") or b"",
        "modules.builtin.modinfo": tree.read_index("modules.builtin.modinfo") or b"",
        "modules.builtin.bin": write_trie(names),
        "modules.builtin.alias.bin": write_trie(aliases),
    }


def _device_names(linked: Sequence[Chosen]) -> bytes:
    """Write which device nodes bring a module in when they are opened."""
    lines = ["# Device nodes to trigger on-demand module loading."]
    for choice in linked:
        name, number = "", ""
        for alias in choice.aliases:
            if alias.startswith("devname:"):
                name = alias.removeprefix("devname:")
            for kind in ("char", "block"):
                major, dash, minor = alias.removeprefix(f"{kind}-major-").partition("-")
                if alias.startswith(f"{kind}-major-") and major.isdigit() and dash:
                    number = f"{kind[0]}{major}:{minor}" if minor.isdigit() else number
        if name and number:
            lines.append(f"{choice.module.name} {name} {number}")
    return _lines(lines) if len(lines) > 1 else b""


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def write_trie(pairs: Iterable[Pair]) -> bytes:
    """Return a binary index of (key, value, priority); keys that are not ASCII have no place."""
    return _TrieWriter(pairs).content()


class _TrieWriter:
    """Writes a radix tree, children before their parent, which the header points at.

    A node is: prefix NUL; first and last child's character and an offset for each between;
    number of values, and for each priority, value, NUL. The high bits of an offset tell which
    of the three there are.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        values: dict[bytes, list[tuple[int, bytes]]] = {}
        for key, value, priority in pairs:
            if key.isascii():
                text = value.encode("utf-8", "surrogateescape")
                values.setdefault(key.encode("ascii"), []).append((priority, text))
        self._keys = sorted(values)
        self._values = {key: _pack_values(entries) for key, entries in values.items()}
        self._out = bytearray(struct.pack(">III", _MAGIC, _VERSION, 0))

    def content(self) -> bytes:
        # The root has no prefix, even where all keys begin alike (index_create of depmod).
        root = self._branch(0, len(self._keys), 0, 0)
        _U32.pack_into(self._out, 8, root)
        return bytes(self._out)

    def _node(self, low: int, high: int, depth: int) -> int:
        """Write the keys low..high, alike up to ``depth``; return the offset with its flags."""
        first, last = self._keys[low], self._keys[high - 1]
        limit = min(len(first), len(last))
        end = depth
        while end < limit and first[end] == last[end]:
            end += 1
        return self._branch(low, high, depth, end)

    def _leaf(self, key: bytes, depth: int) -> int:
        at = len(self._out)
        if depth == len(key):
            self._out += self._values[key]
            return at | _HAS_VALUES
        self._out += key[depth:] + b"\0" + self._values[key]
        return at | _HAS_PREFIX | _HAS_VALUES

    def _branch(self, low: int, high: int, depth: int, end: int) -> int:
        """Write the node whose keys low..high are alike to ``end``, its prefix from ``depth``."""
        keys = self._keys
        has_values = low < high and len(keys[low]) == end
        children = self._children(low + has_values, high, end)
        flags = 0
        record = bytearray()
        if end > depth:
            flags |= _HAS_PREFIX
            record += keys[low][depth:end] + b"\0"
        if children:
            flags |= _HAS_CHILDREN
            first, last = min(children), max(children)
            offsets = [children.get(char, 0) for char in range(first, last + 1)]
            record += struct.pack(f">2B{len(offsets)}I", first, last, *offsets)
        if has_values:
            flags |= _HAS_VALUES
            record += self._values[keys[low]]
        at = len(self._out)
        self._out += record
        return at | flags

    def _children(self, low: int, high: int, end: int) -> dict[int, int]:
        keys = self._keys
        found: dict[int, int] = {}
        while low < high:
            key = keys[low]
            char = key[end]
            if low + 1 == high or keys[low + 1][end] != char:
                found[char] = self._leaf(key, end + 1)
                low += 1
                continue
            bound = high
            if keys[high - 1][end] != char:
                bound = bisect_left(keys, key[:end] + bytes((char + 1,)), low, high)
            found[char] = self._node(low, bound, end + 1)
            low = bound
        return found


def _pack_values(entries: list[tuple[int, bytes]]) -> bytes:
    entries.sort(key=itemgetter(0))
    packed = [_U32.pack(priority) + value + b"\0" for priority, value in entries]
    return _U32.pack(len(packed)) + b"".join(packed)
