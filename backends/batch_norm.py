"""Batch norm's running average when several virtual workers share a rank."""

MOMENTUM = 0.1
"""Weight of the newest statistics. The paper's "momentum 0.9" is the weight of the old ones."""
EPSILON = 1e-5


def virtual_momentum(index: int, count: int) -> float:
    """The weight of virtual worker `index`'s statistics (0-based, of `count` in turn on one buffer).

    On separate ranks each worker does r <- 0.9 r + 0.1 s_j, and the mean over workers is 0.9 r + (0.1 / count) sum s_j. Taken
    in turn on one buffer, the weights m_j = a / (1 - (count - 1 - j) a), a = 0.1 / count, give exactly that: each later
    update shrinks the earlier ones to a, and prod (1 - m_j) = 0.9.
    """
    share = MOMENTUM / count
    return share / (1 - (count - 1 - index) * share)
