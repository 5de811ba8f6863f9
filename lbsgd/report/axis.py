"""Axes: which values a chart shows, where on it they lie, and which of them are written beside it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lbsgd.report.text import tick

Text = Callable[[float], str]

LEAST_GAP = 13.0
"""Between two ticks of an axis of counts, in percent of its length: their texts must not touch on a phone."""


@dataclass(frozen=True)
class Axis:
    """ticks: values and their texts, from low to high."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Percent of the way from low to high."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return 100 * (value - low) / (high - low)


def linear_axis(label: str, low: float, high: float, text: Text = tick, *, exact: bool = False) -> Axis:
    """From low to high; widened to the next ticks unless `exact`, and then with more of them."""
    high = high if high > low else low + (abs(low) or 1.0)
    step = _round_step((high - low) / (6 if exact else 4))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [round(index * step, 12) for index in range(first, last + 1)]
    if not exact:
        low, high = values[0], values[-1]
    return Axis(label, low, high, tuple((value, text(value)) for value in values if low <= value <= high))


def log_axis(label: str, low: float, high: float, text: Text = tick) -> Axis:
    """From a little below low to a little above high, both positive."""
    low, high = low / 1.3, high * 1.3
    factors = (1,) if high / low > 300 else (1, 3) if high / low > 30 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in factors]
    return Axis(label, low, high, tuple((value, text(value)) for value in values if low <= value <= high), logarithmic=True)


def count_axis(label: str, counts: Sequence[int]) -> Axis:
    """Of numbers of workers: logarithmic when they reach far, with ticks at themselves."""
    low, high = min(counts), max(counts)
    if wide(counts):
        axis = Axis(label, low / 1.25, high * 1.25, (), logarithmic=True)
    else:
        margin = 0.08 * (high - low) or 0.5
        axis = Axis(label, low - margin, high + margin, ())
    ticks = [high]
    for count in sorted(set(counts), reverse=True)[1:]:
        if axis.place(ticks[0]) - axis.place(count) >= LEAST_GAP:
            ticks.insert(0, count)
    return Axis(axis.label, axis.low, axis.high, tuple((count, f"{count:,}") for count in ticks), axis.logarithmic)


def wide(counts: Sequence[int]) -> bool:
    """Whether these counts need a logarithmic axis."""
    return max(counts) >= 8 * min(counts)


def _round_step(step: float) -> float:
    """The next larger of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))
