"""Makes the files of a catalog in a SafeTree, with all their attributes.

The order is the kernel's: chown clears set-user-ID bits and capabilities, so modes and extended
attributes come behind it; a default ACL changes modes; what is written changes times; and of
what is immutable nothing can be changed, not even its name.
"""

from __future__ import annotations

import enum
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from archive.attributes import create_subvolume, unpack_xattrs, write_flags
from archive.entry import SUBVOLUME, Entry, unsigned64
from archive.errors import SetDamaged
from restore.safetree import Refused, SafeTree, strip, strip_acls

_GRANTING = stat.S_ISUID | stat.S_ISGID
_SPECIAL = _GRANTING | stat.S_ISVTX
# chattr(1)'s c, m and C of files, F of directories: no use, or refused, once they hold something.
_EARLY_FLAGS = 0x4 | 0x400 | 0x800000
_FOLDED = 0x40000000
_BESIDE_BYTES = 64 << 10
"""Of a smaller file the bytes come so soon behind the name that a second name costs more."""


class Attribute(enum.StrEnum):
    """What could not be set on a file that was restored."""

    OWNER = "owner"
    MODE = "mode"
    XATTRS = "extended attributes"
    FLAGS = "chattr flags"
    TIMES = "times"
    SUBVOLUME = "btrfs subvolume"


@dataclass(slots=True)
class Unset:
    """How many files lack an attribute, and the first of them with the reason."""

    count: int
    path: bytes
    words: str


class Nodes:
    """Makes files, links, devices and directories' attributes; one to a process.

    What cannot be restored at all raises OSError, Refused or ValueError; what lacks an
    attribute is counted in ``unset``.
    """

    def __init__(self, tree: SafeTree) -> None:
        self.tree = tree
        self.unset: dict[Attribute, Unset] = {}
        self._uid = os.geteuid()
        self._gid = os.getegid()
        self._now = time.time_ns()

    # Regular files

    def regular(self, entry: Entry, data: memoryview | bytes, *, plain: bool) -> None:
        """Make a file that holds ``data``. The umask must be 0.

        ``plain``: its directory hands nothing down (SafeTree.is_plain).
        """
        folder, name = self.tree.place(entry.path)
        mode = entry.mode
        temporary = self.tree.beside() if len(data) >= _BESIDE_BYTES else None
        try:
            descriptor = self.tree.create(folder, temporary or name, mode & 0o777)
        except FileExistsError:
            temporary = self.tree.beside()
            descriptor = self.tree.create(folder, temporary, mode & 0o777)
        try:
            flags = entry.flags
            if flags & _EARLY_FLAGS:
                self._set_flags(descriptor, entry, flags & _EARLY_FLAGS)
            if data and os.write(descriptor, data) != len(data):
                _write_rest(descriptor, data)
            self._dress_file(descriptor, entry, plain=plain)
            if temporary is not None:
                self.tree.rename_over(folder, temporary, name)
            if flags and entry.link is None:
                self._set_flags(descriptor, entry, flags)
        except (OSError, Refused):
            with suppress(OSError):
                os.unlink(temporary or name, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)

    def _dress_file(self, descriptor: int, entry: Entry, *, plain: bool) -> None:
        """Set what a new file has not got by itself: in most trees, its time alone."""
        mode = entry.mode
        if not plain or mode & _SPECIAL or entry.uid != self._uid or entry.gid != self._gid:
            if not plain:
                strip(descriptor)
            self._own(descriptor, entry, whole=not plain)
        if entry.xattrs is not None:
            self._set_xattrs(descriptor, entry)
        try:
            time_ns = entry.time_ns
            os.utime(descriptor, ns=(self._now, time_ns))
        except (OSError, OverflowError) as error:
            self._note(Attribute.TIMES, entry.path, error)

    def large(self, entry: Entry) -> bytes:
        """Make a file of the right length with nothing in it, only holes; return its name.

        It is one that ``finish_large`` renames: until then the path stays what it is.
        """
        folder, _ = self.tree.place(entry.path)
        name = self.tree.beside()
        descriptor = self.tree.create(folder, name, 0o600)
        try:
            if entry.flags & _EARLY_FLAGS:
                self._set_flags(descriptor, entry, entry.flags & _EARLY_FLAGS)
            os.ftruncate(descriptor, entry.size)
        except (OSError, OverflowError):
            os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)
        return name

    def finish_large(self, entry: Entry, name: bytes) -> None:
        """Give a file whose parts are all written its attributes and its name."""
        folder, own = self.tree.place(entry.path)
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            self._dress_file(descriptor, entry, plain=False)
            self.tree.rename_over(folder, name, own)
            if entry.flags and entry.link is None:
                self._set_flags(descriptor, entry, entry.flags)
        finally:
            os.close(descriptor)

    def drop(self, entry: Entry, name: bytes) -> None:
        """Remove a file that ``large`` made and that will not be finished."""
        folder, _ = self.tree.place(entry.path)
        os.unlink(name, dir_fd=folder)

    # What is no regular file

    def hard_link(self, entry: Entry, first: Entry) -> None:
        """Make ``entry`` another name of ``first``, which is restored."""
        folder, name = self.tree.place(entry.path)
        there, old = self.tree.place(first.path)
        try:
            self._link(there, old, folder, name)
        except FileExistsError:
            temporary = self.tree.beside()
            self._link(there, old, folder, temporary)
            self.tree.rename_over(folder, temporary, name)

    def _link(self, there: int, old: bytes, folder: int, name: bytes) -> None:
        os.link(old, name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)

    def late_flags(self, entry: Entry) -> None:
        """Set the flags of a file that has several names, all of which are made."""
        folder, name = self.tree.place(entry.path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
        try:
            self._set_flags(descriptor, entry, entry.flags)
        finally:
            os.close(descriptor)

    def other(self, entry: Entry, *, plain: bool) -> None:
        """Make a symbolic link, device, FIFO or socket. The umask must be 0."""
        folder, name = self.tree.place(entry.path)
        made = name
        try:
            self._make(entry, folder, name)
        except FileExistsError:
            made = self.tree.beside()
            self._make(entry, folder, made)
        try:
            self._dress_other(entry, folder, made, plain=plain)
            if made != name:
                self.tree.rename_over(folder, made, name)
        except (OSError, Refused):
            with suppress(OSError):
                os.unlink(made, dir_fd=folder)
            raise

    def _make(self, entry: Entry, folder: int, name: bytes) -> None:
        kind = entry.kind
        if kind == stat.S_IFLNK:
            if entry.target is None:
                raise Refused("the catalog does not say where the symbolic link points")
            os.symlink(entry.target, name, dir_fd=folder)
        elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
            try:
                os.mknod(name, entry.mode, unsigned64(entry.rdev), dir_fd=folder)
            except PermissionError as error:
                raise Refused("only root can make devices") from error
        elif kind in {stat.S_IFIFO, stat.S_IFSOCK}:
            os.mknod(name, entry.mode, dir_fd=folder)
        else:
            raise Refused(f"the catalog gives it an unknown type, {entry.mode:#o}")

    def _dress_other(self, entry: Entry, folder: int, name: bytes, *, plain: bool) -> None:
        """Set owner, attributes and times without opening it: that might wake a device."""
        special = entry.kind != stat.S_IFLNK and bool(entry.mode & _SPECIAL or not plain)
        owner_lost = False
        if not plain or entry.uid != self._uid or entry.gid != self._gid:
            try:
                os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
            except (OSError, OverflowError) as error:
                self._note(Attribute.OWNER, entry.path, error)
                owner_lost = True
        if special or entry.xattrs is not None:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                # These calls take no descriptor of O_PATH, and its name in /proc is one.
                path = f"/proc/self/fd/{handle}"
                if special:
                    if not plain:
                        strip_acls(path)
                    self._chmod(path, entry, granting=not owner_lost)
                self._set_xattrs(path, entry)
            finally:
                os.close(handle)
        try:
            time_ns = entry.time_ns
            os.utime(name, ns=(self._now, time_ns), dir_fd=folder, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            self._note(Attribute.TIMES, entry.path, error)

    # Directories

    def folder(self, entry: Entry) -> bool:
        """Make a directory for ``entry`` to be finished later; False if it was there."""
        if not entry.path:
            return False
        if entry.flags & SUBVOLUME and self._subvolume(entry):
            return True
        return self.tree.make_folder(entry.path)

    def _subvolume(self, entry: Entry) -> bool:
        above, name = self.tree.place(entry.path)
        try:
            descriptor = os.open(b".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=above)
        except OSError as error:
            self._note(Attribute.SUBVOLUME, entry.path, error)
            return False
        try:
            create_subvolume(descriptor, name)
        except FileExistsError:
            return False
        except OSError as error:
            self._note(Attribute.SUBVOLUME, entry.path, error)
            return False
        finally:
            os.close(descriptor)
        return True

    def fold_case(self, entry: Entry) -> bool:
        """Let names in a new directory be without case, if they were: it must be empty for it."""
        if not entry.flags & _FOLDED:
            return False
        descriptor = self.tree.open_folder(entry.path)
        try:
            self._set_flags(descriptor, entry, _FOLDED)
        finally:
            os.close(descriptor)
        return True

    def finish_folder(self, entry: Entry, *, fresh: bool) -> None:
        """Set all attributes of a directory in which nothing more is made.

        ``fresh``: it was made by this run, so that it has nothing which has to go.
        """
        descriptor = self.tree.open_folder(entry.path)
        try:
            if not fresh:
                strip(descriptor)
            self._own(descriptor, entry, whole=True)
            self._set_xattrs(descriptor, entry)
            try:
                time_ns = entry.time_ns
                os.utime(descriptor, ns=(self._now, time_ns))
            except (OSError, OverflowError) as error:
                self._note(Attribute.TIMES, entry.path, error)
            if entry.flags & ~SUBVOLUME:
                self._set_flags(descriptor, entry, entry.flags)
        finally:
            os.close(descriptor)

    # Attributes

    def _own(self, descriptor: int, entry: Entry, *, whole: bool) -> None:
        """Set owner and mode; ``whole``: they may be anything now."""
        owner_lost = False
        if whole or entry.uid != self._uid or entry.gid != self._gid:
            try:
                os.fchown(descriptor, entry.uid, entry.gid)
            except (OSError, OverflowError) as error:
                self._note(Attribute.OWNER, entry.path, error)
                owner_lost = True
        if whole or entry.mode & _SPECIAL:
            self._chmod(descriptor, entry, granting=not owner_lost)

    def _chmod(self, target: int | str, entry: Entry, *, granting: bool) -> None:
        """Set the mode; with another owner than the saved one, less what grants his rights."""
        mode = stat.S_IMODE(entry.mode)
        if not granting and mode & _GRANTING and entry.kind != stat.S_IFDIR:
            mode &= ~_GRANTING
            self._note(Attribute.MODE, entry.path, "set-user-ID of another owner")
        try:
            os.chmod(target, mode)
        except OSError as error:
            self._note(Attribute.MODE, entry.path, error)

    def _set_xattrs(self, target: int | str, entry: Entry) -> None:
        if entry.xattrs is None:
            return
        try:
            pairs = unpack_xattrs(entry.xattrs)
        except SetDamaged as error:
            self._note(Attribute.XATTRS, entry.path, error.message)
            return
        for name, value in pairs:
            try:
                os.setxattr(target, name, value)
            except OSError as error:
                words = f"{os.fsdecode(name)}: {error.strerror}"
                self._note(Attribute.XATTRS, entry.path, words)

    def _set_flags(self, descriptor: int, entry: Entry, flags: int) -> None:
        try:
            write_flags(descriptor, flags & ~SUBVOLUME)
        except OSError as error:
            self._note(Attribute.FLAGS, entry.path, error)

    def _note(self, kind: Attribute, path: bytes, reason: Exception | str) -> None:
        known = self.unset.get(kind)
        if known is not None:
            known.count += 1
            return
        words = reason if isinstance(reason, str) else getattr(reason, "strerror", str(reason))
        self.unset[kind] = Unset(1, path, words)


def _write_rest(descriptor: int, data: memoryview | bytes) -> None:
    """Write what a short write(2) left."""
    view = memoryview(data)
    while written := os.lseek(descriptor, 0, os.SEEK_CUR):
        if written >= len(view):
            return
        os.write(descriptor, view[written:])
