"""Measurements in pairs: ours, the peer, ours, the peer ...; what counts is the median."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured in which ``unit``, ours against a peer's.

    The goal is either ``at_most``, a limit for ours, or ``share``, one for ours / peer's.
    """

    what: str
    unit: str
    ours: float
    peer_name: str = ""
    peer: float | None = None
    share: float | None = None
    at_most: float | None = None
    runs: tuple[tuple[float, ...], ...] = ()

    @property
    def ratio(self) -> float | None:
        """Ours as a part of the peer's."""
        return None if self.peer is None else self.ours / self.peer

    @property
    def is_met(self) -> bool | None:
        """Tell whether the goal is reached; None where there is none."""
        if self.at_most is not None:
            return self.ours <= self.at_most
        if self.share is not None and self.ratio is not None:
            return self.ratio <= self.share
        return None

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.at_most is not None:
            return f"at most {self.at_most:g} {self.unit}"
        if self.share is not None:
            if self.share == 1:
                return "no more"
            few = self.share < 0.25
            return f"at most 1/{1 / self.share:g}" if few else f"at most {self.share:g}"
        return "-"

    def to_json(self) -> dict[str, object]:
        """Return the row for programs."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "peer_name": self.peer_name,
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.is_met,
            "runs": [list(values) for values in self.runs],
        }


def alternate(
    ours: Run, peer: Run, runs: int, *, warm: bool = True
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Run both in turn, ``runs`` times after one that is not counted (it warms the page cache)."""
    if warm:
        ours()
        peer()
    pairs = [(ours(), peer()) for _ in range(runs)]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def repeat(ours: Run, runs: int) -> tuple[float, ...]:
    """Run ours alone, ``runs`` times after one that is not counted."""
    ours()
    return tuple(ours() for _ in range(runs))


median = statistics.median


def timed_row(
    what: str,
    peer: str,
    pairs: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    share: float | None = None,
) -> Row:
    """Return the row of measurements in pairs, in seconds."""
    ours, theirs = pairs
    return Row(what, "s", median(ours), peer, median(theirs), share=share, runs=pairs)


def table(rows: list[Row]) -> str:
    """Return the rows as a table in plain text."""
    head = ("", "ours", "peer", "", "ratio", "goal", "")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    left = {0, 3, 5, 6}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "-" if row.ratio is None else _ratio(row.ratio)
    peer = "-" if row.peer is None else f"{row.peer:.2f} {row.unit}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
    ours = f"{row.ours:.2f} {row.unit}"
    return (row.what, ours, peer, row.peer_name, ratio, row.goal, verdict)


def _ratio(value: float) -> str:
    return f"1/{1 / value:.1f}" if 0 < value < 0.5 else f"{value:.2f}"
