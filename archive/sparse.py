"""Finds where the data of a file lies, so that its holes are neither read nor stored (lseek(2))."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_UNKNOWN = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


def data_runs(fd: int, size: int, *, longest: int) -> Iterator[tuple[int, int]]:
    """Give (offset, length) of each run of data in the first ``size`` bytes, in order.

    No run crosses a multiple of ``longest``, so that the parts of a file that grows stay the same.
    A filesystem that knows no holes has one run, cut the same way. Moves the file's position.
    Raises OSError.
    """
    place = 0
    while place < size:
        try:
            start = os.lseek(fd, place, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno not in _UNKNOWN:
                raise
            start, end = place, size
        if end <= start:
            # A filesystem that answers so would be asked for ever.
            start, end = place, size
        end = min(end, size)
        place = end
        while start < end:
            stop = min(end, start - start % longest + longest)
            yield start, stop - start
            start = stop
