"""A program for ranks: takes steps of which something is known, and says what measured steps make of them.

usage: efficiency_ranks.py '{"framework": ..., "compute_ms": [of each rank], "cost_ms": ..., "steps": ..., "runs": ...}'

With compute_ms, the reference backend: each rank's arithmetic takes that long, and each allreduce cost_ms, by sleeping.
What is true is then found by a clock around steps that communicate and others that do not, in turns.
Without: the framework as it is, on one rank, with measured steps although there is nothing to scale, so that 100 % is true.
"""

import json
import sys
import time
from itertools import repeat
from statistics import fmean, median
from typing import Any

import numpy as np

from lbsgd.backends import ReplicaSpec, load
from lbsgd.backends.contract import Backend
from lbsgd.data.batch import Batch
from lbsgd.measuring.efficiency import PAIR_VALUES, Pairing, as_array, is_measured, mean_over_ranks
from lbsgd.measuring.steps import take_steps
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import World, connect
from lbsgd.record.summary import bootstrap_interval

EVERY = 10


def main() -> None:
    about = json.loads(sys.argv[1])
    world = connect()
    backend = backend_for(about["framework"], world)
    if about.get("compute_ms"):
        slow_down(backend, about["compute_ms"][world.rank] / 1000, about["cost_ms"] / 1000)
    random = np.random.default_rng(world.rank)
    size, count = backend.spec.recipe.images.size, backend.spec.recipe.batch_per_worker
    images = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    batch = Batch(images, random.integers(0, 10, count), count)
    runs = []
    for seed in range(about["runs"]):
        alone = time_alone(backend, batch, about["steps"]) if about.get("compute_ms") else None
        runs.append(measure(world, backend, batch, about["steps"], seed, alone))
    if world.is_first:
        print("REPORT", json.dumps(runs))


def backend_for(framework: str, world: World) -> Backend:
    """The demo's network, on 10 classes."""
    model = ["model=reference:two-layer"] if framework == "reference" else []
    backend = load(framework, ReplicaSpec(recipe=load_recipe("demo", model), classes=10, world=world))
    backend.broadcast()
    return backend


def slow_down(backend: Any, compute: float, cost: float) -> None:
    """Let the reference backend's arithmetic, and its allreduce of all gradients, take that many seconds longer."""
    arithmetic, average, arrays = backend.network.loss_and_gradient, backend._average, len(backend.network.parameters)

    def computing(*arguments: Any) -> Any:
        time.sleep(compute)
        return arithmetic(*arguments)

    def averaging(array: np.ndarray) -> np.ndarray:
        time.sleep(cost / arrays)
        return average(array)

    backend.network.loss_and_gradient, backend._average = computing, averaging


def time_alone(backend: Any, batch: Batch, steps: int) -> float:
    """Seconds of a step of this rank that does not communicate; the median."""
    average, times = backend._average, []
    backend._average = lambda array: array
    for _ in range(steps):
        start = time.perf_counter()
        backend.train_step(batch.images, batch.labels, 0.0)
        times.append(time.perf_counter() - start)
    backend._average = average
    return median(times)


def measure(world: World, backend: Backend, batch: Batch, steps: int, seed: int, alone: float | None) -> dict[str, Any]:
    """What a run of so many steps would record. alone: seconds of a step of this rank by itself. Collective."""
    world.barrier()
    pairing, together = Pairing(), []
    for step in take_steps(backend, repeat(batch), lambda _: 0.001, range(steps), lambda one: is_measured(one, EVERY)):
        pairing.add(step)
        if not step.phases:
            together.append(step.busy_seconds)
    pairing.end_stretch()
    true = float(world.sum(np.array([alone / median(together)]))[0]) / world.size if alone else 1.0
    total = world.sum(as_array(pair for _, pair in pairing.take()))
    pairs = mean_over_ranks(total.reshape(-1, PAIR_VALUES), world.size)
    values = [pair.efficiency for pair in pairs]
    return {
        "true": true,
        "efficiency": median(values),
        "interval": bootstrap_interval(values, seed),
        "pairs": len(pairs),
        **{
            name: 1000 * fmean(getattr(pair, name) for pair in pairs)
            for name in ("step", "compute", "waiting", "communication")
        },
    }


main()
