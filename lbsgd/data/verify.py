"""Which images of a data folder cannot be decoded completely or differ from their checksums, and which names are used twice."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from lbsgd.data.read_ahead import read_ahead
from lbsgd.data.readers import READ_TIMEOUT
from lbsgd.data.record_check import record_check
from lbsgd.data.source import UnreadableSample
from lbsgd.data.storage import EncodedSource
from lbsgd.data.stored import Stored


@dataclass(frozen=True)
class Verified:
    """broken: by their paths, in their order. repeated: names that several images in shards have."""

    images: int
    broken: list[UnreadableSample]
    repeated: list[str]


def verify(stored: Stored, *, threads: int, advance: Callable[[int], None], timeout: float = READ_TIMEOUT) -> Verified:
    """Read and decode every image of a split.

    advance: takes how many more were looked at. timeout: seconds after which a read counts as failed.
    Raises DataError when the records of a TFRecord file cannot be found.
    """
    split, source = stored
    is_intact = record_check(split.folder, source.index) if split.format == "tfrecord" else lambda sample: True

    def read(sample: int) -> None:
        source.read(sample)  # and let go of the pixels: outcomes wait in memory
        if not is_intact(sample):
            raise UnreadableSample(source.name(sample), "its record does not match the checksum")

    broken = []
    with closing(read_ahead(source, range(len(source)), read, threads=threads, timeout=timeout)) as outcomes:
        for sample, outcome in outcomes:
            if isinstance(outcome, UnreadableSample):
                broken.append(UnreadableSample(f"{split.folder.parent}/{source.name(sample)}", outcome.reason))
            advance(1)
    return Verified(len(source), broken, repeated_names(source) if split.shards else [])


def repeated_names(source: EncodedSource) -> list[str]:
    """The names that several samples of a split have, in the order of their first one."""
    counts = Counter(map(source.index.names.__getitem__, range(len(source))))
    return [name for name, count in counts.items() if count > 1]
