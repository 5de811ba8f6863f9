"""How samples become shards: tar files in WebDataset's convention, or TFRecord files laid out like ImageNet's.

Encoded images are copied as they are, and nothing of the time or the user gets into a shard: equal samples give equal bytes.
"""

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import numpy as np

from lbsgd.data.index import Index, Names
from lbsgd.data.layout import SUFFIXES
from lbsgd.data.tfrecord_format import encode_example, write_record
from lbsgd.errors import DataError

BLOCK = 512
"""Bytes; a tar file consists of such blocks."""

EXAMPLE_BYTES = 256
"""About what a TFRecord takes beside the image."""


class ShardFormat(Protocol):
    """The shards of one split."""

    def stored_bytes(self) -> np.ndarray:
        """What each sample takes in a shard, nearly: int64 [samples]."""

    def shard_name(self, number: int, count: int) -> str:
        """What shard `number` of `count` is called, below the folder of the data set."""

    def write(self, file: BinaryIO, sample: int, image: bytes) -> None:
        """Append a sample."""

    def finish(self, file: BinaryIO) -> None:
        """Append what ends a shard."""


class WebDataset:
    """A member <key>.<suffix> with the image and a member <key>.cls with the label in decimal, one after the other."""

    def __init__(self, split: str, index: Index) -> None:
        self._split, self._index = split, index
        self._members = Names.of(member_names(index))

    def stored_bytes(self) -> np.ndarray:
        return 3 * BLOCK + (self._index.sizes + BLOCK - 1) // BLOCK * BLOCK

    def shard_name(self, number: int, count: int) -> str:
        folder = {"train": "train", "validation": "val"}[self._split]
        return f"{folder}/{folder}-{number:06}.tar"

    def write(self, file: BinaryIO, sample: int, image: bytes) -> None:
        member = self._members[sample]
        key, _, _ = member.rpartition(".")
        file.write(tar_member(member, image))
        file.write(tar_member(f"{key}.cls", str(self._index.labels[sample]).encode()))

    def finish(self, file: BinaryIO) -> None:
        file.write(bytes(2 * BLOCK))


class TFRecord:
    """One tf.train.Example a record, labels from 1, the class's name as its synset.

    Raises DataError for a class without images: nothing but images tells which classes there are.
    """

    def __init__(self, split: str, index: Index) -> None:
        self._split, self._index = split, index
        if missing := sorted(set(range(len(index.classes))) - set(np.unique(index.labels).tolist())):
            raise DataError(
                f"TFRecord files cannot hold classes without images, such as {index.classes[missing[0]]!r} of {split}; "
                "give it one, or pack with --format webdataset"
            )

    def stored_bytes(self) -> np.ndarray:
        return EXAMPLE_BYTES + self._index.sizes

    def shard_name(self, number: int, count: int) -> str:
        return f"{self._split}-{number:05}-of-{count:05}"

    def write(self, file: BinaryIO, sample: int, image: bytes) -> None:
        label = int(self._index.labels[sample])
        _, _, filename = self._index.names[sample].rpartition("/")
        write_record(file, encode_example(image, label + 1, self._index.classes[label], filename))

    def finish(self, file: BinaryIO) -> None:
        pass


SHARD_FORMATS: dict[str, type[WebDataset] | type[TFRecord]] = {"webdataset": WebDataset, "tfrecord": TFRecord}


def member_names(index: Index) -> Iterator[str]:
    """<class>/<stem>.<suffix> of each sample.

    All up to the first dot of the file's name is the key that holds a sample's members together: dots before the suffix become
    "_", and a key that is taken gets a number. The class's name is for the eye, its label is what counts.
    """
    folders = [re.sub(r"^\.|[/\0]", "_", name) for name in index.classes]
    taken: dict[str, int] = {}
    for sample, label in enumerate(index.labels.tolist()):
        _, _, filename = index.names[sample].rpartition("/")
        stem, suffix = _split_suffix(filename)
        yield _unique(f"{folders[label]}/{_without_dots(stem)}", taken) + suffix


def tar_member(name: str, content: bytes) -> bytes:
    """A file of a tar archive, with its header, padded to whole blocks. In ustar's form unless the name is too long for it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    try:
        header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    except ValueError:
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % BLOCK)


def _split_suffix(filename: str) -> tuple[str, str]:
    """Stem and suffix; ".jpg" where the name tells no type of image. The content decides how it is decoded."""
    stem, dot, extension = filename.rpartition(".")
    return (stem, dot + extension) if dot + extension.lower() in SUFFIXES else (filename, ".jpg")


def _without_dots(stem: str) -> str:
    return re.sub(r"[.\0]", "_", stem)


def _unique(key: str, taken: dict[str, int]) -> str:
    unique = key
    while unique in taken:
        taken[key] += 1
        unique = f"{key}-{taken[key]}"
    taken[unique] = 1
    return unique
