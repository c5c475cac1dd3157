"""Reads a set back (``-V``): every digest, then every file beside the live one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from archive import verify
from archive.errors import SetDamaged
from archive.reader import BackupSet
from archive.writer import Progressed
from mindi.archiveprogress import Display, Expected
from mindi.plainwords import printable, size_words

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Verified:
    """What reading a set back found."""

    path: Path
    found: verify.Verified
    differences: tuple[str, ...]
    """Where the live files are other than the set's, in words: a path and how."""

    @property
    def damaged(self) -> bool:
        """Whether anything of the set is other than it was written."""
        return not self.found.is_sound

    def lines(self) -> Iterator[tuple[str, str]]:
        """Give titles and words for people."""
        found = self.found
        state = "damaged" if self.damaged else "all digests are right"
        words = f"{found.files:,} files, {size_words(found.bytes)}, {found.slices:,} slices"
        yield "verified", f"{words}: {state}"
        faults = [f"{fault.path}: {fault.words}" for fault in found.faults]
        lost = [f"/{os.fsdecode(one.path)}: {one.words}" for one in found.lost]
        for title, texts in (("damaged", faults), ("lost", lost), ("differs", self.differences)):
            for text in texts[:_NAMED]:
                yield title, printable(text)
            if len(texts) > _NAMED:
                yield title, f"and {len(texts) - _NAMED:,} more"

    def to_text(self) -> str:
        """Return it for people."""
        lines = (f"  {title:10}{words}" for title, words in self.lines())
        return "\n".join((printable(os.fspath(self.path)), *lines))

    def to_json(self) -> dict[str, object]:
        """Return it for programs; docs/commands.md has the keys."""
        found = self.found
        return {
            "set": os.fspath(self.path),
            "sound": found.is_sound,
            "slices": found.slices,
            "files": found.files,
            "bytes": found.bytes,
            "faults": [
                {"file": os.fspath(fault.path), "missing": fault.is_missing, "words": fault.words}
                for fault in found.faults
            ],
            "lost": [
                {"path": "/" + os.fsdecode(one.path), "words": one.words} for one in found.lost
            ],
            "differences": list(self.differences),
        }


def verify_set(path: Path, display: Display, *, scratch: Path, jobs: int, chain: bool) -> Verified:
    """Read the set at ``path`` back, with ``chain`` what it needs of its parents too.

    Raises SetDamaged where that is not possible at all.
    """
    with BackupSet.open(path, scratch=scratch) as backup:
        total = verify.bytes_to_verify(backup, chain=chain)
        files = size_bytes = 0

        def take(more_files: int, more_bytes: int) -> None:
            nonlocal files, size_bytes
            files += more_files
            size_bytes += more_bytes
            display.update(Progressed(files, size_bytes, 0, files, size_bytes, 0, b""))

        display.begin("reading the set back", Expected(size_bytes=total))
        try:
            found = verify.verify(backup, chain=chain, jobs=jobs, progress=take)
        finally:
            display.close()
        return Verified(backup.folder, found, ())


def refuse_damage(verified: Verified) -> None:
    """Raise SetDamaged if anything of a set is other than it was written."""
    if verified.damaged:
        raise SetDamaged(
            f"{verified.path} reads back other than it was written: "
            f"{len(verified.found.lost)} files are lost",
            hint="check the medium; then make a full set, on a sound one",
        )
