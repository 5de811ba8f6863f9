"""What happens to an image between the source and the batch: random in training, fixed in evaluation.

The random numbers of a sample come from (seed, epoch, sample) alone (philox.py), so neither the rank, the
thread nor the framework changes what it looks like. Pixels stay uint8: the device normalises them.
"""

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lbsgd.data.source import Crop, ImageReader
from lbsgd.policy.philox import Purpose, uniforms

if TYPE_CHECKING:
    from lbsgd.policy.recipe import Images

TRIES = 10
DRAWS = 1 + 4 * TRIES
"""Random numbers a sample: the flip's, then four a try. "small" uses two of the first try's."""

LEAST_SMOOTHED = 1.2
"""Shrinking by less, smoothing would change a grey level or less."""


def training_image(source: ImageReader, index: int, settings: "Images", *, seed: int, epoch: int) -> np.ndarray:
    """Sample `index` as it looks in this epoch: uint8 [size, size, 3].

    kind "imagenet": scale and aspect ratio augmentation (Szegedy et al. 2015; paper, section 5.1). kind
    "small": a shift by up to `padding` pixels, what it uncovers black. Both: a horizontal flip for every
    second sample if `flip`. Raises UnreadableSample.
    """
    flipped, draws = training_draws(index, settings, seed=seed, epoch=epoch)
    size = settings.size
    if settings.kind == "imagenet":
        pixels = source.read(index, lambda height, width: random_crop(height, width, settings, draws))
        pixels = resize(pixels, size, size)
    else:
        pixels = shift(read_square(source, index, size), settings.padding, *draws[:2])
    return cv2.flip(pixels, 1) if flipped else pixels


def training_draws(index: int, settings: "Images", *, seed: int, epoch: int) -> tuple[bool, list[float]]:
    """Whether sample `index` is flipped in this epoch, and the numbers in [0, 1) that its crop or shift is made of."""
    flip, *draws = uniforms(DRAWS, Purpose.AUGMENTATION, seed=seed, epoch=epoch, sample=index)
    return settings.flip and flip < 0.5, draws


def evaluation_image(source: ImageReader, index: int, settings: "Images") -> np.ndarray:
    """Image `index` as it is evaluated: uint8 [size, size, 3].

    kind "imagenet": the short side resized to `evaluation_resize`, then the central crop. kind "small":
    resized. Raises UnreadableSample.
    """
    size, short = settings.size, settings.evaluation_resize
    if settings.kind == "small":
        return read_square(source, index, size)
    pixels = source.read(index, lambda height, width: whole(height, width, *scaled(height, width, short)))
    height, width, _ = pixels.shape
    return central(resize(pixels, *scaled(height, width, short)), size)


def random_crop(height: int, width: int, settings: "Images", draws: list[float]) -> Crop:
    """A crop whose area and log aspect ratio are uniform in the recipe's ranges, in a random place.

    draws: 4 numbers in [0, 1) a try; the first try that fits is taken. None may: then the central crop that
    comes nearest.
    """
    least_share, most_share = settings.area
    lowest, highest = (math.log(ratio) for ratio in settings.aspect_ratio)
    for i in range(0, 4 * TRIES, 4):
        area = height * width * (least_share + draws[i] * (most_share - least_share))
        ratio = math.exp(lowest + draws[i + 1] * (highest - lowest))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top, left = int(draws[i + 2] * (height - down + 1)), int(draws[i + 3] * (width - across + 1))
            return Crop(top, left, down, across, settings.size, settings.size)
    return nearest_crop(height, width, settings)


def nearest_crop(height: int, width: int, settings: "Images") -> Crop:
    """The largest central crop whose aspect ratio the recipe allows."""
    lowest, highest = settings.aspect_ratio
    down = max(1, min(height, round(width / lowest)))
    across = max(1, min(width, round(height * highest)))
    return Crop((height - down) // 2, (width - across) // 2, down, across, settings.size, settings.size)


def read_square(source: ImageReader, index: int, size: int) -> np.ndarray:
    """All of an image, stretched to size x size where it has another size."""
    return resize(source.read(index, lambda height, width: whole(height, width, size, size)), size, size)


def whole(height: int, width: int, least_height: int, least_width: int) -> Crop:
    """All of an image that will be resized to least_height x least_width."""
    return Crop(0, 0, height, width, least_height, least_width)


def scaled(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) with the same aspect ratio whose shorter one is `short`."""
    if height < width:
        return short, short * width // height
    return short * height // width, short


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image at another size; where it shrinks it is smoothed first, so that nothing aliases.

    Up to a factor of 2 the smoothing is [a, 1 - 2a, a] with a = (factor**2 - 1) / 12, after which linear interpolation has the
    spread of the triangle filter that Pillow and torchvision average with, in less than half of the time of OpenCV's area
    averaging. That one is left for larger factors, which scaled decoding makes rare.
    """
    down, across = pixels.shape[0] / height, pixels.shape[1] / width
    if down == across == 1:
        return pixels
    if max(down, across) > 2:
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if min(down, across) >= 1 else cv2.INTER_LINEAR)
    if max(down, across) > LEAST_SMOOTHED:
        pixels = cv2.sepFilter2D(pixels, -1, _smoothing(across), _smoothing(down))
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)


def _smoothing(factor: float) -> np.ndarray:
    side = max(0.0, factor**2 - 1) / 12
    return np.array([side, 1 - 2 * side, side], np.float32)


def shift(pixels: np.ndarray, padding: int, vertical: float, horizontal: float) -> np.ndarray:
    """The image moved by up to `padding` pixels each way; draws in [0, 1). What is uncovered is black."""
    height, width, _ = pixels.shape
    padded = cv2.copyMakeBorder(pixels, padding, padding, padding, padding, cv2.BORDER_CONSTANT)
    top, left = int(vertical * (2 * padding + 1)), int(horizontal * (2 * padding + 1))
    return padded[top : top + height, left : left + width]


def central(pixels: np.ndarray, size: int) -> np.ndarray:
    """The central size x size pixels."""
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]
