"""The clock of a measured step: a step whose phases come one after another, so that each can be timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Phases:
    """What a measured step did beside its arithmetic on this rank, in seconds.

    staging: putting the images where they are computed with, which other steps do meanwhile. waiting: for the rank that came
    last. communication: the allreduce of all gradients.
    """

    staging: float
    waiting: float
    communication: float


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
        """Backward has ended; returns when it has on all ranks."""
        self._computed = time.perf_counter()
        self._meet()
        self._met = time.perf_counter()

    def averaged(self) -> None:
        """Every gradient holds its mean over all ranks."""
        self._averaged = time.perf_counter()

    @property
    def phases(self) -> Phases:
        """What was timed."""
        return Phases(
            staging=self._staged - self._made,
            waiting=self._met - self._computed,
            communication=self._averaged - self._met,
        )
