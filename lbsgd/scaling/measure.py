"""What the ranks of one size measure: whole steps, steps without communication, and communication without steps.

The three take turns in short rounds, so that a machine that is busy for a while slows all of them alike.
"""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lbsgd.backends.contract import Backend
from lbsgd.data.loader import Batch
from lbsgd.schedule import Schedule
from lbsgd.steps import Step, take_steps
from lbsgd.world import World

ROUND_SECONDS = 5.0
LEAST_STEPS, MOST_STEPS = 5, 100


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How much is measured. warm_up: steps not counted. steps: of each kind in a round; None: ROUND_SECONDS of them."""

    warm_up: int
    steps: int | None
    repeats: int


def measure(
    world: World, backend: Backend, batches: Iterator[Batch], schedule: Schedule, images_per_step: int, rounds: Rounds
) -> list[dict[str, Any]]:
    """A measurement for each round: step_ms of the slowest rank, allreduce_ms, and means by rank. Collective.

    images_per_step: of all ranks. Times in milliseconds. The learning rate is the schedule's first throughout, so that the
    loss stays finite whatever is measured.
    """
    gradient_bytes, exchange = backend.gradient_exchange()
    position = iter(range(1 << 40))

    def take(count: int, communicate: bool) -> list[Step]:
        world.comm.Barrier()
        constant = _Constant(schedule.lr(0))
        return list(take_steps(backend, batches, constant, [next(position) for _ in range(count)], communicate=communicate))

    take(rounds.warm_up, communicate=False)
    settled = take(rounds.warm_up, communicate=True)
    steps = rounds.steps or _steps_in_a_round(world, settled)
    _time(world, exchange, 2)
    state = backend.export_state()
    measurements = []
    for _ in range(rounds.repeats):
        alone = take(steps, communicate=False)
        backend.import_state(state)  # without communication the replicas drift apart
        whole = take(steps, communicate=True)
        alone_ms, exchange_ms = _busy_ms(alone), _time(world, exchange, max(3, steps // 4)) if world.size > 1 else None
        measurements.append(_gather(world, whole, alone_ms, exchange_ms, images_per_step, gradient_bytes))
    return measurements


def _steps_in_a_round(world: World, settled: list[Step]) -> int:
    """As many as fill ROUND_SECONDS at the pace of the last one, within LEAST_STEPS and MOST_STEPS; the same on all ranks."""
    return world.broadcast(max(LEAST_STEPS, min(MOST_STEPS, round(ROUND_SECONDS / settled[-1].seconds))))


@dataclass(frozen=True)
class _Constant:
    """A schedule of one learning rate."""

    rate: float

    def lr(self, _: int) -> float:
        return self.rate


def _busy_ms(steps: list[Step]) -> float:
    """Mean time of a step without waiting for data and the loop's own work."""
    return 1000 * fmean(step.busy_seconds for step in steps)


def _time(world: World, exchange, count: int) -> float:
    """Mean milliseconds of `exchange` on the slowest rank. Collective."""
    world.comm.Barrier()
    start = time.perf_counter()
    for _ in range(count):
        exchange()
    return 1000 * world.max((time.perf_counter() - start) / count)


def _gather(
    world: World, whole: list[Step], alone_ms: float, exchange_ms: float | None, images_per_step: int, gradient_bytes: int
) -> dict[str, Any]:

    own = {
        "rank": world.rank,
        "host": socket.gethostname(),
        "step_ms": 1000 * fmean(step.seconds for step in whole),
        "compute_ms": alone_ms,
        "data_ms": 1000 * fmean(step.data_seconds for step in whole),
        "other_ms": 1000 * fmean(step.other_seconds for step in whole),
    }
    everyone = world.comm.allgather((own, [1000 * step.seconds for step in whole]))
    return {
        "step_ms": [max(times) for times in zip(*(steps for _, steps in everyone), strict=True)],
        "images_per_step": images_per_step,
        "gradient_bytes": gradient_bytes,
        "allreduce_ms": exchange_ms,
        "ranks": [rank for rank, _ in everyone],
        "hosts": world.hosts,
    }
