"""Where the ranks meet outside of Horovod: about once a second, through MPI."""

from dataclasses import dataclass

import numpy as np

from lbsgd.data.bad_samples import BadSamples
from lbsgd.errors import NonFiniteLoss
from lbsgd.measuring.steps import Step
from lbsgd.ranks.signals import Interruption
from lbsgd.ranks.world import World

MEETING_SECONDS = 1.0
MOST_STEPS_BETWEEN_MEETINGS = 100


@dataclass(frozen=True)
class Meeting:
    """What all ranks know after one. steps: those since the last, as this rank timed them.

    losses: of these steps, float64 [steps], means over all ranks. stop: whether any rank was told to stop. newly_bad: whether
    any rank found training images that cannot be read.
    """

    steps: list[Step]
    losses: np.ndarray
    stop: bool
    newly_bad: bool

    @property
    def position(self) -> int:
        """The iteration that comes next."""
        return self.steps[-1].iteration + 1

    def require_finite_losses(self) -> None:
        """Raise NonFiniteLoss, on all ranks alike, unless every loss is a finite number."""
        finite = np.isfinite(self.losses)
        if not finite.all():
            bad = self.steps[int(np.argmin(finite))].iteration
            raise NonFiniteLoss(
                f"the loss is not finite from iteration {bad} on; the last checkpoint is untouched. "
                "Lower the learning rate or lengthen the warm-up"
            )


class SyncPoint:
    """Collects steps, and brings the ranks together over them."""

    def __init__(self, world: World, signals: Interruption, bad_samples: BadSamples) -> None:
        self._world, self._signals, self._bad_samples = world, signals, bad_samples
        self._steps: list[Step] = []
        self._interval = 1

    def add(self, step: Step) -> None:
        """Note a finished step."""
        self._steps.append(step)

    @property
    def due(self) -> bool:
        """Whether the ranks should meet now: at the same step on all of them."""
        return len(self._steps) >= self._interval

    def meet(self, step_seconds: float) -> Meeting:
        """Meet after the steps that were added, of which there must be some. Collective.

        step_seconds: a step's on this rank, 0 while unknown. Rank 0's decides after how many steps the next meeting is.
        """
        steps, self._steps = self._steps, []
        losses = [step.loss for step in steps]
        interval = steps_in(MEETING_SECONDS, step_seconds) if self._world.is_first else 0
        own = np.array([*losses, self._signals.exit_signal, interval, self._bad_samples.new_count], np.float64)
        total = self._world.sum(own)
        stop, interval, newly_bad = total[-3:]
        self._interval = int(interval)
        return Meeting(steps, total[:-3] / self._world.size, bool(stop), bool(newly_bad))


def steps_in(seconds: float, step_seconds: float) -> int:
    """How many steps take about that long, between 1 and MOST_STEPS_BETWEEN_MEETINGS."""
    return max(1, min(MOST_STEPS_BETWEEN_MEETINGS, round(seconds / step_seconds))) if step_seconds else 1
