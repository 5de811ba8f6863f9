"""A program for ranks: takes steps of one kind; Horovod writes down what it sent. Prints what they computed as JSON.

usage: exchange_gradients.py FRAMEWORK TIMELINE ordinary|measured
"""

import hashlib
import json
import os
import sys

import numpy as np

from lbsgd.backends import ReplicaSpec, load
from lbsgd.backends.phases import PhaseClock
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import connect

framework, os.environ["HOROVOD_TIMELINE"], kind = sys.argv[1:]
world = connect()
backend = load(framework, ReplicaSpec(recipe=load_recipe("demo", ["batch_per_worker=8"]), classes=10, world=world))
backend.broadcast()
images = np.random.default_rng(world.rank).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
losses = []
for _ in range(3):
    clock = PhaseClock(world.barrier) if kind == "measured" else None
    losses.append(backend.loss_value(backend.train_step(images, np.arange(8), 0.05, clock)))
    if clock:
        assert clock.phases.communication > 0
        assert clock.phases.waiting >= 0

state = backend.export_state()
arrays = [*state.model.values(), *state.velocity.values()]
if world.is_first:
    parameters = sum(array.size for array in state.velocity.values())
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    about = {"bytes": backend.gradient_bytes, "parameters": parameters, "losses": losses, "state": digest}
    print("REPORT", json.dumps(about))
