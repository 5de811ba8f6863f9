"""The clock of a measured step: a step whose phases come one after another, so that each can be timed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Phases:
    """What a measured step did beside its arithmetic on this rank, in seconds.

    staging: putting the images where they are computed with, which other steps do meanwhile. waiting: for the rank that came
    last. communication: the allreduce of all gradients. norms: of the gradients, taken in measured steps alone.
    worker_gradient_squared: squared norm of this rank's gradient before it was averaged; gradient_squared: and after.
    """

    staging: float
    waiting: float
    communication: float
    norms: float = 0.0
    worker_gradient_squared: float = math.nan
    gradient_squared: float = math.nan


class PhaseClock:
    """Handed to `Backend.train_step`, which calls each method once, in this order, when the device has done what it says.

    meet: returns once all ranks have called it.
    """

    def __init__(self, meet: Callable[[], None]) -> None:
        self._meet = meet
        self._made = time.perf_counter()

    def staged(self) -> None:
        """The images are where they are computed with."""
        self._staged = time.perf_counter()

    def computed(self) -> None:
        """Backward has ended."""
        self._computed = time.perf_counter()

    def meet(self, gradient_squared: float) -> None:
        """This rank's gradient has that squared norm; returns when backward has ended on all ranks."""
        self._worker_gradient_squared = gradient_squared
        self._arrived = time.perf_counter()
        self._meet()
        self._met = time.perf_counter()

    def averaged(self) -> None:
        """Every gradient holds its mean over all ranks."""
        self._averaged = time.perf_counter()

    def counted(self, gradient_squared: float) -> None:
        """The mean gradient has that squared norm."""
        self._gradient_squared = gradient_squared
        self._counted = time.perf_counter()

    @property
    def phases(self) -> Phases:
        """What was timed."""
        return Phases(
            staging=self._staged - self._made,
            waiting=self._met - self._arrived,
            communication=self._averaged - self._met,
            norms=self._arrived - self._computed + self._counted - self._averaged,
            worker_gradient_squared=self._worker_gradient_squared,
            gradient_squared=self._gradient_squared,
        )
