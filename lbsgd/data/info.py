"""What a split holds, in numbers: samples, classes, bytes, and sizes of images as their headers say."""

import io
from typing import Any

import numpy as np
from PIL import Image

from lbsgd.data.decode import FORMATS
from lbsgd.data.read_ahead import read_ahead
from lbsgd.data.source import Source, UnreadableSample
from lbsgd.data.storage import EncodedSource

HEADERS = 1000
"""Images whose size is looked up: enough for a median, and seconds even on a slow disk."""

READ_THREADS = 8


def describe(source: Source) -> dict[str, Any]:
    """Samples and classes of any source."""
    counts = np.bincount(source.labels, minlength=len(source.classes))
    return {
        "samples": len(source),
        "classes": len(source.classes),
        "samples_per_class": {"fewest": int(counts.min()), "most": int(counts.max())},
        "digest": source.digest,
    }


def describe_storage(source: EncodedSource) -> dict[str, Any]:
    """Bytes, shards and sizes in pixels of images that lie on a disk."""
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
    found = [size for _, size in read_ahead(source, samples, lambda i: header_size(source, i), threads=READ_THREADS)]
    sizes = np.array([size for size in found if not isinstance(size, UnreadableSample)]).reshape(-1, 2)
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
