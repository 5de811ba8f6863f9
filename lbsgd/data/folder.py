"""Images in class folders, <class>/*: JPEG and PNG.

Classes and files are taken in the order of their names, so every rank that sees the same files numbers them alike.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lbsgd.data.index import Index
from lbsgd.data.layout import SUFFIXES, Split, some
from lbsgd.errors import DataError

LISTING_THREADS = 8
"""On a network file system the wait for each file's size is what takes long."""


def index_folder(split: Split) -> Index:
    """List <class>/<image> below a folder; hidden names, other suffixes and what is no regular file are skipped.

    Raises DataError when there are no images, a class has none or there is only one class, OSError when a folder is
    unreadable.
    """
    folder, classes = split.folder, class_folders(split.folder)
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        found = list(pool.map(_images_in, [folder / name for name in classes]))
    _require_images(folder, classes, found)
    return Index.of(
        classes,
        labels=np.repeat(np.arange(len(classes)), [len(images) for images in found]),
        names=[f"{name}/{image}" for name, images in zip(classes, found, strict=True) for image, _ in images],
        sizes=[size for images in found for _, size in images],
    )


def class_folders(folder: Path) -> list[str]:
    """The names of the class folders, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_visible(entry) and entry.is_dir())


def _images_in(folder: Path) -> list[tuple[str, int]]:
    """(name, bytes) of each image file, in the order of the names."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if _is_visible(entry) and entry.name.lower().endswith(SUFFIXES) and entry.is_file()
        )


def _is_visible(entry: os.DirEntry) -> bool:
    return not entry.name.startswith(".")


def _require_images(folder: Path, classes: Sequence[str], found: Sequence[list]) -> None:
    if not any(found):
        raise DataError(f"no images in {str(folder)!r}; they belong in <class>/ folders and end in {', '.join(SUFFIXES)}")
    empty = [name for name, images in zip(classes, found, strict=True) if not images]
    if empty:
        raise DataError(f"no images in {some(empty)} of {str(folder)!r}; remove the folder or fill it")
    if len(classes) == 1:
        raise DataError(f"{str(folder)!r} has only one class, {classes[0]!r}; a classifier needs two or more")
