"""Random 64-bit words that are a pure function of what they are for.

Philox is counter-based: no state passes from one draw to the next, so any rank and any thread gets the same
words. Only the raw stream of numpy's bit generator is used: it is the same on every machine and, unlike the
methods of Generator, promised to stay the same in every numpy version (NEP 19).

The 128-bit key is (seed, epoch); the 256-bit counter starts at (0, sample, 0, purpose), lowest word first, so
that two streams never meet: the first word counts the blocks of four words drawn.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What words are drawn for. Part of the key: a number, once used, keeps its meaning."""

    ORDER = 0
    AUGMENTATION = 1
    SYNTHETIC = 2
    SUBSTITUTE = 3
    PHOTO = 4
    GLYPH = 5


def words(count: int, purpose: Purpose, *, seed: int, epoch: int = 0, sample: int = 0) -> np.ndarray:
    """The first `count` words of a stream: uint64 [count]. seed, epoch, sample: 0 <= x < 2**64."""
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, sample, 0, purpose], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def uniforms(count: int, purpose: Purpose, *, seed: int, epoch: int, sample: int) -> list[float]:
    """The same words as numbers in [0, 1), from their upper 53 bits."""
    upper = words(count, purpose, seed=seed, epoch=epoch, sample=sample) >> np.uint64(11)
    numbers: list[float] = (upper * 2.0**-53).tolist()
    return numbers
