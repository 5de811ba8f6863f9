"""Scaling efficiency of a run by itself: measured steps, each beside the ordinary steps next to it.

A measured step (`Backend.train_step` with a clock) does its phases one after another, so it says how long this worker
computes, waits for the others and communicates when none of that overlaps. The steps next to it say how long the same takes
as it is done always. Both see the machine as it is at that moment: what slows it down slows both.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from statistics import median

import numpy as np

from lbsgd.backends.phases import Phases
from lbsgd.measuring.steps import Step

SETTLING_STEPS = 3
"""Steps at the start of an attempt that are not counted: tracing, autotuning, cold caches."""

DENSE_PERIOD, DENSE_COUNT = 10, 20
"""Every tenth iteration is measured until there are twenty, so that a short run has a figure too."""

NEIGHBOURS = 5
"""Ordinary steps on either side, at most, that a measured step is compared with."""

LEAST_NEIGHBOURS = 3
"""On both sides together."""


def is_measured(iteration: int, every: int) -> bool:
    """Whether an iteration is a measured step; of nothing but the iteration, so that a resumed run measures the same ones.

    every: distance of measured steps after the first DENSE_COUNT, at least 2; 0: none is measured.
    """
    if not every:
        return False
    period = min(every, DENSE_PERIOD)
    if iteration >= DENSE_COUNT * period:
        period = every
    return iteration % period == period // 2


@dataclass(frozen=True)
class Pair:
    """A measured step and the ordinary steps next to it, in seconds; of one rank, or the means over all.

    efficiency: speed of a worker among the others over its speed alone, compute / step. step: the neighbours', without the wait
    for images and the loop's own work. compute, waiting, communication: what it consists of; waiting and communication as far
    as backward does not hide them. allreduce: all of the communication, hidden or not.
    worker_gradient_squared, gradient_squared: squared norms of the worker's gradient and of the mean over all workers.
    """

    efficiency: float
    step: float
    compute: float
    waiting: float
    communication: float
    allreduce: float
    worker_gradient_squared: float
    gradient_squared: float


PAIR_VALUES = len(Pair.__dataclass_fields__)


def pair(measured: Step, phases: Phases, neighbours: Sequence[Step]) -> Pair:
    """What a measured step and its neighbours on the same rank say.

    What a step takes longer than this worker's own arithmetic is waiting, as far as the measured step saw its worker wait, and
    else communication. By noise, a pair's communication may come out below zero.
    """
    step = median(one.busy_seconds for one in neighbours)
    compute = measured.busy_seconds - phases.staging - phases.waiting - phases.communication - phases.norms
    exposed = step - compute
    waiting = min(max(0.0, exposed), phases.waiting)
    squares = phases.worker_gradient_squared, phases.gradient_squared
    return Pair(compute / step, step, compute, waiting, exposed - waiting, phases.communication, *squares)


def mean_over_ranks(total: np.ndarray, ranks: int) -> list[Pair]:
    """Pairs from the sum over all ranks of what `as_array` gives."""
    return [Pair(*row) for row in (total / ranks).reshape(-1, PAIR_VALUES).tolist()]


def as_array(pairs: Iterable[Pair]) -> np.ndarray:
    """The pairs' values, one pair after the other: float64 [pairs * PAIR_VALUES]."""
    return np.array([astuple(one) for one in pairs], np.float64).reshape(-1)


class _Open:
    """A measured step whose neighbours are not all there yet."""

    def __init__(self, measured: Step, phases: Phases, before: Iterable[Step]) -> None:
        self.measured, self.phases, self.before, self.after = measured, phases, list(before), list[Step]()


class Pairing:
    """Finds the pairs in the steps of an attempt, on one rank.

    The first measured step has no pair: its graphs are made in it. warm: whether steps of both kinds were taken before.
    """

    def __init__(self, *, warm: bool = False) -> None:
        self._settled = 0 if warm else -SETTLING_STEPS
        self._before: deque[Step] = deque(maxlen=NEIGHBOURS)
        self._open: list[_Open] = []
        self._any_measured = warm
        self._found: list[tuple[int, Pair]] = []

    def add(self, step: Step) -> None:
        """Note a step, the next one."""
        self._settled += 1
        if step.phases:
            if self._any_measured:
                self._open.append(_Open(step, step.phases, self._before))
            self._any_measured = True
        elif self._settled > 0:
            self._before.append(step)
            for one in self._open:
                one.after.append(step)
        while self._open and len(self._open[0].after) == NEIGHBOURS:
            self._close(self._open.pop(0))

    def end_stretch(self) -> None:
        """What comes next, such as an evaluation, comes between the steps before and those after."""
        for one in self._open:
            self._close(one)
        self._open.clear()
        self._before.clear()

    def take(self) -> list[tuple[int, Pair]]:
        """The pairs that were completed since the last call, with the iteration of each measured step."""
        found, self._found = self._found, []
        return found

    def _close(self, one: _Open) -> None:
        neighbours = [*one.before, *one.after]
        if len(neighbours) >= LEAST_NEIGHBOURS:
            self._found.append((one.measured.iteration, pair(one.measured, one.phases, neighbours)))
