"""Whether the records of TFRecord files are what their checksums say.

Indexing reads little more than the headers of records, and training only the images in them.
"""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from lbsgd.data.index import Index
from lbsgd.data.shards import broken_shard
from lbsgd.data.storage import open_regular
from lbsgd.data.tfrecord_format import FOOTER_BYTES, HEADER_BYTES, parse_header, write_record


def record_check(folder: Path, index: Index) -> Callable[[int], bool]:
    """What tells of a sample whether the record it lies in is intact; it raises OSError.

    Raises DataError, naming the file, when one has changed so much that its records cannot be found.
    """
    paths = [folder / shard for shard in index.shards]
    starts = [record_starts(path) for path in paths]

    def is_intact(sample: int) -> bool:
        shard = index.shard_of[sample]
        record = np.searchsorted(starts[shard], index.offsets[sample], side="right") - 1
        return _is_intact(paths[shard], int(starts[shard][record]))

    return is_intact


def record_starts(path: Path) -> np.ndarray:
    """Where each record begins: int64 [records]."""
    starts = []
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while (start := file.tell()) < size:
                starts.append(start)
                file.seek(parse_header(file.read(HEADER_BYTES)) + FOOTER_BYTES, os.SEEK_CUR)
    except OSError as error:
        raise broken_shard(path, error.strerror) from error
    except ValueError as error:
        raise broken_shard(path, f"record {len(starts) - 1} is damaged: {error}") from error
    return np.array(starts, np.int64)


def _is_intact(path: Path, start: int) -> bool:
    """Whether writing the record's data again gives the same bytes."""
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(start)
        header = file.read(HEADER_BYTES)
        data = file.read(parse_header(header))
        footer = file.read(FOOTER_BYTES)
    again = BytesIO()
    write_record(again, data)
    return again.getvalue() == header + data + footer
