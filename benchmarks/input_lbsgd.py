"""lbsgd's training batches, as in a run of goyal2017."""

import math
import sys
from collections.abc import Iterator

import numpy as np

from lbsgd.data import open_dataset
from lbsgd.data.batch import Reading, Share
from lbsgd.data.loader import training_batches
from lbsgd.policy.order import Order
from lbsgd.policy.recipe import load_recipe
from lbsgd.record.environment import versions

IMAGE = ((224, 224, 3), "uint8")
VERSIONS = {name: versions()[name] for name in ("lbsgd", "numpy", "simplejpeg", "opencv-python-headless")}


def batches(folder: str, batch: int, threads: int) -> Iterator[np.ndarray]:
    """uint8 [batch, 224, 224, 3], without end."""
    source, recipe = open_dataset(folder).train, load_recipe("goyal2017", [])
    made = training_batches(
        source,
        recipe.images,
        Order(recipe.seed, len(source), batch),
        Share(),
        range(sys.maxsize),
        Reading(threads, timeout=math.inf),  # while this process is stopped, a read seems to block
    )
    return (each.images for each in made)
