"""A directory of the target, and everything that is done below it: nothing outside is touched.

Every path is walked name by name from one descriptor (openat(2), O_NOFOLLOW), so that neither
".." nor a symbolic link leads out, whoever put it there and when, and a path may be longer than
PATH_MAX. The paths come from backups: they are hostile until they are checked.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import stat
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from archive.attributes import read_flags, write_flags
from archive.errors import ArchiveError, CannotWrite

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = 64
_UNFINISHED = re.compile(rb"\.mindi-([1-9][0-9]*)-[0-9a-f]{16}-[0-9]+")
_STUBBORN = 0x10 | 0x20  # chattr(1)'s i and a: neither renamed over nor removed
_INHERITED_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_FULL = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT})
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFREG: "a file",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


class Refused(CannotWrite):
    """A path that is not to be written: it would lead out, or something is in its way."""


class TargetFull(CannotWrite):
    """The target takes nothing more: it is full, or read-only."""


def check_name(name: bytes) -> None:
    """Raise Refused for what is no name in a directory."""
    if not name or name in {b".", b".."} or b"\0" in name or b"/" in name:
        raise Refused(f"{os.fsdecode(name)!r} is no name of a file")


class SafeTree:
    """A directory; paths below it are relative, without a leading slash, ``b""`` is itself.

    Descriptors that it returns are its own: they are good for the next few calls, and are not
    to be closed. Use as a context manager.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CannotWrite(f"{root}: {error.strerror}") from error
        self._folders: OrderedDict[bytes, int] = OrderedDict()
        self._last = b""
        self._last_fd = self._root
        self._token = secrets.token_hex(8).encode()
        self._numbers = itertools.count()

    def __enter__(self) -> SafeTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all descriptors back."""
        for descriptor in self._folders.values():
            os.close(descriptor)
        self._folders.clear()
        if self._root >= 0:
            os.close(self._root)
        self._root = self._last_fd = -1

    # Walking

    def place(self, path: bytes) -> tuple[int, bytes]:
        """Return the descriptor (O_PATH) of a path's directory, and the path's last name.

        Raises Refused where the directory is none, or not below the root.
        """
        folder, _, name = path.rpartition(b"/")
        if not name or name in {b".", b".."} or (not folder and path[:1] == b"/"):
            raise Refused(f"{os.fsdecode(path)!r} is no path below a directory")
        if folder == self._last:
            return self._last_fd, name
        return self.folder(folder), name

    def folder(self, path: bytes) -> int:
        """Return the descriptor (O_PATH) of a directory. Raises Refused."""
        if not path:
            descriptor = self._root
        elif path in self._folders:
            descriptor = self._folders[path]
            self._folders.move_to_end(path)
        else:
            descriptor = self._walk(path)
        self._last, self._last_fd = path, descriptor
        return descriptor

    def _walk(self, path: bytes) -> int:
        """Open a directory from the nearest one that is open."""
        names = []
        above = path
        while above and above not in self._folders:
            above, slash, name = above.rpartition(b"/")
            check_name(name)
            if slash and not above:
                raise Refused(f"{os.fsdecode(path)!r} is no path below a directory")
            names.append(name)
        descriptor = self._folders[above] if above else self._root
        while names:
            name = names.pop()
            here = above + b"/" + name if above else name
            try:
                descriptor = os.open(name, _FOLDER, dir_fd=descriptor)
            except OSError as error:
                raise self._in_the_way(error, descriptor, name, here) from error
            self._keep(here, descriptor)
            above = here
        return descriptor

    def _keep(self, path: bytes, descriptor: int) -> None:
        self._folders[path] = descriptor
        if len(self._folders) > _KEPT:
            gone, old = self._folders.popitem(last=False)
            os.close(old)
            if gone == self._last:
                self._last, self._last_fd = b"", self._root

    def _in_the_way(self, error: OSError, folder: int, name: bytes, path: bytes) -> Refused:
        """Say what keeps ``path`` from being a directory."""
        if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EEXIST}:
            return Refused(f"{kind_of(folder, name)} is in the way at {os.fsdecode(path)!r}")
        return Refused(f"{os.fsdecode(path)!r}: {reason(error, self.root)}")

    # Directories

    def open_folder(self, path: bytes) -> int:
        """Return a descriptor of a directory with which its attributes can be set; close it."""
        return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder(path))

    def make_folder(self, path: bytes) -> bool:
        """Make a directory, mode 0700; False if it is there already. Raises Refused.

        One that is there and that its owner cannot write to gets the bits that are needed.
        """
        above, name = self.place(path)
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            self._make_usable(path)
            return False
        except OSError as error:
            if error.errno == errno.EPERM and self._soften(above):
                return self.make_folder(path)
            raise self._in_the_way(error, above, name, path) from error
        return True

    def _make_usable(self, path: bytes) -> None:
        """Let a directory that is there be written to, where its own flags or mode forbid it."""
        folder = self.folder(path)
        mode = os.fstat(folder).st_mode
        if os.geteuid() != 0 and mode & 0o700 != 0o700:
            with suppress(OSError):
                os.chmod(f"/proc/self/fd/{folder}", stat.S_IMODE(mode) | 0o700)
        self._soften(folder)

    def _soften(self, folder: int) -> bool:
        """Take the flags from a directory that keep names from being put into it."""
        try:
            descriptor = os.open(b".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return False
        try:
            return _take_flags(descriptor)
        finally:
            os.close(descriptor)

    def is_plain(self, path: bytes) -> bool:
        """Say whether what is made in a directory has our owner, our mode and nothing else.

        It has not where the directory has a default ACL, the set-group-ID bit, flags.
        """
        descriptor = self.open_folder(path)
        try:
            status = os.fstat(descriptor)
            if status.st_gid != os.getegid() or status.st_mode & stat.S_ISGID:
                return False
            return not read_flags(descriptor) and not _has_default_acl(descriptor)
        finally:
            os.close(descriptor)

    def make_plain(self, path: bytes) -> None:
        """Take from a new directory what it inherited."""
        descriptor = self.open_folder(path)
        try:
            strip(descriptor)
            os.fchown(descriptor, os.geteuid(), os.getegid())
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    # Files

    def beside(self) -> bytes:
        """Return a name that nothing has, for what is renamed when it is whole."""
        return b".mindi-%d-%b-%d" % (os.getpid(), self._token, next(self._numbers))

    def sweep(self, path: bytes) -> None:
        """Remove from a directory what killed runs left under names of ``beside``."""
        try:
            descriptor = self.open_folder(path)
        except OSError:
            return
        try:
            for name in os.listdir(descriptor):
                found = _UNFINISHED.fullmatch(os.fsencode(name))
                if found is not None and not _is_alive(int(found[1])):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=descriptor)
        except OSError:
            return  # it cannot be listed: what is there is in nobody's way
        finally:
            os.close(descriptor)

    def create(self, folder: int, name: bytes, mode: int) -> int:
        """Return the descriptor of a new, empty file to write to; FileExistsError if it is there.

        Permissions are ``mode`` less the process's umask.
        """
        return os.open(name, _NEW, mode, dir_fd=folder)

    def rename_over(self, folder: int, temporary: bytes, name: bytes) -> None:
        """Give what was written beside its name, in place of what is there; raises Refused.

        A directory is never replaced, not even an empty one. Immutable files are.
        """
        try:
            self._rename(folder, temporary, name)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            if error.errno in {errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}:
                raise Refused("a directory is in the way") from error
            raise

    def _rename(self, folder: int, temporary: bytes, name: bytes) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except PermissionError:
            if not _soften_file(folder, name):
                raise
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        # Where both are one file already, rename(2) does nothing.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)


def reason(error: Exception, root: Path) -> str:
    """Return why one path could not be written; raise TargetFull if no other could be either."""
    if isinstance(error, ArchiveError):
        return error.message
    if isinstance(error, OSError):
        if error.errno in _FULL:
            raise TargetFull(
                f"{root}: {error.strerror}",
                hint="make room there, or restore to another place; what is restored so far stays",
            ) from error
        return error.strerror or str(error)
    return str(error)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def kind_of(folder: int, name: bytes) -> str:
    """Return the words for what lies under a name."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError as error:
        return f"something ({error.strerror})"
    return _KINDS.get(stat.S_IFMT(mode), "something")


def strip(descriptor: int) -> None:
    """Take from a new file or directory the ACLs and flags that it inherited."""
    strip_acls(descriptor)
    with suppress(OSError):
        if read_flags(descriptor):
            write_flags(descriptor, 0)


def strip_acls(target: int | str) -> None:
    """Take the ACLs that it inherited from what has a descriptor, or a path in /proc."""
    for name in _INHERITED_ACLS:
        with suppress(OSError):
            os.removexattr(target, name)


def _has_default_acl(descriptor: int) -> bool:
    try:
        return bool(os.getxattr(descriptor, "system.posix_acl_default"))
    except OSError:
        return False


def _soften_file(folder: int, name: bytes) -> bool:
    """Take from an existing regular file the flags that keep it from being replaced."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return False
    try:
        return _take_flags(descriptor)
    finally:
        os.close(descriptor)


def _take_flags(descriptor: int) -> bool:
    try:
        flags = read_flags(descriptor)
        if not flags & _STUBBORN:
            return False
        write_flags(descriptor, flags & ~_STUBBORN)
    except OSError:
        return False
    return True
