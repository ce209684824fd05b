"""Where the boxes of a picture of a graph stand, and how its arrows run.

Boxes stand in rows, each below everything that it reads (the longest path from the inputs), and in
a row near the mean of what they read. An arrow that skips rows runs through the gaps of those rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Box", "arrange"]


@dataclass
class Box:
    """A box with lines of text; its place is found by `arrange`. Downwards is positive."""

    lines: list[str]
    width: float
    height: float
    left: float = 0.0
    top: float = 0.0

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.top + self.height

    @property
    def middle(self) -> float:
        """Half way from left to right."""
        return self.left + self.width / 2


Route = list[tuple[float, float]]


def arrange(
    boxes: Sequence[Box], arrows: Sequence[tuple[int, int]], gap_x: float, gap_y: float
) -> list[Route]:
    """Place the boxes, of which each stands after those that it reads; returns the arrows' ways."""
    rows = _rows(len(boxes), arrows)
    places = [Box([], 0.0, 0.0) if number >= len(boxes) else boxes[number] for number in rows]
    chains = [_chain(arrow, rows, places) for arrow in arrows]
    by_row: list[list[int]] = [[] for _ in range(max(rows.values()) + 1)]
    for number, row in rows.items():
        by_row[row].append(number)
    reads: dict[int, list[int]] = {number: [] for number in rows}
    for chain in chains:
        for before, after in pairwise(chain):
            reads[after].append(before)
    _place(by_row, reads, places, gap_x, gap_y)
    return [_route([places[number] for number in chain], gap_y) for chain in chains]


def _rows(count: int, arrows: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The row of each box: one below the lowest that it reads."""
    rows = dict.fromkeys(range(count), 0)
    for number in range(count):
        above = [rows[source] for source, target in arrows if target == number]
        rows[number] = 1 + max(above, default=-1)
    return rows


def _chain(arrow: tuple[int, int], rows: dict[int, int], places: list[Box]) -> list[int]:
    """The arrow's places row by row: one without extent is made in each row that it skips."""
    source, target = arrow
    chain = [source]
    for row in range(rows[source] + 1, rows[target]):
        chain.append(len(places))
        rows[len(places)] = row
        places.append(Box([], 0.0, 0.0))
    return [*chain, target]


def _place(
    by_row: list[list[int]],
    reads: dict[int, list[int]],
    places: list[Box],
    gap_x: float,
    gap_y: float,
) -> None:
    """Row by row from the top, each box near the mean of what it reads, none over another."""
    top = 0.0
    for row in by_row:
        wanted = {}
        for position, number in enumerate(row):
            sources = [places[source].middle for source in reads[number]]
            wanted[number] = sum(sources) / len(sources) if sources else float(position)
        row.sort(key=lambda number: (wanted[number], number))
        _spread([places[number] for number in row], [wanted[number] for number in row], gap_x)
        height = max(places[number].height for number in row)
        for number in row:
            place = places[number]
            # A gap is as high as its row, so that nothing in it is crossed.
            place.height = place.height if place.lines else height
            place.top = top + (height - place.height) / 2
        top += height + gap_y
    left = min(place.left for place in places)
    for place in places:
        place.left -= left


def _spread(row: list[Box], wanted: list[float], gap: float) -> None:
    """Put boxes, in order, where they want to be, moved apart where they would overlap."""
    end = -float("inf")
    for box, middle in zip(row, wanted, strict=True):
        box.left = max(middle - box.width / 2, end)
        end = box.right + gap
    # What was pushed to the right is shared out to both sides.
    excess = sum(box.middle - middle for box, middle in zip(row, wanted, strict=True)) / len(row)
    for box in row:
        box.left -= excess


def _route(chain: list[Box], gap_y: float) -> Route:
    """From the bottom of the first box to the top of the last, straight down past skipped rows."""
    first, *skipped, last = chain
    route: Route = [(first.middle, first.bottom)]
    for place in skipped:
        route += [(place.middle, place.top), (place.middle, place.bottom)]
    # The head of the arrow points along its last piece, which is vertical.
    return [*route, (last.middle, last.top - gap_y / 2), (last.middle, last.top)]
