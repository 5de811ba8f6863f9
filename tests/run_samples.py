"""Records of runs: what a run knows of itself before its first step, and what two equal runs have in common."""

from pathlib import Path
from typing import Any

from lbsgd.record.run_record import read_run

WORLD = {"size": 2, "local_size": 2, "hosts": ["n1"], "launcher": "none", "accumulate": 1, "virtual_workers": 2}


def facts(**changes: Any) -> Any:
    """Those that every record begins with."""
    return {
        "framework": "torch",
        "command": "lbsgd train",
        "data": "digits",
        "world": WORLD,
        "recipe": {"model": "resnet20", "seed": 0},
        "schedule": {"global_batch": 64},
        "bad_samples": {"policy": "fail", "train": 0, "val": 0},
        "environment": {"cores": 2},
        **changes,
    }


def without_times(folder: Path) -> dict:
    """run.json but for what differs between any two runs: when, how fast, in which attempts."""
    record = read_run(folder)
    timed = {"id", "attempts", "command", "throughput", "time_split", "environment"}
    found = {key: value for key, value in record.items() if key not in timed}
    found["scaling"] = found["scaling"] and {
        key: value for key, value in found["scaling"].items() if key in ("workers", "baseline_workers", "method")
    }
    return found
