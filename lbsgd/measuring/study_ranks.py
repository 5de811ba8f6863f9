"""What the ranks of one size measure: ordinary steps, and measured steps among them."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from statistics import fmean, median
from typing import Any

import numpy as np

from lbsgd.backends.contract import Backend
from lbsgd.data.batch import Batch
from lbsgd.measuring.efficiency import DENSE_PERIOD, Pair, Pairing, as_array, mean_over_ranks
from lbsgd.measuring.steps import Step, take_steps
from lbsgd.ranks.world import World

ROUND_SECONDS = 5.0
LEAST_STEPS, MOST_STEPS = 5, 100


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How much is measured. warm_up: steps not counted. steps: ordinary ones in a round; None: ROUND_SECONDS of them."""

    warm_up: int
    steps: int | None
    repeats: int


def measure(
    world: World, backend: Backend, batches: Iterator[Batch], learning_rate: float, images_per_step: int, rounds: Rounds
) -> list[dict[str, Any]]:
    """A measurement for each round: step_ms of all ranks together, and means by rank. Collective.

    images_per_step: of all ranks. Times in milliseconds. learning_rate: throughout; small enough that the loss stays finite
    whatever is measured. One rank has nobody to communicate with: all its steps are ordinary ones.
    """
    position = count()

    def take(steps: int) -> list[Step]:
        world.barrier()
        kinds = kinds_of(steps, alone=world.size == 1)
        iterations = {next(position): measured for measured in kinds}
        return list(take_steps(backend, batches, lambda _: learning_rate, iterations, iterations.__getitem__))

    take(rounds.warm_up)
    settled = take(rounds.warm_up)
    steps = rounds.steps or _steps_in_a_round(world, settled)
    return [_gather(world, take(steps), images_per_step, backend.gradient_bytes) for _ in range(rounds.repeats)]


def kinds_of(ordinary: int, *, alone: bool) -> list[bool]:
    """Which steps of a round are measured ones, so that there are `ordinary` others: one in the middle of each ten."""
    if alone:
        return [False] * ordinary
    groups = np.array_split(np.zeros(ordinary, bool), max(1, ordinary // DENSE_PERIOD))
    return [kind for group in groups for kind in np.insert(group, len(group) // 2, True).tolist()]


def _steps_in_a_round(world: World, settled: list[Step]) -> int:
    """As many as fill ROUND_SECONDS at the median pace, within LEAST_STEPS and MOST_STEPS; the same on all ranks."""
    pace = median(step.seconds for step in settled)
    return world.broadcast(max(LEAST_STEPS, min(MOST_STEPS, round(ROUND_SECONDS / pace))))


def _gather(world: World, steps: list[Step], images_per_step: int, gradient_bytes: int) -> dict[str, Any]:
    ordinary = [step for step in steps if step.phases is None]
    pairs = _pairs_of(steps)
    own = {
        "rank": world.rank,
        "host": socket.gethostname(),
        "step_ms": 1000 * fmean(step.seconds for step in ordinary),
        "data_ms": 1000 * fmean(step.data_seconds for step in ordinary),
        "other_ms": 1000 * fmean(step.other_seconds for step in ordinary),
    }
    own |= _split(1000 * fmean(step.busy_seconds for step in ordinary), pairs)
    everyone = world.gather((own, [1000 * step.seconds for step in ordinary], as_array(pairs)))
    together = mean_over_ranks(np.sum([values for *_, values in everyone], axis=0), world.size)
    return {
        "step_ms": laps_of_all([laps for _, laps, _ in everyone]),
        "images_per_step": images_per_step,
        "gradient_bytes": gradient_bytes,
        "allreduce_ms": 1000 * fmean(pair.allreduce for pair in together) if together else None,
        "efficiencies": [pair.efficiency for pair in together],
        "ranks": [rank for rank, *_ in everyone],
        "hosts": world.hosts,
    }


def _pairs_of(steps: list[Step]) -> list[Pair]:
    pairing = Pairing(warm=True)
    for step in steps:
        pairing.add(step)
    pairing.end_stretch()
    return [pair for _, pair in pairing.take()]


def _split(busy: float, pairs: list[Pair]) -> dict[str, float]:
    """compute_ms, waiting_ms and communication_ms of a step that is busy for `busy` ms, in the proportions of the pairs."""
    if not pairs:
        return {"compute_ms": busy, "waiting_ms": 0.0, "communication_ms": 0.0}
    compute = min(busy, busy * fmean(pair.compute / pair.step for pair in pairs))
    waiting = min(busy - compute, busy * fmean(pair.waiting / pair.step for pair in pairs))
    return {"compute_ms": compute, "waiting_ms": waiting, "communication_ms": busy - compute - waiting}


def laps_of_all(ranks: list[list[float]]) -> list[float]:
    """The time of each step of all ranks together: from when the last rank had finished the one before to when the last had
    finished this. ranks: each rank's times of the same steps, all begun together.

    Their sum is the slowest rank's time. The longest time of each step would add up to more than anybody waited: a rank that
    was late at one step is the sooner done with the next.
    """
    finished = np.cumsum(ranks, axis=1).max(axis=0)
    return np.diff(finished, prepend=0.0).tolist()
