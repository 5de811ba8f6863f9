"""What the ranks of one size measure: whole steps, steps without communication, and communication without steps.

The three take turns in short rounds, so that a machine that is busy for a while slows all of them alike.
"""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from lbsgd.backends.contract import Backend
from lbsgd.data.batch import Batch
from lbsgd.measuring.steps import Step, take_steps
from lbsgd.ranks.world import World

ROUND_SECONDS = 5.0
LEAST_STEPS, MOST_STEPS = 5, 100


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How much is measured. warm_up: steps not counted. steps: of each kind in a round; None: ROUND_SECONDS of them."""

    warm_up: int
    steps: int | None
    repeats: int


def measure(
    world: World, backend: Backend, batches: Iterator[Batch], learning_rate: float, images_per_step: int, rounds: Rounds
) -> list[dict[str, Any]]:
    """A measurement for each round: step_ms of all ranks together, allreduce_ms, and means by rank. Collective.

    images_per_step: of all ranks. Times in milliseconds. learning_rate: throughout; small enough that the loss stays finite
    whatever is measured. One rank has nobody to communicate with: its steps are measured once.
    """
    gradient_bytes, exchange = backend.gradient_exchange()
    position = iter(range(1 << 40))
    state = backend.export_state()

    def take(count: int, communicate: bool) -> list[Step]:
        world.barrier()
        iterations = [next(position) for _ in range(count)]
        return list(take_steps(backend, batches, lambda _: learning_rate, iterations, communicate=communicate))

    def take_alone(count: int) -> list[Step]:
        taken = take(count, communicate=False)
        backend.import_state(state)  # without communication the replicas drift apart
        return taken

    take_alone(rounds.warm_up)
    settled = take(rounds.warm_up, communicate=True)
    steps = rounds.steps or _steps_in_a_round(world, settled)
    _time(world, exchange, 2)
    measurements = []
    for _ in range(rounds.repeats):
        alone = take_alone(steps) if world.size > 1 else None
        whole = take(steps, communicate=True)
        exchange_ms = _time(world, exchange, max(3, steps // 4)) if world.size > 1 else None
        measurements.append(_gather(world, whole, alone or whole, exchange_ms, images_per_step, gradient_bytes))
    return measurements


def _steps_in_a_round(world: World, settled: list[Step]) -> int:
    """As many as fill ROUND_SECONDS at the median pace, within LEAST_STEPS and MOST_STEPS; the same on all ranks."""
    pace = median(step.seconds for step in settled)
    return world.broadcast(max(LEAST_STEPS, min(MOST_STEPS, round(ROUND_SECONDS / pace))))


def _time(world: World, exchange, count: int) -> float:
    """Mean milliseconds of `exchange` on the slowest rank. Collective."""
    world.barrier()
    start = time.perf_counter()
    for _ in range(count):
        exchange()
    return 1000 * world.max((time.perf_counter() - start) / count)


def _gather(
    world: World, whole: list[Step], alone: list[Step], exchange_ms: float | None, images_per_step: int, gradient_bytes: int
) -> dict[str, Any]:
    own = {
        "rank": world.rank,
        "host": socket.gethostname(),
        "step_ms": 1000 * fmean(step.seconds for step in whole),
        "compute_ms": 1000 * fmean(step.busy_seconds for step in alone),
        "data_ms": 1000 * fmean(step.data_seconds for step in whole),
        "other_ms": 1000 * fmean(step.other_seconds for step in whole),
    }
    everyone = world.gather((own, [1000 * step.seconds for step in whole]))
    return {
        "step_ms": laps_of_all([steps for _, steps in everyone]),
        "images_per_step": images_per_step,
        "gradient_bytes": gradient_bytes,
        "allreduce_ms": exchange_ms,
        "ranks": [rank for rank, _ in everyone],
        "hosts": world.hosts,
    }


def laps_of_all(ranks: list[list[float]]) -> list[float]:
    """The time of each step of all ranks together: from when the last rank had finished the one before to when the last had
    finished this. ranks: each rank's times of the same steps, all begun together.

    Their sum is the slowest rank's time. The longest time of each step would add up to more than anybody waited: a rank that
    was late at one step is the sooner done with the next.
    """
    finished = np.cumsum(ranks, axis=1).max(axis=0)
    return np.diff(finished, prepend=0.0).tolist()
