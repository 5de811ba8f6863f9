"""The formats a split may be in, and how it becomes a Source: where it lies, then what it holds, then its images."""

from lbsgd.data.folder import index_folder
from lbsgd.data.index import Index
from lbsgd.data.index_cache import cached
from lbsgd.data.layout import Split
from lbsgd.data.storage import EncodedSource, Files, Shards
from lbsgd.data.tar import index_tar
from lbsgd.data.tfrecord import index_tfrecord

INDEXERS = {"folder": index_folder, "tar": index_tar, "tfrecord": index_tfrecord}


def build_index(split: Split) -> Index:
    """Look through all of a split; raises DataError when it cannot be used, OSError when a folder is unreadable."""
    return INDEXERS[split.format](split)


def open_split(split: Split) -> EncodedSource:
    """The images of a split; raises as build_index does."""
    index = cached(split, build_index)
    return EncodedSource(index, (Files if split.format == "folder" else Shards)(split.folder, index))
