"""A program for ranks: takes steps of which something is known, and says what measured steps make of them.

usage: efficiency_ranks.py '{"framework": ..., "compute_ms": [of each rank], "cost_ms": ..., "steps": ..., "runs": ...}'

With compute_ms, the reference backend: each rank's arithmetic takes that long, and each allreduce cost_ms, by sleeping.
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
    runs = [measure(world, backend, batch, about["steps"], seed) for seed in range(about["runs"])]
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


def measure(world: World, backend: Backend, batch: Batch, steps: int, seed: int) -> dict[str, Any]:
    """What a run of so many steps would record. Collective."""
    world.barrier()
    pairing = Pairing()
    for step in take_steps(backend, repeat(batch), lambda _: 0.001, range(steps), lambda one: is_measured(one, EVERY)):
        pairing.add(step)
    pairing.end_stretch()
    total = world.sum(as_array(pair for _, pair in pairing.take()))
    pairs = mean_over_ranks(total.reshape(-1, PAIR_VALUES), world.size)
    values = [pair.efficiency for pair in pairs]
    return {
        "efficiency": median(values),
        "interval": bootstrap_interval(values, seed),
        "pairs": len(pairs),
        **{
            name: 1000 * fmean(getattr(pair, name) for pair in pairs)
            for name in ("step", "compute", "waiting", "communication")
        },
    }


main()
