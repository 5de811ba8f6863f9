"""What a data set holds, in numbers: samples, classes, bytes, and widths and heights as the images' headers say."""

import io
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lbsgd.data import is_synthetic, open_dataset
from lbsgd.data.decode import FORMATS
from lbsgd.data.index import Index
from lbsgd.data.index_cache import cached
from lbsgd.data.layout import Split
from lbsgd.data.read_ahead import read_ahead
from lbsgd.data.source import Source, UnreadableSample
from lbsgd.data.storage import EncodedSource
from lbsgd.data.stored import find_stored, open_stored

HEADERS = 1000
"""Images of a split whose header is read: enough for a median, and seconds even on a slow disk."""

READ_THREADS = 8


def describe_dataset(spec: str) -> dict[str, Any]:
    """ "format", "train" and "validation" of a data set as `open_dataset` takes it; raises as that does."""
    if is_synthetic(spec):
        dataset = open_dataset(spec)
        return {"format": "synthetic", "train": describe(dataset.train), "validation": describe(dataset.validation)}
    indexed = {name: is_indexed(split) for name, split in find_stored(Path(spec)).items()}
    stored = open_stored(Path(spec))
    about = {name: describe(source) | describe_storage(source) for name, (_, source) in stored.items()}
    formats = dict.fromkeys(split.format for split, _ in stored.values())
    return {"format": " and ".join(formats), **{name: {"indexed": indexed[name], **about[name]} for name in about}}


def is_indexed(split: Split) -> bool:
    """Whether a valid index of the split is kept, in its folder or in the user's cache."""

    def refuse(_: Split) -> Index:
        raise LookupError

    try:
        cached(split, refuse)
    except LookupError:
        return False
    return True


def describe(source: Source) -> dict[str, Any]:
    """What any source can tell."""
    counts = np.bincount(source.labels, minlength=len(source.classes))
    return {
        "samples": len(source),
        "classes": len(source.classes),
        "samples_per_class": {"fewest": int(counts.min()), "most": int(counts.max())},
        "digest": source.digest,
    }


def describe_storage(source: EncodedSource) -> dict[str, Any]:
    """Shards, bytes, and sizes in pixels."""
    sizes = source.index.sizes
    return {
        "shards": len(source.index.shards),
        "bytes": int(sizes.sum()),
        "bytes_per_sample": {"mean": float(sizes.mean()), "median": float(np.median(sizes)), "largest": int(sizes.max())},
        "pixels": describe_pixels(source),
    }


def describe_pixels(source: EncodedSource) -> dict[str, Any]:
    """Widths and heights of up to HEADERS images, evenly spread over the split. Those without a header are only counted."""
    samples = np.linspace(0, len(source) - 1, min(len(source), HEADERS)).astype(int).tolist()
    with closing(read_ahead(source, samples, partial(header_size, source), threads=READ_THREADS)) as found:
        sizes = np.array([size for _, size in found if not isinstance(size, UnreadableSample)]).reshape(-1, 2)
    readable = {"sampled": len(samples), "unreadable": len(samples) - len(sizes)}
    if not len(sizes):
        return readable
    summaries = {"smallest": sizes.min(axis=0), "median": np.median(sizes, axis=0), "largest": sizes.max(axis=0)}
    return readable | {
        axis: {name: int(values[column]) for name, values in summaries.items()}
        for column, axis in enumerate(("width", "height"))
    }


def header_size(source: EncodedSource, sample: int) -> tuple[int, int]:
    """(width, height); nothing is decoded.

    Raises UnreadableSample.
    """
    try:
        with Image.open(io.BytesIO(source.encoded(sample)), formats=FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableSample(source.name(sample), str(error)) from error
