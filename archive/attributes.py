"""Extended attributes, chattr(1) flags and btrfs subvolumes: read from and written to the kernel.

Sources: xattr(7), linux/fs.h (FS_IOC_GETFLAGS), linux/btrfs.h, asm-generic/ioctl.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys

from archive.errors import SetDamaged

_ENCODING = sys.getfilesystemencoding()
_LENGTHS = struct.Struct(">HI")

_NO_SUPPORT = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
# An attribute that is gone when its turn comes, or that a filesystem lists and does not give.
_NO_VALUE = frozenset({errno.ENODATA}) | _NO_SUPPORT
_NO_FLAGS = frozenset({errno.ENOTTY, errno.EINVAL}) | _NO_SUPPORT


def read_xattrs(target: bytes | int, *, follow: bool = False) -> bytes | None:
    """Return all extended attributes of a path or descriptor, packed (archive/FORMAT.md).

    All namespaces that the kernel lists (trusted ones for root alone). None if there are none,
    or the filesystem has no such thing. ``follow`` is for paths. Raises OSError.
    """
    try:
        if isinstance(target, int):
            names = os.listxattr(target)
        else:
            names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_SUPPORT:
            return None
        raise
    if not names:
        return None
    packed = []
    for name in sorted(name.encode(_ENCODING, "surrogateescape") for name in names):
        try:
            if isinstance(target, int):
                value = os.getxattr(target, name)
            else:
                value = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _NO_VALUE:
                continue
            raise
        packed.append(pack_xattr(name, value))
    return b"".join(packed) or None


def pack_xattr(name: bytes, value: bytes) -> bytes:
    """Return one attribute as the catalog stores it; several lie one behind the other."""
    return _LENGTHS.pack(len(name), len(value)) + name + value


def unpack_xattrs(packed: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the (name, value) pairs of packed attributes. Raises SetDamaged."""
    found = []
    place = 0
    while place < len(packed):
        if len(packed) - place < _LENGTHS.size:
            raise SetDamaged(f"extended attributes are cut off at byte {place} of {len(packed)}")
        name_size, value_size = _LENGTHS.unpack_from(packed, place)
        place += _LENGTHS.size
        middle = place + name_size
        end = middle + value_size
        name = packed[place:middle]
        if end > len(packed) or not name or b"\0" in name:
            raise SetDamaged(f"extended attributes are damaged at byte {place} of {len(packed)}")
        found.append((name, packed[middle:end]))
        place = end
    return tuple(found)


# Flags

# These build ioctl numbers with one bit less for the size (arch/*/include/uapi/asm/ioctl.h).
_OLD_STYLE = os.uname().machine.startswith(("ppc", "mips", "sparc", "alpha"))
_READ, _WRITE = (0x40000000, 0x80000000) if _OLD_STYLE else (0x80000000, 0x40000000)


def _number(direction: int, group: int, number: int, size: int) -> int:
    return direction | size << 16 | group << 8 | number


_GET_FLAGS = _number(_READ, ord("f"), 1, struct.calcsize("l"))
_SET_FLAGS = _number(_WRITE, ord("f"), 2, struct.calcsize("l"))
# The kernel writes and reads an int, whatever the number says.
_FLAGS = struct.Struct("=I4x")

SETTABLE_FLAGS = (
    0x00000001  # s: delete securely
    | 0x00000002  # u: undelete
    | 0x00000004  # c: compress
    | 0x00000008  # S: synchronous
    | 0x00000010  # i: immutable
    | 0x00000020  # a: append only
    | 0x00000040  # d: no dump
    | 0x00000080  # A: no access times
    | 0x00000400  # m: do not compress
    | 0x00004000  # j: journal the data
    | 0x00008000  # t: no tail merging
    | 0x00010000  # D: synchronous directory
    | 0x00020000  # T: top of a hierarchy
    | 0x00800000  # C: no copy on write
    | 0x02000000  # x: direct access
    | 0x20000000  # P: children inherit the project
    | 0x40000000  # F: names without case
)
"""What chattr(1) sets; the others (extents, index, verity, ...) are the filesystem's own."""


def read_flags(fd: int) -> int:
    """Return the chattr(1) flags of a file or directory that can be set; 0 where there are none.

    Raises OSError.
    """
    try:
        return _get_flags(fd) & SETTABLE_FLAGS
    except OSError as error:
        if error.errno in _NO_FLAGS:
            return 0
        raise


def write_flags(fd: int, flags: int) -> None:
    """Set the chattr(1) flags of a file or directory; those that cannot be set stay as they are.

    Where the filesystem does not know all of them, those it knows are set. Raises OSError for
    the rest.
    """
    wanted = flags & SETTABLE_FLAGS
    try:
        have = _get_flags(fd)
    except OSError as error:
        if error.errno in _NO_FLAGS and not wanted:
            return
        raise
    own = have & ~SETTABLE_FLAGS
    if own | wanted == have:
        return
    try:
        _set_flags(fd, own | wanted)
    except OSError as error:
        if error.errno not in _NO_FLAGS:
            raise
        _set_one_by_one(fd, own, wanted, error)


def _set_one_by_one(fd: int, own: int, wanted: int, error: OSError) -> None:
    """Set the flags that the filesystem knows; raise ``error`` if one is left."""
    taken = own
    refused = 0
    # Immutable and append-only come last: nothing changes behind them.
    order = [1 << bit for bit in range(31) if bit not in (4, 5)] + [0x20, 0x10]
    for flag in order:
        if not wanted & flag:
            continue
        try:
            _set_flags(fd, taken | flag)
        except OSError as other:
            if other.errno not in _NO_FLAGS:
                raise
            refused |= flag
        else:
            taken |= flag
    if refused:
        raise OSError(error.errno, f"{error.strerror} (flags {refused:#x})") from error


def _get_flags(fd: int) -> int:
    answer = bytearray(_FLAGS.size)
    fcntl.ioctl(fd, _GET_FLAGS, answer)
    flags: int = _FLAGS.unpack(answer)[0]
    return flags


def _set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, _SET_FLAGS, _FLAGS.pack(flags))


# Subvolumes

_SUBVOLUME_INODE = 256
_SUBVOLUME_FLAGS = _number(_READ, 0x94, 25, 8)
_SUBVOLUME_CREATE = _number(_WRITE, 0x94, 14, 4096)


def is_subvolume(fd: int) -> bool:
    """Say whether a directory is the root of a btrfs subvolume."""
    if os.fstat(fd).st_ino != _SUBVOLUME_INODE:
        return False
    try:
        fcntl.ioctl(fd, _SUBVOLUME_FLAGS, bytes(8))
    except OSError:
        return False
    return True


def create_subvolume(parent_fd: int, name: bytes) -> None:
    """Make an empty btrfs subvolume in a directory. Raises OSError (ENOTTY: no btrfs)."""
    # Mutable, for Python passes on no more than 1,024 bytes of another kind.
    fcntl.ioctl(parent_fd, _SUBVOLUME_CREATE, bytearray(struct.pack("=q4088s", 0, name)))
