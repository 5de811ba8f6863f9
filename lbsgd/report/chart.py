"""A chart: lines over two axes as templates/blocks.html draws them, and the table of values that belongs to it.

Places are percentages of the plot, so that a chart fills any width while its text keeps its size. What can be read off the
chart by pointer or keyboard is the table's rows, no more and no less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lbsgd.report.axis import Axis
from lbsgd.report.curves import Point


@dataclass(frozen=True)
class Line:
    """look: "line", "faint", "ideal" or "prediction". series: 1 to 4, its colour and the shape of its marks.

    name: empty when the legend leaves it out. marked: a mark at every point. intervals: (low, high) of each point's y.
    """

    name: str
    points: Sequence[Point]
    series: int = 1
    look: str = "line"
    marked: bool = False
    intervals: Sequence[tuple[float, float]] = ()


MOST_MARKS = 30
"""Points of a curve that are worth a mark each; more run into one another on a phone."""


class Reading(NamedTuple):
    """A row of the chart's table: where it lies, the y of each mark to show there, and the row's cells."""

    x: float
    ys: tuple[float, ...]
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """description: what one sees, for those who do not. header: of the readings' cells."""

    kind: ClassVar = "chart"
    id: str
    title: str
    description: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    header: tuple[str, ...]
    readings: Sequence[Reading]

    def left(self, x: float) -> str:
        """Percent from the left edge."""
        return f"{self.x.place(x):.2f}"

    def top(self, y: float) -> str:
        """Percent from the top edge."""
        return f"{100 - self.y.place(y):.2f}"

    def path(self, line: Line) -> str:
        """The line in a box of 1000 x 1000."""
        places = (f"{10 * self.x.place(x):.0f} {1000 - 10 * self.y.place(y):.0f}" for x, y in line.points)
        return "M" + " ".join(places)


class Segment(NamedTuple):
    """part: names its colour. left, width: percent. text: its name and value."""

    part: str
    left: float
    width: float
    text: str


class Bar(NamedTuple):
    label: str
    value: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Bars:
    """Stacked bars, of one scale. parts: the names in the legend, in the order of the segments."""

    kind: ClassVar = "bars"
    id: str
    title: str
    description: str
    bars: Sequence[Bar]
    parts: Sequence[str]
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def stack(label: str, value: str, parts: dict[str, tuple[float, str]], whole: float) -> Bar:
    """A bar of parts, each with its size and what is said of it; `whole` is as long as the plot is wide.

    What is not above zero takes no room.
    """
    segments, left = [], 0.0
    for part, (size, text) in parts.items():
        width = 100 * max(size, 0.0) / whole
        if width > 0:
            segments.append(Segment(part, left, width, f"{part}: {text}"))
        left += width
    return Bar(label, value, tuple(segments))
