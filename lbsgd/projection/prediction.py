"""Predicted step time and efficiency for numbers of GPUs: compute, waiting for the slowest worker, and exposed communication.

The step that is given is measured at the baseline; what communication and waiting the model sees in it is taken out first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from lbsgd.errors import UsageError
from lbsgd.projection.backward import Gradient
from lbsgd.projection.calibration import Constants
from lbsgd.projection.cluster import Collective
from lbsgd.projection.overlap import Fusion, communicate, exposed

HALVINGS = 50


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is trained. step: seconds of the step measured on `baseline_gpus`; overlap: whether gradients are sent while
    backward runs, rather than after it."""

    step: float
    baseline_gpus: int
    gradients: Sequence[Gradient]
    overlap: bool
    fusion: Fusion


class Step(NamedTuple):
    """Seconds of the parts of a step, and what the largest part after compute comes from."""

    compute: float
    waiting: float
    exposed: float
    bottleneck: str

    @property
    def total(self) -> float:
        return self.compute + self.waiting + self.exposed


class Prediction(NamedTuple):
    """A predicted step. efficiency: images per second and GPU over those of the baseline, a fraction."""

    gpus: int
    step: Step
    efficiency: float


def predict(
    workload: Workload, collective_of: Callable[[int], Collective], constants: Constants, gpus: Sequence[int]
) -> list[Prediction]:
    """Predictions for each of `gpus`; collective_of(ranks) is the allreduce of this many ranks.

    Raises UsageError when the baseline's step is too short to hold its own communication.
    """
    compute = _compute_seconds(workload, collective_of, constants)
    steps = [_step(workload, collective_of, constants, ranks, compute) for ranks in gpus]
    return [Prediction(ranks, step, workload.step / step.total) for ranks, step in zip(gpus, steps, strict=True)]


def slowest_of(workers: int) -> float:
    """How many standard deviations the slowest of this many workers is expected above the mean (Blom 1958)."""
    return NormalDist().inv_cdf((workers - 0.375) / (workers + 0.25)) if workers > 1 else 0.0


def _compute_seconds(workload: Workload, collective_of: Callable[[int], Collective], constants: Constants) -> float:
    """The compute with which the baseline's predicted step is the given one, by bisection: more compute, longer step."""
    low, high = 0.0, workload.step
    for _ in range(HALVINGS if workload.baseline_gpus > 1 else 0):
        middle = (low + high) / 2
        step = _step(workload, collective_of, constants, workload.baseline_gpus, middle).total
        low, high = (middle, high) if step < workload.step else (low, middle)
    if high < 0.01 * workload.step:
        raise UsageError(
            f"--step-ms {workload.step * 1e3:g} on {workload.baseline_gpus} GPUs is less than their communication alone would "
            "take as described; check --gradient-mb, --baseline-gpus and the cluster"
        )
    return high


def _step(
    workload: Workload, collective_of: Callable[[int], Collective], constants: Constants, ranks: int, compute: float
) -> Step:
    if ranks == 1:
        return Step(compute, 0.0, 0.0, "compute")
    collective, backward = collective_of(ranks), compute * constants.backward_share
    gradients = workload.gradients if workload.overlap else [gradient._replace(ready=1.0) for gradient in workload.gradients]
    communication = communicate(gradients, backward, collective, workload.fusion)
    left = exposed(communication, backward, constants.communication_spread)
    waiting = compute * constants.straggler_spread * slowest_of(ranks)
    bottleneck = "waiting for the slowest worker" if waiting > left else collective.limit(communication.largest)
    return Step(compute, waiting, left, bottleneck)
