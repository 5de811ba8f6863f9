"""A data folder as it lies on the disk: its splits, for what works on files and bytes, and the data set they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lbsgd.data.formats import open_split
from lbsgd.data.layout import Split, find_splits, some
from lbsgd.data.memory import LIMIT_ENCODED_BYTES, MemoryCache
from lbsgd.data.source import Dataset, Source
from lbsgd.data.storage import EncodedSource
from lbsgd.errors import DataError


class Stored(NamedTuple):
    """Where a split lies, and its images."""

    split: Split
    source: EncodedSource


def find_stored(folder: Path) -> dict[str, Split]:
    """The splits "train" and "validation"; raises DataError when one is missing or cannot be listed."""
    try:
        train, validation = find_splits(folder)
    except OSError as error:
        raise _cannot_list(error) from error
    return {"train": train, "validation": validation}


def open_stored(folder: Path) -> dict[str, Stored]:
    """The splits and their images; raises DataError as `lbsgd.data.open_dataset` does."""
    try:
        return {name: Stored(split, open_split(split)) for name, split in find_stored(folder).items()}
    except OSError as error:
        raise _cannot_list(error) from error


def open_folder(path: str) -> Dataset:
    """The data set in a folder, small ones kept in memory once read.

    Raises DataError when the folder, a part of it or an image in every class is missing, or the splits have other classes.
    """
    train, validation = (stored.source for stored in open_stored(Path(path)).values())
    _require_equal_classes(path, train.classes, validation.classes)
    return Dataset(_kept_if_small(train), _kept_if_small(validation))


def _kept_if_small(source: EncodedSource) -> Source:
    return MemoryCache(source) if source.index.sizes.sum() <= LIMIT_ENCODED_BYTES else source


def _require_equal_classes(path: str, train: Sequence[str], validation: Sequence[str]) -> None:
    differing = []
    if only := sorted(set(train) - set(validation)):
        differing.append(f"only train/ has {some(only)}")
    if only := sorted(set(validation) - set(train)):
        differing.append(f"only val/ has {some(only)}")
    if not differing and train != validation:
        differing.append("the same classes have other labels")
    if differing:
        raise DataError(f"train/ and val/ of {path!r} differ: {', '.join(differing)}; both need the same classes")


def _cannot_list(error: OSError) -> DataError:
    return DataError(f"cannot list {str(error.filename)!r}: {error.strerror}; check its name and who may read it")
