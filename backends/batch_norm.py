"""Batch norm when several virtual workers share a rank: each has its own statistics, and they share a running average."""

from typing import Literal

MOMENTUM = 0.1
"""Weight of the newest statistics. The paper's "momentum 0.9" is the weight of the old ones."""
EPSILON = 1e-5


PIXELS_TOGETHER = {"cpu": 2**16, "gpu": 2**22}
"""What goes through a network at once, at most. More than the first was slower again (benchmarks/LOG.md); the second is less
than what one worker of ImageNet's recipes takes."""

LEAST_TOGETHER = 4
"""Fewer workers in a pass gain less than it costs to put their channels side by side."""


def workers_together(count: int, pixels: int, device: Literal["cpu", "gpu"]) -> int:
    """How many of a rank's `count` virtual workers go through the network in one pass: the same number in each, at least 1.

    pixels: of one worker's images.
    """
    most = PIXELS_TOGETHER[device] // pixels
    fitting = [together for together in range(LEAST_TOGETHER, min(count, most) + 1) if count % together == 0]
    return max(fitting, default=1)


def virtual_momentum(index: int, count: int) -> float:
    """The weight of virtual worker `index`'s statistics (0-based, of `count` in turn on one buffer).

    The same holds for passes of several workers, of whose statistics the mean is taken.

    On separate ranks each worker does r <- 0.9 r + 0.1 s_j, and the mean over workers is 0.9 r + (0.1 / count) sum s_j. Taken
    in turn on one buffer, the weights m_j = a / (1 - (count - 1 - j) a), a = 0.1 / count, give exactly that: each later
    update shrinks the earlier ones to a, and prod (1 - m_j) = 0.9.
    """
    share = MOMENTUM / count
    return share / (1 - (count - 1 - index) * share)
