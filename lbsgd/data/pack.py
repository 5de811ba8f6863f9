"""Packs a data set into shards: the same samples in the same order, with their bytes as they are.

What goes into which shard follows from the sizes of the images and of a shard alone, so a pack that was ended in any way goes
on with the shards that are missing, and the result is the same bytes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import AcquireReturnProxy, FileLock

from lbsgd.data.layout import CLASSES_FILE, PACK_RECORD
from lbsgd.data.read_ahead import read_ahead
from lbsgd.data.shard_formats import SHARD_FORMATS, ShardFormat
from lbsgd.data.source import UnreadableSample
from lbsgd.data.storage import EncodedSource
from lbsgd.errors import DataError, EnvironmentNotReady, UsageError
from lbsgd.record.atomic import write_atomically, write_json

SCHEMA = 1
READ_THREADS = 8
"""On a network file system the wait for each file is what takes long."""

SPACE_MARGIN = 64 * 2**20
"""Bytes left free, and room for what shards hold beside the samples."""

ShowProgress = Callable[[int, int], AbstractContextManager[Callable[[int], None]]]
"""Takes how many samples there are and how many are done; gives what takes how many more are."""


@dataclass(frozen=True)
class Shard:
    """Consecutive samples of a split, and the file that they go to. stored_bytes: nearly its size."""

    path: Path
    source: EncodedSource
    format: ShardFormat
    samples: range
    stored_bytes: int


@dataclass(frozen=True)
class Packed:
    """shards: of both splits. written: how many of them were not there before."""

    shards: int
    written: int


def pack(
    splits: dict[str, EncodedSource], folder: Path, *, format: str, shard_bytes: int, show_progress: ShowProgress
) -> Packed:
    """Pack the splits "train" and "validation" into `folder`, or finish what was begun there.

    The classes.txt of a split is written last: without it, the split is unfinished.
    format: of SHARD_FORMATS. shard_bytes: a shard is hardly larger, unless a single image is.
    Raises UsageError when the folder holds something else or another process packs into it, DataError when an image cannot be
    read or a class cannot be listed, EnvironmentNotReady when the folder cannot be written to or has too little space.
    """
    classes = _classes_file(splits["train"].classes)
    if splits["train"].classes != splits["validation"].classes:
        raise DataError("the images to train on and those to validate on have different classes; both need the same ones")
    shards = [shard for name, source in splits.items() for shard in plan(name, source, folder, format, shard_bytes)]
    facts = {
        "schema": SCHEMA,
        "format": format,
        "shard_bytes": shard_bytes,
        "source": {name: source.digest for name, source in splits.items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_same(folder, facts)
        missing = [shard for shard in shards if not shard.path.exists()]
        lists = sorted({shard.path.with_name(CLASSES_FILE) for shard in shards})
        if missing or not all(path.exists() for path in lists):
            with _locked(folder):
                _require_space(folder, missing)
                write_json(folder / PACK_RECORD, facts)
                _write_shards(missing, sum(len(shard.samples) for shard in shards), show_progress)
                for path in lists:
                    write_atomically(path, classes)
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot write to {str(folder)!r}: {error.strerror}; "
            "when that is put right, the same command resumes from the complete shards"
        ) from error
    return Packed(len(shards), len(missing))


def plan(name: str, source: EncodedSource, folder: Path, format: str, shard_bytes: int) -> list[Shard]:
    """The shards of a split, in order; every sample is in one."""
    shard_format = SHARD_FORMATS[format](name, source.index)
    ends = np.cumsum(shard_format.stored_bytes())
    ranges = list(shard_ranges(ends, shard_bytes))
    return [
        Shard(
            path=folder / shard_format.shard_name(number, len(ranges)),
            source=source,
            format=shard_format,
            samples=samples,
            stored_bytes=int(ends[samples.stop - 1] - (ends[samples.start - 1] if samples.start else 0)),
        )
        for number, samples in enumerate(ranges)
    ]


def shard_ranges(ends: np.ndarray, limit: int) -> Iterator[range]:
    """Consecutive samples that take no more than `limit` together, at least one. ends: int64, where each sample ends."""
    start = before = 0
    while start < len(ends):
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield range(start, stop)
        start, before = stop, int(ends[stop - 1])


def _classes_file(classes: Sequence[str]) -> bytes:
    if broken := [name for name in classes if "\n" in name]:
        raise DataError(f"class {broken[0]!r} has a line break in its name, which classes.txt has no way to hold; rename it")
    return "".join(f"{name}\n" for name in classes).encode("utf-8", "surrogateescape")


def _require_same(folder: Path, facts: dict) -> None:
    record = folder / PACK_RECORD
    if record.exists():
        if json.loads(record.read_text()) != facts:
            raise UsageError(
                f"{str(folder)!r} was packed from other images, in another format or with another shard size; "
                "name a new folder, or remove this one"
            )
    elif found := sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
        raise UsageError(f"{str(folder)!r} holds {found[0]!r}, which no pack wrote; name a new or an empty folder")


def _locked(folder: Path) -> AcquireReturnProxy:
    try:
        return FileLock(folder / ".lbsgd-pack.lock").acquire(timeout=0)
    except TimeoutError:
        raise UsageError(f"another process packs into {str(folder)!r}; wait for it or name another folder") from None


def _require_space(folder: Path, missing: Sequence[Shard]) -> None:
    needed, free = sum(shard.stored_bytes for shard in missing), shutil.disk_usage(folder).free
    if missing and needed + SPACE_MARGIN > free:
        raise EnvironmentNotReady(
            f"{len(missing)} shards of together {needed / 1e9:.2f} GB do not fit in {str(folder)!r}: "
            f"{free / 1e9:.2f} GB are free; make room or name a folder on another disk"
        )


def _write_shards(shards: Sequence[Shard], samples: int, show_progress: ShowProgress) -> None:
    done = samples - sum(len(shard.samples) for shard in shards)
    with show_progress(samples, done) as advance:
        for shard in shards:
            _write_shard(shard, advance)


def _write_shard(shard: Shard, advance: Callable[[int], None]) -> None:
    """Under a hidden name until it is complete and on the disk."""
    shard.path.parent.mkdir(exist_ok=True)
    partial = shard.path.with_name(f".{shard.path.name}.partial")
    try:
        read = read_ahead(shard.source, shard.samples, shard.source.encoded, threads=READ_THREADS)
        with partial.open("wb") as file, closing(read):
            for sample, image in read:
                if isinstance(image, UnreadableSample):
                    raise image
                shard.format.write(file, sample, image)
                advance(1)
            shard.format.finish(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(shard.path)
    finally:
        partial.unlink(missing_ok=True)
