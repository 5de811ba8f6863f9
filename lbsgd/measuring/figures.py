"""From what the ranks measured to what is reported: speed, efficiency with its spread, and the parts of a step. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

import numpy as np

from lbsgd.measuring.step_parts import PARTS, StepParts
from lbsgd.record.summary import CONFIDENCE, LEAST_PAIRS, RESAMPLES, efficiency_interval

Measurement = dict[str, Any]
"""One round, as lbsgd.measuring.study_ranks gives it."""


def size_figures(repeats: Sequence[Measurement]) -> dict[str, Any]:
    """Of one size: images_per_second, images_per_second_per_worker, step_ms (p50, p90), parts_ms, allreduce_ms, against_alone.

    Medians over the rounds; a step is as long as on its slowest rank. against_alone: the efficiency of its measured steps with
    its interval, as a run records it.
    """
    rate = median(_images_per_second(one) for one in repeats)
    steps = [step for one in repeats for step in one["step_ms"]]
    p50, p90 = np.percentile(steps, (50, 90)).tolist()
    exchanges = [one["allreduce_ms"] for one in repeats if one["allreduce_ms"] is not None]
    return {
        "images_per_second": rate,
        "images_per_second_per_worker": rate / len(repeats[0]["ranks"]),
        "step_ms": {"p50": p50, "p90": p90},
        "parts_ms": asdict(parts(repeats)),
        "allreduce_ms": median(exchanges) if exchanges else None,
        "against_alone": against_alone([value for one in repeats for value in one["efficiencies"]]),
    }


def against_alone(efficiencies: Sequence[float]) -> dict[str, Any] | None:
    """The efficiency of measured steps; None where they are too few, as on one worker."""
    if len(efficiencies) < LEAST_PAIRS:
        return None
    interval = list(efficiency_interval(efficiencies, seed=0))
    return {"efficiency": median(efficiencies), "interval": interval, "pairs": len(efficiencies)}


def precision(study: dict[str, Any]) -> str:
    """What the workers computed in; before any did, what the recipe asks for."""
    backend = (study["environment"] or {}).get("backend", {})
    return backend.get("precision", study["settings"]["precision"])


def parts(repeats: Sequence[Measurement]) -> StepParts:
    """Where the milliseconds of a worker's mean step went."""
    ranks = [rank for one in repeats for rank in one["ranks"]]
    return StepParts(**{part: fmean(rank[f"{part}_ms"] for rank in ranks) for part in PARTS})


def efficiency(repeats: Sequence[Measurement], baseline: Sequence[Measurement]) -> tuple[float, tuple[float, float]]:
    """(images/s per worker) over the baseline's, and its bootstrap interval. The baseline's own is 1, without spread.

    Rounds are drawn again with replacement, and within each its steps: the spread of both is in it. What differs from one job
    to the next is not, nor can three rounds tell of more than they saw.
    """
    if repeats is baseline:
        return 1.0, (1.0, 1.0)
    workers, baseline_workers = len(repeats[0]["ranks"]), len(baseline[0]["ranks"])
    value = median(map(_images_per_second, repeats)) / workers / (median(map(_images_per_second, baseline)) / baseline_workers)
    generator = np.random.default_rng(0)
    ratios = _resampled(repeats, generator) / workers / (_resampled(baseline, generator) / baseline_workers)
    low, high = np.quantile(ratios, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)).tolist()
    return value, (low, high)


def _images_per_second(one: Measurement) -> float:
    return 1000 * one["images_per_step"] / fmean(one["step_ms"])


def _resampled(repeats: Sequence[Measurement], generator: np.random.Generator) -> np.ndarray:
    """Medians over rounds of images per second, of RESAMPLES redrawn sets of rounds: float64 [RESAMPLES]."""
    rates = np.empty((RESAMPLES, len(repeats)))
    for column in range(len(repeats)):
        chosen = generator.integers(len(repeats), size=RESAMPLES)
        for index, one in enumerate(repeats):
            steps = np.asarray(one["step_ms"])
            drawn = np.flatnonzero(chosen == index)
            means = steps[generator.integers(len(steps), size=(len(drawn), len(steps)))].mean(axis=1)
            rates[drawn, column] = 1000 * one["images_per_step"] / means
    return np.median(rates, axis=1)
