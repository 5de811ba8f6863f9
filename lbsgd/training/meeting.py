"""Where the ranks meet outside of Horovod: about once a second, through MPI."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from lbsgd.data.bad_samples import BadSamples
from lbsgd.errors import NotFinite
from lbsgd.measuring.efficiency import SETTLING_STEPS, Pair, Pairing, as_array, mean_over_ranks
from lbsgd.measuring.steps import Step
from lbsgd.ranks.signals import Interruption
from lbsgd.ranks.world import World

MEETING_SECONDS = 1.0
MOST_STEPS_BETWEEN_MEETINGS = 100
RECENT_STEPS = 50
"""Those that the pace is told from."""


@dataclass(frozen=True)
class Meeting:
    """What all ranks know after one. steps: those since the last, as this rank timed them.

    losses: of these steps, float64 [steps]. times: float64 [steps, 3], in seconds, of which the waits for images and the loop's
    own work are the second and third; NaN for steps that do not count. pairs: by iteration. All are means over all ranks.
    step_seconds: of the last steps, on this rank; 0 while unknown. stop: whether any rank was told to stop. newly_bad: whether
    any rank found training images that cannot be read.
    """

    steps: list[Step]
    losses: np.ndarray
    times: np.ndarray
    pairs: dict[int, Pair]
    step_seconds: float
    stop: bool
    newly_bad: bool

    @property
    def position(self) -> int:
        """The iteration that comes next."""
        return self.steps[-1].iteration + 1

    def require_finite_losses(self, last_checkpoint: str) -> None:
        """Raise NotFinite, on all ranks alike, unless every loss is a finite number. last_checkpoint: a sentence about it."""
        finite = np.isfinite(self.losses)
        if not finite.all():
            bad = self.steps[int(np.argmin(finite))].iteration
            raise NotFinite(
                f"the loss is not finite from iteration {bad} on; lower the learning rate or lengthen the warm-up. "
                f"{last_checkpoint}"
            )


class SyncPoint:
    """Collects steps, and brings the ranks together over them."""

    def __init__(self, world: World, signals: Interruption, bad_samples: BadSamples) -> None:
        self._world, self._signals, self._bad_samples = world, signals, bad_samples
        self._pairing = Pairing()
        self._steps: list[Step] = []
        self._counted: list[bool] = []
        self._taken = 0
        self._any_measured = False
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._interval = 1

    def add(self, step: Step) -> None:
        """Note a finished step. What is made in it, such as a measured step's graphs, is no part of the run's pace."""
        self._taken += 1
        makes_graphs = self._taken <= SETTLING_STEPS or (step.phases is not None and not self._any_measured)
        self._any_measured |= step.phases is not None
        self._steps.append(step)
        self._counted.append(not makes_graphs)
        self._pairing.add(step)
        if not makes_graphs:
            self._recent.append(step.seconds)

    @property
    def due(self) -> bool:
        """Whether the ranks should meet now: at the same step on all of them."""
        return len(self._steps) >= self._interval

    def meet(self, *, ends_stretch: bool) -> Meeting:
        """Meet after the steps that were added, of which there must be some. Collective.

        ends_stretch: whether something else, such as an evaluation, comes before the next step. Rank 0's pace decides after how
        many steps the next meeting is.
        """
        if ends_stretch:
            self._pairing.end_stretch()
        steps, self._steps = self._steps, []
        pairs = dict(self._pairing.take())
        pace = fmean(self._recent) if self._recent else 0.0
        interval = steps_in(MEETING_SECONDS, pace) if self._world.is_first else 0
        flags = (self._signals.exit_signal, interval, self._bad_samples.new_count)
        own = (self._values_of(steps), as_array(pairs.values()), np.array(flags, np.float64))
        of_steps, of_pairs, (stop, interval, newly_bad) = split(self._world.sum(np.concatenate(own)), own)
        self._interval = int(interval)
        losses, *times = of_steps.reshape(4, -1) / self._world.size
        met = dict(zip(pairs, mean_over_ranks(of_pairs, self._world.size), strict=True))
        return Meeting(steps, losses, np.transpose(times), met, pace, bool(stop), bool(newly_bad))

    def _values_of(self, steps: list[Step]) -> np.ndarray:
        """The losses, then each of the three times, as Meeting has them: float64 [4 * steps]."""
        values = np.array([(one.loss, one.seconds, one.data_seconds, one.other_seconds) for one in steps], np.float64)
        values[np.logical_not(self._counted), 1:] = np.nan
        self._counted.clear()
        return values.T.reshape(-1)


def split(joined: np.ndarray, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What np.concatenate joined, as parts of the lengths of `parts`."""
    return np.split(joined, np.cumsum([len(part) for part in parts])[:-1])


def steps_in(seconds: float, step_seconds: float) -> int:
    """How many steps take about that long, between 1 and MOST_STEPS_BETWEEN_MEETINGS."""
    return max(1, min(MOST_STEPS_BETWEEN_MEETINGS, round(seconds / step_seconds))) if step_seconds else 1
