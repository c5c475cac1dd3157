"""Packages of a Debian family system, fetched and unpacked without installing anything.

The package manager runs on a state of its own (apt.conf(5), ``Dir::State``): the host's
sources, keys and proxies, but an empty list of installed packages, so that an answer depends
in nothing on what the host has. Nothing of the host changes, no maintainer script runs, and
no right is needed but to write to the state's folder. What is fetched was verified by apt
against the signatures of the archive, and what was fetched before is verified again.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from initramfs.errors import ImageError, InputError, MissingDependency, OutputError, ToolError
from mindi.programs import failure, find_program, last_words, lines, program, run, started

Progress = Callable[[str], None]

# The folders that a merged /usr turns into links (Debian: usrmerge, base-files).
MERGED = ("bin", "lib", "lib64", "sbin")

# Nothing in a rescue image reads these, and they are a third of all files.
NOT_UNPACKED = (
    "./usr/share/doc/*",
    "./usr/share/doc-base/*",
    "./usr/share/info/*",
    "./usr/share/lintian/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./usr/share/perl/*",
    "./usr/share/perl5/*",
)

_PLANNED = re.compile(r"^Inst (\S+) \((\S+) .*\[(\S+)\]\)", re.MULTILINE)
# What apt would fetch (apt-get(8), --print-uris): address, name of the file, size, best digest.
_OFFERED = re.compile(r"^'[^']*' (\S+) \d+ (SHA256|SHA512):([0-9a-f]+)$", re.MULTILINE)
_COMMON = ("-q", "-y", "--no-install-recommends")


@dataclass(frozen=True, slots=True)
class Package:
    """A package of one version; ``architecture`` is its own, ``all`` where it suits any."""

    name: str
    version: str
    architecture: str

    @property
    def file_name(self) -> str:
        """Name of its archive in apt's cache, which quotes ``_`` and ``:``."""
        version = self.version.replace("_", "%5f").replace(":", "%3a")
        return f"{self.name}_{version}_{self.architecture}.deb"


class PackageManager:
    """apt on a state of its own; one instance for one folder and architecture."""

    def __init__(self, folder: Path, *, architecture: str, sources: Path | None = None) -> None:
        """Use ``folder`` for state and archives, ``sources`` in place of the host's ``/etc/apt``.

        Raises MissingDependency where there is no apt, OutputError if the folder cannot be
        written.
        """
        self._architecture = architecture
        self._lists = folder / "lists"
        self._empty = folder / "none.d"
        self.archives = folder / "archives"
        self._configuration = folder / "apt.conf"
        if find_program("apt-get") is None or find_program("dpkg-deb") is None:
            raise MissingDependency(
                "fail-safe packages are fetched with apt, and this machine has none",
                hint="build from an unpacked tree of a Debian family system with --root DIR",
            )
        try:
            for made in (self._lists / "partial", self.archives / "partial", self._empty):
                made.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            (folder / "status").write_bytes(b"")
            self._configuration.touch(mode=0o600)
            self._configuration.chmod(0o600)  # what names a proxy may hold its password
            self._configuration.write_text(self._configure(folder, sources), encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"cannot write to the cache folder {folder}: {error.strerror}",
                hint="name another one in MINDI_CACHE",
            ) from error

    @property
    def has_lists(self) -> bool:
        """Tell whether the lists of the archive were fetched before."""
        return any(self._lists.glob("*Packages*"))

    def refresh(self) -> None:
        """Fetch the lists of the archive; raise ToolError if none of them could be had.

        A source of the host that cannot be reached is not fatal as long as another answers: what
        it would have given is then missing by name.
        """
        argv = ("apt-get", "-q", "update")
        try:
            said = self._run(*argv)
        except ToolError:
            if not self.has_lists:
                raise
            return
        if not self.has_lists:  # apt calls it a success that no network is there
            raise failure(argv, 0, said)

    def available(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of ``names`` that the archive has a package for."""
        said = self._run("apt-cache", "policy", *names)
        found = re.findall(r"^(\S+):\n.*\n +Candidate: (\S+)", said, re.MULTILINE)
        return frozenset(name for name, candidate in found if candidate != "(none)")

    def closure(self, names: Iterable[str]) -> tuple[Package, ...]:
        """Return ``names`` with all that they depend on, sorted; raise ToolError if they clash."""
        said = self._run("apt-get", "--simulate", *_COMMON, "install", *names)
        return tuple(
            sorted(
                (Package(*found) for found in _PLANNED.findall(said)),
                key=lambda package: package.name,
            )
        )

    def fetch(
        self, packages: Sequence[Package], *, progress: Progress = lambda _: None
    ) -> tuple[Path, ...]:
        """Return the archives of ``packages``, fetching those that are not here yet.

        One that is here is used if its digest is that of the signed lists.
        """
        here = [p for p in packages if (self.archives / p.file_name).is_file()]
        whole = self._verified(here) if here else frozenset()
        lacking = [package for package in packages if package not in whole]
        if lacking:
            self._download(lacking, progress)
        return tuple(self.archives / package.file_name for package in packages)

    def _verified(self, packages: Sequence[Package]) -> frozenset[Package]:
        names = [f"{package.name}={package.version}" for package in packages]
        # Of an archive that is in its working directory apt says nothing.
        said = self._run("apt-get", "-q", "--print-uris", "download", *names, folder=self._empty)
        offered = {name: (kind, digest) for name, kind, digest in _OFFERED.findall(said)}
        whole = set()
        for package in packages:
            kind, digest = offered.get(package.file_name, ("SHA256", ""))
            with (self.archives / package.file_name).open("rb") as file:
                if hashlib.file_digest(file, kind.lower()).hexdigest() == digest:
                    whole.add(package)
        return frozenset(whole)

    def _download(self, packages: Sequence[Package], progress: Progress) -> None:
        with TemporaryDirectory(dir=self.archives, prefix="partial-") as beside:
            names = [f"{package.name}={package.version}" for package in packages]
            fetched = 0
            for line in lines(
                *("apt-get", "-q", "download", *names),
                environment=self._environment(),
                folder=Path(beside),
            ):
                if line.startswith("Get:"):
                    fetched += 1
                    progress(f"fetching package {fetched} of {len(packages)}")
            for package in packages:
                got = Path(beside) / package.file_name
                got.replace(self.archives / package.file_name)

    def _run(self, name: str, *arguments: str, folder: Path | None = None) -> str:
        return run(name, *arguments, environment=self._environment(), folder=folder)

    def _environment(self) -> dict[str, str]:
        return {"APT_CONFIG": os.fspath(self._configuration)}

    def _configure(self, folder: Path, sources: Path | None) -> str:
        """Return an apt.conf: of the host's own only how to reach archives, so no hook of it."""
        lines = [
            f'Dir "{folder}/";',
            f'Dir::State "{folder}";',
            f'Dir::State::lists "{self._lists}";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}";',
            f'Dir::Cache::archives "{self.archives}";',
            'Dir::Cache::srcpkgcache "";',
            f'Dir::Etc "{sources or "/etc/apt"}";',
            f'Dir::Etc::parts "{self._empty}";',
            f'APT::Architecture "{self._architecture}";',
            f'APT::Architectures {{ "{self._architecture}"; }};',
            'APT::Get::List-Cleanup "false";',
            # apt's own user cannot write below a home folder.
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
        ]
        kept = ["Acquire::"]
        if sources is None:
            kept += ["Dir::Etc::trusted", "Dir::Etc::source", "Dir::Etc::netrc"]
        dropped = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes")
        for line in run("apt-config", "dump").splitlines():
            if line.startswith(tuple(kept)) and not line.startswith(dropped):
                lines.append(line)
        return "\n".join(lines) + "\n"


def host_architecture() -> str:
    """Return Debian's name of the architecture of this machine; raise MissingDependency."""
    if find_program("dpkg") is None:
        raise MissingDependency(
            "this machine has no dpkg, so it is not known what packages would suit it",
            hint="build from an unpacked tree of a Debian family system with --root DIR",
        )
    return run("dpkg", "--print-architecture").strip()


def make_merged(tree: Path) -> None:
    """Make the links of a merged /usr in an empty tree, so that archives unpack through them."""
    for name in MERGED:
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")


def unpack(archives: Sequence[Path], tree: Path, *, progress: Progress = lambda _: None) -> None:
    """Unpack packages into ``tree``; raise InputError for one that is damaged, and remove it.

    Raises OutputError where the tree cannot be written, ToolError where dpkg-deb was killed.
    """
    jobs = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(jobs) as pool:
        for number, _ in enumerate(pool.map(lambda one: _unpack_one(one, tree), archives), 1):
            progress(f"unpacked package {number} of {len(archives)}")


def _unpack_one(archive: Path, tree: Path) -> None:
    reader_argv = [program("dpkg-deb"), "--fsys-tarfile", os.fspath(archive)]
    writer_argv = [
        program("tar"),
        "--extract",
        "--file=-",
        f"--directory={tree}",
        "--keep-directory-symlink",
        "--no-same-owner",
        "--same-permissions",
        *(f"--exclude={pattern}" for pattern in NOT_UNPACKED),
    ]
    with ExitStack() as stack:
        reader = stack.enter_context(started(reader_argv, stdout=subprocess.PIPE))
        writer = stack.enter_context(started(writer_argv, stdin=reader.stdout))
        if reader.stdout is not None:
            reader.stdout.close()  # so that dpkg-deb ends when tar does
        said = writer.communicate()[1].decode("utf-8", "replace")
        cause = reader.communicate()[1].decode("utf-8", "replace")
    # dpkg-deb is not to blame for a tar that went before it.
    lost_writer = reader.returncode == -signal.SIGPIPE or "(Broken pipe)" in cause
    if reader.returncode and not (writer.returncode and lost_writer):
        raise _unread(archive, reader.returncode, last_words(cause))
    if writer.returncode:
        raise OutputError(
            f"cannot unpack {archive.name} into {tree}: {last_words(said)}",
            hint="see that there is room in the cache folder, or name another in MINDI_CACHE",
        )


def _unread(archive: Path, code: int, cause: str) -> ImageError:
    """Tell a damaged package from a dpkg-deb, or a child of it, that was killed.

    To tar the end of what a killed one wrote may look like the end of the package.
    """
    if code < 0 or "killed by signal" in cause:
        by = cause or signal.Signals(-code).name
        return ToolError(
            f"dpkg-deb was ended while it read {archive.name}: {by}",
            hint="see that there is memory enough, and run the same command again",
        )
    archive.unlink(missing_ok=True)
    return InputError(
        f"the fetched package {archive.name} is damaged: {cause}",
        hint="it was removed; run the same command again to fetch it anew",
    )
