"""Where the parts of an image come from: a root tree for the tools, one for the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from initramfs.rootfs import Root
from mindi.kernel import Kernel, find_image, has_modules, kernel_at, kernel_of_root
from mindi.progress import Narrator
from mindi.spec import ImageSpec, KernelChoice

if TYPE_CHECKING:
    from mindi.failsafe import FailsafeRoot

# So many names tell what kind of package is missing (mostly firmware, where only main is used).
SHOWN_ABSENT = 5


@dataclass(frozen=True, slots=True)
class Sources:
    """The ``root`` whose tools go in, the ``kernel`` (which names its own root).

    ``is_own`` tells that the root is the running system, so that its Python and its devices may
    be asked; ``is_failsafe`` that everything comes from fetched packages. ``kernel_package`` is
    name and version of the fetched package that has the kernel, None for any other kernel.
    """

    root: Root
    kernel: Kernel
    is_own: bool
    is_failsafe: bool
    kernel_package: str | None = None

    @property
    def firmware_roots(self) -> tuple[Root, ...]:
        """Where firmware and microcode are looked for: with the kernel, then with the tools."""
        return tuple(dict.fromkeys((self.kernel.root, self.root)))

    @property
    def kernel_origin(self) -> str:
        """Where the kernel is from, in words."""
        if self.kernel_package is None:
            return self.origin(self.kernel.image, self.kernel.root.path)
        path = _path_in(self.kernel.image, self.kernel.root.path)
        return f"{path} of the package {self.kernel_package}"

    def origin(self, file: Path, root: Path) -> str:
        """Say where a ``file`` that was found in a ``root`` is from."""
        where = self.words(root) if file.is_relative_to(root) else "this system"
        return f"{_path_in(file, root)} of {where}"

    def words(self, root: Path) -> str:
        """Say which of the roots ``root`` is, but not where it is on this machine."""
        if root == Path("/"):
            return "this system"
        is_fetched = self.is_failsafe or self.is_own
        return "the fail-safe packages" if is_fetched else "the root tree"

    @property
    def boot_roots(self) -> tuple[Root, ...]:
        """Where boot loaders are looked for; a fail-safe image takes none of this system's."""
        if self.is_own or self.is_failsafe:
            return (self.root,)
        return (self.root, Root(Path("/")))


def find_sources(spec: ImageSpec, teller: Narrator, *, running: str) -> Sources:
    """Return the sources of a build; ``running`` is the release of the running kernel.

    Raises InputError or MissingDependency where a tree or a kernel is not what it must be.
    """
    if spec.kernel is KernelChoice.FAILSAFE:
        return _failsafe(spec, teller)
    root = Root(spec.root or Path("/"))
    is_own = spec.root is None
    if isinstance(spec.kernel, Path):
        return Sources(root, kernel_at(spec.kernel, root), is_own, False)
    if not is_own:
        return Sources(root, kernel_of_root(root), False, False)
    image = find_image(root, running)
    if image is not None and has_modules(root, running):
        return Sources(root, kernel_at(image, root), True, False)
    lacking = "no modules on disk" if image is not None else "neither image nor modules on disk"
    teller.say(
        f"the running kernel {running} has {lacking}: "
        "the image gets the distribution's fail-safe kernel instead"
    )
    kernel, package = _failsafe_kernel(spec, teller)
    return Sources(root, kernel, True, False, package)


def _failsafe(spec: ImageSpec, teller: Narrator) -> Sources:
    from mindi.failsafe import full_root

    with teller.step("fail-safe kernel and tools") as step:
        tree = full_root(spec.cache, refresh=spec.refresh, progress=step.note)
        step.note(f"Linux {tree.version}, {len(tree.packages)} packages")
    if tree.absent:
        teller.say(absence(tree.absent))
    root = Root(tree.path)
    return Sources(root, kernel_at(tree.kernel, root), False, True, kernel_package(tree))


def absence(names: Sequence[str]) -> str:
    """Return the line that tells which packages an archive did not have."""
    more = len(names) - SHOWN_ABSENT
    shown = ", ".join(names[:SHOWN_ABSENT]) + (f" and {more} more" if more > 0 else "")
    return f"not in apt's sources, so not in the image: {len(names)} packages ({shown})"


def kernel_package(tree: FailsafeRoot) -> str | None:
    """Return name and version of the package that has the kernel of a fail-safe root."""
    names = (f"linux-image-{tree.version}", f"linux-image-unsigned-{tree.version}")
    found = (f"{name} {version}" for name, version in tree.packages if name in names)
    return next(found, None)


def _path_in(file: Path, root: Path) -> str:
    return f"/{file.relative_to(root)}" if file.is_relative_to(root) else str(file)


def _failsafe_kernel(spec: ImageSpec, teller: Narrator) -> tuple[Kernel, str | None]:
    from mindi.failsafe import kernel_root

    with teller.step("fail-safe kernel") as step:
        tree = kernel_root(spec.cache, refresh=spec.refresh, progress=step.note)
        step.note(f"Linux {tree.version}")
    return kernel_at(tree.kernel, Root(tree.path)), kernel_package(tree)
