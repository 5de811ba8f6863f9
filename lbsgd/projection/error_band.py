"""How far a prediction may be off: what it was off for published systems of its kind, each predicted without its own rows.

What a prediction gets wrong is the time that is lost beside a step's compute. Being off by a part of that moves an efficiency e
by about the same part of e (1 - e), so errors count as shares of that, and a band is what nine of ten of its kind were off by.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FLOOR = 0.03
"""Of efficiency: added to e (1 - e), as a prediction of no loss may err too."""

COVERAGE = 0.9


@dataclass(frozen=True, kw_only=True)
class ErrorBand:
    """Of a kind of system. rows, systems: published ones of the kind. median_points, p90_points: their absolute errors, in
    points of efficiency. relative: the 90th percentile of the error over `scale`."""

    rows: int
    systems: int
    median_points: float
    p90_points: float
    relative: float

    def half_width(self, efficiency: float) -> float:
        """What nine of ten predictions of this efficiency err by at most; both are fractions."""
        return self.relative * scale(efficiency)


def scale(efficiency: float) -> float:
    """What an error counts relative to."""
    return FLOOR + max(0.0, efficiency * (1 - efficiency))


def narrowest_known(bands: Mapping[str, ErrorBand], names: Sequence[str]) -> str:
    """The narrowest kind of `names` of which enough was published."""
    return next(name for name in names if name in bands)


def quantile(values: Sequence[float], share: float) -> float:
    """The least of the values that this share of as many new ones would not exceed: the ceil((n + 1) share)-th smallest."""
    return sorted(values)[min(len(values), math.ceil((len(values) + 1) * share)) - 1]
