"""Makes a set for ``mondoarchive``, with what is around it: lock, parent, hooks, retention."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from archive.codec import Codec, Packing
from archive.errors import ArchiveError, CannotRead, CannotWrite, SetDamaged, WrongUsage
from archive.issues import IssueKind
from archive.manifest import Kind
from archive.mounts import read_mounts
from archive.partial import is_packed_as
from archive.setfolder import (
    Partial,
    discard_partial,
    find_partial,
    locked,
    new_partial,
    remove_leftovers,
)
from archive.version import VERSION
from archive.walk import Walk
from archive.writer import Order, Parent, Written, write_set
from initramfs.errors import ImageError
from mindi.backup.asked import asked_of, check_patterns
from mindi.backup.estimate import expect, tell_room
from mindi.backup.hooks import Occasion, Status, run_hook
from mindi.backup.options import ArchiveOptions
from mindi.backup.parent import choose_parent, open_parent
from mindi.backup.progress import Display
from mindi.backup.retention import retire
from mindi.backup.selection import Choice, choose, own_paths
from mindi.backup.summary import Summary
from mindi.backup.watch import NothingTaken, WatchedWalk
from mindi.mains import EXIT_INTERRUPTED, Interrupted
from restore.words import count_words

if TYPE_CHECKING:
    from archive.machine.profile import MachineProfile
    from mindi.backup.verify import Verified

_OF_MEDIA = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO),
    *(errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO),
}
"""What a medium answers that is full or gone."""


_OF_LIFE = frozenset({IssueKind.CHANGED, IssueKind.VANISHED})
"""Nearly every backup of a system at work has such files; they are no reason to keep old sets."""


class Backup:
    """One run; to be made once. ``hook_failed`` is there where the set is whole all the same."""

    def __init__(self, options: ArchiveOptions, display: Display, scratch: Path) -> None:
        self.hook_failed: ArchiveError | None = None
        self._options = options
        self._display = display
        self._scratch = scratch
        self._folder = options.chain_folder
        self._kind = Kind.DIFFERENTIAL if options.differential else Kind.FULL
        self._packing = Packing(Codec.named(options.codec.value), options.level, options.per_file)
        self._made: Path | None = None
        self._profile: MachineProfile | None = None
        self._warnings: tuple[str, ...] = ()

    def make(self) -> Summary:
        """Make the set, with the hooks around. Raises ArchiveError, ImageError."""
        before = self._options.before
        if before is not None:
            check_patterns(self._options)
        try:
            if before is not None:
                run_hook(before, self._occasion(Status.BEGUN), name="--before")
            # The hook may have mounted the medium, or what is to be saved: all else comes now.
            summary = self._make()
        except KeyboardInterrupt:
            self._run_after(Status.INTERRUPTED, EXIT_INTERRUPTED, "interrupted")
            raise
        except (ArchiveError, ImageError) as error:
            self._run_after(Status.FAILED, error.exit_code, error.message)
            raise
        except Exception as error:
            self._run_after(Status.FAILED, None, str(error))
            raise
        if summary.verified is not None and summary.verified.damaged:
            self._run_after(Status.FAILED, SetDamaged.exit_code, "the set reads back damaged")
        else:
            status = Status.WARNINGS if summary.exit_code else Status.COMPLETE
            self._run_after(status, summary.exit_code, "")
        return summary

    def _make(self) -> Summary:
        options = self._options
        if not options.folder.is_dir():
            raise CannotWrite(
                f"there is no folder {options.folder}",
                hint="mount the medium, or make the folder",
            )
        choice = choose(options, scratch=self._scratch)
        self._distrust_folder()
        self._look_at_machine(choice)
        # At its end nothing of the medium is open: the hook after may unmount it.
        with ExitStack() as stack:
            stack.enter_context(locked(self._folder))
            remove_leftovers(self._folder)
            partial = self._unfinished()
            parent: tuple[str, Parent] | None = None
            if options.differential:
                path = choose_parent(self._folder, options.parent, partial)
                parent = path.name, open_parent(path, scratch=self._scratch, stack=stack)
            return self._save(choice, partial, parent)

    def _distrust_folder(self) -> None:
        """Look at the prefix's folder, if it is there. Raises CannotWrite."""
        try:
            mode = self._folder.lstat().st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise CannotWrite(f"{self._folder}: {error.strerror}") from error
        if stat.S_ISLNK(mode):
            raise CannotWrite(
                f"{self._folder} is a symbolic link, which may lead anywhere",
                hint="give the folder that it leads to, with -d and -p, or remove the link",
            )
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            # Refusing would leave out media whose filesystem knows no rights.
            self._display.say(
                f"WARNING: others may write to {self._folder}, and so read, change or remove its "
                f"sets: `chmod go-w` keeps them out"
            )

    def _look_at_machine(self, choice: Choice) -> None:
        """Learn what the machine is, where all of it is to be saved. Raises CannotRead."""
        selection = choice.selection
        if b"/" not in (*selection.include, *selection.listed):
            return
        # Late: no other backup needs it.
        from archive.machine.probesystem import LiveSystem
        from mindi.backup.machine import capture

        allowed = self._options.allow_unsupported
        machine = capture(LiveSystem(), allowed=allowed, is_root=os.geteuid() == 0)
        self._profile, self._warnings = machine.profile, machine.warnings
        for words in machine.warnings:
            self._display.say(f"WARNING: {words}")

    def _unfinished(self) -> Partial | None:
        """Return the set that is gone on with, if there is one and that is asked for."""
        partial = find_partial(self._folder)
        if partial is None or not self._options.resume:
            return None
        anew = "or leave --resume out, which discards it"
        if partial.name.kind is not self._kind:
            needed = "add -D" if partial.name.kind is Kind.DIFFERENTIAL else "leave -D out"
            raise WrongUsage(
                f"the unfinished set {partial.path} is a {partial.name.kind} one",
                hint=f"{needed}; {anew}",
            )
        if not is_packed_as(partial.path, self._packing):
            raise WrongUsage(
                f"the unfinished set {partial.path} is packed in another way",
                hint=f"give the codec (and --per-file) that it was begun with; {anew}",
            )
        return partial

    # Hooks

    def _run_after(self, status: Status, exit_code: int | None, words: str) -> None:
        command = self._options.after
        if command is None:
            return
        self._display.close()
        try:
            run_hook(command, self._occasion(status, exit_code, words), name="--after")
        except ArchiveError as error:
            self.hook_failed = error
            if status not in (Status.COMPLETE, Status.WARNINGS):
                self._display.say(error.message)

    def _occasion(self, status: Status, exit_code: int | None = None, words: str = "") -> Occasion:
        return Occasion(
            status=status,
            folder=self._options.folder.absolute(),
            prefix=self._options.prefix,
            kind=self._kind.value,
            exit_code=exit_code,
            made=self._made,
            words=words,
        )

    # The set itself

    def _save(
        self, choice: Choice, partial: Partial | None, parent: tuple[str, Parent] | None
    ) -> Summary:
        options, display = self._options, self._display
        start = time.monotonic()
        asked = asked_of(options, choice.selection)
        walk = WatchedWalk(choice.selection, asked, read_mounts(), display)
        resumed = partial is not None
        expected, least = expect(
            self._folder,
            choice.selected,
            walk.coverage,
            by_bytes=self._kind is Kind.FULL and not resumed,
        )
        partial = self._begin(partial)
        if self._kind is Kind.FULL and not resumed:
            tell_room(self._folder, least, display.say)
        order = self._order(choice, None if parent is None else parent[1])
        display.begin("saving", expected)
        written = self._write(order, walk, partial, resumed=resumed)
        self._made = written.path
        seconds = time.monotonic() - start
        progressed = display.meter.progressed
        verified = None
        if options.verify:
            from mindi.backup.verify import verify_set

            verified = verify_set(
                written.path,
                display,
                scratch=self._scratch,
                jobs=options.jobs,
                chain=False,
                out=own_paths(options, self._scratch),
            )
        removed, notes = self._retire(written, verified)
        return Summary(
            written=written,
            read_bytes=progressed.done_bytes,
            unchanged=progressed.unchanged,
            seconds=seconds,
            parent=None if parent is None else parent[0],
            verified=verified,
            removed=removed,
            notes=(*asked.notes, *notes),
            warnings=self._warnings,
        )

    def _retire(
        self, written: Written, verified: Verified | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Remove what ``--keep`` leaves over, where the new set is as good as those that go.

        Returns the sets removed, and what is to be said.
        """
        keep = self._options.keep
        if keep is None:
            return (), ()
        missed = (issue for issue in written.manifest.issues if issue.kind not in _OF_LIFE)
        warnings = sum(issue.count for issue in missed)
        why = ""
        if verified is not None and verified.damaged:
            why = "reads back damaged"
        elif self._warnings and self._profile is None:
            why = "cannot restore the machine"
        elif warnings:
            why = f"has {count_words(warnings, 'warning')}"
        if why:
            return (), (f"kept all older sets, whatever --keep says: the new set {why}",)
        return retire(self._folder, keep, written.manifest.set_id, self._display.say), ()

    def _order(self, choice: Choice, parent: Parent | None) -> Order:
        return Order(
            root=b"",
            packing=self._packing,
            jobs=self._options.jobs,
            parent=parent,
            by_content=self._options.checksum,
            selection=choice.selected,
            host=os.uname().nodename,
            tool_version=VERSION,
            profile=self._profile,
        )

    def _begin(self, partial: Partial | None) -> Partial:
        """Return the unfinished set to fill; discard those of earlier runs."""
        if partial is not None:
            self._display.tell(f"going on with the unfinished set {partial.name}")
            return partial
        while (left := find_partial(self._folder)) is not None:
            self._display.say(
                f"discarding the unfinished set {left.name} (--resume would go on with it)"
            )
            discard_partial(left)
        if self._options.resume:
            self._display.tell("there is no unfinished set to go on with: making a new one")
        return new_partial(self._folder, self._kind, datetime.now(UTC))

    def _write(self, order: Order, walk: Walk, partial: Partial, *, resumed: bool) -> Written:
        """Write the set; what ends it before its end says what to do then."""
        go_on = (
            f"what is whole of the set stays in {partial.path}: the same command with --resume "
            "goes on with it; older sets are untouched"
        )
        try:
            return write_set(order, walk, partial, self._display)
        except NothingTaken:
            if not resumed:
                discard_partial(partial)
            raise
        except KeyboardInterrupt as error:
            raise Interrupted(go_on) from error
        except ArchiveError as error:
            error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
            raise
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            kind = CannotWrite if error.errno in _OF_MEDIA else CannotRead
            raise kind(f"{where}{error.strerror}", hint=go_on) from error
        finally:
            self._display.close()
