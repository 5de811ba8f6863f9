"""Images made of noise, without files: they measure the trainer and not the input.

A small pool is drawn once. A crop of noise is as good as any other noise, so `read` returns whole images
whatever part is asked for: where `size` is the recipe's, nothing is cropped or resized in training.
"""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np

from lbsgd.data.source import ChooseCrop, Dataset
from lbsgd.errors import UsageError
from lbsgd.policy.philox import Purpose, words

POOL = 64


@dataclass(frozen=True)
class Shape:
    """How many images to train on and to validate on, classes and pixels a side; ImageNet's by default."""

    train: int = 1_281_167
    val: int = 50_000
    classes: int = 1000
    size: int = 224


class SyntheticSource:
    """`samples` images, of which POOL differ; image i has the label i modulo the number of classes."""

    def __init__(self, samples: int, classes: int, size: int, seed: int) -> None:
        self.classes = tuple(str(label) for label in range(classes))
        self.labels = np.arange(samples, dtype=np.int64) % classes
        self.digest = hashlib.sha256(f"synthetic {samples} {classes} {size} {seed}".encode()).hexdigest()
        count = min(POOL, samples)
        noise = words(-(-count * size * size * 3 // 8), Purpose.SYNTHETIC, seed=seed).astype("<u8").view(np.uint8)
        self._pool = noise[: count * size * size * 3].reshape(count, size, size, 3)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"synthetic image {index}"

    def read(self, index: int, choose: ChooseCrop | None = None) -> np.ndarray:
        """As Source.read, but always the whole image."""
        return self._pool[index % len(self._pool)]


def parse_shape(text: str) -> Shape:
    """The shape that "train=1024,size=32" describes; "" is ImageNet's.

    Raises UsageError.
    """
    numbers = {}
    for part in text.split(",") if text else ():
        key, _, value = part.partition("=")
        if key not in asdict(Shape()) or not value.isdecimal() or int(value) < 1:
            raise UsageError(
                f"synthetic data cannot have {part!r}; train, val, classes and size can be given, "
                f"e.g. synthetic:train=1024,val=128,classes=10,size=32"
            )
        numbers[key] = int(value)
    return Shape(**numbers)


def open_synthetic(shape: Shape) -> Dataset:
    """Training and validation images drawn from different streams."""
    return Dataset(
        train=SyntheticSource(shape.train, shape.classes, shape.size, seed=0),
        validation=SyntheticSource(shape.val, shape.classes, shape.size, seed=1),
    )
