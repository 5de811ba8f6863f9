"""What a source of images is, and how a reader says which part of an image it wants.

The part is chosen from the image's size, before anything is decoded, so that a decoder may leave out
resolution nobody needs. Formats implement Source; order, augmentation and batches know nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lbsgd.errors import DataError


class UnreadableSample(DataError):
    """One image of a data set cannot be read, and why; `--bad-samples` decides what follows."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read image {name!r}: {reason}; replace it, remove it, or train with --bad-samples replace")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Crop:
    """A part of an image, in pixels of the whole one, and the least size at which it is sharp enough."""

    top: int
    left: int
    height: int
    width: int
    least_height: int
    least_width: int


ChooseCrop = Callable[[int, int], Crop]
"""From an image's (height, width) to the part wanted."""


class ImageReader(Protocol):
    """Images, numbered from 0."""

    def read(self, index: int, choose: ChooseCrop | None = None) -> np.ndarray:
        """The chosen part of an image, or all of it: uint8 [height, width, 3], RGB; callable from any thread.

        With `choose` the part may come at a lower resolution, though not below its least size.
        Raises UnreadableSample.
        """


class Source(ImageReader, Protocol):
    """Labelled images, numbered from 0.

    classes: names, by label. labels: int64 [len]. digest: sha256 of the listing in hex, the same on ranks
    that see the same data.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    digest: str

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call an image in a message, such as its path below the folder."""


@dataclass(frozen=True)
class Dataset:
    """The images to train on and those to validate on; both have the same classes."""

    train: Source
    validation: Source


def cut(pixels: np.ndarray, crop: Crop, height: int, width: int) -> np.ndarray:
    """The crop's part of an image of height x width that was decoded as `pixels`, perhaps smaller: a view."""
    down, across = pixels.shape[0] / height, pixels.shape[1] / width
    top, left = round(crop.top * down), round(crop.left * across)
    bottom, right = round((crop.top + crop.height) * down), round((crop.left + crop.width) * across)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
