"""A program for ranks: takes a step, then exchanges gradients alone; Horovod writes down what it sent. Prints JSON.

usage: exchange_gradients.py FRAMEWORK TIMELINE
"""

import json
import os
import sys

import numpy as np

from lbsgd.backends import ReplicaSpec, load
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import connect

framework, os.environ["HOROVOD_TIMELINE"] = sys.argv[1:]
world = connect()
backend = load(framework, ReplicaSpec(recipe=load_recipe("demo", ["batch_per_worker=8"]), classes=10, world=world))
backend.broadcast()
images = np.random.default_rng(world.rank).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
backend.loss_value(backend.train_step(images, np.arange(8), 0.05))

before = backend.export_state()
count, exchange = backend.gradient_exchange()
exchange()
after = backend.export_state()
unchanged = all(
    np.array_equal(array, ours[name])
    for theirs, ours in ((before.model, after.model), (before.velocity, after.velocity))
    for name, array in theirs.items()
)
if world.is_first:
    parameters = sum(array.size for array in before.velocity.values())
    print("REPORT", json.dumps({"bytes": count, "parameters": parameters, "unchanged": unchanged}))
