"""Scaling efficiency against another measurement: images per second of a worker over those of a worker of fewer.

The baseline is that of the newest `lbsgd bench` of the same kind in the runs folder, or the run that --baseline names. Other
models, batches, precision, data, hardware, or as many workers, are never compared with.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbsgd.data import is_synthetic
from lbsgd.errors import UsageError
from lbsgd.measuring import study
from lbsgd.record.run_content import RunContent, Scaling
from lbsgd.record.run_record import read_run
from lbsgd.record.runs_folder import RUN_FILE, find_recorded, recorded

METHOD = "baseline-run"

LEAST_STEPS = 20
"""Timed steps of a baseline."""

Kind = dict[str, Any]
"""What must be equal where two speeds are compared, by a name that a user knows."""


@dataclass(frozen=True)
class Baseline:
    """run: folder name of the run or study. images_per_second: of all its workers."""

    run: str
    workers: int
    images_per_second: float
    kind: Kind

    def serves(self, run: RunContent) -> bool:
        """Whether `run` can be compared with it."""
        return self.workers < run["world"]["size"] and self.kind == kind_of_run(run)

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
    """The baseline of the newest study in a runs folder that serves the run whose run.json holds `run`."""
    return next((one for one in _studies(runs) if one.serves(run)), None)


def named_baseline(name: str, runs: Path) -> Baseline:
    """The run that --baseline names, as a baseline.

    Raises UsageError when there is none, or when it was too short.
    """
    record = read_run(find_recorded(name, runs, RUN_FILE))
    throughput = record["throughput"]
    steps = throughput["steps_timed"] if throughput else 0
    if not throughput or steps < LEAST_STEPS:
        raise UsageError(f"--baseline {record['id']} has {steps} timed steps; a baseline needs {LEAST_STEPS}")
    return Baseline(record["id"], record["world"]["size"], throughput["images_per_second"], kind_of_run(record))


def require_comparable(baseline: Baseline, run: RunContent) -> None:
    """Raise UsageError, with all that differs, unless the run can be compared with the baseline."""
    here = kind_of_run(run)
    differ = [
        f"{name} is {baseline.kind[name]!r} there, {here[name]!r} here" for name in here if baseline.kind[name] != here[name]
    ]
    if baseline.workers >= run["world"]["size"]:
        differ.append(f"it has {baseline.workers} workers, not fewer than the {run['world']['size']} here")
    if differ:
        raise UsageError(f"--baseline {baseline.run} cannot be compared with this run: {'; '.join(differ)}")


def kind_of_run(run: RunContent) -> Kind:
    """That of run.json's content."""
    return _kind(run["framework"], run["recipe"], run["world"]["accumulate"], run["data"], run["environment"])


def _kind(framework: str, recipe: dict[str, Any], accumulate: int, data: str, environment: dict[str, Any]) -> Kind:
    backend = environment["backend"]
    return {
        "framework": framework,
        "model": recipe["model"],
        "images per worker": recipe["batch_per_worker"] * accumulate,
        "precision": backend.get("precision", recipe["precision"]),  # a study's recipe may say "auto"
        "image size": recipe["images"]["size"],
        "data": "synthetic" if is_synthetic(data) else "stored",
        "processor": environment["processor"],
        "device": backend["device"],
        "threads": backend.get("threads"),
    }


def _studies(runs: Path) -> Iterator[Baseline]:
    """The baselines of all studies that can be read, the last started first."""
    for folder in reversed(recorded(runs, study.FILE)):
        try:
            content = json.loads((folder / study.FILE).read_text())
        except (OSError, ValueError):
            continue
        if not (isinstance(content, dict) and content.get("schema") == study.SCHEMA and content.get("environment")):
            continue
        settings = content["settings"]
        for size in content["sizes"]:
            steps = sum(len(one["step_ms"]) for one in size["repeats"])
            if size["status"] == "done" and size["workers"] == settings["baseline"] and steps >= LEAST_STEPS:
                kind = _kind(size["framework"], settings["recipe"], 1, settings["data"], content["environment"])
                yield Baseline(content["id"], size["workers"], size["images_per_second"], kind)
