"""Counting errors on the validation images, each exactly once whatever the number of ranks."""

import math
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from lbsgd.backends.contract import Backend
from lbsgd.data.bad_samples import BadSamples, exchange
from lbsgd.data.batch import Reading, Share
from lbsgd.data.loader import evaluation_batches
from lbsgd.data.source import Source
from lbsgd.errors import DataError, NotFinite
from lbsgd.policy.recipe import Recipe
from lbsgd.ranks.world import World


@dataclass(frozen=True)
class Evaluation:
    """top1_error: fraction of wrong answers. loss: mean cross-entropy. samples: how many images were counted.

    unreadable: how many were left out because they cannot be read.
    """

    top1_error: float
    loss: float
    samples: int
    unreadable: int

    def require_finite_loss(self, last_checkpoint: str) -> None:
        """Raise NotFinite unless the loss is a finite number. last_checkpoint: a sentence about it."""
        if not math.isfinite(self.loss):
            raise NotFinite(f"the loss on the validation images is not finite: the network has diverged. {last_checkpoint}")


def evaluate(
    backend: Backend,
    source: Source,
    recipe: Recipe,
    world: World,
    reading: Reading,
    bad_samples: BadSamples,
) -> Evaluation:
    """Evaluate this replica on `source`, the images divided over the ranks. Collective.

    Batch norm's running statistics must have been averaged before. Images that cannot be read are exchanged when their
    number is known. Raises UnreadableSample, TooManyBadSamples.
    """
    totals = np.zeros(3, np.float64)
    batches = evaluation_batches(
        source,
        recipe.images,
        recipe.batch_per_worker,
        Share(world.rank, world.size),
        reading,
        bad_samples=bad_samples,
        allocate=backend.allocate,
    )
    with closing(batches):
        for batch in batches:
            wrong, loss = backend.evaluate(batch.images, batch.labels, batch.valid)
            totals += (wrong, loss, batch.valid)
    wrong, loss, samples = world.sum(totals)
    exchange(world, bad_samples)
    unreadable = len(bad_samples.known)
    if samples + unreadable != len(source):
        raise AssertionError(f"evaluated {samples:.0f} of {len(source)} validation images, {unreadable} unreadable")
    if not samples:
        raise DataError(f"none of the {len(source)} validation images can be read; `lbsgd data verify` says why")
    return Evaluation(wrong / samples, loss / samples, int(samples), unreadable)
