"""From an index to pixels: the bytes of an image, out of its own file or out of a shard, and their decoding.

Nothing here blocks on what is no image: a FIFO, a device or a folder that took an image's place is refused.
"""

import errno
import os
import resource
import stat
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from lbsgd.data.decode import decode
from lbsgd.data.index import Index
from lbsgd.data.source import ChooseCrop, UnreadableSample
from lbsgd.errors import EnvironmentNotReady


class Storage(Protocol):
    """Where the encoded images of a split lie, below `folder`."""

    folder: Path

    def place(self, sample: int) -> str:
        """Where a sample lies below the folder, for messages."""

    def encoded(self, sample: int) -> bytes:
        """An image as it is stored; from any thread. Raises OSError."""


class Files:
    """Every image is a file. A Storage."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self._names = index.names

    def place(self, sample: int) -> str:
        return self._names[sample]

    def encoded(self, sample: int) -> bytes:
        with os.fdopen(open_regular(f"{self.folder}/{self._names[sample]}"), "rb", buffering=0) as file:
            return file.read()


class Shards:
    """Many images a file, each in one piece: a shard is opened when it is first needed, and stays open. A Storage."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self._index = index
        self._descriptors: dict[int, int] = {}
        self._opening = Lock()
        _allow_open_files(len(index.shards))

    def __del__(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def place(self, sample: int) -> str:
        shard, name = self._index.shards[self._index.shard_of[sample]], self._index.names[sample]
        return name if name.startswith(f"{shard}:") else f"{shard}:{name}"  # a record without a file name is "<shard>:<number>"

    def encoded(self, sample: int) -> bytes:
        size = int(self._index.sizes[sample])
        data = os.pread(self._descriptor(int(self._index.shard_of[sample])), size, int(self._index.offsets[sample]))
        if len(data) < size:
            raise OSError(errno.EIO, "the shard ends within it, so it was cut off after it was indexed")
        return data

    def _descriptor(self, shard: int) -> int:
        descriptor = self._descriptors.get(shard)
        if descriptor is None:
            with self._opening:
                descriptor = self._descriptors.get(shard)
                if descriptor is None:
                    descriptor = open_regular(f"{self.folder}/{self._index.shards[shard]}")
                    self._descriptors[shard] = descriptor
        return descriptor


class EncodedSource:
    """The images that an index lists, read from their storage. A Source."""

    def __init__(self, index: Index, storage: Storage) -> None:
        self.index = index
        self.classes, self.labels, self.digest = index.classes, index.labels, index.digest
        self._storage = storage

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        return f"{self._storage.folder.name}/{self._storage.place(index)}"

    def encoded(self, index: int) -> bytes:
        """An image as it is stored, not empty; callable from any thread. Raises UnreadableSample."""
        try:
            data = self._storage.encoded(index)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise EnvironmentNotReady(_too_many_files()) from error
            raise self._unreadable(index, error.strerror or str(error)) from error
        if not data:
            raise self._unreadable(index, "it is empty")
        return data

    def read(self, index: int, choose: ChooseCrop | None = None) -> np.ndarray:
        """As Source.read."""
        data = self.encoded(index)
        try:
            return decode(data, choose)
        except ValueError as error:
            raise self._unreadable(index, str(error)) from error

    def _unreadable(self, index: int, reason: str) -> UnreadableSample:
        return UnreadableSample(f"{self._storage.folder}/{self._storage.place(index)}", reason)


def open_regular(path: str | Path) -> int:
    """A descriptor to read a regular file; anything else is an OSError, where opening it might wait forever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def _allow_open_files(count: int) -> None:
    """Raise the soft limit of open files by `count`, up to the hard one, where that many would come near it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and count > soft // 4:
        wanted = soft + count
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _too_many_files() -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"this process may open only {hard} files, too few to keep all shards open; raise `ulimit -Hn` or pack larger shards"
