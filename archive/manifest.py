"""The manifest of a set: what it is, and how to know its catalog. archive/FORMAT.md is normative.

It is read from media that anyone may have written: a manifest that is too large, too deep, of
wrong types or of numbers out of range is SetDamaged, never a crash.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from archive.codec import Codec
from archive.errors import LayoutInvalid, SetDamaged

if TYPE_CHECKING:
    from archive.machine.profile import MachineProfile

VERSION = 1
MAX_BYTES = 16 << 20
"""A manifest larger than this is none."""
MAX_NUMBER = (1 << 63) - 1
MAX_LEVEL = 9

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ACCOUNT = "sha256"

T = TypeVar("T")


class Kind(enum.StrEnum):
    """What a set holds the bytes of."""

    FULL = "full"
    DIFFERENTIAL = "differential"


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """The catalog as it lies on the medium: ``size`` bytes, ``raw_size`` once unpacked."""

    size: int
    sha256: str
    raw_size: int


@dataclass(frozen=True, slots=True)
class Slices:
    """The set's own slices together: their number, bytes as stored, bytes before compression."""

    count: int
    size: int
    raw_size: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What the catalog lists. ``bytes`` counts every file's length once (hard links once);
    ``stored_bytes`` is what this set had to store of that, before compression."""

    files: int
    directories: int
    others: int
    bytes: int
    stored_files: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Selected:
    """What was asked for: paths and patterns in and out, as given (surrogateescape)."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    one_filesystem: bool
    no_network: bool
    exclude_caches: bool
    always_out: tuple[str, ...] = ()
    """Absolute paths without links: the folders of sets, our log and scratch, swap files."""
    listed: bool = False
    """Whether a list named more paths, which are not in ``include``."""


@dataclass(frozen=True, slots=True)
class Covered:
    """A mounted filesystem, whether it was taken, and why or why not, in words."""

    mount_point: str
    filesystem: str
    source: str
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class IssueCount:
    """How many paths have an issue of this kind; the catalog's table ``issue`` names them."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a set is."""

    set_id: str
    """A random UUID, lower case."""
    parent_id: str | None
    """Of a differential the set it was made against."""
    name: str
    """The folder that it was made in; it may have been renamed since."""
    kind: Kind
    created: str
    """When the run began: ISO 8601, UTC, to the second, with Z."""
    host: str
    tool_version: str
    codec: Codec
    level: int
    per_file: bool
    selection: Selected
    slices: Slices
    totals: Totals
    coverage: tuple[Covered, ...]
    issues: tuple[IssueCount, ...]
    catalog: CatalogFile
    profile: MachineProfile | None = None
    """The machine, where the set is to bring all of it back."""
    version: int = VERSION

    def to_json(self) -> bytes:
        """Return the manifest file's bytes, with the digest of itself."""
        held = dataclasses.asdict(dataclasses.replace(self, profile=None))
        held["profile"] = None if self.profile is None else self.profile.to_object()
        held["codec"] = self.codec.name.lower()
        held[_ACCOUNT] = _digest(held)
        return json.dumps(held, sort_keys=True, indent=1).encode("ascii") + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, where: str = "manifest.json") -> Manifest:
        """Read a manifest file's bytes; ``where`` names it in errors. Raises SetDamaged."""
        reader = _Reader(where)
        held = reader.parse(data)
        version = held.get("version")
        if type(version) is int and version > VERSION:
            raise SetDamaged(
                f"{where} is of version {version}, this program knows versions up to {VERSION}",
                hint="use the newer program that wrote the set",
            )
        if type(version) is not int or version != VERSION:
            reader.fail("version", "is none that is known")
        reader.check_digest(held.pop(_ACCOUNT, None), held)
        return _manifest(_Fields(reader, "", held, {f.name for f in dataclasses.fields(cls)}))


def _digest(held: dict[str, object]) -> str:
    canonical = json.dumps(held, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _manifest(fields: _Fields) -> Manifest:
    kind = fields.choice("kind", Kind)
    parent_id = None if fields.held["parent_id"] is None else _uuid(fields, "parent_id")
    if (parent_id is None) != (kind is Kind.FULL):
        fields.fail("parent_id", "does not fit the set's kind")
    level = fields.number("level")
    if level > MAX_LEVEL:
        fields.fail("level", "is out of range")
    return Manifest(
        set_id=_uuid(fields, "set_id"),
        parent_id=parent_id,
        name=fields.text("name"),
        kind=kind,
        created=fields.match("created", _STAMP),
        host=fields.text("host"),
        tool_version=fields.text("tool_version"),
        codec=_codec(fields),
        level=level,
        per_file=fields.truth("per_file"),
        selection=_selected(fields.within("selection", Selected)),
        slices=_numbers(fields.within("slices", Slices), Slices),
        totals=_numbers(fields.within("totals", Totals), Totals),
        coverage=tuple(_covered(one) for one in fields.each("coverage", Covered)),
        issues=tuple(
            IssueCount(one.text("kind"), one.number("count"))
            for one in fields.each("issues", IssueCount)
        ),
        catalog=_catalog(fields.within("catalog", CatalogFile)),
        profile=_profile(fields),
    )


def _uuid(fields: _Fields, name: str) -> str:
    text = fields.text(name)
    try:
        plain = str(uuid.UUID(text))
    except ValueError:
        plain = ""
    if text != plain:
        fields.fail(name, "is no UUID")
    return text


def _codec(fields: _Fields) -> Codec:
    name = fields.text("codec")
    found = next((codec for codec in Codec if codec.name.lower() == name), None)
    if found is None:
        fields.fail("codec", "is none that is known")
    return found


def _selected(fields: _Fields) -> Selected:
    return Selected(
        include=fields.texts("include"),
        exclude=fields.texts("exclude"),
        one_filesystem=fields.truth("one_filesystem"),
        no_network=fields.truth("no_network"),
        exclude_caches=fields.truth("exclude_caches"),
        always_out=fields.texts("always_out"),
        listed=fields.truth("listed"),
    )


def _covered(fields: _Fields) -> Covered:
    return Covered(
        mount_point=fields.text("mount_point"),
        filesystem=fields.text("filesystem"),
        source=fields.text("source"),
        taken=fields.truth("taken"),
        why=fields.text("why"),
    )


def _catalog(fields: _Fields) -> CatalogFile:
    return CatalogFile(
        size=fields.number("size"),
        sha256=fields.match("sha256", _SHA256),
        raw_size=fields.number("raw_size"),
    )


def _profile(fields: _Fields) -> MachineProfile | None:
    held = fields.held["profile"]
    if held is None:
        return None
    # Late: most sets have none, and what a layout is made of takes time to import.
    from archive.machine.profile import MachineProfile

    try:
        return MachineProfile.from_object(held, where=fields.where("profile"))
    except LayoutInvalid as error:
        fields.fail("profile", f"cannot be: {error.message}")


def _numbers(fields: _Fields, make: Callable[..., T]) -> T:
    return make(**{name: fields.number(name) for name in fields.held})


class _Reader:
    """Parses the JSON of one file, and words its errors."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, place: str, words: str) -> NoReturn:
        raise SetDamaged(
            f"{self.where} is damaged, or of a foreign make: {place} {words}",
            hint="take the set from another copy of it",
        )

    def parse(self, data: bytes) -> dict[str, object]:
        if len(data) > MAX_BYTES:
            self.fail("it", f"is larger than {MAX_BYTES >> 20} MiB")
        try:
            held = json.loads(
                data.decode("utf-8"),
                object_pairs_hook=_once,
                parse_float=_no_fraction,
                parse_constant=_no_fraction,
            )
        except (ValueError, RecursionError) as error:
            # RecursionError is what a hundred thousand opening brackets cause.
            raise SetDamaged(
                f"{self.where} is damaged: {str(error)[:200]}",
                hint="take the set from another copy of it",
            ) from error
        if not isinstance(held, dict):
            self.fail("it", "is no JSON object")
        return held

    def check_digest(self, told: object, held: dict[str, object]) -> None:
        try:
            right = told == _digest(held)
        except RecursionError:
            right = False
        if not right:
            self.fail("its digest of itself", "is wrong")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    held = dict(pairs)
    if len(held) != len(pairs):
        raise ValueError("a key is given twice")
    return held


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"not a whole number: {text[:40]}")


def _is_text(text: str) -> bool:
    """Say whether a text can be written; JSON has surrogates that stand for no byte of a name."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


class _Fields:
    """One JSON object with exactly the keys it should have; gives its values by their type."""

    def __init__(self, reader: _Reader, place: str, held: object, names: set[str]) -> None:
        self._reader = reader
        self._place = place
        if not isinstance(held, dict) or set(held) != names:
            reader.fail(place.rstrip(".") or "it", "does not have the fields it should have")
        self.held: dict[str, object] = held

    def fail(self, name: str, words: str) -> NoReturn:
        self._reader.fail(f"{self._place}{name}", words)

    def where(self, name: str) -> str:
        return f"{self._reader.where}: {self._place}{name}"

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self.held[name]
        # Not isinstance: True is an int.
        if type(value) is not kind:
            self.fail(name, f"is not of type {kind.__name__}")
        return value

    def text(self, name: str) -> str:
        text = self._typed(name, str)
        if not _is_text(text):
            self.fail(name, "holds what is no text")
        return text

    def match(self, name: str, pattern: re.Pattern[str]) -> str:
        text = self.text(name)
        if pattern.fullmatch(text) is None:
            self.fail(name, "has not the form it should have")
        return text

    def choice(self, name: str, kind: type[Kind]) -> Kind:
        text = self.text(name)
        if text not in set(kind):
            self.fail(name, "is none that is known")
        return kind(text)

    def number(self, name: str) -> int:
        number = self._typed(name, int)
        if not 0 <= number <= MAX_NUMBER:
            self.fail(name, "is out of range")
        return number

    def truth(self, name: str) -> bool:
        return self._typed(name, bool)

    def texts(self, name: str) -> tuple[str, ...]:
        found: list[object] = self._typed(name, list)
        texts = tuple(one for one in found if isinstance(one, str) and _is_text(one))
        if len(texts) != len(found):
            self.fail(name, "holds what is no text")
        return texts

    def within(self, name: str, kind: type) -> _Fields:
        names = {field.name for field in dataclasses.fields(kind)}
        return _Fields(self._reader, f"{self._place}{name}.", self.held[name], names)

    def each(self, name: str, kind: type) -> list[_Fields]:
        names = {field.name for field in dataclasses.fields(kind)}
        found: list[object] = self._typed(name, list)
        return [_Fields(self._reader, f"{self._place}{name}.", one, names) for one in found]
