"""A photograph that never was: distributed in pixels and bytes as ImageNet's, for tests and measurements.

An image is coloured shapes below noise whose amplitude falls with frequency as it does in photographs; its class decides on
palette, shape and grain, so that a classifier can learn it.

From sources: 138 GiB for 1,281,167 training images are about 113 KB a file (the archive that image-net.org distributes); "the
vast majority" are coloured, without chroma subsampling and of quality 96, the size met most is about 500 x 500, and there are
some as large as 2592 x 3888 (M. Ehrlich, "Compression in the ImageNet Dataset", 2021). The shares below are our own aim.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import simplejpeg

from lbsgd.policy.philox import Purpose, uniforms, words

Option = TypeVar("Option")

SPLITS = ("train", "val")

SIZES = (
    (0.22, 500, 375), (0.13, 500, 333), (0.08, 375, 500), (0.05, 333, 500), (0.03, 500, 500),
    (0.02, 640, 480), (0.014, 800, 600), (0.012, 1024, 768), (0.005, 1600, 1200), (0.003, 2048, 1536), (0.001, 3072, 2048),
)  # fmt: skip
"""(share of the images, width, height) of the sizes that come often, and of large photographs."""

SMALL = 0.16
"""Share of the images whose longer side is below 500; what is left over has a longer side of 500, the other one being any."""

GRAY = 0.02
"""Share of the images without colour."""

SUBSAMPLED = 0.15
"""Share of the images in 4:2:0 at a lower quality; all others are 4:4:4 at quality 96."""

NUMBERS = 128
"""Random numbers of an image or a class; its noise follows in the same stream."""

STRENGTH = 54
"""Grey levels (standard deviation) of the noise where it is strongest."""

TINT = 0.3
"""Noise of each colour by itself, as a share of the noise that all have in common."""

COARSEST = 6
"""The longest waves of the noise are 2**6 pixels, further octaves halve them."""

GRAIN = 74
"""Standard deviation of one byte of noise."""


def photo(split: str, number: int, *, classes: int, seed: int) -> bytes:
    """Image `number` of a split as a JPEG file; its class is `number` modulo `classes`."""
    style = _style(_Stream(seed, len(SPLITS), number % classes))
    stream = _Stream(seed, SPLITS.index(split), number)
    width, height = _size(stream)
    pixels = _paint(height, width, style, stream)
    quality, sampling = (96, "444") if stream.number() >= SUBSAMPLED else (int(stream.between(70, 95)), "420")
    return simplejpeg.encode_jpeg(pixels, quality, colorsubsampling="Gray" if stream.number() < GRAY else sampling)


class _Stream:
    """The random numbers of an image or a class, each drawn once; then its noise."""

    def __init__(self, seed: int, kind: int, number: int) -> None:
        self._key = {"seed": seed, "epoch": kind, "sample": number}
        self._numbers = iter(uniforms(NUMBERS, Purpose.PHOTO, **self._key))

    def number(self) -> float:
        """In [0, 1)."""
        return next(self._numbers)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.number()

    def choice(self, options: Sequence[Option]) -> Option:
        return options[int(self.number() * len(options))]

    def noise(self, count: int) -> np.ndarray:
        """int8 [count], the same bytes on every machine."""
        drawn = words(NUMBERS + -(-count // 8), Purpose.PHOTO, **self._key)[NUMBERS:]
        return drawn.astype("<u8").view(np.int8)[:count]


@dataclass(frozen=True)
class _Style:
    """What the images of a class have in common.

    palette: RGB colours. corners: of its shapes, 0 for ellipses. exponent: how fast its noise falls with frequency. stretch:
    how much longer its grain is across than down.
    """

    palette: list[tuple[float, float, float]]
    corners: int
    exponent: float
    stretch: float


def _style(stream: _Stream) -> _Style:
    return _Style(
        palette=[(stream.between(40, 215), stream.between(40, 215), stream.between(40, 215)) for _ in range(3)],
        corners=stream.choice((0, 0, 3, 4, 5)),
        exponent=stream.between(1.0, 1.3),
        stretch=2 ** stream.between(0, 1.5),
    )


def _size(stream: _Stream) -> tuple[int, int]:
    """(width, height)."""
    share = stream.number()
    for common, width, height in SIZES:
        share -= common
        if share < 0:
            return width, height
    longer = int(stream.between(120, 500)) if share < SMALL else 500
    shorter = int(longer * stream.between(0.55, 1))
    return (longer, shorter) if stream.number() < 0.7 else (shorter, longer)


def _paint(height: int, width: int, style: _Style, stream: _Stream) -> np.ndarray:
    """The pixels of an image: uint8 [height, width, 3]."""
    scene = _scene(height, width, style, stream)
    exponent = style.exponent + stream.between(-0.15, 0.25)
    grains = stream.noise(height * width)
    grain = _octaves(height, round(width / style.stretch), 1, exponent, grains)
    tint = _octaves(height // 2, width // 2, 3, exponent, grains)
    noise: np.ndarray = cv2.merge([_stretched(grain, height, width)] * 3)
    noise += TINT * _stretched(tint, height, width)
    noise *= cv2.merge([scene[:, :, 3]] * 3) * np.float32(STRENGTH / 255)
    noise += scene[:, :, :3]
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def _scene(height: int, width: int, style: _Style, stream: _Stream) -> np.ndarray:
    """Shapes on a background that changes from corner to corner: uint8 [height, width, 4], RGB and strength of the noise."""
    corners = np.array([_colour(style, stream) for _ in range(4)], np.float32).reshape(2, 2, 4)
    scene = cv2.resize(corners, (width, height)).astype(np.uint8)
    for _ in range(int(stream.between(4, 10))):
        centre = np.array([stream.between(0, width), stream.between(0, height)])
        radii = np.array([stream.between(0.03, 0.3), stream.between(0.03, 0.3)]) * math.hypot(width, height) / 2
        turn = stream.between(0, 2 * math.pi)
        angles = turn + np.arange(style.corners or 48) * (2 * math.pi / (style.corners or 48))
        outline = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
        cv2.fillPoly(scene, [outline.round().astype(np.int32)], _colour(style, stream), cv2.LINE_AA)
    return scene


def _colour(style: _Style, stream: _Stream) -> tuple[float, ...]:
    """One of the class's colours, brighter or darker, and how strong the noise on it is."""
    light = stream.between(0.6, 1.3)
    return (*(min(255.0, light * part) for part in stream.choice(style.palette)), stream.between(10, 255))


def _octaves(height: int, width: int, channels: int, exponent: float, grains: np.ndarray) -> np.ndarray:
    """Noise whose amplitude falls as frequency ** -exponent, about 1 in all: float32 [height, width, channels]."""
    amplitudes = np.array([2.0 ** (octave * (exponent - 1)) for octave in range(COARSEST, -1, -1)])
    amplitudes /= GRAIN * np.linalg.norm(amplitudes)
    field = np.zeros((1, 1, channels), np.float32)
    for octave, amplitude in zip(range(COARSEST, -1, -1), amplitudes, strict=True):
        down, across = -(-height >> octave), -(-width >> octave)
        field = _stretched(field, down, across)
        field += grains[: field.size].reshape(field.shape) * np.float32(amplitude)
    return field


def _stretched(field: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
