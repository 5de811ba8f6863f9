"""The gradient noise scale: how much of a gradient is noise, and so how large a batch still pays (McCandlish et al. 2018).

A worker's gradient and the mean over all workers are gradients of two batch sizes. Their squared norms give unbiased estimates
of the true gradient's, |G|^2, and of tr(Sigma), the trace of the covariance of a single image's (appendix A.1):

    |G|^2     = (big |g_big|^2 - small |g_small|^2) / (big - small)
    tr(Sigma) = (|g_small|^2 - |g_big|^2) / (1 / small - 1 / big)

Each is smoothed by itself, as a quotient of unbiased estimates is not unbiased; B_simple = tr(Sigma) / |G|^2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SMOOTHING = 0.9
"""Weight of what was so far; the scale grows in training, so old gradients must fade."""


@dataclass(frozen=True)
class NoiseScale:
    """gradient_squared: |G|^2. trace: tr(Sigma). Both smoothed."""

    gradient_squared: float
    trace: float

    @property
    def images(self) -> float | None:
        """B_simple; None where noise hides the gradient altogether, so that its square comes out negative."""
        return self.trace / self.gradient_squared if self.gradient_squared > 0 and self.trace > 0 else None


def estimates(squares: Iterable[tuple[float, float]], small: int, big: int) -> Iterator[NoiseScale]:
    """The noise scale after each measured step.

    squares: |g_small|^2, the mean over workers, and |g_big|^2. small, big: images of a worker and of all; small < big.
    """
    gradient = trace = weight = 0.0
    for of_small, of_big in squares:
        gradient = SMOOTHING * gradient + (1 - SMOOTHING) * (big * of_big - small * of_small) / (big - small)
        trace = SMOOTHING * trace + (1 - SMOOTHING) * (of_small - of_big) / (1 / small - 1 / big)
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        yield NoiseScale(gradient / weight, trace / weight)


def samples_factor(global_batch: int, noise_scale: float) -> float:
    """How many times the images of a very small batch it takes to get as far: 1 + B / B_noise."""
    return 1 + global_batch / noise_scale


def steps_factor(global_batch: int, noise_scale: float) -> float:
    """How many times the steps of a very large batch it takes to get as far: 1 + B_noise / B."""
    return 1 + noise_scale / global_batch
