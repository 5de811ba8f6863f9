"""A data folder as it lies on the disk, for what works on files and bytes and not on pixels: index, info, pack, verify."""

from pathlib import Path
from typing import NamedTuple

from lbsgd.data.formats import open_split
from lbsgd.data.layout import Split, find_splits
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


def _cannot_list(error: OSError) -> DataError:
    return DataError(f"cannot list {str(error.filename)!r}: {error.strerror}; check its name and who may read it")
