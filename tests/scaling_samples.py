"""Bench studies for tests: measured by a formula in place of ranks, put together by the study itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lbsgd.measuring.study import Result, Settings, Study
from lbsgd.policy.recipe import load_recipe


def measurement(
    steps: Sequence[float], compute: Sequence[float], *, busy: float | None = None, data: float = 0.5
) -> dict[str, Any]:
    """A round of as many ranks as `compute` has times: each has 32 images per step, 0.25 ms of its own work, and is busy for
    `busy` ms of a step, or as long as it computes alone."""
    own = {"host": "n1", "data_ms": data, "other_ms": 0.25}
    ranks = [
        {"rank": rank, **own, "step_ms": (busy or alone) + data + 0.25, **split_ms(alone, max(compute), busy or alone)}
        for rank, alone in enumerate(compute)
    ]
    exchange = 7.0 if len(compute) > 1 else None
    size = {"images_per_step": 32 * len(compute), "gradient_bytes": 1000, "allreduce_ms": exchange, "hosts": ["n1"]}
    efficiencies = [1 / len(compute)] * 4 if len(compute) > 1 else []
    return {"step_ms": list(steps), "ranks": ranks, "efficiencies": efficiencies, **size}


def split_ms(alone: float, slowest: float, busy: float) -> dict[str, float]:
    """Of a worker that is busy for `busy` ms: it waits for the slowest, and communicates for the rest."""
    compute = min(alone, busy)
    waiting = min(slowest - alone, busy - compute) if busy > compute else 0.0
    return {"compute_ms": compute, "waiting_ms": waiting, "communication_ms": busy - compute - waiting}


def settings(**changes: Any) -> Settings:
    """Of a study on 1, 2 and 4 workers, with `changes`."""
    about = {"gpus": (1, 2, 4), "frameworks": ("torch",), "data": "synthetic:size=8", "repeats": 3, "steps": 4, "warm_up": 1}
    machine = {"oversubscribed": False, "hosts": None, "baseline": 1, "threads_per_worker": 1}
    return Settings(**{**about, **machine, "recipe": load_recipe("demo", []).model_dump(mode="json"), **changes})


def measured(framework: str, workers: int, folder: Path) -> Result:
    """As if steps took 10 ms for each worker of the size: efficiency is 1 / workers."""
    rounds = [measurement([10.0 * workers + jitter] * 4, [10.0] * workers) for jitter in (-0.1, 0.0, 0.1)]
    return Result(rounds, {"hosts": ["n1"]}, None)


def failing(*sizes: tuple[str, int]) -> Callable[[str, int, Path], Result]:
    """`measured`, but these sizes fail."""

    def run_size(framework: str, workers: int, folder: Path) -> Result:
        if (framework, workers) in sizes:
            return Result([], None, "exit code 4: too few | images")
        return measured(framework, workers, folder)

    return run_size


def study(folder: Path, *failed: tuple[str, int], **changes: Any) -> dict[str, Any]:
    """The content of a finished study."""
    made = Study.create(folder, settings(**changes), "lbsgd bench --gpus 1,2,4")
    made.run(failing(*failed), lambda _: None)
    return made.content
