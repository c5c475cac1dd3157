"""Reading an image back: the parts that need more room than a test has."""

from __future__ import annotations

from pathlib import Path

import pycdlib

from mindi.isolayout import extents_of

HUGE_BYTES = (4 << 30) + 12_345


def test_a_file_over_4_gib_is_read_from_its_first_extent_on(tmp_path: Path) -> None:
    # pycdlib 1.22 finds the last extent alone when it is asked by the Rock Ridge path.
    huge = tmp_path / "huge"
    with huge.open("wb") as stream:
        stream.truncate(HUGE_BYTES)
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09")
    iso.add_file(str(huge), "/HUGE.;1", rr_name="huge", joliet_path="/huge")
    extents = extents_of(iso, "/huge")
    iso.close()
    assert sum(length for _, length in extents) == HUGE_BYTES
    assert [start + length for start, length in extents[:-1]] == [start for start, _ in extents[1:]]
