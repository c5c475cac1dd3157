"""What could not be saved, or only with a warning: one kind each, stored in the catalog."""

from __future__ import annotations

import enum
import errno
from typing import NamedTuple


class IssueKind(enum.StrEnum):
    """Why; the values are stored."""

    VANISHED = "vanished"
    """It was there and is gone: ordinary on a living system."""
    CHANGED = "changed"
    """It changed while it was read, again and again; or became something else."""
    DENIED = "denied"
    """No permission."""
    UNREADABLE = "unreadable"
    """An I/O error, or another refusal of the filesystem."""
    MOUNTED = "mounted"
    """A filesystem that was mounted while the tree was walked."""
    LEFT_OUT = "left out"
    """It was asked for by its name, and cannot be taken or must not."""


class Issue(NamedTuple):
    """One path and what happened to it; the path has no leading slash."""

    path: bytes
    kind: IssueKind
    words: str


# Shortage of ours, not a fault of a path: more of the same would follow.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_KINDS = {
    errno.ENOENT: IssueKind.VANISHED,
    errno.ESTALE: IssueKind.VANISHED,
    errno.ENOTDIR: IssueKind.CHANGED,
    errno.ELOOP: IssueKind.CHANGED,
    errno.EACCES: IssueKind.DENIED,
    errno.EPERM: IssueKind.DENIED,
}


def issue_of(path: bytes, error: OSError) -> Issue:
    """Return what a failed system call on a path means; raises ``error`` if it is our shortage."""
    if error.errno in _OURS:
        raise error
    kind = _KINDS.get(error.errno or 0, IssueKind.UNREADABLE)
    return Issue(path, kind, error.strerror or str(error))
