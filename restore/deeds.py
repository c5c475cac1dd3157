"""What ``mondorestore`` does with a set, and what it says of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from archive.entry import Entry
from archive.errors import SetDamaged
from archive.manifest import Manifest
from archive.reader import BackupSet
from archive.selection import swap_files
from archive.verify import Verified, bytes_to_verify, verify
from restore.compare import Compared, compare
from restore.extract import Extracted, extract
from restore.listing import Matching, line, record, xattrs_fault
from restore.options import PROGRAM, Action, Options
from restore.output import writing
from restore.patterns import Chosen
from restore.progress import Display
from restore.words import named, shown, shown_text, size_words

EXIT_SAME = 0
EXIT_WARNINGS = 1
_ROOT = Path("/")
_SWAPS = Path("/proc/swaps")
_DATA = """
SELECT (SELECT total(size) FROM entry WHERE content IS NULL) + (SELECT total(size) FROM part)
"""


def do(options: Options) -> int:
    """Do what is asked for; return the exit code. Raises ArchiveError."""
    with BackupSet.open(options.source, scratch=options.scratch) as backup:
        try:
            return _do(options, backup)
        except SetDamaged as error:
            folder, unpacked = str(backup.folder), str(backup.catalog.path)
            error.message = error.message.replace(unpacked, f"the catalog of {folder}")
            if folder not in error.message:
                error.message = f"{folder}: {error.message}"
            raise


def _do(options: Options, backup: BackupSet) -> int:
    match options.action:
        case Action.LIST | Action.FIND:
            return _list(options, backup)
        case Action.SELECT | Action.ALL:
            return _restore(options, backup)
        case Action.COMPARE:
            return _compare(options, backup)
        case Action.VERIFY:
            return _verify(options, backup)
        case Action.PLAN:
            return _plan(options, backup)


def _say(options: Options, words: str) -> None:
    if not options.quiet:
        sys.stderr.write(f"{PROGRAM}: {words}\n")


def _insist(words: str) -> None:
    """Say what matters, with -q too."""
    sys.stderr.write(f"{PROGRAM}: {words}\n")


def _write(text: str) -> None:
    """Write to standard output. Raises CannotWrite, BrokenPipeError."""
    with writing():
        sys.stdout.write(text)


def _print_json(held: object) -> None:
    _write(json.dumps(held, sort_keys=False) + "\n")


def _display(
    options: Options, title: str, total: tuple[int, int] | None, *, unit: str = "files"
) -> Display:
    stream = None if options.quiet else sys.stderr
    return Display(stream, f"{PROGRAM}: {title}", total=total, unit=unit)


def _whole(backup: BackupSet) -> tuple[int, int]:
    """Return how many paths a set has, and bytes of files without their holes."""
    totals = backup.manifest.totals
    size = backup.catalog.total(_DATA)
    return totals.files + totals.directories + totals.others, size


def _unmatched(patterns: Iterable[bytes]) -> bool:
    """Name patterns that matched nothing; say whether there is one."""
    found = False
    for pattern in patterns:
        _insist(f"nothing in the set matches {shown(pattern)}")
        found = True
    return found


# Listing


def _list(options: Options, backup: BackupSet) -> int:
    wanted: Callable[[Entry], bool] | None = None
    chosen: Chosen | None = None
    if options.action is Action.FIND:
        wanted = Matching(options.expression)
    elif options.patterns:
        wanted = chosen = Chosen(options.patterns, backup.catalog)
    count = damaged = 0
    for entry, fault in backup.catalog.judged():
        if fault is None and (wanted is None or wanted(entry)):
            _write(f"{json.dumps(record(entry)) if options.as_json else line(entry)}\n")
            count += 1
            fault = xattrs_fault(entry)
        if fault is not None:
            _insist(f"damaged: {shown_text(fault)}")
            damaged += 1
    if damaged:
        raise SetDamaged(
            f"{backup.folder}: the catalog is wrong in {damaged:,} entries, which are named above",
            hint="everything else is listed; take the set from another copy of it",
        )
    if options.action is Action.FIND and not count:
        _insist(f"nothing in the set matches {shown_text(options.expression)}")
        return EXIT_WARNINGS
    return EXIT_WARNINGS if chosen is not None and _unmatched(chosen.unmatched) else EXIT_SAME


# Restoring


def _restore(options: Options, backup: BackupSet) -> int:
    chosen: Chosen | None = None
    if options.action is Action.SELECT:
        chosen = Chosen(options.patterns, backup.catalog)
    display = _display(options, "restoring", _whole(backup) if chosen is None else None)
    try:
        done = extract(
            backup,
            options.target,
            wanted=chosen,
            jobs=options.jobs,
            progress=display,
            dress_target=options.in_place,
        )
    except KeyboardInterrupt:
        display.close()
        _insist(
            f"unfinished: {shown_text(str(options.target))} has {display.files:,} files; others, "
            "further names of files, and owner, mode and times of directories are not restored"
        )
        _insist("running the same command again is safe: it replaces what is there")
        raise
    finally:
        display.close()
    lacking = chosen is not None and _unmatched(chosen.unmatched)
    _tell_restored(options, done)
    if options.as_json:
        _print_json(_restored(options, backup.folder, done, chosen))
    return EXIT_SAME if done.is_complete and not lacking else EXIT_WARNINGS


def _tell_restored(options: Options, done: Extracted) -> None:
    for lost in done.lost:
        _insist(f"lost: {shown(b'/' + lost.path)}: {shown_text(lost.words)}")
    for warned in done.warnings:
        _insist(
            f"warning: {warned.attribute} of {warned.paths:,} could not be set, such as of "
            f"{shown(b'/' + warned.path)}: {shown_text(warned.words)}"
        )
    words = f"{done.files:,} files and {done.folders:,} directories, {size_words(done.bytes)}"
    _say(options, f"restored to {shown_text(str(options.target))}: {words}")
    if done.lost:
        _insist(f"{len(done.lost):,} paths are lost; everything else that was asked for is there")


def _restored(
    options: Options, folder: Path, done: Extracted, chosen: Chosen | None
) -> dict[str, object]:
    return {
        "set": _text(folder),
        "target": _text(options.target),
        "complete": done.is_complete and not (chosen is not None and chosen.unmatched),
        "files": done.files,
        "directories": done.folders,
        "bytes": done.bytes,
        "lost": [{**named("path", b"/" + lost.path), "words": lost.words} for lost in done.lost],
        "warnings": [
            {
                "attribute": warned.attribute.value,
                "paths": warned.paths,
                **named("path", b"/" + warned.path),
                "words": warned.words,
            }
            for warned in done.warnings
        ],
        "unmatched": [shown(text) for text in (chosen.unmatched if chosen else ())],
    }


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


# Comparing


def _compare(options: Options, backup: BackupSet) -> int:
    display = _display(options, "comparing", _whole(backup), unit="paths")
    root = options.target
    out = _swap_files() if root.resolve() == _ROOT else ()
    try:
        found = compare(backup, root, jobs=options.jobs, progress=display, out=out)
    finally:
        display.close()
    if options.as_json:
        _print_json(_compared(options, backup.folder, found))
    else:
        for path, kind, words in found.differences:
            more = f" ({shown_text(words)})" if words else ""
            _write(f"{kind.value:10} {shown(b'/' + path)}{more}\n")
    state = ", ".join(f"{number:,} {kind.value}" for kind, number in found.counts.items())
    words = f"{found.paths:,} paths, {size_words(found.bytes)} of files"
    _say(options, f"compared {words}: {state or 'all is as it was saved'}")
    return EXIT_SAME if found.is_same else EXIT_WARNINGS


def _swap_files() -> tuple[Path, ...]:
    try:
        return tuple(Path(os.fsdecode(path)) for path in swap_files(_SWAPS.read_bytes()))
    except OSError:
        return ()  # a kernel without swap has no such file


def _compared(options: Options, folder: Path, found: Compared) -> dict[str, object]:
    return {
        "set": _text(folder),
        "root": _text(options.target),
        "same": found.is_same,
        "paths": found.paths,
        "bytes": found.bytes,
        "counts": {kind.value: number for kind, number in found.counts.items()},
        "differences": [
            {**named("path", b"/" + path), "kind": kind.value, "words": words}
            for path, kind, words in found.differences
        ],
    }


# Verifying


def _verify(options: Options, backup: BackupSet) -> int:
    display = _display(options, "reading back", (0, bytes_to_verify(backup, chain=True)))
    try:
        found = verify(backup, chain=True, jobs=options.jobs, progress=display)
    finally:
        display.close()
    if options.as_json:
        _print_json(_verified(backup.folder, backup.manifest, found))
    else:
        for fault in found.faults:
            what = "missing" if fault.is_missing else "damaged"
            words = f"{what:10} {shown_text(str(fault.path))}: {shown_text(fault.words)}"
            _write(f"{words}\n")
        for lost in found.lost:
            _write(f"{'lost':10} {shown(b'/' + lost.path)}: {shown_text(lost.words)}\n")
    with writing():
        sys.stdout.flush()
    words = f"{found.files:,} files, {size_words(found.bytes)}, in {found.slices:,} slices"
    _say(options, f"read back and found right: {words}")
    if found.is_sound:
        return EXIT_SAME
    raise SetDamaged(
        f"{backup.folder} is damaged: {len(found.faults):,} files of it; "
        f"{len(found.lost):,} paths are lost",
        hint="--all restores everything else; take what is lost from another set",
    )


def _verified(folder: Path, manifest: Manifest, found: Verified) -> dict[str, object]:
    return {
        "set": _text(folder),
        "set_id": manifest.set_id,
        "sound": found.is_sound,
        "slices": found.slices,
        "files": found.files,
        "bytes": found.bytes,
        "faults": [
            {"file": _text(fault.path), "missing": fault.is_missing, "words": fault.words}
            for fault in found.faults
        ],
        "lost": [{**named("path", b"/" + lost.path), "words": lost.words} for lost in found.lost],
    }


# Planning


def _plan(options: Options, backup: BackupSet) -> int:
    # They are many modules, which nothing else needs.
    from restore.plan.view import plan_text
    from restore.planning import plan_here, plan_record

    plan = plan_here(backup.manifest, backup.folder)
    if options.as_json:
        _print_json({"set": _text(backup.folder), **plan_record(plan)})
    else:
        _write(plan_text(plan) + "\n")
    if not plan.refusals:
        return EXIT_SAME
    _insist("refused: the saved machine cannot be restored to this one; nothing was touched")
    return EXIT_WARNINGS
