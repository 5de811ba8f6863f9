"""Means over seeds with their intervals, as the page gives them. All values are in points of error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

# Student's t: the 97.5th percentile for 1, 2, ... degrees of freedom, and for many.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
     2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip
T_OF_MANY = 1.960


@dataclass(frozen=True)
class Mean:
    """spread: the standard deviation over seeds, None of a single one. half_width: of the 95 % interval of `value`."""

    value: float
    spread: float | None
    half_width: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.half_width is None else (self.value - self.half_width, self.value + self.half_width)


def mean(values: Sequence[float]) -> Mean:
    """The mean of at least one value, with Student's interval."""
    if len(values) < 2:
        return Mean(values[0], None, None)
    spread = stdev(values)
    return Mean(fmean(values), spread, quantile(len(values) - 1) * spread / math.sqrt(len(values)))


def difference(values: Sequence[float], reference: Sequence[float]) -> Mean:
    """The mean of `values` less that of `reference`, with Welch's interval."""
    value = fmean(values) - fmean(reference)
    if min(len(values), len(reference)) < 2:
        return Mean(value, None, None)
    shares = [variance(one) / len(one) for one in (values, reference)]
    total = sum(shares)
    if total == 0:
        return Mean(value, None, 0.0)
    freedom = total**2 / sum(share**2 / (len(one) - 1) for share, one in zip(shares, (values, reference), strict=True))
    return Mean(value, None, quantile(freedom) * math.sqrt(total))


def quantile(freedom: float) -> float:
    """Student's 97.5th percentile; that of the next lower whole number of degrees of freedom."""
    return T[max(1, int(freedom)) - 1] if freedom < len(T) + 1 else T_OF_MANY
