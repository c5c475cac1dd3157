"""Which entries of a set are asked for, by the patterns of the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from archive.catalog import Catalog
from archive.entry import Entry
from archive.errors import WrongUsage
from archive.patterns import Patterns


@dataclass(slots=True)
class _Glob:
    """A pattern that is no path of the set."""

    text: bytes
    patterns: Patterns
    has_matched: bool = False

    def is_match(self, path: bytes) -> bool:
        """Say whether a path itself is matched, whatever holds it."""
        patterns = self.patterns
        if patterns.paths is not None:
            found = patterns.paths.fullmatch(path) is not None
        else:
            name = path[path.rfind(b"/") + 1 :]
            found = patterns.names is not None and patterns.names.fullmatch(name) is not None
        self.has_matched = self.has_matched or found
        return found


class Chosen:
    """Says of entries whether one of some patterns wants them; a directory wants all below it.

    A text that is the path of an entry, with or without a leading slash, is that path, whatever
    characters it has. Any other is a pattern as archive/patterns.py has them. Raises WrongUsage
    for what can match nothing.
    """

    def __init__(self, texts: Iterable[bytes], catalog: Catalog) -> None:
        self._paths: set[bytes] = set()
        self._globs: list[_Glob] = []
        self._folder: bytes | None = None
        self._is_inside = False
        for text in texts:
            path = text.strip(b"/")
            if not text:
                raise WrongUsage("an empty pattern is given", hint="/ is everything")
            if catalog.find(path) is not None:
                self._paths.add(path)
            else:
                self._globs.append(_Glob(text, Patterns((text,))))

    def __call__(self, entry: Entry) -> bool:
        """Say whether an entry is wanted."""
        path = entry.path
        folder = path.rpartition(b"/")[0]
        if folder != self._folder:
            self._folder, self._is_inside = folder, self._wants(folder)
        found = (bool(path) and self._is_inside) or path in self._paths
        for glob in self._globs:
            # One that has matched is asked only where it could make a difference.
            if (not found or not glob.has_matched) and path and glob.is_match(path):
                found = True
        return found

    def _wants(self, folder: bytes) -> bool:
        """Say whether a directory, or one that holds it, is wanted."""
        if b"" in self._paths:
            return True
        end = 0
        while end >= 0 and folder:
            end = folder.find(b"/", end + 1)
            above = folder if end < 0 else folder[:end]
            if above in self._paths or any(glob.is_match(above) for glob in self._globs):
                return True
        return False

    @property
    def unmatched(self) -> tuple[bytes, ...]:
        """The patterns that matched none of the entries asked about."""
        return tuple(glob.text for glob in self._globs if not glob.has_matched)
