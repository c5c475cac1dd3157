"""Composes the tree of a rescue image: environment, modules, firmware, and the record of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from initramfs.closure import Because, ClosureBuilder, FileClosure, Kind
from initramfs.firmware import (
    AbsentFirmware,
    BuiltinDriver,
    FirmwareReport,
    FoundFirmware,
    find_firmware,
)
from initramfs.hostmodules import HostModules
from initramfs.hostneeds import HostNeed
from initramfs.kmod import Chosen, ModuleTree, Wanted, resolve_modules
from initramfs.kmodindex import index_files
from initramfs.ldcache import add_library_cache
from initramfs.libraries import Libraries
from initramfs.modselect import lacking_needs, select_builtin, select_generic, select_host
from initramfs.modsettings import read_soft_settings
from initramfs.rootfs import Root
from mindi.architecture import architecture_of
from mindi.rescue import RescueReport, add_rescue_environment
from mindi.scripts import WHOLE
from mindi.sources import Sources
from mindi.spec import ImageSpec, Selection
from mindi.toolbox import add_any
from mindi.tools import BootFirmware


@dataclass(frozen=True, slots=True)
class Composition:
    """A finished tree, and what is worth telling of how it came about.

    ``first`` are the files that an initrd must have at its front, ``last`` those at its end, for
    the environment to know a damaged image and to be able to say so. ``lacking`` is what of the
    machine's layout the image's kernel has no driver for.
    """

    closure: FileClosure
    rescue: RescueReport
    modules: tuple[Chosen, ...]
    firmware: FirmwareReport
    architecture: str
    first: frozenset[str]
    last: frozenset[str]
    lacking: tuple[HostNeed, ...]


def compose(
    spec: ImageSpec,
    sources: Sources,
    host: HostModules,
    *,
    firmware: BootFirmware | None = None,
) -> Composition:
    """Return the tree of the image; raise MissingDependency with the chain of all that lacks.

    ``host`` and ``firmware`` are of the one machine that the image is for; empty for any.
    """
    architecture = architecture_of(sources.root)
    builder = ClosureBuilder(sources.root, Libraries(sources.root))
    tree = ModuleTree(sources.kernel.root, sources.kernel.version)
    folder = builder.add_directory(
        f"/lib/modules/{tree.version}", Because("modules of the image's kernel")
    )
    chosen = choose_modules(spec, tree, host, folder=folder, tools=sources.root)
    for path in spec.add:
        add_any(builder, path, Because("asked for with --add"))
    rescue = add_rescue_environment(
        builder,
        is_own=sources.is_own,
        kernel_version=sources.kernel.version,
        modules=tuple(choice.module.name for choice in chosen),
        ssh_key=spec.ssh_key,
        keymap=spec.keymap,
        locale=spec.locale,
        host_name=spec.host_name,
        load=spec.add_modules,
        firmware=firmware,
        omit_tools=spec.omit_tools,
        cache=spec.cache if spec.use_cache else None,
        jobs=spec.jobs,
    )
    add_modules(builder, tree, chosen, folder=folder)
    is_generic = spec.selection is Selection.GENERIC
    builtin = select_builtin(tree, None if is_generic else host.modaliases)
    blobs = add_firmware(builder, sources, chosen, builtin, folder=folder)
    add_library_cache(builder)
    whole = builder.add_content(WHOLE, b"", Because("lies last: where it is, the image is whole"))
    closure = builder.build()
    shell = builder.root.locate(rescue.busybox.path)
    return Composition(
        closure=closure,
        rescue=rescue,
        modules=chosen,
        firmware=blobs,
        architecture=architecture,
        first=files_for(closure, shell.path) if shell else frozenset(),
        last=frozenset({whole}),
        lacking=() if is_generic else lacking_needs(tree, host.needs),
    )


def files_for(closure: FileClosure, path: str) -> frozenset[str]:
    """Return ``path`` and the files that are in the image for it, or for one of these."""
    needs: dict[str, list[str]] = {}
    for entry in closure:
        for reason in entry.because:
            if reason.by is not None and entry.kind is Kind.FILE:
                needs.setdefault(reason.by, []).append(entry.path)
    found: set[str] = set()
    pending = [path]
    while pending:
        current = pending.pop()
        if current not in found:
            found.add(current)
            pending += needs.get(current, [])
    return frozenset(found)


def choose_modules(
    spec: ImageSpec, tree: ModuleTree, host: HostModules, *, folder: str, tools: Root
) -> tuple[Chosen, ...]:
    """Return the modules of the image, in an order in which they can be loaded.

    ``folder`` is where the image has them, ``tools`` the root whose modprobe.d comes along.
    """
    if spec.selection is Selection.GENERIC:
        wanted: Sequence[Wanted] = select_generic(tree)
    else:
        wanted = select_host(
            tree,
            modaliases=host.modaliases,
            loaded=host.loaded,
            filesystems=host.filesystems,
            needs=host.needs,
        )
    asked = [
        Wanted(name, Because("asked for with --add-module"), is_named=True)
        for name in spec.add_modules
    ]
    return resolve_modules(
        tree,
        [*wanted, *asked],
        omit=spec.omit_modules,
        folder=folder,
        settings=read_soft_settings(tools),
        jobs=spec.jobs,
    )


def add_modules(
    builder: ClosureBuilder, tree: ModuleTree, chosen: Sequence[Chosen], *, folder: str
) -> None:
    """Add modules, uncompressed (the whole archive is compressed), and their indexes."""
    for choice in chosen:
        module = choice.module
        path = f"{folder}/{module.relative}"
        if module.is_compressed:
            builder.add_content(path, tree.content(module), choice.because)
        else:
            builder.add_file(tree.root.host(module.path), path, choice.because, mode=0o644)
    because = Because("index of the modules, for modprobe and udev")
    for name, content in index_files(tree, chosen).items():
        builder.add_content(f"{folder}/{name}", content, because)


def add_firmware(
    builder: ClosureBuilder,
    sources: Sources,
    chosen: Sequence[Chosen],
    builtin: Sequence[BuiltinDriver],
    *,
    folder: str,
) -> FirmwareReport:
    """Add what drivers may ask for, from the kernel's root or else from that of the tools."""
    paths = {choice.module.name: f"{folder}/{choice.module.relative}" for choice in chosen}
    found: list[FoundFirmware] = []
    absent: tuple[AbsentFirmware, ...] = ()
    lacking: set[str] | None = None
    version = sources.kernel.version
    for root in sources.firmware_roots:
        report = find_firmware(root, chosen, builtin=builtin, only=lacking, version=version)
        for blob in report.found:
            builder.add_from(root, blob.path, _firmware_reason(blob, paths.get(blob.module)))
        found.extend(report.found)
        absent = report.absent
        lacking = {blob.name for blob in absent}
    return FirmwareReport(tuple(found), absent)


def _firmware_reason(blob: FoundFirmware, path: str | None) -> Because:
    if path is None:
        return Because(f"firmware for the built-in driver {blob.module}")
    return Because("firmware for", path)
