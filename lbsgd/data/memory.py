"""Small data sets stay in memory once decoded: with tiny images, opening and parsing costs the most."""

import numpy as np

from lbsgd.data.source import ChooseCrop, Source, cut

LIMIT_BYTES = 64 * 2**20
LIMIT_ENCODED_BYTES = LIMIT_BYTES // 8
"""Files above this in total are not worth keeping: photographs unpack about eightfold."""


class MemoryCache:
    """A Source that keeps another one's decoded images that take no more than their equal share of the limit.

    Images come in full resolution, kept or not: what a sample looks like must not depend on what was read
    before.
    """

    def __init__(self, source: Source, limit_bytes: int = LIMIT_BYTES) -> None:
        self.classes, self.labels, self.digest = source.classes, source.labels, source.digest
        self.name = source.name
        self.source = source
        self._share = limit_bytes / len(source)
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int, choose: ChooseCrop | None = None) -> np.ndarray:
        """As Source.read, read-only."""
        pixels = self._kept.get(index)
        if pixels is None:
            pixels = self.source.read(index)
            pixels.flags.writeable = False
            if pixels.nbytes <= self._share:
                self._kept[index] = pixels
        if choose is None:
            return pixels
        height, width, _ = pixels.shape
        return cut(pixels, choose(height, width), height, width)
