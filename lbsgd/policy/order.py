"""Which samples each iteration trains on: a pure function of (seed, epoch, global batch size).

It knows neither the number of workers nor the framework, so the position in a run is one integer, and a run
may be resumed on another number of workers or in the other framework. One random shuffle per epoch, divided among
all workers (paper, remark 4).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lbsgd.errors import UsageError
from lbsgd.policy.philox import Purpose, words


@lru_cache(maxsize=2)  # prefetch asks for the next epoch before this one is done
def permutation(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The shuffle of an epoch: 0 .. samples - 1 in random order, int64 [samples], read-only.

    It sorts one random word a sample. The sort is stable, so that even equal words give one order everywhere.
    """
    keys = words(samples, Purpose.ORDER, seed=seed, epoch=epoch)
    shuffled = np.argsort(keys, kind="stable").astype(np.int64)
    shuffled.flags.writeable = False
    return shuffled


@dataclass(frozen=True)
class Order:
    """The order of a run over `samples` images in batches of `global_batch` (the paper's kn).

    Raises UsageError when there are fewer samples than one global batch takes.
    """

    seed: int
    samples: int
    global_batch: int

    def __post_init__(self) -> None:
        if not 1 <= self.global_batch <= self.samples:
            raise UsageError(
                f"a global batch of {self.global_batch} cannot be taken from {self.samples} training images; "
                f"use fewer workers or fewer images per worker"
            )

    @property
    def iterations_per_epoch(self) -> int:
        """Whole batches in an epoch; the samples left over wait for another epoch's permutation."""
        return self.samples // self.global_batch

    def epoch(self, iteration: int) -> int:
        """The epoch, from 0, that an iteration belongs to."""
        return iteration // self.iterations_per_epoch

    def samples_of(self, iteration: int) -> np.ndarray:
        """The global batch of an iteration, from 0 over the whole run: int64 [global_batch], read-only."""
        start = iteration % self.iterations_per_epoch * self.global_batch
        return permutation(self.seed, self.epoch(iteration), self.samples)[start : start + self.global_batch]

    def share(self, iteration: int, rank: int, world_size: int) -> np.ndarray:
        """The rank-th of `world_size` equal slices of the global batch: int64, read-only.

        Raises UsageError when the global batch does not divide by the number of ranks.
        """
        count, rest = divmod(self.global_batch, world_size)
        if rest:
            raise UsageError(
                f"a global batch of {self.global_batch} does not divide by {world_size} ranks; "
                f"start a number of ranks that divides it"
            )
        return self.samples_of(iteration)[rank * count : (rank + 1) * count]
