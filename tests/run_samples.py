"""What a run knows of itself before its first step, for records that tests make."""

from typing import Any

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
