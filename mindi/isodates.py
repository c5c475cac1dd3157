"""Sets every date of an ISO 9660 image to one moment, so that equal input gives equal bytes.

pycdlib stamps the time of the build, in the local time zone, on each record that it makes, and
once more on the volume descriptors while it writes. The records are changed through its public
attributes before it writes; the descriptors in the finished file, where ECMA-119 (8.4.26) has them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pycdlib import PyCdlib
    from pycdlib.dr import DirectoryRecord

ISO_BLOCK_BYTES = 2048
FIRST_DESCRIPTOR = 16
DATES_OFFSET = 813
PRIMARY, SUPPLEMENTARY, TERMINATOR = 1, 2, 255
NOT_SPECIFIED = b"0" * 16 + b"\0"

_TIMES = (
    "creation_time",
    "access_time",
    "modification_time",
    "attribute_change_time",
)


def date_records(iso: PyCdlib, timestamp_s: int) -> None:
    """Set the dates of all directory records, Rock Ridge's too, to ``timestamp_s`` in UTC."""
    from pycdlib.dates import DirectoryRecordDate

    when = time.gmtime(timestamp_s)
    date = DirectoryRecordDate.from_fields(
        when.tm_year - 1900, when.tm_mon, when.tm_mday, when.tm_hour, when.tm_min, when.tm_sec, 0
    )
    descriptors = [iso.pvd] if iso.joliet_vd is None else [iso.pvd, iso.joliet_vd]
    for descriptor in descriptors:
        for record in _records(descriptor.root_directory_record()):
            record.date = date
            if record.rock_ridge is None:
                continue
            for entries in (record.rock_ridge.dr_entries, record.rock_ridge.ce_entries):
                stamps = entries.tf_record if entries is not None else None
                for name in _TIMES:
                    if stamps is not None and getattr(stamps, name) is not None:
                        setattr(stamps, name, date)


def date_descriptors(image: BinaryIO, timestamp_s: int) -> None:
    """Set the dates of the volume descriptors in the ``image``: made, changed, valid from."""
    date = time.strftime("%Y%m%d%H%M%S00", time.gmtime(timestamp_s)).encode() + b"\0"
    block = FIRST_DESCRIPTOR
    while True:
        image.seek(block * ISO_BLOCK_BYTES)
        kind = image.read(1)[0]
        if kind == TERMINATOR:
            return
        if kind in (PRIMARY, SUPPLEMENTARY):
            image.seek(block * ISO_BLOCK_BYTES + DATES_OFFSET)
            image.write(date + date + NOT_SPECIFIED + date)
        block += 1


def _records(directory: DirectoryRecord) -> Iterator[DirectoryRecord]:
    yield directory
    for child in directory.children:
        if child.is_dir() and not child.is_dot() and not child.is_dotdot():
            yield from _records(child)
        else:
            yield child
