"""What pairs of rates measured one after the other say: their ratio, and how far it can be trusted.

Whatever slows the machine for longer than a pair slows both halves of it, so ratios of pairs vary less than rates do.
"""

from math import comb
from statistics import median


def median_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The narrowest symmetric pair of order statistics that covers the median, and its confidence.

    The r-th smallest and r-th largest of n values miss the median with probability 2 P(Binomial(n, 1/2) < r), whatever the
    distribution. Fewer than 6 values never reach 0.95: then the smallest and largest, with the confidence they have.
    """
    ordered, n = sorted(values), len(values)
    for r in range((n + 1) // 2, 0, -1):
        covered = 1 - 2 * sum(comb(n, i) for i in range(r)) / 2**n
        if covered >= confidence or r == 1:
            break
    return ordered[r - 1], ordered[n - r], covered


def summarise(ratios: list[float]) -> dict[str, object]:
    """Median, extremes and interval of the median, as the JSON file has them."""
    low, high, confidence = median_interval(ratios)
    return {
        "median": median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "interval": [low, high],
        "interval_confidence": confidence,
    }
