"""A program for ranks: puts one framework's backend through its contract and prints what happened as JSON.

usage: exercise_backend.py FRAMEWORK
"""

import functools
import json
import sys

import numpy as np

from lbsgd.backends import ReplicaSpec, load
from lbsgd.backends.phases import PhaseClock
from lbsgd.errors import CheckpointError
from lbsgd.models.state import State
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import connect

framework = sys.argv[1]
world = connect()
random = np.random.default_rng(world.rank)  # each rank its own images
images = random.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
labels = random.integers(0, 10, 16)


def backend_for(*overrides, accumulate=2, classes=10, together=None, channels_last=True, compile="auto"):
    recipe = load_recipe("demo", ["batch_per_worker=8", *overrides])
    options = {"accumulate": accumulate, "together": together, "channels_last": channels_last, "compile": compile}
    spec = ReplicaSpec(recipe=recipe, classes=classes, world=world, **options)
    backend = load(framework, spec)
    backend.broadcast()
    return backend


squares = []
"""Of the gradients of the measured steps: of each rank's, and of their mean."""


def steps(backend, count, *, measured=False):
    losses = []
    for _ in range(count):
        clock = PhaseClock(world.barrier) if measured else None
        losses.append(backend.loss_value(backend.train_step(images, labels, 0.05, clock)))
        if clock:
            phases = clock.phases
            squares.append([world.gather(phases.worker_gradient_squared), phases.gradient_squared])
    return losses


def train_in_passes(**options):
    """Losses of eight steps, and the sums of all that the replica then holds, by name."""
    backend = backend_for("batch_per_worker=4", accumulate=4, **options)
    losses = steps(backend, 8)
    state = backend.export_state()
    return losses, {name: float(np.sum(array, dtype=np.float64)) for name, array in (state.model | state.velocity).items()}


def replicas_equal(backend):
    state = backend.export_state()
    digest = [float(np.sum(a, dtype=np.float64)) for a in (*state.model.values(), *state.velocity.values())]
    return all(other == digest for other in world.gather(digest))


report = {}
for precision in ("fp32", "bf16", "fp16"):
    backend = backend_for(f"precision={precision}")
    report[precision] = {"losses": steps(backend, 8), "equal_before": replicas_equal(backend)}
    squares.clear()
    report[precision]["measured"] = steps(backend_for(f"precision={precision}"), 8, measured=True)
    report[precision]["squares"] = [*squares]
    backend.average_batch_norm()
    report[precision]["equal_after"] = replicas_equal(backend)

# the last backend is fp16's: an overflow must leave the weights alone and halve the scale
before = backend.export_state()
if world.is_first:  # the others get the scale by broadcast
    backend.import_state(State(before.model, before.velocity, {"scale": 2.0**100, "_growth_tracker": 0.0}))
backend.broadcast()
steps(backend, 1)
after = backend.export_state()
trained = before.velocity.keys()
report["overflow"] = {
    "unchanged": all(np.array_equal(before.model[name], after.model[name]) for name in trained),
    "scale": min(world.gather(after.loss_scale["scale"])) / 2.0**100,
}

backend = backend_for()
steps(backend, 3)
state = backend.export_state()
steps(backend, 2)
backend.import_state(state)
again = backend.export_state()
report["round_trip"] = all(np.array_equal(state.model[n], again.model[n]) for n in state.model) and all(
    np.array_equal(state.velocity[n], again.velocity[n]) for n in state.velocity
)

if not world.is_first:
    backend.import_state(before)
report["apart"] = not replicas_equal(backend)
backend.broadcast()
report["together_again"] = replicas_equal(backend)

wrong_all, loss_all = backend.evaluate(images, labels, 16)
halves = [backend.evaluate(np.roll(images, -8 * i, 0), np.roll(labels, -8 * i), 8) for i in (0, 1)]
report["valid_only"] = wrong_all == sum(w for w, _ in halves) and bool(
    np.isclose(loss_all, sum(x for _, x in halves), rtol=1e-5)
)

report["passes"] = {together: train_in_passes(together=together) for together in (1, 2, 4)}

try:
    backend_for(classes=7).import_state(state)
    report["other_model"] = None
except CheckpointError as error:
    report["other_model"] = str(error)

report["automatic"] = world.gather(backend_for("precision=auto").spec.recipe.precision)


def compiled_losses():
    """Losses with the network compiled, and how many graphs there were after the first step and after the last.

    Inductor takes a minute for what these graphs compute; that it computes the same is PyTorch's to test.
    """
    import torch
    from torch._dynamo.utils import counters

    torch.compile, compile = functools.partial(torch.compile, backend="aot_eager"), torch.compile
    backend = backend_for(compile="on")
    torch.compile = compile
    losses = steps(backend, 1)
    graphs = counters["stats"]["unique_graphs"]
    losses += steps(backend, 4)
    backend.evaluate(images, labels, 16)
    return {"losses": losses, "graphs": [graphs, counters["stats"]["unique_graphs"]], "equal": replicas_equal(backend)}


if framework == "torch":
    report["compiled"] = compiled_losses() | {"plain": steps(backend_for(compile="off"), 5)}
    report["layouts"] = [steps(backend_for(channels_last=last), 5) for last in (False, True)]
else:
    keras = backend_for("model=keras:MobileNet", "images.size=32", accumulate=1)
    images = random.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    labels = labels[:8]
    report["keras"] = {"losses": steps(keras, 2)}
    keras.average_batch_norm()
    report["keras"]["equal"] = replicas_equal(keras)

if world.is_first:
    print("REPORT", json.dumps(report))
