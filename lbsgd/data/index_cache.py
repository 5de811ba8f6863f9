"""Indexes kept on disk, because listing 1.28 million files, or walking through their shards, should happen once.

An index counts only for what it was made from. Of class folders, it is their names and modification times: a file that is
added, removed or renamed changes them, one overwritten in place does not. Of shards, it is names, sizes and times.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lbsgd.data.folder import class_folders
from lbsgd.data.index import Index, Names
from lbsgd.data.layout import CLASSES_FILE, Split
from lbsgd.errors import DataError, EnvironmentNotReady
from lbsgd.record.atomic import write_atomically

VERSION = 1
AUTOMATIC_SAMPLES = 10_000
"""From here on an index is kept unasked; fewer samples are listed in less than a second."""

RACY_SECONDS = 2
"""A file system's clock may be that coarse: what changes again so soon may keep its modification time."""

STAMPING_THREADS = 8

Build = Callable[[Split], Index]


@dataclass(frozen=True)
class Stamp:
    """What an index was made from. text: equal while nothing changed. settled: whether a change would show in the text."""

    text: str
    settled: bool


def cached(split: Split, build: Build) -> Index:
    """The index of a split: one kept in the data folder or in the user's cache, where it is valid, else built now.

    Raises what `build` does.
    """
    stamp = _stamp(split)
    for path in (shared_path(split), user_path(split)):
        if (index := _load(path, stamp)) is not None:
            return index
    index = build(split)
    if len(index) >= AUTOMATIC_SAMPLES and stamp.settled:
        _keep_if_possible(user_path(split), index, stamp)
    return index


def write_index(split: Split, build: Build, *, force: bool = False) -> tuple[Index, bool]:
    """Keep the index of a split in the data folder, for every host; and whether it was built, because none was valid there.

    force: build it in any case. Raises DataError when the data is still being written, EnvironmentNotReady when the data
    folder cannot be written to, and what `build` does.
    """
    stamp = _settled_stamp(split)
    path = shared_path(split)
    if not force and (index := _load(path, stamp)) is not None:
        return index, False
    index = build(split)
    try:
        _save(path, index, stamp)
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot write {str(path)!r}: {error.strerror}; without it, each user's cache keeps an index of its own"
        ) from error
    return index, True


def shared_path(split: Split) -> Path:
    """Where the index for all hosts lies: in the data folder."""
    return split.root / ".lbsgd" / f"{split.name}.index"


def user_path(split: Split) -> Path:
    """Where the user's own index lies: a folder for each data folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = hashlib.sha256(os.fsencode(split.root.resolve())).hexdigest()
    return cache / "lbsgd" / "index" / root / f"{split.name}.index"


def _stamp(split: Split) -> Stamp:
    """Taken before the data is listed, so that a change in the meantime shows."""
    now = time.time()
    facts = list(_folder_facts(split.folder) if split.format == "folder" else _shard_facts(split))
    newest = max((modified for *_, modified in facts), default=0)
    digest = hashlib.sha256(json.dumps([split.format, facts]).encode())
    return Stamp(digest.hexdigest(), settled=newest < (now - RACY_SECONDS) * 1e9)


def _folder_facts(folder: Path) -> Iterator[tuple]:
    names = class_folders(folder)
    with ThreadPoolExecutor(STAMPING_THREADS) as pool:
        facts = pool.map(os.stat, [folder / name for name in names])
    return ((name, fact.st_mtime_ns) for name, fact in zip(names, facts, strict=True))


def _shard_facts(split: Split) -> Iterator[tuple]:
    names = [*split.shards, *(path.name for path in split.folder.glob(CLASSES_FILE))]
    with ThreadPoolExecutor(STAMPING_THREADS) as pool:
        facts = pool.map(os.stat, [split.folder / name for name in names])
    return ((name, fact.st_size, fact.st_mtime_ns) for name, fact in zip(names, facts, strict=True))


def _settled_stamp(split: Split) -> Stamp:
    stamp = _stamp(split)
    if not stamp.settled:
        time.sleep(RACY_SECONDS)
        stamp = _stamp(split)
    if not stamp.settled:
        raise DataError(f"{str(split.folder)!r} is still being written to, or changed in the future; index it afterwards")
    return stamp


def _keep_if_possible(path: Path, index: Index, stamp: Stamp) -> None:
    try:
        _save(path, index, stamp)
    except OSError:  # the index serves this run all the same
        return


def _save(path: Path, index: Index, stamp: Stamp) -> None:
    columns = {
        "labels": index.labels.astype(np.int32),
        "sizes": index.sizes,
        "names.text": index.names.text,
        "names.ends": index.names.ends,
        "shard_of": index.shard_of,
        "offsets": index.offsets,
    }
    content = {
        "version": VERSION,
        "stamp": stamp.text,
        "digest": index.digest,
        "classes": index.classes,
        "shards": index.shards,
    }
    text = json.dumps(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(columns, {"index": text, "checksum": _checksum(text, columns)}))


def _load(path: Path, stamp: Stamp) -> Index | None:
    """The index in a file; None without one that is whole, of this version and of this stamp."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError):
        return None
    text = metadata.get("index", "")
    if metadata.get("checksum") != _checksum(text, columns):
        return None
    content = json.loads(text)
    return _index(columns, content) if (content["version"], content["stamp"]) == (VERSION, stamp.text) else None


def _index(columns: dict[str, np.ndarray], content: dict) -> Index:
    return Index(
        classes=tuple(content["classes"]),
        labels=columns["labels"].astype(np.int64),
        names=Names(columns["names.text"], columns["names.ends"]),
        sizes=columns["sizes"],
        digest=content["digest"],
        shards=tuple(content["shards"]),
        shard_of=columns["shard_of"],
        offsets=columns["offsets"],
    )


def _checksum(text: str, columns: dict[str, np.ndarray]) -> str:
    checksum = hashlib.sha256(text.encode())
    for name, column in sorted(columns.items()):
        checksum.update(f"{name} {column.dtype}".encode())
        checksum.update(column.data)
    return checksum.hexdigest()
