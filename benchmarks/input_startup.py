"""How long a process needs to open a data set of ImageNet's size whose index was kept: its folders exist, its files do not."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lbsgd.data.index import Index, Names
from lbsgd.data.index_cache import write_index
from lbsgd.data.layout import Split, find_splits

CLASSES = 1000
VALIDATION_SAMPLES = 50_000
REPEATS = 5
TARGET_SECONDS = 2.0
OPEN = """
import json, sys, time
start = time.perf_counter()
from lbsgd.data import open_dataset
dataset = open_dataset(sys.argv[1])
samples = len(dataset.train)
dataset.train.name(samples - 1)
print(json.dumps({"samples": samples, "seconds": time.perf_counter() - start}))
"""


def measure(scratch: Path, *, samples: int) -> dict[str, Any]:
    """The start-up part of the report. scratch: where the class folders are made. Imports count."""
    root = scratch / "indexed"
    for split in ("train", "val"):
        for label in range(CLASSES):
            (root / split / f"n{label:08}").mkdir(parents=True)
    train, validation = find_splits(root)
    write_index(train, lambda split: index_of(split, samples))
    write_index(validation, lambda split: index_of(split, VALIDATION_SAMPLES))
    opened = [open_in_new_process(root) for _ in range(REPEATS)]
    assert {each["samples"] for each in opened} == {samples}
    seconds = [each["seconds"] for each in opened]
    return {"samples": samples, "seconds": seconds, "median_seconds": median(seconds), "target_seconds": TARGET_SECONDS}


def index_of(split: Split, samples: int) -> Index:
    """What listing a split of this many images in CLASSES folders would give, with names as long as ImageNet's."""
    classes = tuple(f"n{label:08}" for label in range(CLASSES))
    labels = np.arange(samples, dtype=np.int64) * CLASSES // samples
    return Index(
        classes=classes,
        labels=labels,
        names=Names.of(f"{classes[label]}/{classes[label]}_{sample}.JPEG" for sample, label in enumerate(labels.tolist())),
        sizes=np.full(samples, 113_000, np.int64),
        digest=split.name,
        shards=(),
        shard_of=np.empty(0, np.int32),
        offsets=np.empty(0, np.int64),
    )


def open_in_new_process(root: Path) -> dict[str, Any]:
    """The samples it finds, and the seconds from before its first import until a sample has a name."""
    done = subprocess.run([sys.executable, "-c", OPEN, str(root)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    return (
        f"a cached index of {report['samples']:,} samples is open after {report['median_seconds']:.2f} s "
        f"(target: less than {report['target_seconds']:g}), {min(report['seconds']):.2f} to {max(report['seconds']):.2f}"
    )
