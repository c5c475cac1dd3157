"""Why something is in an image: answers from the image's record (``mindi why``).

Paths of the medium, outside of the initrd, have ``iso:`` before them in answers, and may have it
in questions.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from initramfs.closure import Because, chain
from initramfs.errors import ImageError
from initramfs.rootfs import MAX_LINKS
from mindi.image import ON_MEDIUM, Image, open_image
from mindi.isolayout import FILE_MODE, ID_FOLDER
from mindi.record import MediumFile, RecordedEntry
from restore.words import shown_text, size_words

_CLOSE_MATCHES = 5
_UNTOLD = Because("on the medium; the image's record does not say why")


class NotInImage(ImageError):
    """What was asked about is not in the image."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """Why one path is in an image: all its reasons, and the first followed back to a seed.

    ``source`` says where a file of the medium was taken from; None for what was made, and for all
    that is in the initrd.
    """

    path: str
    mode: int
    size_bytes: int
    target: str | None
    because: tuple[Because, ...]
    chain: tuple[Because, ...]
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """The answers to one question."""

    asked: str
    answers: tuple[Answer, ...]

    def to_text(self) -> str:
        """Return the answers for a terminal."""
        lines: list[str] = []
        for answer in self.answers:
            arrow = f" -> {shown_text(answer.target)}" if answer.target is not None else ""
            size = f"  {size_words(answer.size_bytes)}" if stat.S_ISREG(answer.mode) else ""
            lines.append(f"{shown_text(answer.path)}{arrow}{size}")
            if answer.source is not None:
                lines.append(f"    from {shown_text(answer.source)}")
            lines += [f"    {shown_text(str(reason))}" for reason in answer.chain]
            others = answer.because[1:]
            if others:
                lines.append("  also:")
                lines += [f"    {shown_text(str(reason))}" for reason in others]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, object]:
        """Return asked, and answers: path, mode, size_bytes, target, source, because, chain.

        ``because`` is all reasons, ``chain`` the first reasons back to a seed; each reason is
        an object of ``what`` and ``by``, the path that asked, null in a seed.
        """
        return {
            "asked": self.asked,
            "answers": [
                {
                    "path": answer.path,
                    "mode": f"{answer.mode:06o}",
                    "size_bytes": answer.size_bytes,
                    "target": answer.target,
                    "source": answer.source,
                    "because": [_reason_json(reason) for reason in answer.because],
                    "chain": [_reason_json(reason) for reason in answer.chain],
                }
                for answer in self.answers
            ],
        }


def why(path: Path, asked: str) -> Why:
    """Say why ``asked`` is in the image at ``path``.

    ``asked`` is a path of the initrd (links in it are followed) or of the medium, the end of one,
    or just a name: of a program, a library, a kernel module. Raises NotInImage, with what is
    close.
    """
    image = open_image(path)
    entries = image.record.entries
    inside = () if asked.startswith(ON_MEDIUM) else _find(entries, asked)
    outside = _find_on_medium(image.files, asked)
    if not inside and not outside:
        paths = (*entries, *image.files)
        names = {name for entry in paths for name in (entry, entry.rpartition("/")[2])}
        close = difflib.get_close_matches(
            asked.removeprefix(ON_MEDIUM), sorted(names), n=_CLOSE_MATCHES
        )
        raise NotInImage(
            f"{asked} is not in {path}",
            hint="close to it are: " + ", ".join(close) if close else None,
        )
    answers = [_answer(entries, name) for name in inside]
    answers += [_answer_on_medium(image, name) for name in outside]
    return Why(asked, tuple(answers))


def _find_on_medium(files: Iterable[str], asked: str) -> tuple[str, ...]:
    """Return the files that ``asked`` means: itself, all in that folder, or all of its name."""
    place = asked.removeprefix(ON_MEDIUM)
    if not place.startswith("/"):
        return tuple(sorted(file for file in files if file.endswith(f"/{place}")))
    folder = place.rstrip("/") + "/"
    if folder == "/" and place == asked:
        return ()  # the root of the initrd is meant
    return tuple(sorted(file for file in files if file == place or file.startswith(folder)))


def _answer_on_medium(image: Image, path: str) -> Answer:
    known = image.record.medium
    # The name is made of the image as it is, its record among it.
    key = ID_FOLDER if path.startswith(ID_FOLDER) else path
    file = known.get(key, MediumFile(None, (_UNTOLD,)))

    def reasons(by: str) -> tuple[Because, ...]:
        return known[by].because if by in known else ()

    return Answer(
        path=f"{ON_MEDIUM}{path}",
        mode=FILE_MODE,
        size_bytes=image.files[path].size_bytes,
        target=None,
        because=tuple(map(_on_medium, file.because)),
        chain=tuple(map(_on_medium, chain(key, reasons) or file.because)),
        source=file.source,
    )


def _on_medium(reason: Because) -> Because:
    return reason if reason.by is None else Because(reason.what, f"{ON_MEDIUM}{reason.by}")


def _answer(entries: Mapping[str, RecordedEntry], path: str) -> Answer:
    entry = entries[path]

    def reasons(by: str) -> tuple[Because, ...]:
        return entries[by].because if by in entries else ()

    return Answer(
        path=path,
        mode=entry.mode,
        size_bytes=entry.size_bytes,
        target=entry.target,
        because=entry.because,
        chain=chain(path, reasons),
    )


def _find(entries: Mapping[str, RecordedEntry], asked: str) -> tuple[str, ...]:
    """Return the paths that ``asked`` means: itself and what it leads to, or all of its name."""
    if asked.startswith("/"):
        found = _follow(entries, asked)
        if found:
            return found
    end = "/" + asked.strip("/")
    # The kernel takes - and _ in the name of a module for the same.
    module = re.compile(".*" + re.sub("[-_]", "[-_]", re.escape(end)) + r"\.ko")
    named = [path for path in entries if path.endswith(end) or module.fullmatch(path)]
    return tuple(sorted(named, key=lambda path: (stat.S_ISDIR(entries[path].mode), path)))


def _follow(entries: Mapping[str, RecordedEntry], asked: str) -> tuple[str, ...]:
    """Return the path that ``asked`` is, and those it leads to if it is a link."""
    found: list[str] = []
    pending = [part for part in reversed(asked.split("/")) if part not in ("", ".")]
    current, crossed = "", 0
    while pending:
        part = pending.pop()
        here = current.rpartition("/")[0] if part == ".." else f"{current}/{part}"
        entry = entries.get(here)
        if entry is None and here:
            return ()
        if not pending:
            found.append(here)
        current = here
        if entry is not None and entry.target is not None:
            crossed += 1
            if crossed > MAX_LINKS:
                return tuple(found)
            current = "" if entry.target.startswith("/") else here.rpartition("/")[0]
            pending += [p for p in reversed(entry.target.split("/")) if p not in ("", ".")]
    return tuple(dict.fromkeys(found))


def _reason_json(reason: Because) -> dict[str, str | None]:
    return {"what": reason.what, "by": reason.by}
