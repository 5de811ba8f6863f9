"""scikit-learn's handwritten digits as PNG files.

They are the 1,797 gray images of 8 x 8 pixels of the test part of UCI's Optical Recognition of Handwritten Digits.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lbsgd.errors import EnvironmentNotReady

CLASSES = tuple("0123456789")
IMAGES = (1442, 355)
"""Of train/ and val/."""

VALIDATION_STRIDE = 5
BRIGHTEST = 16


def write(folder: Path) -> None:
    """Write train/<class>/*.png and val/<class>/*.png to an empty folder. Raises EnvironmentNotReady without scikit-learn."""
    images, labels = _digits()
    for index, name in enumerate(_names(labels)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index]).save(path)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [1797, 8, 8] from 0 to 255, and int64 [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EnvironmentNotReady(f"the digits come with scikit-learn ({error}); pip install 'lbsgd[demo]'") from error
    digits = load_digits()
    return np.round(digits.images * (255 / BRIGHTEST)).astype(np.uint8), digits.target.astype(np.int64)


def _names(labels: np.ndarray) -> Iterator[str]:
    """Where each image goes: every fifth of a class to val/, the others to train/."""
    seen = [0] * len(CLASSES)
    for index, label in enumerate(labels.tolist()):
        seen[label] += 1
        split = "train" if seen[label] % VALIDATION_STRIDE else "val"
        yield f"{split}/{CLASSES[label]}/{index:04}.png"
