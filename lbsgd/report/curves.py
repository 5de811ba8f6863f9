"""Thousands of points as a few: what can be seen of them, and what can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class Bin:
    """Successive points as one: the x of the first and of the last, and of their y the mean and the range."""

    first: float
    last: float
    mean: float
    low: float
    high: float

    @property
    def middle(self) -> Point:
        return Point((self.first + self.last) / 2, self.mean)


def outline(points: Sequence[Point], columns: int) -> list[Point]:
    """The points that show: of as many columns of equal width, the lowest and the highest. At most 2 * columns, by x."""
    if len(points) <= 2 * columns:
        return list(points)
    x, y = np.array(points).T
    column = np.minimum((x - x[0]) / (x[-1] - x[0]) * columns, columns - 1).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    chosen = {int(start + pick(part)) for start, part in zip(starts, np.split(y, starts[1:]), strict=True)
              for pick in (np.argmin, np.argmax)}  # fmt: skip
    return [points[index] for index in sorted(chosen)]


def bins(points: Sequence[Point], count: int) -> list[Bin]:
    """The points in groups of about equal size, at most `count`."""
    groups = np.array_split(np.array(points), min(count, len(points)))
    return [Bin(*map(float, (g[0, 0], g[-1, 0], g[:, 1].mean(), g[:, 1].min(), g[:, 1].max()))) for g in groups]


def some(rows: Sequence, count: int) -> list:
    """At most `count` of them, evenly spread, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index] for index in np.linspace(0, len(rows) - 1, count).round().astype(int)]
