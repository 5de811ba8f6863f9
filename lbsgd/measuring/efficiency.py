"""Scaling efficiency of a run by itself: how fast each worker would go without the others, against how fast it goes.

Before training each worker takes the run's first steps with communication left out, and its state is put back. What the
same step takes longer later is communication that backward did not hide, or waiting for a slower worker.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np

from lbsgd.backends.contract import Backend
from lbsgd.data.batch import Batch
from lbsgd.measuring.steps import Step, take_steps
from lbsgd.ranks.world import World
from lbsgd.record.run_content import RunContent, TimeSplit

METHOD = "communication-off"
SETTLING_STEPS = 3
"""Steps at the start of a run, or of a measurement, that are not counted: tracing, autotuning, cold caches."""

LEAST_SECONDS = 3.0
"""Of timing a worker alone: a median over a moment says little on a machine that others use."""


def time_alone(
    world: World,
    backend: Backend,
    learning_rate: Callable[[int], float],
    start_batches: Callable[[], Generator[Batch, None, None]],
    span: range,
    steps: int,
) -> float:
    """Median seconds of this worker's step without communication; its state is afterwards as before. Collective.

    span: the run's iterations. steps: how many are timed at least, after SETTLING_STEPS; short steps are timed for
    LEAST_SECONDS, as far as the run's own steps reach.
    """
    state = backend.export_state()
    batches = start_batches()
    taken: list[float] = []
    for step in take_steps(backend, batches, learning_rate, span, communicate=False):
        taken.append(step.busy_seconds)
        if len(taken) == SETTLING_STEPS:
            world.barrier()  # a rank that still traces its graph would take the cores of one that is timed
        if len(taken) >= SETTLING_STEPS + steps and sum(taken) >= LEAST_SECONDS:
            break
    batches.close()
    backend.import_state(state)
    return median(taken[SETTLING_STEPS:] or taken)


@dataclass
class StepTimes:
    """The times of a run's steps on this rank, in seconds."""

    seconds: list[float] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    _seen: int = 0

    def add(self, step: Step) -> None:
        """Count a step unless the run has only just started."""
        self._seen += 1
        if self._seen > SETTLING_STEPS:
            self.seconds.append(step.seconds)
            self.data.append(step.data_seconds)
            self.other.append(step.other_seconds)

    def recent(self, count: int = 50) -> tuple[float, float]:
        """Mean seconds of the last `count` steps: whole, and without waiting for data and the loop's own work."""
        if not self.seconds:
            return 0.0, 0.0
        whole, data, other = (fmean(series[-count:]) for series in (self.seconds, self.data, self.other))
        return whole, whole - data - other

    def summary(self) -> tuple[float, float, float, float]:
        """(mean step, mean data wait, mean other, median busy) in seconds; at least one step was added."""
        busy = [s - d - o for s, d, o in zip(self.seconds, self.data, self.other, strict=True)]
        return fmean(self.seconds), fmean(self.data), fmean(self.other), median(busy)


def summarise(world: World, times: StepTimes, alone: float | None, images_per_step: int) -> RunContent | None:
    """The record's `throughput`, `time_split` and `scaling`; None when the run was too short to time. Collective.

    alone: this worker's seconds per step from `time_alone`; None when it was not measured.
    images_per_step: images that a worker handles per step.
    """
    if not world.broadcast(bool(times.seconds)):
        return None
    everyone = world.gather((*times.summary(), alone))
    step, data, other, busy = (fmean(column) for column in list(zip(*everyone, strict=True))[:4])
    per_worker = images_per_step / step
    p50, p90, p99 = np.percentile(np.array(times.seconds) * 1000, (50, 90, 99))
    result: RunContent = {
        "throughput": {
            "images_per_second": per_worker * world.size,
            "images_per_second_per_worker": per_worker,
            "step_ms": {"p50": p50, "p90": p90, "p99": p99},
            "steps_timed": len(times.seconds),
        }
    }
    if alone is not None:
        baseline = fmean(images_per_step / seconds for *_, seconds in everyone if seconds is not None)
        efficiency = images_per_step / busy / baseline
        result["scaling"] = {
            "workers": world.size,
            "efficiency": efficiency,
            "baseline_workers": 1,
            "baseline_images_per_second": baseline,
            "baseline_run": None,
            "method": METHOD,
        }
        result["time_split"] = time_split(step, data, other, efficiency)
    return result


def time_split(step: float, data: float, other: float, efficiency: float) -> TimeSplit:
    """Fractions of a step: waiting for data, computing, exposed communication, the rest. They sum to 1."""
    busy = 1 - (data + other) / step
    compute = busy * min(1.0, efficiency)
    return {"data": data / step, "compute": compute, "communication": busy - compute, "other": other / step}


def live_efficiency(alone: float | None, busy: float) -> float | None:
    """The efficiency of the last steps for the progress line: `alone` over `busy`, both in seconds per step."""
    return alone / busy if alone and busy else None
