"""A program for ranks: takes steps of which something is known, and says what measured steps make of them.

usage: efficiency_ranks.py '{"framework": ..., "compute_ms": [of each rank], "cost_ms": ..., "steps": ..., "runs": ...}'

compute_ms, on the reference backend: each rank's arithmetic takes that long. cost_ms: the allreduce of all gradients takes so
much longer, outside of backward. Both by sleeping. With a cost, what is true is found by a clock of its own: before some of the
steps, each rank takes one more that does not communicate.
Without: the framework as it is, on one rank, with measured steps although there is nothing to scale, so that 100 % is true.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, repeat
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any

import numpy as np

from lbsgd.backends import ReplicaSpec, load
from lbsgd.backends.contract import Backend
from lbsgd.data.batch import Batch
from lbsgd.measuring.efficiency import PAIR_VALUES, Pairing, as_array, is_measured, mean_over_ranks
from lbsgd.measuring.steps import take_steps
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import World, connect
from lbsgd.record.summary import efficiency_interval

EVERY = 10
ALONE_BEFORE = {1, 3, 8}
"""Of every ten steps: some that are not measured, so that most steps of all three kinds come after an ordinary one."""


def main() -> None:
    about = json.loads(sys.argv[1])
    world = connect()
    backend = backend_for(about["framework"], world)
    if "compute_ms" in about:
        compute_for(about["compute_ms"][world.rank] / 1000, backend)
    if "cost_ms" in about:
        communicate_for(about["cost_ms"] / 1000, backend)
    random = np.random.default_rng(world.rank)
    size, images_per_step = backend.spec.recipe.images.size, backend.spec.recipe.batch_per_worker
    images = random.integers(0, 256, (images_per_step, size, size, 3), dtype=np.uint8)
    batch = Batch(images, random.integers(0, 10, images_per_step), images_per_step)
    runs = []
    for seed in range(about["runs"]):
        alone: list[float] | None = [] if "cost_ms" in about else None
        batches = repeat(batch) if alone is None else after_steps_alone(world, backend, batch, alone)
        runs.append(measure(world, backend, batches, about["steps"], seed, alone))
    if world.is_first:
        print("REPORT", json.dumps(runs))


def backend_for(framework: str, world: World) -> Backend:
    """The demo's network, on 10 classes."""
    model = ["model=reference:two-layer"] if framework == "reference" else []
    backend = load(framework, ReplicaSpec(recipe=load_recipe("demo", model), classes=10, world=world))
    backend.broadcast()
    return backend


def compute_for(seconds: float, backend: Any) -> None:
    """Let the reference backend's arithmetic take so much longer."""
    arithmetic = backend.network.loss_and_gradient

    def computing(*arguments: Any) -> Any:
        time.sleep(seconds)
        return arithmetic(*arguments)

    backend.network.loss_and_gradient = computing


def communicate_for(seconds: float, backend: Any) -> None:
    """Let the allreduce of all gradients take so much longer."""
    if backend.framework == "reference":
        average, arrays = backend._average, len(backend.network.parameters)

        def averaging(array: np.ndarray) -> np.ndarray:
            time.sleep(seconds / arrays)
            return average(array)

        backend._average = averaging
    else:
        wait = backend.allreduce.wait

        def waiting() -> None:
            time.sleep(seconds)
            wait()

        backend.allreduce.wait = waiting


@contextmanager
def no_communication(backend: Any) -> Iterator[None]:
    """Let steps keep the gradients of their own rank."""
    if backend.framework == "reference":
        average, backend._average = backend._average, lambda array: array
        yield
        backend._average = average
    else:
        allreduce = backend.allreduce
        allreduce.armed = False
        backend.allreduce = SimpleNamespace(armed=False, wait=lambda: None)
        yield
        backend.allreduce = allreduce


def after_steps_alone(world: World, backend: Any, batch: Batch, seconds: list[float]) -> Iterator[Batch]:
    """The same batch for ever; before some, a step of this rank that does not communicate, whose seconds are noted."""
    for iteration in count():
        if iteration % EVERY in ALONE_BEFORE:
            with no_communication(backend):
                start = time.perf_counter()
                backend.loss_value(backend.train_step(batch.images, batch.labels, 0.0))
                seconds.append(time.perf_counter() - start)
            world.barrier()
        yield batch


def measure(
    world: World, backend: Backend, batches: Iterator[Batch], steps: int, seed: int, alone: list[float] | None
) -> dict[str, Any]:
    """What a run of so many steps would record. alone: gets seconds of steps of this rank by itself. Collective."""
    world.barrier()
    pairing, together = Pairing(), []
    for step in take_steps(backend, batches, lambda _: 0.001, range(steps), lambda one: is_measured(one, EVERY)):
        pairing.add(step)
        if not step.phases:
            together.append(step.busy_seconds)
    pairing.end_stretch()
    true = float(world.sum(np.array([median(alone) / median(together)]))[0]) / world.size if alone else 1.0
    total = world.sum(as_array(pair for _, pair in pairing.take()))
    pairs = mean_over_ranks(total.reshape(-1, PAIR_VALUES), world.size)
    values = [pair.efficiency for pair in pairs]
    return {
        "true": true,
        "efficiency": median(values),
        "interval": efficiency_interval(values, seed),
        "pairs": len(pairs),
        **{
            name: 1000 * fmean(getattr(pair, name) for pair in pairs)
            for name in ("step", "compute", "waiting", "communication")
        },
    }


main()
