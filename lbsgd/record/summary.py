"""What the lines of metrics.jsonl amount to: the figures of run.json, over all attempts of the run."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from lbsgd.policy.noise_scale import estimates, samples_factor, steps_factor
from lbsgd.record.run_content import (
    Attempt,
    Final,
    NoiseScaleContent,
    RunContent,
    Scaling,
    StepMilliseconds,
    Throughput,
    TimeSplit,
)

Line = dict[str, Any]

METHOD = "measured-steps"

FINAL_EPOCHS = 5
"""The paper reports the median error of the final five epochs (section 5.1)."""

RESAMPLES = 2000
CONFIDENCE = 0.95

LEAST_PAIRS = 3
"""Fewer measured steps say nothing about how far they can be trusted."""

RESOLUTION = 0.01
"""What measured steps are off by, however many there are: half a point to one (benchmarks/LOG.md, 2026-11-28)."""


def summarise(content: RunContent, lines: Sequence[Line]) -> RunContent:
    """The parts of run.json that metrics.jsonl tells: throughput, time_split, scaling, final; None where it does not.

    content: what run.json holds. Speeds are those of all attempts that had the framework and ranks of the last one: others were
    another measurement, which is kept with its attempt. Evaluations are those of the whole run.
    """
    attempts = content["attempts"]
    last = _setting(attempts[-1])
    comparable = [line for line in lines if _setting(attempts[attempt_of(line["step"], attempts)]) == last]
    bad = {
        split: len({line["sample"] for line in _of("bad_sample", lines) if line["split"] == split})
        for split in ("train", "val")
    }
    return RunContent(
        **speed_figures(comparable, content),
        final=final(_of("eval", lines)),
        bad_samples={**content["bad_samples"], **bad},
    )


def summarise_attempt(content: RunContent, lines: Sequence[Line]) -> RunContent:
    """The throughput, time_split and scaling of the last attempt alone."""
    attempts = content["attempts"]
    own = [line for line in lines if attempt_of(line["step"], attempts) == len(attempts) - 1]
    return speed_figures(own, content)


def attempt_of(step: int, attempts: Sequence[Attempt]) -> int:
    """The index of the attempt that logged an iteration: the last that began at it or before, as what an attempt takes again
    is logged anew."""
    return max((number for number, one in enumerate(attempts) if one["start_iteration"] <= step), default=0)


def _setting(attempt: Attempt) -> tuple[Any, ...]:
    world = attempt.get("world")
    return attempt["framework"], attempt["world_size"], world and (world["hosts"], world["accumulate"])


def speed_figures(lines: Sequence[Line], content: RunContent) -> RunContent:
    """throughput, time_split and scaling of these lines, which are of ranks as `content` tells."""
    steps = [line for line in _of("step", lines) if "step_ms" in line]
    pairs = _of("efficiency", lines)
    if not steps:
        return {"throughput": None, "time_split": None, "scaling": None, "noise_scale": None}
    workers, batch = content["world"]["size"], content["schedule"]["global_batch"]
    return {
        "throughput": throughput([line["step_ms"] for line in steps], workers, batch),
        "time_split": time_split(steps, pairs, workers),
        "scaling": scaling(steps, pairs, workers, batch, content["recipe"]["seed"]),
        "noise_scale": noise_scale(pairs, workers, batch),
    }


def _of(kind: str, lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def throughput(step_ms: Sequence[float], workers: int, global_batch: int) -> Throughput:
    """step_ms: of every step that counts; at least one."""
    p50, p90, p99 = np.percentile(step_ms, (50, 90, 99)).tolist()
    rate = 1000 * global_batch / fmean(step_ms)
    return {
        "images_per_second": rate,
        "images_per_second_per_worker": rate / workers,
        "step_ms": StepMilliseconds(p50=p50, p90=p90, p99=p99),
        "steps_timed": len(step_ms),
    }


def time_split(steps: Sequence[Line], pairs: Sequence[Line], workers: int) -> TimeSplit | None:
    """Shares of a mean step; None for several workers of which no measured step tells what they do."""
    if workers > 1 and not pairs:
        return None
    whole = fmean(line["step_ms"] for line in steps)
    data, other = (fmean(line[name] for line in steps) / whole for name in ("data_ms", "other_ms"))
    busy = 1 - data - other
    compute = waiting = 1.0
    if workers > 1:
        compute, waiting = (
            min(1.0, median(line[name] / line["step_ms"] for line in pairs)) for name in ("compute_ms", "waiting_ms")
        )
    waiting = min(waiting, 1 - compute)
    return {
        "data": data,
        "compute": busy * compute,
        "waiting": busy * waiting,
        "communication": busy * (1 - compute - waiting),
        "other": other,
    }


def scaling(steps: Sequence[Line], pairs: Sequence[Line], workers: int, global_batch: int, seed: int) -> Scaling | None:
    """Efficiency against each worker alone, which one worker does not have. None where several had no measured step."""
    if workers > 1 and not pairs:
        return None
    result: Scaling = {
        "workers": workers,
        "efficiency": None,
        "interval": None,
        "pairs": len(pairs),
        "baseline_workers": 1,
        "baseline_images_per_second": None,
        "baseline_run": None,
        "method": METHOD,
        "allreduce_ms": None,
        "hidden": None,
        "cost": None,
    }
    if len(pairs) >= LEAST_PAIRS:
        values = [line["efficiency"] for line in pairs]
        allreduce, exposed = (median(line[name] for line in pairs) for name in ("allreduce_ms", "communication_ms"))
        longer = {line["step"]: line["step_ms"] - line["data_ms"] - line["other_ms"] for line in steps}
        cost = sum(longer[line["step"]] - line["step_ms"] for line in pairs if line["step"] in longer)
        result |= {
            "efficiency": median(values),
            "interval": list(efficiency_interval(values, seed)),
            "baseline_images_per_second": 1000 * global_batch / workers / median(line["compute_ms"] for line in pairs),
            "allreduce_ms": allreduce,
            "hidden": min(1.0, max(0.0, 1 - exposed / allreduce)) if allreduce else None,
            "cost": max(0.0, cost) / sum(line["step_ms"] for line in steps),
        }
    return result


def noise_scale(pairs: Sequence[Line], workers: int, global_batch: int) -> NoiseScaleContent | None:
    """After the last measured step; None where too few have the gradients' norms, which one worker never has."""
    squares = [
        (line["worker_gradient_squared"], line["gradient_squared"])
        for line in pairs
        if line.get("gradient_squared") is not None and line.get("worker_gradient_squared") is not None
    ]
    if len(squares) < LEAST_PAIRS or workers == 1:
        return None
    *_, last = estimates(squares, global_batch // workers, global_batch)
    images = last.images
    return {
        "images": images,
        "gradient_squared": last.gradient_squared,
        "trace": last.trace,
        "samples_factor": samples_factor(global_batch, images) if images else None,
        "steps_factor": steps_factor(global_batch, images) if images else None,
    }


def efficiency_interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % interval of the efficiency, which is the median of the pairs' `values`.

    What their differences leave open is found by drawing as many of them again, with replacement, RESAMPLES times;
    RESOLUTION on either side is what all of them share.
    """
    drawn = np.random.default_rng(seed).choice(np.asarray(values, np.float64), (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)).tolist()
    return low - RESOLUTION, high + RESOLUTION


def final(evaluations: Sequence[Line]) -> Final | None:
    """The last evaluation, and the median error of the final epochs. An evaluation in mid-epoch counts only as the last one."""
    if not evaluations:
        return None
    last = evaluations[-1]
    epochs = [line for line in evaluations if float(line["epoch"]).is_integer() or line is last]
    return {
        "top1_error": last["top1_error"],
        "loss": last["loss"],
        "epoch": last["epoch"],
        "top1_error_median_of_final_epochs": median(line["top1_error"] for line in epochs[-FINAL_EPOCHS:]),
        "samples": last["samples"],
    }
