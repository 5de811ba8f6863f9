"""How fast this machine can make training images of a data set, and where the time goes.

Samples come in a training run's order, each once as far as they reach: the first pass over a data set that was not read
lately measures the disk as well.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lbsgd.data.augmentation import training_image
from lbsgd.data.batch import Reading, Share
from lbsgd.data.decode import decode
from lbsgd.data.loader import training_batches
from lbsgd.data.source import ChooseCrop, Source
from lbsgd.data.storage import EncodedSource
from lbsgd.policy.order import Order, permutation

if TYPE_CHECKING:
    from lbsgd.policy.recipe import Images

STAGES = ("read", "decode", "resize", "assemble")
"""Bytes from storage; pixels; crop, resize, flip and their random numbers; the copy into the batch."""


@dataclass(frozen=True)
class InputSpeed:
    """per_core, per_process: images per second of one thread, and of all. stage_ms: milliseconds per image, by stage."""

    per_core: float
    per_process: float
    threads: int
    stage_ms: dict[str, float]

    def cores_for(self, images_per_second: float) -> int:
        """How many cores like these give this many images per second."""
        return math.ceil(images_per_second / (self.per_process / self.threads))


def measure_input(source: Source, settings: "Images", *, threads: int, batch: int, seconds: float) -> InputSpeed:
    """Make training images for `seconds` in one thread, as long again in `threads`, and as long again stage by stage.

    Raises UnreadableSample.
    """
    order = Order(seed=0, samples=len(source), global_batch=min(batch, len(source)))
    return InputSpeed(
        per_core=_rate(source, settings, order, threads=1, seconds=seconds, start=0),
        per_process=_rate(source, settings, order, threads=threads, seconds=seconds, start=order.iterations_per_epoch // 2),
        threads=threads,
        stage_ms=_stages(source, settings, order, seconds),
    )


def _rate(source: Source, settings: "Images", order: Order, *, threads: int, seconds: float, start: int) -> float:
    """Images per second from the first batch on, as a rank alone gets them."""
    with closing(training_batches(source, settings, order, Share(), range(start, 1 << 40), Reading(threads))) as batches:
        next(batches)
        begin = time.perf_counter()
        for count, _ in enumerate(batches, start=1):
            taken = time.perf_counter() - begin
            if taken >= seconds:
                return count * order.global_batch / taken
    raise AssertionError("a run without an end has ended")


class _Stopwatch:
    """A Source that notes how long reading and decoding another one's images takes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start

    def read(self, index: int, choose: ChooseCrop | None = None) -> np.ndarray:
        """As Source.read. What does not come from bytes counts as read."""
        if not isinstance(self._source, EncodedSource):
            with self.time("read"):
                return self._source.read(index, choose)
        with self.time("read"):
            data = self._source.encoded(index)
        with self.time("decode"):
            return decode(data, choose)


def _stages(source: Source, settings: "Images", order: Order, seconds: float) -> dict[str, float]:
    cv2.setNumThreads(0)
    watch, place = _Stopwatch(source), np.empty((settings.size, settings.size, 3), np.uint8)
    begin, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - begin) < seconds or not count:
        sample = int(permutation(1, 0, len(source))[count % len(source)])
        image = training_image(watch, sample, settings, seed=order.seed, epoch=1)
        with watch.time("assemble"):
            place[:] = image
        count += 1
    watch.seconds["resize"] = taken - sum(watch.seconds.values())
    return {stage: 1000 * watch.seconds[stage] / count for stage in STAGES}
