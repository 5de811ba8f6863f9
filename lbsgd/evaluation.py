"""Counting errors on the validation images, each exactly once whatever the number of ranks."""

from dataclasses import dataclass

import numpy as np

from lbsgd.backends.contract import Backend
from lbsgd.data.loader import evaluation_batches
from lbsgd.data.source import Source
from lbsgd.recipe import Recipe
from lbsgd.world import World


@dataclass(frozen=True)
class Evaluation:
    """top1_error: fraction of wrong answers. loss: mean cross-entropy. samples: how many images were counted."""

    top1_error: float
    loss: float
    samples: int


def evaluate(backend: Backend, source: Source, recipe: Recipe, world: World, threads: int) -> Evaluation:
    """Evaluate this replica on `source`, the images divided over the ranks. Collective.

    Batch norm's running statistics must have been averaged before.
    """
    totals = np.zeros(3, np.float64)
    batches = evaluation_batches(
        source,
        recipe.images,
        rank=world.rank,
        world_size=world.size,
        batch=recipe.batch_per_worker,
        threads=threads,
    )
    for batch in batches:
        wrong, loss = backend.evaluate(batch.images, batch.labels, batch.valid)
        totals += (wrong, loss, batch.valid)
    wrong, loss, samples = world.sum(totals)
    if samples != len(source):
        raise AssertionError(f"evaluated {samples:.0f} of {len(source)} validation images")
    return Evaluation(wrong / samples, loss / samples, int(samples))
