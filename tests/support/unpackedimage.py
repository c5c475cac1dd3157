"""What an image needs to be complete, found out with pyelftools and nothing of the resolver's."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from mindi.image import open_image


@dataclass(frozen=True, slots=True)
class Content:
    """One path of an image: st_mode, bytes of a file, target of a link."""

    mode: int
    data: bytes = b""
    target: str | None = None


def contents(image: Path) -> dict[str, Content]:
    """Return all that is in the initrd of ``image``, by path."""
    found: dict[str, Content] = {}
    groups: dict[tuple[tuple[int, int], int], list[str]] = {}
    for member in open_image(image).members():
        data = b"".join(member.chunks)
        found[member.path] = Content(member.mode, data, member.target)
        if member.links > 1 and stat.S_ISREG(member.mode):
            groups.setdefault((member.filesystem, member.inode), []).append(member.path)
    for names in groups.values():
        data = max((found[name].data for name in names), key=len)
        for name in names:
            found[name] = Content(found[name].mode, data)
    return found


def follow(image: Mapping[str, Content], path: str) -> str | None:
    """Return where ``path`` leads in ``image``; None where it leads nowhere."""
    pending = path.split("/")[::-1]
    done: list[str] = []
    for _ in range(1000):
        if not pending:
            return "/" + "/".join(done)
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        entry = image.get("/" + "/".join([*done, part]))
        if entry is None:
            return None
        if entry.target is None:
            done.append(part)
            continue
        if entry.target.startswith("/"):
            done = []
        pending += entry.target.split("/")[::-1]
    return None


def is_elf(content: Content) -> bool:
    """Tell whether an entry is an ELF file."""
    return content.data.startswith(b"\x7fELF")


def missing_needs(
    image: Mapping[str, Content],
    paths: Iterable[str],
    *,
    machine: str,
    directories: Iterable[str],
) -> Iterator[str]:
    """Yield what the programs, libraries and scripts at ``paths`` need and ``image`` lacks.

    ``machine`` is pyelftools' name of it; ``directories`` are those that its loader searches.
    """
    for path in paths:
        content = image[path]
        if content.data.startswith(b"#!") and content.mode & 0o111:
            interpreter = content.data[2:].split(maxsplit=1)[0].decode()
            if follow(image, interpreter) is None:
                yield f"{path} is a script for {interpreter}"
        elif is_elf(content):
            yield from _missing_needs(image, path, machine, tuple(directories))


def _missing_needs(
    image: Mapping[str, Content], path: str, machine: str, directories: tuple[str, ...]
) -> Iterator[str]:
    elf = ELFFile(io.BytesIO(image[path].data))
    if elf["e_machine"] != machine:
        yield f"{path} is for {elf['e_machine']}"
    if elf["e_type"] == "ET_REL":
        return
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            place = follow(image, segment.get_interp_name())
            if place is None or not is_elf(image[place]):
                yield f"{path} is loaded by {segment.get_interp_name()}"
        elif isinstance(segment, DynamicSegment):
            tags = list(segment.iter_tags())
            own = [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
            own += [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
            origin = path.rpartition("/")[0]
            first = ":".join(own).replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
            folders = [*filter(None, first.split(":")), *directories]
            for tag in tags:
                if tag.entry.d_tag == "DT_NEEDED" and not _is_in(image, tag.needed, folders):
                    yield f"{path} needs {tag.needed}"


def _is_in(image: Mapping[str, Content], name: str, folders: Iterable[str]) -> bool:
    places = (follow(image, f"{folder}/{name}") for folder in folders)
    return any(place is not None and is_elf(image[place]) for place in places)


def missing_modules(image: Mapping[str, Content]) -> Iterator[str]:
    """Yield which modules of ``image`` depend on others that are not in it, by their .modinfo."""
    modules = {path: content for path, content in image.items() if path.endswith(".ko")}
    names = {_name(path) for path in modules}
    for path, content in modules.items():
        section = ELFFile(io.BytesIO(content.data)).get_section_by_name(".modinfo")
        assert section is not None, path
        for record in section.data().split(b"\0"):
            key, _, value = record.decode("utf-8", "replace").partition("=")
            if key == "depends":
                for needed in filter(None, value.split(",")):
                    if needed.replace("-", "_") not in names:
                        yield f"{path} depends on {needed}"


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
