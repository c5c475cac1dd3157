"""Which modules an image needs once some are wanted, and the order to insert them in.

Dependencies are of three kinds: hard (symbols: modules.dep, or ``depends`` of .modinfo), whose
lack is an error; soft (softdep, weakdep) and what run time asks for (initramfs/modneeds.py),
taken where the kernel has it. What is built into the kernel counts as present.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from initramfs.closure import Because
from initramfs.errors import InputError, MissingDependency, UsageError
from initramfs.kmodtree import Module, ModuleTree
from initramfs.modinfo import Modinfo, normalise
from initramfs.modneeds import RUN_TIME_NEEDS
from initramfs.modsettings import SoftSetting

__all__ = ["Chosen", "Module", "ModuleTree", "Wanted", "chain_of", "resolve_modules"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A module (or an alias of one) that an image shall have.

    ``is_named`` tells that the user asked for it by name: to omit what it needs is then an error.
    """

    name: str
    because: Because
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """A module of the image, with the reason why.

    ``needed_by`` is the module that brought it in, None for a wanted one. ``depends`` are the
    names that it needs inserted before it, directly; ``info`` is all it says of itself.
    """

    module: Module
    because: Because
    needed_by: str | None
    depends: tuple[str, ...]
    info: Modinfo

    @property
    def pre(self) -> tuple[str, ...]:
        """Soft dependencies to load before, names or aliases."""
        return self.info.pre

    @property
    def post(self) -> tuple[str, ...]:
        """Soft dependencies to load after, names or aliases."""
        return self.info.post

    @property
    def firmware(self) -> tuple[str, ...]:
        """Firmware files that the driver may ask for, below the firmware folder."""
        return self.info.firmware

    @property
    def aliases(self) -> tuple[str, ...]:
        """Patterns that the module answers to."""
        return self.info.aliases


def resolve_modules(
    tree: ModuleTree,
    wanted: Iterable[Wanted],
    *,
    omit: Collection[str] = (),
    folder: str | None = None,
    settings: Sequence[SoftSetting] = (),
    jobs: int = 1,
) -> tuple[Chosen, ...]:
    """Return the wanted modules with all they need, in an order in which they can be inserted.

    ``omit`` leaves modules out, with all that cannot work without them. ``folder`` is where the
    image has the tree (canonical path in the image; that of the root if None), for the reasons.
    ``settings`` are soft dependencies that modprobe is told of beside the modules' own.
    ``jobs`` compressed modules are read at a time.
    Raises MissingDependency with the chain of everything that lacks, InputError for damaged
    modules, UsageError where a module that the user named needs one that is omitted, or where
    the kernel has none of an omitted name.
    """
    for name in omit:
        _check_omitted(tree, name)
    omitted = frozenset(map(normalise, omit))
    resolution = _Resolution(tree, omitted, folder or tree.directory, settings)
    wants = tuple(wanted)
    tree.preload(_first_needed(tree, wants), jobs=jobs)
    resolution.gather(wants)
    return tuple(resolution.chosen(name) for name in resolution.ordered())


def _check_omitted(tree: ModuleTree, name: str) -> None:
    if normalise(name) not in tree.modules and normalise(name) not in tree.builtin:
        raise UsageError(
            f"the kernel {tree.version} has no module {name}, which is to be omitted",
            hint=_near_names(tree, name),
        )


def _near_names(tree: ModuleTree, name: str) -> str:
    import difflib  # only for errors

    known = [*tree.modules, *tree.builtin]
    close = difflib.get_close_matches(normalise(name), known, n=3, cutoff=0.6)
    return f"did you mean {', '.join(close)}?" if close else f"see {tree.directory}"


def _first_needed(tree: ModuleTree, wanted: Iterable[Wanted]) -> Iterable[str]:
    """Return what will surely be read: without an index, every module is, for its aliases."""
    if not tree.has_index:
        return tree.modules
    names = (normalise(want.name) for want in wanted)
    return dict.fromkeys(name for want in names for name in (want, *tree.listed(want)))


def chain_of(chosen: Iterable[Chosen], name: str) -> tuple[str, ...]:
    """Return ``name`` and the modules that brought it in, one by the other, a wanted one last."""
    parents = {choice.module.name: choice.needed_by for choice in chosen}
    names = [name]
    while (parent := parents[names[-1]]) is not None:
        names.append(parent)
    return tuple(names)


@dataclass(frozen=True, slots=True)
class _Reason:
    because: Because
    needed_by: str | None


class _Resolution:
    def __init__(
        self,
        tree: ModuleTree,
        omit: frozenset[str],
        folder: str,
        settings: Sequence[SoftSetting],
    ) -> None:
        self._tree = tree
        self._omit = omit
        self._folder = folder
        self._settings = settings
        self._reasons: dict[str, _Reason] = {}
        self._soft: dict[str, tuple[str, ...]] = {}
        self._hard: dict[str, tuple[str, ...]] = {}
        self._closures: dict[str, frozenset[str]] = {}
        self._open: list[str] = []
        self._missing: dict[str, None] = {}
        self._pending: deque[str] = deque()

    def gather(self, wanted: Iterable[Wanted]) -> None:
        """Collect the reasons of everything; breadth first, so that chains are short."""
        for want in wanted:
            for name in self._find(want):
                if not self._is_present(name):
                    raise self._tree.gone(name, str(want.because))
                self._take(name, _Reason(want.because, None), is_named=want.is_named)
        while self._pending:
            self._gather_needs(self._pending.popleft())
        if self._missing:
            raise MissingDependency(
                "\n".join(self._missing),
                hint="install what lacks (or run depmod anew) in the root tree, "
                "or leave out what needs it with --omit-module",
            )

    def chosen(self, name: str) -> Chosen:
        """Return the finished answer for one module."""
        reason, module = self._reasons[name], self._tree.modules[name]
        path = self._tree.locate(module) or module.path
        if path != module.path:
            module = Module(name, path, module.relative)
        depends = self._hard[name]
        return Chosen(module, reason.because, reason.needed_by, depends, self._tree.info(name))

    def ordered(self) -> Iterator[str]:
        """Yield every name after all that it needs, and after soft ones where no circle forbids."""
        done: set[str] = set()
        active: set[str] = set()

        def visit(name: str) -> Iterator[str]:
            if name in done or name in active:
                return
            active.add(name)
            for need in self._hard[name]:
                yield from visit(need)
            for soft in self._soft[name]:
                # A soft one that itself needs what is being inserted here comes later.
                if soft in self._reasons and not active & self._closure(soft):
                    yield from visit(soft)
            active.remove(name)
            done.add(name)
            yield name

        for name in self._reasons:
            yield from visit(name)

    def _find(self, want: Wanted) -> tuple[str, ...]:
        found = self._tree.lookup(want.name)
        name = normalise(want.name)
        if name in self._tree.builtin:
            info = self._tree.builtin_info.get(name, Modinfo())
            self._gather_soft(name, info, is_builtin=True)
        elif not found and not self._tree.is_builtin(want.name):
            raise self._unknown(want)
        return found

    def _take(self, name: str, reason: _Reason, *, is_named: bool = False) -> None:
        if name in self._reasons:
            return
        if self._omit:
            lost = self._omit & {name, *self._closure(name)}
            if lost and is_named:
                raise UsageError(
                    f"the module {name} is asked for, but omitted is: {', '.join(sorted(lost))}",
                    hint="take it out of --add-module or out of --omit-module",
                )
            if lost:
                return
        self._reasons[name] = reason
        self._pending.append(name)

    def _gather_needs(self, name: str) -> None:
        self._closure(name)
        because = Because("needed by the module", self._path(name))
        for need in self._depends(name):
            if self._is_present(need):
                self._take(need, _Reason(because, name))
        self._soft[name] = self._gather_soft(name, self._tree.info(name))
        self._note_missing(name)

    def _gather_soft(
        self, name: str, info: Modinfo, *, is_builtin: bool = False
    ) -> tuple[str, ...]:
        """Take what ``name`` has soft needs for; return those to insert before it."""
        parent = None if is_builtin else self._path(name)
        by = None if is_builtin else name
        suffix = f"the built-in module {name}" if is_builtin else "the module"
        settings = [setting for setting in self._settings if setting.is_for(name)]
        before = info.pre + tuple(word for setting in settings for word in setting.info.pre)
        groups = [(info.pre + info.post, "soft dependency of"), (info.weak, "weak dependency of")]
        for setting in settings:
            more = setting.info
            words = more.pre + more.post + more.weak
            groups.append((words, f"dependency, by {setting.file}, of"))
        groups += [(need.words, f"{need.why}, for") for need in RUN_TIME_NEEDS.get(name, ())]
        for words, why in groups:
            because = Because(f"{why} {suffix}", parent)
            for target in self._find_all(words):
                if self._is_present(target):
                    self._take(target, _Reason(because, by))
        return self._find_all(before)

    def _find_all(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(target for word in words for target in self._tree.lookup(word))

    def _is_present(self, name: str) -> bool:
        module = self._tree.modules.get(name)
        return module is not None and self._tree.locate(module) is not None

    def _depends(self, name: str) -> tuple[str, ...]:
        """Direct needs: those of .modinfo, and what modules.dep knows beyond them."""
        known = self._hard.get(name)
        if known is not None:
            return known
        tree = self._tree
        direct = [need for need in tree.info(name).depends if need not in tree.builtin]
        covered = set(direct)
        for need in direct:
            if self._is_present(need):
                covered |= self._closure(need)
        direct += [need for need in reversed(tree.listed(name)) if need not in covered]
        self._hard[name] = tuple(direct)
        return self._hard[name]

    def _closure(self, name: str) -> frozenset[str]:
        """All hard needs of ``name``, through others; a circle is an InputError."""
        known = self._closures.get(name)
        if known is not None:
            return known
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise InputError(f"modules in {self._tree.directory} need each other: {circle}")
        self._open.append(name)
        found: set[str] = set()
        for need in self._depends(name):
            found.add(need)
            if self._is_present(need):
                found |= self._closure(need)
        self._open.pop()
        self._closures[name] = frozenset(found)
        return self._closures[name]

    def _note_missing(self, name: str) -> None:
        for need in self._hard[name]:
            if not self._is_present(need):
                source = "modules.dep" if need in self._tree.listed(name) else "its .modinfo"
                self._missing[
                    f"{name} needs {need} ({source}), "
                    f"not found in {self._tree.directory} of {self._tree.root.path}: "
                    f"{self._chain_words(name)}"
                ] = None

    def _chain_words(self, name: str) -> str:
        words = [name]
        reason = self._reasons[name]
        while reason.needed_by is not None:
            words.append(f"needed by {reason.needed_by}")
            reason = self._reasons[reason.needed_by]
        return " <- ".join([*words, str(reason.because)])

    def _path(self, name: str) -> str:
        return f"{self._folder}/{self._tree.modules[name].relative}"

    def _unknown(self, want: Wanted) -> MissingDependency:
        return MissingDependency(
            f"the kernel {self._tree.version} has no module {want.name} ({want.because})",
            hint=_near_names(self._tree, want.name),
        )
