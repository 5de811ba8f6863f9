"""Folders of JPEG files of any size that look like ImageNet to an input pipeline; photo.py makes the images.

Every number comes from (seed, split, image): the same arguments give the same bytes, whatever the number of threads, with the
same versions of OpenCV and libjpeg-turbo.
"""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event

import cv2

from lbsgd.data.new_folder import new_folder
from lbsgd.data.photo import SPLITS, photo
from lbsgd.errors import UsageError


def write_photos(folder: Path, *, train: int, val: int, classes: int, seed: int = 0, threads: int | None = None) -> None:
    """Write train/<class>/*.JPEG and val/<class>/*.JPEG to `folder`, whole or not at all.

    train, val: images of all classes together, dealt to the classes in turn. threads: as many as cores by default.
    Raises UsageError when the numbers make no data set or the folder is not empty, EnvironmentNotReady when the place cannot
    be written to.
    """
    _require_classes(train, val, classes)
    with new_folder(folder) as partial:
        _write(partial, {"train": train, "val": val}, classes, seed, threads or len(os.sched_getaffinity(0)))


def _require_classes(train: int, val: int, classes: int) -> None:
    if classes < 2 or min(train, val) < classes:
        raise UsageError(
            f"{train} training and {val} validation images cannot be dealt to {classes} classes; "
            f"a data set needs 2 classes or more, and an image of each in both parts"
        )


def _write(folder: Path, counts: dict[str, int], classes: int, seed: int, threads: int) -> None:
    """Every thread writes each threads-th image, so that nothing but the images in the making is in memory."""
    names = [f"class{label:0{len(str(classes - 1))}}" for label in range(classes)]
    for split in SPLITS:
        for name in names:
            (folder / split / name).mkdir(parents=True)
    cv2.setNumThreads(0)  # the pool's threads are the parallelism
    stop = Event()

    def write_share(first: int) -> None:
        for split in SPLITS:
            for number in range(first, counts[split], threads):
                if stop.is_set():
                    return
                path = folder / split / names[number % classes] / f"{number:08}.JPEG"
                path.write_bytes(photo(split, number, classes=classes, seed=seed))

    with ThreadPoolExecutor(threads) as pool:
        try:
            for share in as_completed([pool.submit(write_share, first) for first in range(threads)]):
                share.result()
        finally:
            stop.set()
