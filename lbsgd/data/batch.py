"""Batches of images, and how a rank reads its own."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lbsgd.data.bad_samples import FAIL, BadSamplePolicy
from lbsgd.data.readers import READ_TIMEOUT

Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""From a shape to an uninitialised uint8 array, in memory that the device copies fast from."""


def in_ordinary_memory(shape: tuple[int, ...]) -> np.ndarray:
    """The Allocate of a device that has no say in it."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True)
class Batch:
    """Images and their labels; the first `valid` are real, the rest fills an evaluation's last batch up.

    images: uint8 [count, size, size, 3], RGB, C-contiguous; written over once the second next batch is asked for.
    labels: int64 [count].
    """

    images: np.ndarray
    labels: np.ndarray
    valid: int


@dataclass(frozen=True)
class Share:
    """A rank's part of all images: the rank-th of `size` equal ones."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Reading:
    """How a rank reads images: by how many threads, for how many seconds it waits for one, and what it does about bad ones."""

    threads: int
    timeout: float = READ_TIMEOUT
    bad_samples: BadSamplePolicy = FAIL
