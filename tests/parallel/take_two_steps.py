"""A program for ranks: takes two steps from a given state and writes the state it ends in.

usage: take_two_steps.py FRAMEWORK ACCUMULATE FOLDER; FOLDER holds start.npz, batches.npz, recipe.json, and gets end.npz.
"""

import json
import sys
from pathlib import Path

import numpy as np

from lbsgd.backends import ReplicaSpec, load
from lbsgd.models.state import State
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import connect

framework, accumulate, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
world = connect()
recipe = load_recipe(json.loads((folder / "recipe.json").read_text()))
backend = load(framework, ReplicaSpec(recipe=recipe, classes=10, world=world, accumulate=accumulate))

if world.is_first:  # the others must get it by broadcast
    arrays = dict(np.load(folder / "start.npz"))
    model = {name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")}
    velocity = {name.removeprefix("velocity/"): a for name, a in arrays.items() if name.startswith("velocity/")}
    backend.import_state(State(model, velocity, {}))
backend.broadcast()

batches = np.load(folder / "batches.npz")
count = accumulate * recipe.batch_per_worker
own = slice(world.rank * count, (world.rank + 1) * count)
for images, labels, rate in zip(batches["images"], batches["labels"], batches["rates"], strict=True):
    backend.loss_value(backend.train_step(images[own], labels[own], float(rate)))
backend.average_batch_norm()

state = backend.export_state()
if world.is_first:
    parts = {"model": state.model, "velocity": state.velocity}
    np.savez(folder / "end.npz", **{f"{part}/{name}": a for part, arrays in parts.items() for name, a in arrays.items()})
