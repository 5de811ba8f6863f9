"""A small real data set, to try everything with no download: scikit-learn's handwritten digits as PNG files.

They are the 1,797 gray images of 8 x 8 pixels of the test part of UCI's Optical Recognition of Handwritten
Digits.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lbsgd.data import open_dataset
from lbsgd.errors import DataError, EnvironmentNotReady, UsageError

CLASSES = tuple("0123456789")
IMAGES = (1442, 355)
"""Of train/ and val/."""

VALIDATION_STRIDE = 5
BRIGHTEST = 16


def write_demo(folder: Path) -> bool:
    """Make the demo in `folder`, whole or not at all; False when it is there already.

    Raises UsageError when the folder holds something else, EnvironmentNotReady without scikit-learn or when
    the place cannot be written to.
    """
    folder = folder.resolve()
    try:
        if folder.exists() and any(folder.iterdir()):
            if is_demo(folder):
                return False
            raise UsageError(f"{str(folder)!r} is not empty and not the demo; name a new or an empty folder")
        images, labels = _digits()
        _write_and_rename(folder, images, labels)
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot write {str(folder)!r}: {error.strerror}; name a folder below one you may write to"
        ) from error
    return True


def is_demo(folder: Path) -> bool:
    """Whether the folder holds the complete demo."""
    try:
        dataset = open_dataset(str(folder))
    except DataError:
        return False
    counts = len(dataset.train), len(dataset.validation)
    return dataset.train.classes == CLASSES and counts == IMAGES


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [1797, 8, 8] from 0 to 255, and int64 [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EnvironmentNotReady(f"the digits come with scikit-learn ({error}); pip install 'lbsgd[demo]'") from error
    digits = load_digits()
    return np.round(digits.images * (255 / BRIGHTEST)).astype(np.uint8), digits.target.astype(np.int64)


def _write_and_rename(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        for index, name in enumerate(_names(labels)):
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(path)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _names(labels: np.ndarray) -> Iterator[str]:
    """Where each image goes: every fifth of a class to val/, the others to train/."""
    seen = [0] * len(CLASSES)
    for index, label in enumerate(labels.tolist()):
        seen[label] += 1
        split = "train" if seen[label] % VALIDATION_STRIDE else "val"
        yield f"{split}/{CLASSES[label]}/{index:04}.png"
