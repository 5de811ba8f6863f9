"""TFRecord files in ImageNet's usual layout: an Example a record with image/encoded and image/class/label.

Labels count from 1 in the usual files; whatever they are, the sorted ones become 0, 1, ... . The names of classes are
image/class/synset, else image/class/text.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from lbsgd.data.index import Index
from lbsgd.data.layout import Split
from lbsgd.data.shards import Sample, broken_shard, index_shards
from lbsgd.data.storage import open_regular
from lbsgd.data.tfrecord_format import FOOTER_BYTES, HEADER_BYTES, parse_example, parse_header
from lbsgd.errors import DataError

WINDOW_BYTES = 4096
"""Read at once: what stands beside an image is smaller, and reading the image would take much longer."""

_OF = re.compile(r"(.*)-(\d+)-of-(\d+)$", re.DOTALL)


class FilePart:
    """Bytes of a file, read where they are looked at."""

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor, self._start, self._length = descriptor, start, length
        self._window, self._window_start = b"", 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start = part.start - self._window_start
        if start < 0 or part.stop > self._window_start + len(self._window):
            wanted = max(part.stop - part.start, WINDOW_BYTES)
            self._window = os.pread(self._descriptor, wanted, self._start + part.start)
            self._window_start, start = part.start, 0
        return self._window[start : start + part.stop - part.start]


def index_tfrecord(split: Split) -> Index:
    """The samples of TFRecord files; raises DataError, naming the file, when one is missing or damaged."""
    _require_all(split.folder, split.shards)
    return index_shards(split, walk)


def walk(path: Path) -> list[Sample]:
    """The samples of one file in their order."""
    try:
        descriptor = open_regular(path)
        try:
            return [_sample(descriptor, path.name, *record) for record in _records(descriptor)]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise broken_shard(path, error.strerror) from error
    except ValueError as error:
        raise broken_shard(path, error) from error


def _records(descriptor: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, length) of the data of each record."""
    start, number, size = 0, 0, os.fstat(descriptor).st_size
    if not size:
        raise ValueError("it is empty")
    while start < size:
        header = os.pread(descriptor, HEADER_BYTES, start)
        try:
            length = parse_header(header)
        except ValueError as error:
            raise ValueError(f"record {number} at byte {start} is damaged: {error}") from error
        data, start = start + HEADER_BYTES, start + HEADER_BYTES + length + FOOTER_BYTES
        if start > size:
            raise ValueError(f"it is cut off within record {number}, which would end at byte {start}")
        yield number, data, length
        number += 1


def _sample(descriptor: int, shard: str, number: int, start: int, length: int) -> Sample:
    try:
        example = parse_example(FilePart(descriptor, start, length))
    except ValueError as error:
        raise ValueError(f"record {number} at byte {start - HEADER_BYTES} is not an Example of an image: {error}") from error
    class_name = example.synset or example.text
    name = f"{class_name or example.label}/{example.filename}" if example.filename else f"{shard}:{number}"
    first, stop = example.image
    return Sample(name, example.label, class_name, start + first, stop - first)


def _require_all(folder: Path, shards: Sequence[str]) -> None:
    """Every file of each set of `total`, since their names say how many there are."""
    found = defaultdict(set)
    for prefix, number, total in (match.groups() for match in map(_OF.match, shards) if match):
        found[prefix, total].add(int(number))
    for (prefix, total), numbers in found.items():
        if len(numbers) != int(total):
            first = next(number for number in range(len(numbers) + 1) if number not in numbers)
            name = f"{prefix}-{first:0{len(total)}}-of-{total}"
            raise DataError(
                f"{str(folder)!r} has {len(numbers)} of {int(total)} files {prefix}-*-of-{total}; {name!r} is missing"
            )
