"""Batches of images, read ahead of the trainer by threads.

Images are uint8 and lie in buffers that are used again; the device normalises them. Close the iterators (they are
generators) to stop their threads before the end.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lbsgd.data.augmentation import evaluation_image, training_image
from lbsgd.data.bad_samples import BadSamples, substitutes
from lbsgd.data.batch import Allocate, Batch, Reading, Share, in_ordinary_memory
from lbsgd.data.readers import Readers
from lbsgd.data.source import Source, UnreadableSample
from lbsgd.policy.order import Order

if TYPE_CHECKING:
    from lbsgd.policy.recipe import Images

PREFETCH = 3
"""Batches ahead: enough to ride out a slow file."""

PREFETCH_BYTES = 1 << 30
"""What batches ahead may fill; at least one is always ahead."""

CHUNK = 8
"""Images that a thread prepares at a time: few, as closing waits for them; not one, as handing over costs."""

Item = tuple[int, int]
"""An epoch and a sample."""

Prepared = tuple[np.ndarray, int] | None
"""An image and the sample it is of; None when it cannot be read and nothing may take its place."""


@dataclass(frozen=True)
class _Started:
    """A batch in the making: of these items, in positions 0, 1, ...; `missing` are those that nothing was found for."""

    images: np.ndarray
    labels: np.ndarray
    items: list[Item]
    missing: list[int]
    work: list[Future]


def training_batches(
    source: Source,
    settings: "Images",
    order: Order,
    share: Share,
    iterations: range,
    reading: Reading,
    *,
    bad_samples: BadSamples | None = None,
    allocate: Allocate = in_ordinary_memory,
    prefetch: int = PREFETCH,
) -> Generator[Batch, None, None]:
    """This rank's share of the global batches of `iterations`, in order, all real.

    bad_samples: takes note of the images that cannot be read, under the policy of `reading`. prefetch: how many batches may be
    in the making besides those in use, within PREFETCH_BYTES.
    Raises UnreadableSample, at the batch it belongs to, when an image cannot be read and may not be replaced.
    """
    bad_samples = bad_samples or BadSamples(reading.bad_samples)

    def image_of(epoch: int, sample: int) -> np.ndarray:
        return training_image(source, sample, settings, seed=order.seed, epoch=epoch)

    def prepare(item: Item) -> Prepared:
        epoch, sample = item
        if (image := _attempt(image_of, epoch, sample, bad_samples)) is not None:
            return image, sample
        for other in substitutes(sample, len(source), order.seed):
            if (image := _attempt(image_of, epoch, other, bad_samples)) is not None:
                return image, other
        raise bad_samples.known[sample]

    def items(iteration: int) -> list[Item]:
        epoch = order.epoch(iteration)
        return [(epoch, sample) for sample in order.share(iteration, share.rank, share.size).tolist()]

    shape = (order.global_batch // share.size, settings.size, settings.size, 3)
    maker = _BatchMaker(source, shape, prepare, bad_samples, reading, allocate)
    return maker.make(map(items, iterations), prefetch)


def evaluation_batches(
    source: Source,
    settings: "Images",
    batch: int,
    share: Share,
    reading: Reading,
    *,
    bad_samples: BadSamples | None = None,
    allocate: Allocate = in_ordinary_memory,
    prefetch: int = PREFETCH,
) -> Generator[Batch, None, None]:
    """This rank's images, every `share.size`-th, in batches of `batch` images, the last one filled up with black.

    Over all ranks every image comes exactly once; a rank without images gets no batch. Images that cannot be read are left
    out when `bad_samples` allows. The other arguments and errors are those of `training_batches`.
    """
    bad_samples = bad_samples or BadSamples(reading.bad_samples)

    def image_of(_: int, sample: int) -> np.ndarray:
        return evaluation_image(source, sample, settings)

    def prepare(item: Item) -> Prepared:
        image = _attempt(image_of, *item, bad_samples)
        return None if image is None else (image, item[1])

    mine = [(0, sample) for sample in range(share.rank, len(source), share.size)]
    shares = (mine[start : start + batch] for start in range(0, len(mine), batch))
    maker = _BatchMaker(source, (batch, settings.size, settings.size, 3), prepare, bad_samples, reading, allocate)
    return maker.make(shares, prefetch)


def _attempt(image_of: Callable[[int, int], np.ndarray], epoch: int, sample: int, bad_samples: BadSamples) -> np.ndarray | None:
    """The image of a sample; None when it is bad, which is reported unless it was known."""
    if sample in bad_samples.known:
        return None
    try:
        return image_of(epoch, sample)
    except UnreadableSample as error:
        bad_samples.report(sample, error)
        return None


class _BatchMaker:
    """Makes batches in buffers of `shape`. A buffer is free again when its batch is the last but one handed out."""

    def __init__(
        self,
        source: Source,
        shape: tuple[int, ...],
        prepare: Callable[[Item], Prepared],
        bad_samples: BadSamples,
        reading: Reading,
        allocate: Allocate,
    ) -> None:
        self._source, self._shape, self._prepare, self._bad_samples = source, shape, prepare, bad_samples
        self._reading, self._allocate = reading, allocate
        self._free: list[np.ndarray] = []
        self._blocked_once: set[Item] = set()

    def make(self, shares: Iterable[list[Item]], prefetch: int) -> Generator[Batch, None, None]:
        """A batch of each share, in order, at most `prefetch` of them ahead."""
        cv2.setNumThreads(0)  # the readers are the parallelism
        prefetch = min(prefetch, max(1, PREFETCH_BYTES // math.prod(self._shape)))
        readers = Readers(self._reading.threads, self._prepare, self._blocked, self._reading.timeout)
        pending: deque[_Started] = deque()
        in_use: deque[np.ndarray] = deque()
        try:
            for share in chain(shares, repeat(None, prefetch)):
                if share is not None:
                    pending.append(self._start(readers, share))
                if pending and (share is None or len(pending) > prefetch):
                    batch = self._finish(readers, pending.popleft())
                    in_use.append(batch.images)
                    yield batch
                    if len(in_use) > 1:
                        self._free.append(in_use.popleft())
        finally:
            readers.close()

    def _start(self, readers: Readers, items: list[Item]) -> _Started:
        images = self._free.pop() if self._free else self._allocate(self._shape)
        batch = _Started(images, np.zeros(len(images), np.int64), items, [], [])
        for start in range(0, len(items), CHUNK):
            keep = partial(self._keep, batch, start)
            batch.work.append(readers.submit(items[start : start + CHUNK], keep))
        return batch

    def _keep(self, batch: _Started, start: int, position: int, prepared: Prepared) -> None:
        if prepared is None:
            batch.missing.append(start + position)
        else:
            batch.images[start + position], sample = prepared
            batch.labels[start + position] = self._source.labels[sample]

    def _finish(self, readers: Readers, batch: _Started) -> Batch:
        for work in batch.work:
            readers.wait(work)
        images, labels, valid = batch.images, batch.labels, len(batch.items)
        if missing := set(batch.missing):
            present = [position for position in range(valid) if position not in missing]
            valid = len(present)
            images[:valid], labels[:valid] = images[present], labels[present]
        images[valid:], labels[valid:] = 0, 0
        return Batch(images, labels, valid)

    def _blocked(self, item: Item, seconds: float) -> None:
        _, sample = item
        error = UnreadableSample(self._source.name(sample), f"reading it has not ended within {seconds:g} s")
        if item in self._blocked_once:  # what should replace it blocks as well
            raise error
        self._blocked_once.add(item)
        self._bad_samples.report(sample, error)
