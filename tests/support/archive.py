"""A package archive of one's own: small .deb packages behind a source of apt that is a folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.support.tools import require_tool


class Archive:
    """A Debian archive in a folder; ``etc`` stands in for a host's ``/etc/apt``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "archive"
        self.etc = folder / "etc-apt"
        self._work = folder / "work"
        for made in (self.folder, self.etc / "sources.list.d", self.etc / "trusted.gpg.d"):
            made.mkdir(parents=True)
        (self.etc / "sources.list").write_text(f"deb [trusted=yes] copy:{self.folder} ./\n")
        self._entries: dict[str, str] = {}
        self._index()

    def add(
        self,
        name: str,
        version: str = "1",
        *,
        depends: str = "",
        files: dict[str, bytes] | None = None,
    ) -> Path:
        """Add a package that holds ``files``; return its archive."""
        tree = self._work / f"{len(self._entries)}-{name}-{version.replace(':', '')}"
        shutil.rmtree(tree, ignore_errors=True)
        for path, content in (files or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        fields = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
            "Maintainer: nobody <nobody@example.org>\nDescription: a test\n"
            + (f"Depends: {depends}\n" if depends else "")
        )
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(fields)
        target = self.folder / f"{name}_{version.replace(':', '')}_amd64.deb"
        argv = [require_tool("dpkg-deb"), "--root-owner-group", "-Znone", "--build", tree, target]
        subprocess.run(argv, check=True, capture_output=True)
        data = target.read_bytes()
        self._entries[name] = (
            f"{fields}Filename: ./{target.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        self._index()
        return target

    def add_kernel(self, release: str = "6.1.0-1-amd64", version: str = "1") -> None:
        """Add a kernel package without modules, and the package that stands for the newest."""
        modules = f"lib/modules/{release}"
        self.add(
            f"linux-image-{release}",
            version,
            depends="firmware-small",
            files={
                f"boot/vmlinuz-{release}": b"kernel",
                f"{modules}/modules.order": b"",
                f"{modules}/modules.builtin": b"",
            },
        )
        self.add("firmware-small", files={"lib/firmware/small.bin": b"firmware"})
        self.add("linux-image-amd64", version, depends=f"linux-image-{release} (= {version})")

    def remove(self) -> None:
        """Take all away, as where there is no network; what apt fetched before stays with it."""
        for path in self.folder.iterdir():
            path.unlink()

    def _index(self) -> None:
        text = "\n".join(self._entries[name] for name in sorted(self._entries))
        (self.folder / "Packages").write_text(text)
