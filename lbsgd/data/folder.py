"""A folder in ImageNet's layout: train/<class>/* and val/<class>/*, JPEG and PNG.

Classes and files are taken in the order of their names, so every rank that sees the same files numbers them
alike.
"""

import difflib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lbsgd.data.decode import decode
from lbsgd.data.memory import LIMIT_ENCODED_BYTES, MemoryCache
from lbsgd.data.source import ChooseCrop, Dataset, Source
from lbsgd.errors import DataError

SUFFIXES = (".jpeg", ".jpg", ".png")
LISTING_THREADS = 8
"""On a network file system the wait for each file's size is what takes long."""


@dataclass(frozen=True)
class Listing:
    """The images of train/ or val/: image i is classes[labels[i]]/files[i]. encoded_bytes: of all files."""

    folder: Path
    classes: tuple[str, ...]
    files: list[str]
    labels: np.ndarray
    digest: str
    encoded_bytes: int


class FolderSource:
    """The images of a listing, read from their files. A Source."""

    def __init__(self, listing: Listing) -> None:
        self.classes, self.labels, self.digest = listing.classes, listing.labels, listing.digest
        self._folder, self._files = listing.folder, listing.files

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        return f"{self._folder.name}/{self.classes[self.labels[index]]}/{self._files[index]}"

    def read(self, index: int, choose: ChooseCrop | None = None) -> np.ndarray:
        """As Source.read."""
        path = self._folder / self.classes[self.labels[index]] / self._files[index]
        try:
            return decode(path.read_bytes(), choose)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"cannot read image {str(path)!r}: {reason}; replace it or remove it") from error


def open_folder(path: str) -> Dataset:
    """The data set in a folder.

    Raises DataError when the folder, a part of it or an image in every class is missing, or train/ and val/
    have other classes.
    """
    root = Path(path)
    try:
        _require_folders(root)
        train, validation = list_images(root / "train"), list_images(root / "val")
    except OSError as error:
        raise DataError(f"cannot list {str(error.filename)!r}: {error.strerror}") from error
    _require_equal_classes(path, train.classes, validation.classes)
    return Dataset(_source(train), _source(validation))


def _source(listing: Listing) -> Source:
    source = FolderSource(listing)
    return MemoryCache(source) if listing.encoded_bytes <= LIMIT_ENCODED_BYTES else source


def list_images(folder: Path) -> Listing:
    """List <class>/<image> below a folder; hidden names and other suffixes are passed over.

    Raises DataError when there are no images, a class has none or there is only one class, OSError when a
    folder is unreadable.
    """
    with os.scandir(folder) as entries:
        classes = sorted(entry.name for entry in entries if _is_visible(entry) and entry.is_dir())
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        found = list(pool.map(_images_in, [folder / name for name in classes]))
    _require_images(folder, classes, found)
    return Listing(
        folder=folder,
        classes=tuple(classes),
        files=[name for images in found for name, _ in images],
        labels=np.repeat(np.arange(len(classes)), [len(images) for images in found]),
        digest=_digest(classes, found),
        encoded_bytes=sum(size for images in found for _, size in images),
    )


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


def _digest(classes: Sequence[str], found: Sequence[list[tuple[str, int]]]) -> str:
    """sha256 of the classes and of their images' names and sizes; no name holds the separators."""
    digest = hashlib.sha256()
    for name, images in zip(classes, found, strict=True):
        digest.update(os.fsencode(f"{name}/\0"))
        digest.update(os.fsencode("".join(f"{image}\0{size}\0" for image, size in images)))
    return digest.hexdigest()


def _require_folders(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}; {_suggestion(root)}`lbsgd data demo DIR` makes a small one")
    missing = [f"{split}/" for split in ("train", "val") if not (root / split).is_dir()]
    if missing:
        needed = "it needs train/<class>/ and val/<class>/ folders"
        raise DataError(f"{str(root)!r} has no {' and no '.join(missing)}; {needed}")


def _require_images(folder: Path, classes: Sequence[str], found: Sequence[list]) -> None:
    if not any(found):
        raise DataError(f"no images in {str(folder)!r}; they belong in <class>/ folders and end in {', '.join(SUFFIXES)}")
    empty = [name for name, images in zip(classes, found, strict=True) if not images]
    if empty:
        raise DataError(f"no images in {_some(empty)} of {str(folder)!r}; remove the folder or fill it")
    if len(classes) == 1:
        raise DataError(f"{str(folder)!r} has only one class, {classes[0]!r}; a classifier needs two or more")


def _require_equal_classes(path: str, train: Sequence[str], validation: Sequence[str]) -> None:
    differing = []
    if only := sorted(set(train) - set(validation)):
        differing.append(f"only train/ has {_some(only)}")
    if only := sorted(set(validation) - set(train)):
        differing.append(f"only val/ has {_some(only)}")
    if differing:
        raise DataError(f"train/ and val/ of {path!r} differ: {', '.join(differing)}; both need the same class folders")


def _some(names: Sequence[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _suggestion(missing: Path) -> str:
    """A folder beside the missing one whose name is close, as a question; "" without one."""
    try:
        siblings = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(missing.name, siblings, n=1)
    return f"did you mean {str(missing.with_name(close[0]))!r}? " if close else ""
