"""The formats a split may be in, and how it becomes a Source: where it lies, then what it holds, then its images."""

from collections.abc import Sequence
from pathlib import Path

from lbsgd.data.folder import index_folder
from lbsgd.data.index import Index
from lbsgd.data.index_cache import cached
from lbsgd.data.layout import Split, find_splits, some
from lbsgd.data.memory import LIMIT_ENCODED_BYTES, MemoryCache
from lbsgd.data.source import Dataset, Source
from lbsgd.data.storage import EncodedSource, Files, Shards
from lbsgd.data.tar import index_tar
from lbsgd.data.tfrecord import index_tfrecord
from lbsgd.errors import DataError

INDEXERS = {"folder": index_folder, "tar": index_tar, "tfrecord": index_tfrecord}


def build_index(split: Split) -> Index:
    """Look through all of a split; raises DataError when it cannot be used, OSError when a folder is unreadable."""
    return INDEXERS[split.format](split)


def open_split(split: Split) -> EncodedSource:
    """The images of a split; raises as build_index does."""
    index = cached(split, build_index)
    return EncodedSource(index, (Files if split.format == "folder" else Shards)(split.folder, index))


def open_folder(path: str) -> Dataset:
    """The data set in a folder, small ones kept in memory once read.

    Raises DataError when the folder, a part of it or an image in every class is missing, or the splits have other classes.
    """
    try:
        train, validation = map(open_split, find_splits(Path(path)))
    except OSError as error:
        raise DataError(f"cannot list {str(error.filename)!r}: {error.strerror}") from error
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
