"""Scaling efficiency against another run: images per second of a worker over those of a worker of a run of the same kind.

The baseline is the one of the newest `lbsgd bench` of this kind in the runs folder; without any, the newest finished run of the
fewest workers. A run of other models, batches, precision or hardware is never compared with.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbsgd.measuring import study
from lbsgd.record.run_content import RunContent, Scaling
from lbsgd.record.run_record import SCHEMA as RUN_SCHEMA
from lbsgd.record.runs_folder import RUN_FILE, recorded

METHOD = "baseline-run"


@dataclass(frozen=True)
class Baseline:
    """run: folder name of the run or study. images_per_second: of all its workers."""

    run: str
    workers: int
    images_per_second: float

    def scaling(self, workers: int, images_per_second: float) -> Scaling:
        """The record's `scaling_baseline` for a run of this speed."""
        return {
            "workers": workers,
            "efficiency": images_per_second / workers / (self.images_per_second / self.workers),
            "baseline_workers": self.workers,
            "baseline_images_per_second": self.images_per_second,
            "baseline_run": self.run,
            "method": METHOD,
        }


def find_baseline(runs: Path, run: RunContent) -> Baseline | None:
    """The baseline in a runs folder for the run whose run.json holds `run`."""
    kind = kind_of_run(run)
    return next(_benches(runs, kind), None) or min(_runs(runs, kind, run["id"]), key=lambda one: one.workers, default=None)


def kind_of_run(run: RunContent) -> tuple:
    """(framework, what a worker does, hardware) of run.json's content: equal where two speeds may be compared."""
    return _kind(run["framework"], run["recipe"], run["world"]["accumulate"], run["environment"])


def _kind(framework: str, recipe: dict[str, Any], accumulate: int, environment: dict[str, Any]) -> tuple:
    precision = environment["backend"].get("precision", recipe["precision"])  # a study's recipe may say "auto"
    worker = recipe["model"], recipe["batch_per_worker"] * accumulate, precision, recipe["images"]["size"]
    hardware = environment["processor"], environment["backend"]["device"], environment["backend"].get("threads")
    return framework, worker, hardware


def _benches(runs: Path, kind: tuple) -> Iterator[Baseline]:
    """Of this kind, the newest first."""
    for content in _read(runs, study.FILE, study.SCHEMA):
        workers = content["settings"]["baseline"]
        for size in content["sizes"]:
            about = size["framework"], content["settings"]["recipe"], 1
            if size["status"] == "done" and size["workers"] == workers and _kind(*about, content["environment"]) == kind:
                yield Baseline(content["id"], workers, size["images_per_second"])


def _runs(runs: Path, kind: tuple, but: str) -> Iterator[Baseline]:
    """Finished and timed ones of this kind, the newest first, without the run called `but`."""
    for content in _read(runs, RUN_FILE, RUN_SCHEMA):
        record: RunContent = content
        throughput = record["throughput"]
        if record["status"] == "done" and throughput and record["id"] != but and kind_of_run(record) == kind:
            yield Baseline(record["id"], record["world"]["size"], throughput["images_per_second"])


def _read(runs: Path, file: str, schema: object) -> Iterator[Any]:
    """The records that can be read, are of this schema and began to run, the newest first."""
    for folder in reversed(recorded(runs, file)):
        try:
            content = json.loads((folder / file).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("schema") == schema and content.get("environment"):
            yield content
