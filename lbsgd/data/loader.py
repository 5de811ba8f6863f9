"""Batches of images, read ahead of the trainer by threads.

Threads and never processes: forking after MPI has started is unsafe, and decoding and resizing release the
interpreter's lock. Close the iterators (they are generators) to stop their threads before the end.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lbsgd.data.augmentation import evaluation_image, training_image
from lbsgd.data.source import Source
from lbsgd.order import Order

if TYPE_CHECKING:
    from lbsgd.recipe import Images

PREFETCH = 3
"""Batches ahead: enough to ride out a slow file."""

CHUNK = 8
"""Images a thread prepares at a time: few, as closing waits for them; not one, as handing over costs."""

PrepareImage = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Batch:
    """Images and their labels; the first `valid` are real, the rest fills an evaluation's last batch up.

    images: uint8 [count, size, size, 3], RGB, C-contiguous. labels: int64 [count].
    """

    images: np.ndarray
    labels: np.ndarray
    valid: int


@dataclass(frozen=True)
class _Request:
    """The samples of a batch of `count` images, and what makes an image of a sample."""

    samples: np.ndarray
    count: int
    prepare: PrepareImage


_Started = tuple[Batch, list[Future]]


def training_batches(
    source: Source,
    settings: "Images",
    order: Order,
    *,
    rank: int,
    world_size: int,
    start_iteration: int,
    stop_iteration: int,
    threads: int,
    prefetch: int = PREFETCH,
) -> Generator[Batch, None, None]:
    """This rank's share of the global batches start_iteration .. stop_iteration - 1, in order, all real.

    prefetch: how many batches may be in the making besides the one in use.
    Raises DataError, at the batch it belongs to, when an image cannot be read.
    """

    def request(iteration: int) -> _Request:
        epoch, samples = order.epoch(iteration), order.share(iteration, rank, world_size)
        prepare = partial(training_image, source, settings=settings, seed=order.seed, epoch=epoch)
        return _Request(samples, len(samples), prepare)

    requests = map(request, range(start_iteration, stop_iteration))
    return _batches(source, settings.size, requests, threads, prefetch)


def evaluation_batches(
    source: Source,
    settings: "Images",
    *,
    rank: int,
    world_size: int,
    batch: int,
    threads: int,
    prefetch: int = PREFETCH,
) -> Generator[Batch, None, None]:
    """This rank's images, every world_size-th, in batches of `batch` images, the last one filled up.

    Over all ranks every image comes exactly once; a rank without images gets no batch.
    Raises DataError, at the batch it belongs to, when an image cannot be read.
    """
    mine = np.arange(rank, len(source), world_size)
    prepare = partial(evaluation_image, source, settings=settings)
    requests = (_Request(mine[start : start + batch], batch, prepare) for start in range(0, len(mine), batch))
    return _batches(source, settings.size, requests, threads, prefetch)


def _batches(
    source: Source, size: int, requests: Iterable[_Request], threads: int, prefetch: int
) -> Generator[Batch, None, None]:
    """The batches asked for, in order, at most `prefetch` of them ahead."""
    cv2.setNumThreads(0)  # the pool's threads are the parallelism
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lbsgd-data")
    pending: deque[_Started] = deque()
    try:
        for request in requests:
            pending.append(_start(pool, source, size, request))
            if len(pending) > prefetch:
                yield _finish(*pending.popleft())
        while pending:
            yield _finish(*pending.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _start(pool: ThreadPoolExecutor, source: Source, size: int, request: _Request) -> _Started:
    """A batch to be, and the work that fills it."""
    samples, valid = request.samples, len(request.samples)
    images, labels = np.zeros((request.count, size, size, 3), np.uint8), np.zeros(request.count, np.int64)
    labels[:valid] = source.labels[samples]
    chunks = [slice(start, min(start + CHUNK, valid)) for start in range(0, valid, CHUNK)]
    work = [pool.submit(_fill, images[chunk], samples[chunk], request.prepare) for chunk in chunks]
    return Batch(images, labels, valid), work


def _fill(images: np.ndarray, samples: np.ndarray, prepare: PrepareImage) -> None:
    for image, sample in zip(images, samples.tolist(), strict=True):
        image[:] = prepare(sample)


def _finish(batch: Batch, work: Iterable[Future]) -> Batch:
    for part in work:
        part.result()
    return batch
