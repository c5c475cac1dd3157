"""Reads a set back (``-V``): every digest, then every file beside the live one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from archive import verify
from archive.errors import SetDamaged
from archive.reader import BackupSet
from archive.writer import Progressed
from mindi.backup.progress import Display, Expected
from restore import compare
from restore.words import count_words, named, shown_text, size_words

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Verified:
    """What reading a set back found."""

    path: Path
    found: verify.Verified
    compared: compare.Compared

    @property
    def damaged(self) -> bool:
        """Whether anything of the set is other than it was written."""
        return not self.found.is_sound

    @property
    def differs(self) -> bool:
        """Whether the live files are other than those of the set."""
        return not self.compared.is_same

    def lines(self) -> Iterator[tuple[str, str]]:
        """Give titles and words for people."""
        found = self.found
        state = "damaged" if self.damaged else "all digests are right"
        counted = f"{count_words(found.files, 'file')}, {size_words(found.bytes)}"
        words = f"{counted}, {count_words(found.slices, 'slice')}"
        yield "verified", f"{words}: {state}"
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.compared.counts.items())
        words = f"{count_words(self.compared.paths, 'path')} with the live ones"
        yield "compared", f"{words}: {f'they differ ({counts})' if counts else 'no difference'}"
        faults = [f"{fault.path}: {fault.words}" for fault in found.faults]
        lost = [f"/{os.fsdecode(one.path)}: {one.words}" for one in found.lost]
        differences = [
            f"/{os.fsdecode(one.path)}: {one.kind}{f' ({one.words})' if one.words else ''}"
            for one in self.compared.differences
        ]
        for title, texts in (("damaged", faults), ("lost", lost), ("differs", differences)):
            for text in texts[:_NAMED]:
                yield title, shown_text(text)
            if len(texts) > _NAMED:
                yield title, f"and {len(texts) - _NAMED:,} more"

    def to_text(self) -> str:
        """Return it for people."""
        lines = (f"  {title:10}{words}" for title, words in self.lines())
        return "\n".join((shown_text(os.fspath(self.path)), *lines))

    def to_json(self) -> dict[str, object]:
        """Return it for programs; docs/commands.md has the keys."""
        found = self.found
        return {
            **named("set", os.fsencode(self.path)),
            "sound": found.is_sound,
            "slices": found.slices,
            "files": found.files,
            "bytes": found.bytes,
            "faults": [
                {
                    **named("file", os.fsencode(fault.path)),
                    "missing": fault.is_missing,
                    "words": fault.words,
                }
                for fault in found.faults
            ],
            "lost": [{**named("path", b"/" + one.path), "words": one.words} for one in found.lost],
            "compared": self.compared.paths,
            "differences": [
                {**named("path", b"/" + one.path), "kind": one.kind.value, "words": one.words}
                for one in self.compared.differences
            ],
        }


def verify_set(
    path: Path,
    display: Display,
    *,
    scratch: Path,
    jobs: int,
    chain: bool,
    out: tuple[Path, ...],
) -> Verified:
    """Read the set at ``path`` back, with ``chain`` what it needs of its parents too; compare it.

    ``out``: what is no difference where it lies, as no backup takes it. Raises SetDamaged where
    the set cannot be read at all.
    """
    with BackupSet.open(path, scratch=scratch) as backup:
        totals = backup.manifest.totals
        total = verify.bytes_to_verify(backup, chain=chain)
        with _shown(display, "reading the set back", Expected(size_bytes=total)) as take:
            found = verify.verify(backup, chain=chain, jobs=jobs, progress=take)
        # Their catalog is all that there is of them, and it is whole.
        found = replace(found, files=found.files + _empty_files(backup))
        with _shown(display, "comparing with the live files", Expected(None, totals.bytes)) as take:
            compared = compare.compare(backup, Path("/"), jobs=jobs, progress=take, out=out)
        return Verified(backup.folder, found, compared)


def _empty_files(backup: BackupSet) -> int:
    query = "SELECT count(*) FROM entry WHERE mode & 61440 = ? AND size = 0"
    return backup.catalog.total(query, (stat.S_IFREG,))


@contextmanager
def _shown(
    display: Display, title: str, expected: Expected
) -> Iterator[Callable[[int, int], None]]:
    """Give what is to be called with more files and bytes that are done."""
    files = size_bytes = 0

    def take(more_files: int, more_bytes: int) -> None:
        nonlocal files, size_bytes
        files += more_files
        size_bytes += more_bytes
        display.update(Progressed(files, size_bytes, 0, files, size_bytes, 0, b""))

    display.begin(title, expected)
    try:
        yield take
    finally:
        display.close()


def refuse_damage(verified: Verified) -> None:
    """Raise SetDamaged if anything of a set is other than it was written."""
    if verified.damaged:
        lost = len(verified.found.lost)
        raise SetDamaged(
            f"{verified.path} reads back other than it was written: "
            f"{count_words(lost, 'file')} {'is' if lost == 1 else 'are'} lost",
            hint="check the medium; then make a full set, on a sound one",
        )
