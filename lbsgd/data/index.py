"""What the samples of one split are and where they lie, column by column: 1.28 million of them are a few arrays.

Formats (folder.py, tar.py, tfrecord.py) make an Index; storage.py reads images by it; index_cache.py keeps it on disk.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Names:
    """Many short texts in two arrays. text: uint8, all texts after each other. ends: int64 [count], where each ends."""

    text: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return self.text[start : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Index:
    """The samples of a split in their order.

    classes: names, by label. labels: int64 [samples]. names: "<class>/<file>" of each sample. sizes: int64 [samples], bytes
    of each encoded image. digest: sha256 in hex of what the split holds: equal for the same images in another format.
    shards: file names, empty where every image is a file. shard_of: int32 [samples] and offsets: int64 [samples] say where
    in which shard an image's bytes begin; empty without shards.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    names: Names
    sizes: np.ndarray
    digest: str
    shards: tuple[str, ...]
    shard_of: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        labels: ArrayLike,
        names: Iterable[str],
        sizes: ArrayLike,
        shards: Sequence[str] = (),
        shard_of: ArrayLike = (),
        offsets: ArrayLike = (),
    ) -> "Index":
        """The index of these columns, digest included."""
        columns = np.asarray(labels, np.int64), Names.of(names), np.asarray(sizes, np.int64)
        digest = content_digest(classes, *columns)
        places = np.asarray(shard_of, np.int32), np.asarray(offsets, np.int64)
        return cls(tuple(classes), *columns, digest, tuple(shards), *places)

    def __len__(self) -> int:
        return len(self.labels)


def content_digest(classes: Sequence[str], labels: np.ndarray, names: Names, sizes: np.ndarray) -> str:
    """sha256 in hex of the classes and of each sample's name, label and encoded size, in their order."""
    digest = hashlib.sha256(json.dumps([len(labels), *classes]).encode())
    for column in (labels, sizes, names.ends):
        digest.update(np.ascontiguousarray(column, "<i8").data)
    digest.update(names.text.data)
    return digest.hexdigest()
