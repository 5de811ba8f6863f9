"""Training batches decoded by NVIDIA DALI, on a GPU or not: the order, crops, flips and labels are those of loader.py.

Threads read the files and choose the crops; DALI decodes, cuts, resizes and flips. What it does not decode as lbsgd does
(PNG, CMYK, damaged files) the threads finish, and it reaches DALI as a PPM file of the final size, which passes through
unchanged. The tests run it on a CPU; on a GPU, where only the device of the decoder differs, it has not been run yet.
"""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg

from lbsgd.data import loader
from lbsgd.data.augmentation import random_crop, training_draws, training_image
from lbsgd.data.bad_samples import FAIL, BadSamples
from lbsgd.data.decode import END_OF_IMAGE, LIMIT_PIXELS
from lbsgd.data.loader import Batch, DeviceImages
from lbsgd.data.memory import MemoryCache
from lbsgd.data.readers import READ_TIMEOUT
from lbsgd.data.source import Source
from lbsgd.data.storage import EncodedSource
from lbsgd.errors import EnvironmentNotReady, UsageError
from lbsgd.order import Order

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

    from lbsgd.recipe import Images

READ_AHEAD = 1
"""Batches of files that are read besides those in DALI."""

QUEUE = 2
"""Batches that DALI decodes while the trainer has others."""

Columns = tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]
"""A batch as DALI takes it: files, corners and extents of the crops, flips."""


@dataclass(frozen=True)
class Encoded:
    """An image file, the part of it that is wanted, and whether that is flipped.

    corner: (top, left) and extent: (height, width), in pixels.
    """

    data: bytes
    corner: tuple[int, int]
    extent: tuple[int, int]
    flipped: bool


@dataclass(frozen=True)
class _Submitted:
    """A batch that DALI was given. `finished`: by threads, because DALI could not decode it."""

    iteration: int
    images: list[Encoded]
    labels: np.ndarray
    finished: bool = False


def require_dali(source: Source, settings: "Images") -> None:
    """Raises EnvironmentNotReady when DALI cannot be loaded, UsageError when there is nothing that it could decode."""
    _encoded_source(source, settings)
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        raise EnvironmentNotReady(
            f"--decoder dali needs NVIDIA DALI: {error}; `pip install 'lbsgd[dali]'`, or leave --decoder out"
        ) from error


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
    device_id: int | None,
    bad_samples: BadSamples | None = None,
    timeout: float = READ_TIMEOUT,
) -> Generator[Batch, None, None]:
    """As loader.training_batches. device_id: the GPU that decodes and on which the images lie; None: a CPU.

    `threads` read files, and as many decode. A file that DALI decodes although the threads would not is not a bad sample.
    """
    source = _encoded_source(source, settings)
    options = {
        "rank": rank,
        "world_size": world_size,
        "threads": threads,
        "bad_samples": bad_samples or BadSamples(FAIL),
        "timeout": timeout,
    }

    def image_of(epoch: int, sample: int) -> Encoded:
        return encoded_image(source, sample, settings, seed=order.seed, epoch=epoch)

    def by_threads(iteration: int) -> Batch:
        span = {"start_iteration": iteration, "stop_iteration": iteration + 1}
        (batch,) = loader.training_batches(source, settings, order, **span, **options)
        return batch

    def pipeline(feed: Iterator[Columns]) -> "Pipeline":
        return _pipeline(feed, order.global_batch // world_size, settings.size, threads, device_id)

    read = loader.ordered_batches(
        source,
        order,
        image_of,
        (),
        start_iteration=start_iteration,
        stop_iteration=stop_iteration,
        allocate=lambda shape: np.empty(shape, object),
        prefetch=READ_AHEAD,
        **options,
    )
    with closing(read):
        yield from _Decoding(read, start_iteration, by_threads, pipeline).batches()


def encoded_image(source: EncodedSource, sample: int, settings: "Images", *, seed: int, epoch: int) -> Encoded:
    """A sample as DALI makes this epoch's image of it. Raises UnreadableSample."""
    data = source.encoded(sample)
    size = jpeg_size(data)
    if size is None:
        return finished(training_image(source, sample, settings, seed=seed, epoch=epoch))
    flipped, draws = training_draws(sample, settings, seed=seed, epoch=epoch)
    crop = random_crop(*size, settings, draws)
    return Encoded(data, (crop.top, crop.left), (crop.height, crop.width), flipped)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a whole JPEG in gray or YCbCr; None for anything else, and for what lbsgd refuses to decode."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    usual = colorspace in ("Gray", "YCbCr") and data.endswith(END_OF_IMAGE) and height * width <= LIMIT_PIXELS
    return (height, width) if usual else None


def finished(pixels: np.ndarray) -> Encoded:
    """An image that needs nothing more: uint8 [height, width, 3]."""
    height, width, _ = pixels.shape
    return Encoded(b"P6 %d %d 255\n" % (width, height) + pixels.tobytes(), (0, 0), (height, width), flipped=False)


class _Decoding:
    """Batches on their way through DALI. A batch it cannot decode ends its pipeline: then the next one goes on from there."""

    def __init__(
        self,
        read: Iterator[Batch],
        start_iteration: int,
        by_threads: Callable[[int], Batch],
        pipeline: Callable[[Iterator[Columns]], "Pipeline"],
    ) -> None:
        self._read = enumerate(read, start_iteration)
        self._by_threads, self._pipeline = by_threads, pipeline
        self._submitted: deque[_Submitted] = deque()
        self._error: Exception | None = None

    def batches(self) -> Iterator[Batch]:
        """All batches, in order."""
        pipeline = self._pipeline(self._feed())
        in_use = deque(maxlen=2)  # the trainer's GPU may lag behind, and DALI reuses what nobody holds
        while True:
            try:
                (decoded,) = pipeline.run()
            except StopIteration:
                break
            except RuntimeError as error:
                self._finish_by_threads(error)
                pipeline = self._pipeline(self._feed())
                continue
            in_use.append(_dense(decoded))
            labels = self._submitted.popleft().labels
            yield Batch(in_use[-1], labels, len(labels))
        if self._error:
            raise self._error

    def _feed(self) -> Iterator[Columns]:
        """What DALI has not given back yet, then what is read: DALI asks QUEUE batches ahead."""
        for submitted in tuple(self._submitted):
            yield _columns(submitted.images)
        try:
            for iteration, batch in self._read:
                submitted = _Submitted(iteration, batch.images.tolist(), batch.labels)
                self._submitted.append(submitted)
                yield _columns(submitted.images)
        except Exception as error:  # it belongs after the batches that DALI still has
            self._error = error

    def _finish_by_threads(self, error: Exception) -> None:
        """Take the oldest batch out of DALI's hands; what is unreadable in it is reported here."""
        failed = self._submitted.popleft()
        if failed.finished:
            raise error
        warnings.warn("DALI cannot decode some of the images; the batches that these are in are left to threads", stacklevel=2)
        batch = self._by_threads(failed.iteration)
        images = [finished(pixels) for pixels in batch.images]
        self._submitted.appendleft(_Submitted(failed.iteration, images, batch.labels, finished=True))


def _encoded_source(source: Source, settings: "Images") -> EncodedSource:
    if isinstance(source, MemoryCache):
        source = source.source
    if not isinstance(source, EncodedSource):
        raise UsageError("--decoder dali decodes image files, and synthetic images are none; leave --decoder out")
    if settings.kind != "imagenet":
        raise UsageError(f"--decoder dali makes images of kind imagenet, the recipe has {settings.kind}; leave --decoder out")
    return source


def _columns(images: list[Encoded]) -> Columns:
    return (
        [np.frombuffer(image.data, np.uint8) for image in images],
        np.array([image.corner for image in images], np.int32),
        np.array([image.extent for image in images], np.int32),
        np.array([image.flipped for image in images], np.int32),
    )


def _pipeline(feed: Iterator[Columns], count: int, size: int, threads: int, device_id: int | None) -> "Pipeline":
    """Batches of `count` images of size x size, uint8 RGB, made of what `feed` gives."""
    from nvidia.dali import Pipeline, fn, types

    pipeline = Pipeline(count, num_threads=threads, device_id=device_id, prefetch_queue_depth=QUEUE)
    with pipeline:
        files, corners, extents, flips = fn.external_source(feed, num_outputs=4)
        images = fn.decoders.image_slice(
            files,
            start=corners,
            shape=extents,
            axis_names="HW",
            device="cpu" if device_id is None else "mixed",
            output_type=types.RGB,
            adjust_orientation=False,  # EXIF orientation is left alone, as in decode.py
        )
        images = fn.resize(images, size=(size, size), interp_type=types.INTERP_LINEAR, antialias=True)
        pipeline.set_outputs(fn.flip(images, horizontal=flips))
    pipeline.build()
    return pipeline


def _dense(decoded) -> np.ndarray | DeviceImages:
    """DALI's list of equal images as one array, where they lie."""
    from nvidia.dali.tensors import TensorCPU

    tensor = decoded.as_tensor()
    return np.asarray(tensor) if isinstance(tensor, TensorCPU) else tensor
